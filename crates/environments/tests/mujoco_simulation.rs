//! What the bodies simulated by MuJoCo promise beyond the numbers of a step.
//!
//! Without a MuJoCo library the tests are skipped by name; with `RTPG_REQUIRE_MUJOCO=1` they fail instead.
#![cfg(feature = "mujoco")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod mujoco_support;

use std::path::Path;

use environments::mujoco::{
    DEFINITIONS, Definition, HALF_CHEETAH, HOPPER, INVERTED_PENDULUM, MujocoEnvironment, SWIMMER, WALKER2D,
    warning_count,
};
use environments::{Environment, StepError};
use mujoco_support::{available, no_random};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

/// Trajectories that are made at the same time.
const TRAJECTORIES: u64 = 24;

/// The bits of all observations and rewards of a trajectory from `seed`, made by `environment`.
fn trajectory(environment: &mut MujocoEnvironment, seed: u64, steps: usize) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut observation = vec![0.0; environment.observation_size()];
    let mut action = vec![0.0; environment.action_size()];
    environment.reset(&mut random, &mut observation);
    let mut bits: Vec<u64> = observation.iter().map(|value| value.to_bits()).collect();
    for _ in 0..steps {
        action.fill_with(|| random.random_range(-1.0..1.0));
        let transition = environment.step(&action, &mut random, &mut observation).unwrap();
        bits.extend(observation.iter().map(|value| value.to_bits()));
        bits.push(transition.reward.to_bits());
        if transition.terminated {
            break;
        }
    }
    bits
}

#[test]
fn threads_make_the_same_bits() {
    if available("threads_make_the_same_bits").is_none() {
        return;
    }
    let threads = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    for definition in DEFINITIONS {
        let mut one = MujocoEnvironment::new(definition).unwrap();
        let alone: Vec<_> = (0..TRAJECTORIES).map(|seed| trajectory(&mut one, seed, 50)).collect();
        let mut many: Vec<_> =
            (0..TRAJECTORIES).map(|_| MujocoEnvironment::new(definition).unwrap()).collect();
        // Each environment moves to whatever thread takes it, twice.
        for _ in 0..2 {
            let together: Vec<_> = threads.install(|| {
                let numbered = many.par_iter_mut().enumerate();
                numbered.map(|(seed, one)| trajectory(one, seed as u64, 50)).collect()
            });
            assert!(together == alone, "{}", definition.name());
        }
    }
}

#[test]
fn an_unstable_simulation_is_reported_and_a_reset_recovers() {
    if available("an_unstable_simulation_is_reported_and_a_reset_recovers").is_none() {
        return;
    }
    for definition in DEFINITIONS {
        let mut environment = MujocoEnvironment::new(definition).unwrap();
        let sound = trajectory(&mut environment, 7, 5);
        let positions = environment.positions().to_vec();
        for bad in [1e12, f64::NAN] {
            let mut observation = vec![0.0; environment.observation_size()];
            let velocities = vec![bad; environment.velocities().len()];
            let before = warning_count();
            environment.reset_to(&positions, &velocities, &mut observation);
            let action = vec![0.0; environment.action_size()];
            let outcome = environment.step(&action, &mut no_random(), &mut observation);
            let name = definition.name();
            assert!(
                matches!(outcome, Err(StepError::Unstable { .. })),
                "{name}: velocity {bad}: {outcome:?}"
            );
            assert!(warning_count() > before);
            let outcome = environment.step(&action, &mut no_random(), &mut observation);
            assert!(matches!(outcome, Err(StepError::NotRunning { .. })), "{outcome:?}");
        }
        assert!(trajectory(&mut environment, 7, 5) == sound, "{}", definition.name());
    }
    assert!(!Path::new("MUJOCO_LOG.TXT").exists(), "MuJoCo wrote its log");
}

#[test]
fn an_enormous_action_never_yields_a_number() {
    if available("an_enormous_action_never_yields_a_number").is_none() {
        return;
    }
    let mut environment = MujocoEnvironment::new(&HALF_CHEETAH).unwrap();
    let mut observation = vec![0.0; environment.observation_size()];
    for size in [1e20, 1e300] {
        environment.reset(&mut no_random(), &mut observation);
        let outcome = environment.step(&[size; 6], &mut no_random(), &mut observation);
        assert!(matches!(outcome, Err(StepError::Unstable { .. })), "{size:e}: {outcome:?}");
    }
}

/// Checks the distribution of the initial state: the mean of each component, its bound where it has one, its spread.
fn assert_resets(definition: &'static Definition, reference: &[f64], bound: f64, normal_velocities: bool) {
    const DRAWS: usize = 4000;
    let mut environment = MujocoEnvironment::new(definition).unwrap();
    let mut observation = vec![0.0; environment.observation_size()];
    let mut random = SmallRng::seed_from_u64(1);
    let draws: Vec<Vec<f64>> = (0..DRAWS)
        .map(|_| {
            environment.reset(&mut random, &mut observation);
            environment.positions().iter().chain(environment.velocities()).copied().collect()
        })
        .collect();
    let positions = environment.positions().len();
    for component in 0..draws[0].len() {
        let expected = reference.get(component).copied().unwrap_or(0.0);
        let noise: Vec<f64> = draws.iter().map(|draw| draw[component] - expected).collect();
        let normal = normal_velocities && component >= positions;
        let deviation = if normal { bound } else { bound / 3.0_f64.sqrt() };
        let mean = noise.iter().sum::<f64>() / DRAWS as f64;
        let spread = (noise.iter().map(|value| value * value).sum::<f64>() / DRAWS as f64).sqrt();
        let name = definition.name();
        // Five standard errors, and of the spread six percent, which is at least five too.
        assert!(mean.abs() < 5.0 * deviation / (DRAWS as f64).sqrt(), "{name}: {component}: mean {mean}");
        assert!((spread / deviation - 1.0).abs() < 0.06, "{name}: {component}: spread {spread}");
        assert!(
            normal || noise.iter().all(|value| value.abs() <= bound * (1.0 + 1e-9)),
            "{name}: {component}"
        );
    }
}

#[test]
fn resets_have_the_stated_noise() {
    if available("resets_have_the_stated_noise").is_none() {
        return;
    }
    assert_resets(&HALF_CHEETAH, &[], 0.1, true);
    assert_resets(&SWIMMER, &[], 0.1, false);
    assert_resets(&HOPPER, &[0.0, 1.25], 0.005, false);
    assert_resets(&WALKER2D, &[0.0, 1.25], 0.005, false);
    assert_resets(&INVERTED_PENDULUM, &[], 0.01, false);
}

//! The contract of `Environment`, checked on every environment of the registry.
//!
//! Where there is no MuJoCo library its bodies are left out, unless `RTPG_REQUIRE_MUJOCO=1`; nothing else ever is.

#![allow(clippy::unwrap_used, reason = "a test ends where its own preparation fails")]

use environments::{
    Environment, StepError,
    registry::{ENTRIES, Entry, MakeError},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

#[cfg(feature = "mujoco")]
fn is_simulated(entry: &Entry) -> bool {
    environments::mujoco::DEFINITIONS.iter().any(|body| body.name() == entry.name)
}

#[cfg(not(feature = "mujoco"))]
fn is_simulated(_: &Entry) -> bool {
    false
}

/// Calls `check` with every environment that can be made here.
fn for_each(check: impl Fn(&Entry, Box<dyn Environment>)) {
    let required = std::env::var_os("RTPG_REQUIRE_MUJOCO").is_some_and(|value| value == "1");
    let mut made = Vec::new();
    for entry in ENTRIES {
        match entry.make() {
            Ok(environment) => {
                check(entry, environment);
                made.push(entry.name);
            }
            Err(MakeError::Construction { .. }) if is_simulated(entry) && !required => {}
            Err(error) => panic!("{error}"),
        }
    }
    for name in ["cartpole", "pendulum", "mountain-car", "lqr"] {
        assert!(made.contains(&name), "{name} needs nothing and must be made");
    }
}

fn generator(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

fn reset(environment: &mut dyn Environment, random: &mut dyn Rng) -> Vec<f64> {
    let mut observation = vec![f64::NAN; environment.observation_size()];
    environment.reset(random, &mut observation);
    observation
}

/// Rewards and observations of at most `steps` steps under a fixed sequence of actions.
fn trace(environment: &mut dyn Environment, seed: u64, steps: usize) -> Vec<f64> {
    let mut random = generator(seed);
    let mut observation = reset(environment, &mut random);
    let mut trace = observation.clone();
    for step in 0..steps {
        let action: Vec<f64> =
            (0..environment.action_size()).map(|d| ((step + 3 * d) as f64).sin()).collect();
        let transition =
            environment.step(&action, &mut random, &mut observation).expect("the trajectory is running");
        trace.push(transition.reward);
        trace.extend(&observation);
        if transition.terminated {
            break;
        }
    }
    trace
}

#[test]
fn the_registry_tells_the_truth() {
    for_each(|entry, environment| {
        assert_eq!(environment.name(), entry.name);
        assert_eq!(environment.observation_size(), entry.observation_size, "{}", entry.name);
        assert_eq!(environment.action_size(), entry.action_size, "{}", entry.name);
        assert!(entry.horizon > 0 && !entry.summary.is_empty(), "{}", entry.name);
    });
}

#[test]
fn a_step_before_the_first_reset_is_an_error() {
    for_each(|entry, mut environment| {
        let mut observation = vec![-7.0; entry.observation_size];
        let action = vec![0.0; entry.action_size];
        let error = environment.step(&action, &mut generator(0), &mut observation).unwrap_err();
        assert_eq!(error, StepError::NotRunning { environment: entry.name });
        assert!(observation.iter().all(|value| *value == -7.0), "{}", entry.name);
    });
}

#[test]
fn an_action_that_is_not_finite_is_an_error_that_changes_nothing() {
    for_each(|entry, mut environment| {
        let mut observation = reset(environment.as_mut(), &mut generator(1));
        let mut random = generator(2);
        for index in 0..entry.action_size {
            for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let before = observation.clone();
                let mut action = vec![0.0; entry.action_size];
                action[index] = wrong;
                let error = environment.step(&action, &mut random, &mut observation).unwrap_err();
                assert!(
                    matches!(error, StepError::ActionNotFinite { index: i, value, .. }
                        if i == index && value.to_bits() == wrong.to_bits()),
                    "{error}"
                );
                assert_eq!(observation, before, "{}", entry.name);
            }
        }
        let mut untouched = entry.make().unwrap();
        let mut expected = reset(untouched.as_mut(), &mut generator(1));
        let action = vec![0.3; entry.action_size];
        environment.step(&action, &mut generator(3), &mut observation).unwrap();
        untouched.step(&action, &mut generator(3), &mut expected).unwrap();
        assert_eq!(observation, expected, "{}", entry.name);
    });
}

#[test]
fn a_reset_draws_from_the_generator_and_never_reseeds() {
    for_each(|entry, mut environment| {
        let mut random = generator(4);
        let first = reset(environment.as_mut(), &mut random);
        let second = reset(environment.as_mut(), &mut random);
        assert_ne!(first, second, "{}: successive resets", entry.name);
        let again = reset(environment.as_mut(), &mut generator(4));
        assert_eq!(first, again, "{}: the same generator state", entry.name);
        let other = reset(entry.make().unwrap().as_mut(), &mut generator(4));
        assert_eq!(first, other, "{}: another instance", entry.name);
    });
}

#[test]
fn a_trajectory_is_a_function_of_stream_and_actions() {
    for_each(|entry, mut environment| {
        let first = trace(environment.as_mut(), 5, 60);
        assert!(first.iter().all(|value| value.is_finite()), "{}", entry.name);
        assert_eq!(first, trace(environment.as_mut(), 5, 60), "{}: used again", entry.name);
        assert_eq!(first, trace(entry.make().unwrap().as_mut(), 5, 60), "{}: made again", entry.name);
        assert_ne!(first, trace(environment.as_mut(), 6, 60), "{}: another stream", entry.name);
    });
}

#[test]
fn an_ended_trajectory_takes_no_step_until_the_next_reset() {
    let cases = [("cartpole", 10.0), ("mountain-car", 0.0)];
    for (name, push) in cases {
        let mut environment = environments::registry::make(name).unwrap();
        let mut random = generator(7);
        let mut observation = reset(environment.as_mut(), &mut random);
        let mut steps = 0;
        loop {
            // The car follows its velocity, the cart is pushed to one side.
            let action = if push > 0.0 { push } else { 1.0_f64.copysign(observation[1]) };
            steps += 1;
            assert!(steps < 500, "{name} does not end");
            if environment.step(&[action], &mut random, &mut observation).unwrap().terminated {
                break;
            }
        }
        let last = observation.clone();
        let error = environment.step(&[0.0], &mut random, &mut observation).unwrap_err();
        assert_eq!(error, StepError::NotRunning { environment: name });
        assert_eq!(observation, last);
        reset(environment.as_mut(), &mut random);
        assert!(environment.step(&[0.0], &mut random, &mut observation).is_ok());
    }
}

#[test]
fn slices_of_a_wrong_length_panic() {
    for_each(|entry, _| {
        let panics = |observation: usize, action: usize| {
            std::panic::catch_unwind(|| {
                let mut environment = entry.make().unwrap();
                reset(environment.as_mut(), &mut generator(0));
                let mut observation = vec![0.0; observation];
                let _ = environment.step(&vec![0.0; action], &mut generator(0), &mut observation);
            })
            .is_err()
        };
        assert!(!panics(entry.observation_size, entry.action_size), "{}", entry.name);
        assert!(panics(entry.observation_size + 1, entry.action_size), "{}", entry.name);
        assert!(panics(entry.observation_size, entry.action_size + 1), "{}", entry.name);
        assert!(panics(entry.observation_size, entry.action_size - 1), "{}", entry.name);
    });
}

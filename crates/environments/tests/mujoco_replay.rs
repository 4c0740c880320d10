//! Replays recorded transitions of Gymnasium's environments (`mujoco/record.py`) in ours.
//!
//! Without a MuJoCo library the tests are skipped by name; with `RTPG_REQUIRE_MUJOCO=1` they fail instead.
#![cfg(feature = "mujoco")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod mujoco_support;

use environments::drawing::{Scene, Shape};
use environments::mujoco::{DEFINITIONS, Definition, MujocoEnvironment, RECOMMENDED_VERSION};
use environments::{Environment, StepError, Transition};
use mujoco_support::{available, no_random};

/// Contacts are chaotic: a difference of one rounding, as between versions of MuJoCo, grows to this size only later.
const STEPS_ACROSS_VERSIONS: usize = 20;
const TOLERANCE_ACROSS_VERSIONS: f64 = 1e-9;

fn recording(definition: &Definition) -> &'static str {
    match definition.name() {
        "half-cheetah" => include_str!("mujoco/half-cheetah.csv"),
        "hopper" => include_str!("mujoco/hopper.csv"),
        "inverted-pendulum" => include_str!("mujoco/inverted-pendulum.csv"),
        "swimmer" => include_str!("mujoco/swimmer.csv"),
        "walker2d" => include_str!("mujoco/walker2d.csv"),
        other => panic!("{other} has no recording"),
    }
}

/// The lines of a recording: what they are, and their numbers.
fn lines(definition: &Definition) -> impl Iterator<Item = (&'static str, Vec<f64>)> {
    recording(definition).lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (kind, values) = line.split_once(',').unwrap();
        (kind, values.split(',').map(|value| value.parse().unwrap()).collect())
    })
}

/// How far results may be from the recorded ones: nowhere with the same code on the same kind of processor (the
/// mathematical library chooses its code by the processor).
fn tolerance(version: &str) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if version == RECOMMENDED_VERSION && std::arch::is_x86_feature_detected!("fma") {
        return 0.0;
    }
    TOLERANCE_ACROSS_VERSIONS
}

/// The largest difference between the steps of a recording and ours, among the first `limit` of each trajectory.
fn largest_difference(definition: &'static Definition, limit: usize) -> f64 {
    let mut environment = MujocoEnvironment::new(definition).unwrap();
    let mut observation = vec![0.0; environment.observation_size()];
    let mut largest = 0.0_f64;
    let mut step = 0;
    for (kind, values) in lines(definition) {
        match kind {
            "start" => {
                let (positions, velocities) = values.split_at(environment.positions().len());
                environment.reset_to(positions, velocities, &mut observation);
                step = 0;
            }
            "step" if step < limit => {
                let (action, rest) = values.split_at(environment.action_size());
                let (expected, outcome) = rest.split_at(observation.len());
                let Transition { reward, terminated } =
                    environment.step(action, &mut no_random(), &mut observation).unwrap();
                assert_eq!(outcome[1] == 1.0, terminated, "{}: step {step}", definition.name());
                let pairs = observation.iter().chain([&reward]).zip(expected.iter().chain([&outcome[0]]));
                for (ours, theirs) in pairs {
                    let difference = (ours - theirs).abs();
                    assert!(!difference.is_nan(), "{}: step {step}: {ours}, {theirs}", definition.name());
                    largest = largest.max(difference);
                }
                step += 1;
            }
            _ => {}
        }
    }
    largest
}

#[test]
fn steps_are_those_of_gymnasium() {
    let Some(info) = available("steps_are_those_of_gymnasium") else { return };
    let tolerance = tolerance(info.version);
    let limit = if tolerance == 0.0 { usize::MAX } else { STEPS_ACROSS_VERSIONS };
    for definition in DEFINITIONS {
        let largest = largest_difference(definition, limit);
        assert!(largest <= tolerance, "{}: {largest:e}, MuJoCo {}", definition.name(), info.version);
    }
}

#[test]
fn recordings_contain_ends_and_clipped_actions() {
    for definition in DEFINITIONS {
        let steps: Vec<_> = lines(definition).filter(|(kind, _)| *kind == "step").collect();
        let ends = steps.iter().filter(|(_, values)| values.last() == Some(&1.0)).count();
        match definition.name() {
            "half-cheetah" | "swimmer" => {
                assert_eq!(ends, 0);
                assert!(
                    steps
                        .iter()
                        .any(|(_, values)| values[..definition.action_size()].iter().any(|a| *a > 1.0))
                );
            }
            name => assert!(ends > 0, "{name}"),
        }
    }
}

#[test]
fn drawings_show_the_bodies_where_mujoco_has_them() {
    if available("drawings_show_the_bodies_where_mujoco_has_them").is_none() {
        return;
    }
    for definition in DEFINITIONS {
        let mut environment = MujocoEnvironment::new(definition).unwrap();
        let mut observation = vec![0.0; environment.observation_size()];
        let mut scene = Scene::new();
        let mut checked = 0;
        for (kind, values) in lines(definition) {
            match kind {
                "pose" => {
                    let velocities = vec![0.0; environment.velocities().len()];
                    environment.reset_to(&values, &velocities, &mut observation);
                    scene = Scene::new();
                    environment.draw(&mut scene);
                }
                "capsule" => {
                    let distances = scene.shapes().iter().map(|(_, shape)| distance(shape, &values));
                    let nearest = distances.fold(f64::INFINITY, f64::min);
                    assert!(nearest < 1e-9, "{}: {nearest:e} from {values:?}", definition.name());
                    checked += 1;
                }
                _ => {}
            }
        }
        assert!(checked > 0, "{}", definition.name());
    }
}

/// How far the ends of a shape are from the recorded ones, in either order.
fn distance(shape: &Shape, recorded: &[f64]) -> f64 {
    let Shape::Capsule { ends: [[a, b], [c, d]], .. } = *shape else { return f64::INFINITY };
    let apart = |ends: [f64; 4]| {
        ends.iter().zip(recorded).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max)
    };
    apart([a, b, c, d]).min(apart([c, d, a, b]))
}

#[test]
fn an_ended_trajectory_and_a_bad_action_are_refused() {
    if available("an_ended_trajectory_and_a_bad_action_are_refused").is_none() {
        return;
    }
    for definition in DEFINITIONS {
        let mut environment = MujocoEnvironment::new(definition).unwrap();
        let mut observation = vec![0.0; environment.observation_size()];
        let mut action = vec![0.0; environment.action_size()];
        let outcome = environment.step(&action, &mut no_random(), &mut observation);
        assert_eq!(outcome, Err(StepError::NotRunning { environment: definition.name() }));
        environment.reset(&mut no_random(), &mut observation);
        action[0] = f64::NAN;
        let outcome = environment.step(&action, &mut no_random(), &mut observation);
        assert!(matches!(outcome, Err(StepError::ActionNotFinite { index: 0, .. })), "{outcome:?}");
        action[0] = 0.0;
        environment.step(&action, &mut no_random(), &mut observation).unwrap();
    }
}

use environments::registry::{self, Entry};
use environments::{cart_pole, linear_quadratic, mountain_car, pendulum};
use policy_nets::{
    Activation, Architecture, Deviation, GaussianPolicy, Initialization, LogStdBounds, PolicyState,
};

use super::*;
use crate::device::{Backend, DeviceChoice, SelectedDevice, select};
use crate::device_trajectories::BatchSummary;
use crate::doctor::{Key, roll_out_errors};
use crate::random::Purpose;
use crate::rollout::{RollOut, Sampling};
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

/// The wgpu device, a software adapter where there is no other; `None`, said on standard error, without one.
///
/// # Panics
/// With `RTPG_REQUIRE_WGPU=1` and no adapter.
fn wgpu() -> Option<SelectedDevice> {
    match select(&DeviceChoice::Backend(Backend::Wgpu)) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var_os("RTPG_REQUIRE_WGPU").is_some_and(|value| value == "1");
            assert!(!required, "RTPG_REQUIRE_WGPU=1, but {error}");
            eprintln!("skipped wgpu: {error}");
            None
        }
    }
}

#[test]
fn random_numbers_and_functions_are_those_of_the_host() {
    let Some(device) = wgpu() else { return };
    for (name, allowed, error) in number_errors(&device.device) {
        let error = error.unwrap();
        assert!(error <= allowed, "{name}: {error:e}, allowed {allowed:e}");
    }
}

/// Gains beyond about one drive the linear system out of single precision.
const STABLE: f64 = 0.3;

/// A policy that acts visibly: Xavier-uniform, with biases where there are any.
fn policy(entry: &Entry, hidden: &[usize], activation: Activation, bias: bool, seed: u64) -> PolicyState {
    let architecture = Architecture {
        observation_size: entry.observation_size,
        action_size: entry.action_size,
        hidden: hidden.to_vec(),
        activation,
        bias,
    };
    let mut random = Streams::new(seed).stream(Purpose::Initialization, 0, 0, 0);
    let mut policy = PolicyState::start(
        architecture,
        Initialization::XavierUniform,
        -0.6,
        Deviation::Learned(LogStdBounds::default()),
        &mut random,
    );
    for (index, value) in policy.mean_parameters.iter_mut().enumerate() {
        // Biases start at zero, which would hide a wrong one.
        let scale = if entry.name == linear_quadratic::NAME { STABLE } else { 1.0 };
        *value = f64::from((scale * (*value + 0.01 * (index % 7) as f64)) as f32);
    }
    policy
}

fn both(
    entry: &Entry,
    policy: &PolicyState,
    key: Key,
    [trajectories, horizon]: [usize; 2],
    device: &SelectedDevice,
) -> (Trajectories, Trajectories, BatchSummary) {
    let mut roll_out = RollOut::new(entry, trajectories, horizon, &Threads::new(2).unwrap()).unwrap();
    let shape = roll_out.shape();
    let mut host = Trajectories::zeros(shape);
    let Key { streams, iteration, first_trajectory, mode } = key;
    let sampling = Sampling { policy, streams, iteration, first_trajectory, mode };
    roll_out.run(sampling, &mut host).unwrap();
    let kernel = DeviceRollOut::new(entry, shape, &policy.architecture, false, &device.device).unwrap();
    let on_device = GaussianPolicy::from_state(policy, &device.device);
    let sampling = DeviceSampling {
        parameters: on_device.parameters(),
        log_std: on_device.log_std(),
        streams,
        iteration,
        first_trajectory,
        mode,
    };
    let batch = kernel.run(sampling);
    let summary: Vec<f64> = batch.summary.to_data().iter::<f64>().collect();
    (host, batch.trajectories.to_host(), BatchSummary::unpack(&summary, trajectories))
}

/// Hidden widths, activation, whether there are biases.
type PolicyShape = (&'static [usize], Activation, bool);

const LINEAR: PolicyShape = (&[], Activation::Tanh, false);
const STUDY: PolicyShape = (&[32, 32], Activation::Tanh, false);
const ODD: PolicyShape = (&[7, 37, 5], Activation::Tanh, true);
const RECTIFIED: PolicyShape = (&[9], Activation::Relu, true);

/// Every number of a step follows from those before it, in float64; and both roll-outs, left to themselves, stay
/// together for `together` steps.
fn assert_agreement(name: &str, together: usize, limits: [f64; 2], policies: &[PolicyShape]) {
    let Some(device) = wgpu() else { return };
    let entry = registry::find(name).unwrap();
    for (seed, (hidden, activation, bias)) in policies.iter().copied().enumerate() {
        let seed = seed as u64;
        let policy = policy(entry, hidden, activation, bias, seed);
        let mode = if seed == 1 { Mode::StochasticEvaluation } else { Mode::Training };
        let key = Key { streams: Streams::new(seed << 33 | 5), iteration: 7, first_trajectory: 11, mode };
        let horizon = if name == mountain_car::NAME { 150 } else { 60 };
        let (host, kernel, summary) = both(entry, &policy, key, [37, horizon], &device);
        let errors = roll_out_errors(entry, &policy, key, &kernel).unwrap();
        assert!(errors.largest() <= limits[0], "{name}, hidden {hidden:?}: {errors:?}");
        assert_eq!(kernel.lengths, host.lengths, "{name}, hidden {hidden:?}");
        for trajectory in 0..host.shape.trajectories {
            let steps = trajectory * horizon..trajectory * horizon + together;
            for place in steps {
                assert_near(&kernel, &host, place, limits[1], name);
            }
        }
        let returns: Vec<f64> = kernel.returns().collect();
        let mean = returns.iter().sum::<f64>() / returns.len() as f64;
        let squares: f64 = returns.iter().map(|value| (value - mean).powi(2)).sum();
        let expected = BatchSummary {
            trajectories: 37,
            return_mean: mean,
            return_std: (squares / returns.len() as f64).sqrt(),
            return_min: returns.iter().copied().fold(f64::INFINITY, f64::min),
            return_max: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            steps: kernel.steps(),
            unstable: 0,
        };
        assert_summary(&summary, &expected, name);
    }
}

fn assert_near(kernel: &Trajectories, host: &Trajectories, place: usize, limit: f64, name: &str) {
    let BatchShape { observation_size, action_size, .. } = host.shape;
    let rows = [
        (&kernel.observations, &host.observations, observation_size),
        (&kernel.actions, &host.actions, action_size),
        (&kernel.means, &host.means, action_size),
    ];
    for (found, expected, size) in rows {
        for index in place * size..(place + 1) * size {
            let (found, expected) = (f64::from(found[index]), f64::from(expected[index]));
            let error = (found - expected).abs() / expected.abs().max(1.0);
            assert!(error <= limit, "{name}, step {place}: {found} instead of {expected}");
        }
    }
    let (found, expected) = (kernel.rewards[place], host.rewards[place]);
    assert!((found - expected).abs() <= limit * expected.abs().max(1.0), "{name}: {found} {expected}");
}

fn assert_summary(found: &BatchSummary, expected: &BatchSummary, name: &str) {
    let numbers = |summary: &BatchSummary| {
        [summary.return_mean, summary.return_std, summary.return_min, summary.return_max]
    };
    for (value, wanted) in numbers(found).into_iter().zip(numbers(expected)) {
        assert!(
            (value - wanted).abs() <= 1e-5 * wanted.abs().max(1.0),
            "{name}: {found:?}, not {expected:?}"
        );
    }
    let counts = |summary: &BatchSummary| (summary.trajectories, summary.steps, summary.unstable);
    assert_eq!(counts(found), counts(expected), "{name}");
}

#[test]
fn cart_poles_agree_with_the_host() {
    assert_agreement(cart_pole::NAME, 60, [1e-5, 1e-3], &[LINEAR, STUDY, ODD]);
}

#[test]
fn pendulums_agree_with_the_host() {
    assert_agreement(pendulum::NAME, 30, [1e-5, 1e-3], &[LINEAR, ODD]);
}

#[test]
fn mountain_cars_agree_with_the_host() {
    assert_agreement(mountain_car::NAME, 100, [1e-5, 1e-3], &[LINEAR, RECTIFIED]);
}

#[test]
fn linear_quadratic_systems_agree_with_the_host() {
    assert_agreement(linear_quadratic::NAME, 60, [1e-5, 1e-3], &[RECTIFIED, ODD]);
}

#[test]
fn evaluation_takes_other_streams_and_mean_actions() {
    let Some(device) = wgpu() else { return };
    let entry = registry::find(linear_quadratic::NAME).unwrap();
    let policy = policy(entry, &[], Activation::Tanh, false, 1);
    let key = |mode| Key { streams: Streams::new(1), iteration: 0, first_trajectory: 0, mode };
    let sample = |mode| both(entry, &policy, key(mode), [5, 3], &device).1;
    let (training, stochastic, deterministic) =
        (sample(Mode::Training), sample(Mode::StochasticEvaluation), sample(Mode::DeterministicEvaluation));
    for (left, right) in training.observations.iter().zip(&stochastic.observations) {
        assert_ne!(left, right);
    }
    assert_eq!(deterministic.actions, deterministic.means);
    assert_eq!(deterministic.observations[..2], stochastic.observations[..2]);
}

/// A policy that drives the system apart: its numbers leave single precision on the way.
#[test]
fn a_trajectory_ends_before_its_numbers_leave_single_precision() {
    let Some(device) = wgpu() else { return };
    let entry = registry::find(linear_quadratic::NAME).unwrap();
    let mut policy = policy(entry, &[], Activation::Tanh, false, 1);
    policy.mean_parameters = vec![20.0, 0.0, 0.0, 20.0];
    let shape = BatchShape { trajectories: 3, horizon: 50, observation_size: 2, action_size: 2 };
    let kernel = DeviceRollOut::new(entry, shape, &policy.architecture, false, &device.device).unwrap();
    let on_device = GaussianPolicy::from_state(&policy, &device.device);
    let batch = kernel.run(DeviceSampling {
        parameters: on_device.parameters(),
        log_std: on_device.log_std(),
        streams: Streams::new(0),
        iteration: 0,
        first_trajectory: 0,
        mode: Mode::Training,
    });
    let summary: Vec<f64> = batch.summary.to_data().iter::<f64>().collect();
    let summary = BatchSummary::unpack(&summary, 3);
    let host = batch.trajectories.to_host();
    assert_eq!(summary.unstable, 3);
    assert!(host.lengths.iter().all(|length| (2..50).contains(length)), "{:?}", host.lengths);
    assert_eq!(summary.steps, host.steps());
    assert!(host.observations.iter().chain(&host.actions).all(|value| value.is_finite()));
    for (trajectory, length) in host.lengths.iter().enumerate() {
        let rest = trajectory * 50 + *length as usize..(trajectory + 1) * 50;
        assert!(host.rewards[rest].iter().all(|reward| *reward == 0.0));
    }
}

#[test]
fn what_no_kernel_covers_is_told() {
    let Some(device) = wgpu() else { return };
    let entry = registry::find(cart_pole::NAME).unwrap();
    let shape = BatchShape { trajectories: 4, horizon: 5, observation_size: 4, action_size: 1 };
    let architecture = |hidden: &[usize]| policy(entry, hidden, Activation::Tanh, false, 0).architecture;
    let reason = |entry: &Entry, hidden: &[usize], normalized| {
        DeviceRollOut::new(entry, shape, &architecture(hidden), normalized, &device.device).unwrap_err()
    };
    assert_eq!(reason(entry, &[65], false), NotCovered::Width("4 -> 65 -> 1".to_owned()));
    assert_eq!(reason(entry, &[8], true), NotCovered::Normalizer);
    assert!(matches!(reason(entry, &[64; 40], false), NotCovered::SharedMemory { .. }));
    let other = registry::find("swimmer");
    if let Ok(other) = other {
        assert_eq!(reason(other, &[8], false), NotCovered::Environment("swimmer"));
    }
    let cpu = select(&DeviceChoice::Cpu).unwrap().device;
    let on_host = DeviceRollOut::new(entry, shape, &architecture(&[]), false, &cpu);
    assert_eq!(on_host.unwrap_err(), NotCovered::Device);
}

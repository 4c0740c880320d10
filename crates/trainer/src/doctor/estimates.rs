//! Gradient estimates against float64.

use policy_nets::{Activation, Architecture, Deviation, GaussianPolicy, Initialization, PolicyState};

use super::reference;
use super::roll_outs::worse;
use crate::algorithms;
use crate::config::{AlgorithmConfig, Config, KernelChoice, PowerMeanConfig};
use crate::device::SelectedDevice;
use crate::phases::Phases;
use crate::random::{Purpose, Streams};
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

const BATCHES: u32 = 3;
const SHAPE: BatchShape = BatchShape { trajectories: 6, horizon: 20, observation_size: 5, action_size: 3 };

/// Normal numbers of one place.
fn normals(purpose: Purpose, index: u32, count: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    Streams::new(0).normals(purpose, index, 0, 0, &mut numbers);
    numbers
}

fn target() -> PolicyState {
    let architecture = Architecture {
        observation_size: SHAPE.observation_size,
        action_size: SHAPE.action_size,
        hidden: vec![13, 7],
        activation: Activation::Tanh,
        bias: true,
    };
    let mut random = Streams::new(0).stream(Purpose::Initialization, 0, 0, 0);
    let mut policy =
        PolicyState::start(architecture, Initialization::XavierUniform, -0.6, Deviation::Fixed, &mut random);
    policy.mean_parameters.iter_mut().for_each(|parameter| *parameter = f64::from(*parameter as f32));
    policy
}

/// A batch of early ends by a policy near `target`, with normal observations and rewards.
fn batch(target: &PolicyState, index: u32) -> Trajectories {
    let BatchShape { trajectories, horizon, observation_size, action_size } = SHAPE;
    let mut behaviour = target.clone();
    let shifts = normals(Purpose::Algorithm, index, behaviour.mean_parameters.len());
    for (parameter, shift) in behaviour.mean_parameters.iter_mut().zip(shifts) {
        *parameter += 0.02 * f64::from(shift);
    }
    let mut batch = Trajectories::zeros(SHAPE);
    batch.log_std = target.log_std.iter().map(|value| *value as f32).collect();
    let steps = trajectories * horizon;
    let observations = normals(Purpose::Reset, index, steps * observation_size);
    let rewards = normals(Purpose::Dynamics, index, steps);
    let noise = normals(Purpose::Action, index, steps * action_size);
    for trajectory in 0..trajectories {
        let length = horizon - 3 * trajectory;
        batch.lengths[trajectory] = length as u32;
        for step in 0..length {
            let place = trajectory * horizon + step;
            let rows = place * observation_size..(place + 1) * observation_size;
            batch.observations[rows.clone()].copy_from_slice(&observations[rows.clone()]);
            let observation: Vec<f64> = observations[rows].iter().map(|x| f64::from(*x)).collect();
            batch.rewards[place] = f64::from(rewards[place]);
            for (d, mean) in reference::mean(&behaviour, &observation).into_iter().enumerate() {
                let index = place * action_size + d;
                batch.means[index] = mean as f32;
                batch.actions[index] = mean as f32 + batch.log_std[d].exp() * noise[index];
            }
        }
    }
    batch
}

/// Largest error of RT-PG's gradient on `device`, relative to its largest component.
pub(super) fn gradient_error(
    config: &Config,
    kernels: KernelChoice,
    device: &SelectedDevice,
    threads: &Threads,
) -> f64 {
    let options = PowerMeanConfig {
        batch_size: SHAPE.trajectories,
        window: BATCHES as usize,
        ..PowerMeanConfig::default()
    };
    let target = target();
    let mut config = Config { kernels, algorithm: AlgorithmConfig::RtPg(options), ..config.clone() };
    config.policy.hidden.clone_from(&target.architecture.hidden);
    config.policy.activation = target.architecture.activation;
    config.policy.bias = target.architecture.bias;
    let count = target.mean_parameters.len();
    let mut algorithm = algorithms::make(&config, &target, SHAPE, Streams::new(0), device, threads);
    let policy = GaussianPolicy::from_state(&target, &device.device);
    let batches: Vec<_> = (0..BATCHES).map(|index| batch(&target, index)).collect();
    let mut gradient = vec![];
    for batch in &batches {
        let fresh = std::slice::from_ref(batch);
        let estimate = algorithm.estimate(&policy, fresh, &mut Phases::default());
        gradient = estimate.gradient.into_data().iter::<f64>().collect();
    }
    let expected = reference::rt_pg(&target, &batches);
    let scale = expected.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let error = gradient.iter().zip(&expected).map(|(found, expected)| (found - expected).abs() / scale);
    error.fold(if gradient.len() == count { 0.0 } else { f64::INFINITY }, worse)
}

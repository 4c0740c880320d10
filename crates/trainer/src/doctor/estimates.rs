//! Gradient estimates against float64.

use environments::registry::Entry;
use policy_nets::{
    Activation, Architecture, Deviation, GaussianPolicy, Initialization, LogStdBounds, PolicyState,
};

use super::reference;
use super::roll_outs::worse;
use crate::algorithms::{self, Algorithm};
use crate::config::{AdamConfig, AlgorithmConfig, Config, KernelChoice, OptimizerConfig, PowerMeanConfig};
use crate::device::SelectedDevice;
use crate::device_roll_out::{DeviceRollOut, DeviceSampling};
use crate::optimizer::Optimizer;
use crate::phases::Phases;
use crate::random::{Purpose, Streams};
use crate::rollout::Mode;
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

const BATCHES: u32 = 3;
const SHAPE: BatchShape = BatchShape { trajectories: 6, horizon: 40, observation_size: 5, action_size: 3 };

/// Normal numbers of one place.
fn normals(purpose: Purpose, index: u32, count: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    Streams::new(0).normals(purpose, index, 0, 0, &mut numbers);
    numbers
}

/// Whose gradient is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A tanh network with biases and a fixed deviation.
    Fixed,
    /// A `ReLU` network without biases, and a learned deviation other than those of the batches.
    Learned,
}

impl Subject {
    /// The batches' shape: trajectories that a GPU's kernels go through once, and such short ones that they do twice.
    fn shape(self) -> BatchShape {
        match self {
            Self::Fixed => SHAPE,
            Self::Learned => BatchShape { horizon: 20, ..SHAPE },
        }
    }
}

fn target(subject: Subject) -> PolicyState {
    let (activation, deviation) = match subject {
        Subject::Fixed => (Activation::Tanh, Deviation::Fixed),
        Subject::Learned => (Activation::Relu, Deviation::Learned(LogStdBounds { min: -5.0, max: 2.0 })),
    };
    let architecture = Architecture {
        observation_size: SHAPE.observation_size,
        action_size: SHAPE.action_size,
        hidden: vec![13, 7],
        activation,
        bias: subject == Subject::Fixed,
    };
    let mut random = Streams::new(0).stream(Purpose::Initialization, 0, 0, 0);
    let mut policy =
        PolicyState::start(architecture, Initialization::XavierUniform, -0.6, deviation, &mut random);
    let parameters = policy.mean_parameters.iter_mut().chain(&mut policy.log_std);
    parameters.for_each(|parameter| *parameter = f64::from(*parameter as f32));
    policy
}

/// A batch of early ends by a policy near `target`, with normal observations and rewards.
fn batch(target: &PolicyState, shape: BatchShape, index: u32) -> Trajectories {
    let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
    let mut behaviour = target.clone();
    let shifts = normals(Purpose::Algorithm, index, behaviour.mean_parameters.len());
    for (parameter, shift) in behaviour.mean_parameters.iter_mut().zip(shifts) {
        *parameter += 0.02 * f64::from(shift);
    }
    let wider =
        if matches!(target.deviation, Deviation::Learned(_)) { 0.05 * f64::from(index + 1) } else { 0.0 };
    let mut batch = Trajectories::zeros(shape);
    batch.log_std = target.log_std.iter().map(|value| (*value + wider) as f32).collect();
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

/// An algorithm on `device` and what it works on.
struct Case {
    target: PolicyState,
    policy: GaussianPolicy,
    algorithm: Box<dyn Algorithm>,
    batches: Vec<Trajectories>,
}

impl Case {
    fn new(
        subject: Subject,
        config: &Config,
        kernels: KernelChoice,
        device: &SelectedDevice,
        threads: &Threads,
    ) -> Self {
        let options = PowerMeanConfig {
            batch_size: SHAPE.trajectories,
            window: BATCHES as usize,
            ..PowerMeanConfig::default()
        };
        let (target, shape) = (target(subject), subject.shape());
        let mut config = Config { kernels, algorithm: AlgorithmConfig::RtPg(options), ..config.clone() };
        config.policy.hidden.clone_from(&target.architecture.hidden);
        config.policy.activation = target.architecture.activation;
        config.policy.bias = target.architecture.bias;
        config.policy.learn_variance = subject == Subject::Learned;
        Self {
            algorithm: algorithms::make(&config, &target, shape, Streams::new(0), device, threads),
            policy: GaussianPolicy::from_state(&target, &device.device),
            batches: (0..BATCHES).map(|index| batch(&target, shape, index)).collect(),
            target,
        }
    }
}

/// Largest error of RT-PG's gradient on `device`, relative to its largest component.
pub(super) fn gradient_error(
    subject: Subject,
    config: &Config,
    kernels: KernelChoice,
    device: &SelectedDevice,
    threads: &Threads,
) -> f64 {
    let Case { target, policy, mut algorithm, batches } =
        Case::new(subject, config, kernels, device, threads);
    let mut gradient = vec![];
    for batch in &batches {
        let fresh = std::slice::from_ref(batch);
        let estimate = algorithm.estimate(&policy, fresh, &mut Phases::default());
        gradient = estimate.gradient.into_data().iter::<f64>().collect();
    }
    relative(&gradient, &reference::rt_pg(&target, &batches))
}

/// Largest error of the parameters after each of three steps of Adam, relative to the learning rate, and of the gradients that
/// they follow, relative to their largest component. A step is compared with the one that its own gradient makes: where a
/// component is near 0, its sign alone decides.
pub(super) fn steps_error(
    config: &Config,
    kernels: KernelChoice,
    device: &SelectedDevice,
    threads: &Threads,
) -> f64 {
    let Case { mut target, mut policy, mut algorithm, batches } =
        Case::new(Subject::Fixed, config, kernels, device, threads);
    let adam = AdamConfig { learning_rate: 0.01, ..AdamConfig::default() };
    let mut optimizer = Optimizer::new(&OptimizerConfig::Adam(adam));
    let count = target.mean_parameters.len();
    let [mut mean, mut square] = [vec![0.0; count], vec![0.0; count]];
    let mut error = 0.0;
    for (index, batch) in batches.iter().enumerate() {
        let fresh = std::slice::from_ref(batch);
        let update = algorithm.update(&mut policy, &mut optimizer, fresh, &mut Phases::default());
        let gradient = update.gradient.and_then(|gradient| gradient.read(None).ok()).unwrap_or_default();
        error = worse(error, relative(&gradient, &reference::rt_pg(&target, &batches[..=index])));
        let found: Vec<f64> = policy.parameters().into_data().iter::<f64>().collect();
        if gradient.len() != count || found.len() != count {
            return f64::INFINITY;
        }
        let made = index as i32 + 1;
        for (place, g) in gradient.into_iter().enumerate() {
            mean[place] = adam.beta_1 * mean[place] + (1.0 - adam.beta_1) * g;
            square[place] = adam.beta_2 * square[place] + (1.0 - adam.beta_2) * g * g;
            let [of_mean, of_square] = [
                mean[place] / (1.0 - adam.beta_1.powi(made)),
                square[place] / (1.0 - adam.beta_2.powi(made)),
            ];
            let expected = of_mean / (of_square.sqrt() + adam.epsilon);
            let step = (found[place] - target.mean_parameters[place]) / adam.learning_rate;
            error = worse(error, (step - expected).abs());
        }
        target.mean_parameters = found;
    }
    error
}

/// Largest distance relative to the largest component; infinite for another number of components.
fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let scale = expected.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let error = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / scale);
    error.fold(if found.len() == expected.len() { 0.0 } else { f64::INFINITY }, worse)
}

/// Largest error of RT-PG's gradient from a batch that a kernel of the device has rolled out and put into the window, relative
/// to its largest component.
///
/// # Errors
/// Why no kernel does.
pub(super) fn error_of_device_batch(
    entry: &Entry,
    policy: &PolicyState,
    config: &Config,
    device: &SelectedDevice,
    threads: &Threads,
) -> Result<f64, String> {
    let shape =
        BatchShape { observation_size: entry.observation_size, action_size: entry.action_size, ..SHAPE };
    let options = PowerMeanConfig { batch_size: shape.trajectories, window: 1, ..PowerMeanConfig::default() };
    let mut config = Config { algorithm: AlgorithmConfig::RtPg(options), ..config.clone() };
    config.policy.hidden.clone_from(&policy.architecture.hidden);
    config.policy.bias = policy.architecture.bias;
    let streams = Streams::new(5);
    let roll_out = DeviceRollOut::new(entry, shape, &policy.architecture, false, &device.device);
    let roll_out = roll_out.map_err(|reason| reason.to_string())?;
    let mut algorithm = algorithms::make(&config, policy, shape, streams, device, threads);
    if !algorithm.accepts_device_batches() {
        return Err("the algorithm takes its batches from the host".to_owned());
    }
    let on_device = GaussianPolicy::from_state(policy, &device.device);
    let batch = roll_out.run(DeviceSampling {
        parameters: on_device.parameters(),
        log_std: on_device.log_std(),
        streams,
        iteration: 0,
        first_trajectory: 0,
        mode: Mode::Training,
    });
    let mut phases = Phases::default();
    algorithm.push_on_device(&batch.trajectories, &mut phases).map_err(|error| error.to_string())?;
    let estimate = algorithm.estimate(&on_device, &[], &mut phases);
    let gradient: Vec<f64> = estimate.gradient.into_data().iter::<f64>().collect();
    Ok(relative(&gradient, &reference::rt_pg(policy, &[batch.trajectories.to_host()])))
}

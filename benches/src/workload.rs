//! Estimates of several sizes.

use burn::tensor::{Device, Tensor, TensorData};
use policy_nets::{Activation, Architecture, Deviation, GaussianPolicy, Initialization, PolicyState};
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
use trainer::algorithms::DeviceReuse;
use trainer::algorithms::{Algorithm, FusedReuse, TrajectoryReuse};
use trainer::config::{AlgorithmConfig, PowerMeanConfig};
use trainer::device::SelectedDevice;
use trainer::phases::Phases;
use trainer::random::{Purpose, Streams};
use trainer::threads::Threads;
use trainer::trajectories::{BatchShape, Trajectories};
use trainer::window::{ReturnRule, Window};

/// Sizes of an estimate.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What the sizes are those of.
    pub name: &'static str,
    /// Batches, `omega`.
    pub window: usize,
    /// Trajectories of a batch, `N`.
    pub batch: usize,
    /// Steps of a trajectory, `T`.
    pub horizon: usize,
    /// Observation components.
    pub observation_size: usize,
    /// Action components.
    pub action_size: usize,
    /// Widths of the policy's hidden layers.
    pub hidden: &'static [usize],
}

/// The sizes that are measured, smallest first.
pub const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "cartpole",
        window: 8,
        batch: 10,
        horizon: 200,
        observation_size: 4,
        action_size: 1,
        hidden: &[],
    },
    Workload {
        name: "swimmer",
        window: 4,
        batch: 20,
        horizon: 200,
        observation_size: 8,
        action_size: 2,
        hidden: &[32, 32],
    },
    HALF_CHEETAH,
    Workload { name: "wide", window: 16, batch: 64, horizon: 200, ..HALF_CHEETAH },
    Workload { name: "long-window", window: 32, batch: 80, horizon: 100, ..HALF_CHEETAH },
];

const HALF_CHEETAH: Workload = Workload {
    name: "half-cheetah",
    window: 8,
    batch: 40,
    horizon: 100,
    observation_size: 17,
    action_size: 6,
    hidden: &[32, 32],
};

/// Everything that an estimate reads, on a device: a full window, and a policy that has moved a little since each batch.
pub struct Prepared {
    /// The target policy.
    pub policy: GaussianPolicy,
    /// The full window.
    pub window: Window,
    /// RT-PG by tensor operations, with the same batches in its own window.
    pub tensor_operations: TrajectoryReuse,
    /// RT-PG by the fused kernels, on the CPU.
    pub fused: Option<FusedReuse>,
    /// RT-PG by the fused kernels, on a GPU.
    pub device: Option<Box<dyn Algorithm>>,
}

impl Workload {
    /// Steps in the window, the unit of throughput.
    pub fn samples(&self) -> u64 {
        (self.window * self.batch * self.horizon) as u64
    }

    /// Name and sizes, such as `cartpole-8x10x200`.
    pub fn id(&self) -> String {
        format!("{}-{}x{}x{}", self.name, self.window, self.batch, self.horizon)
    }

    /// The paper's estimator with this window and batch.
    pub fn algorithm(&self) -> PowerMeanConfig {
        PowerMeanConfig { window: self.window, batch_size: self.batch, ..PowerMeanConfig::default() }
    }

    /// Fills the windows; the fused kernels run on `threads`.
    ///
    /// # Panics
    /// When an estimator refuses RT-PG, which none does.
    pub fn prepare(&self, device: &SelectedDevice, threads: &Threads) -> Prepared {
        let shape = BatchShape {
            trajectories: self.batch,
            horizon: self.horizon,
            observation_size: self.observation_size,
            action_size: self.action_size,
        };
        let streams = Streams::new(0);
        let target = self.policy(streams);
        let config = AlgorithmConfig::RtPg(self.algorithm());
        let is_host = device.is_host();
        let mut kernels =
            (!is_host).then(|| device_kernels(&config, &target, shape, &device.device)).flatten();
        let device = &device.device;
        let policy = GaussianPolicy::from_state(&target, device);
        let mut window = Window::new(self.window, shape, device);
        let mut tensor_operations =
            TrajectoryReuse::new(&config, &target, shape, device).unwrap_or_else(|reason| panic!("{reason}"));
        let mut fused = is_host.then(|| {
            FusedReuse::new(&config, &target, shape, device, threads)
                .unwrap_or_else(|reason| panic!("{reason}"))
        });
        let rule = ReturnRule::new(&config);
        for index in 0..self.window {
            let batch = [behaviour_batch(&target, shape, index as u32, streams, device)];
            window.push(&batch[0], rule);
            tensor_operations.estimate(&policy, &batch, &mut Phases::default());
            if let Some(fused) = &mut fused {
                fused.estimate(&policy, &batch, &mut Phases::default());
            }
            if let Some(kernels) = &mut kernels {
                kernels.estimate(&policy, &batch, &mut Phases::default());
            }
        }
        Prepared { policy, window, tensor_operations, fused, device: kernels }
    }

    fn policy(&self, streams: Streams) -> PolicyState {
        let architecture = Architecture {
            observation_size: self.observation_size,
            action_size: self.action_size,
            hidden: self.hidden.to_vec(),
            activation: Activation::Tanh,
            bias: false,
        };
        let mut random = streams.stream(Purpose::Initialization, 0, 0, 0);
        PolicyState::start(architecture, Initialization::XavierUniform, 0.0, Deviation::Fixed, &mut random)
    }
}

/// The GPU's kernels, when this build has them.
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
fn device_kernels(
    config: &AlgorithmConfig,
    policy: &PolicyState,
    shape: BatchShape,
    device: &Device,
) -> Option<Box<dyn Algorithm>> {
    match DeviceReuse::new(config, policy, shape, device) {
        Ok(kernels) => Some(Box::new(kernels)),
        Err(reason) => {
            eprintln!("skipped: device-gradient: {reason}");
            None
        }
    }
}

#[cfg(not(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion"))))]
fn device_kernels(
    _: &AlgorithmConfig,
    _: &PolicyState,
    _: BatchShape,
    _: &Device,
) -> Option<Box<dyn Algorithm>> {
    None
}

/// A batch of full length with normal observations and rewards, by a policy near `target`.
fn behaviour_batch(
    target: &PolicyState,
    shape: BatchShape,
    index: u32,
    streams: Streams,
    device: &Device,
) -> Trajectories {
    let normals = |purpose, count: usize| {
        let mut noise = vec![0.0; count];
        streams.normals(purpose, index, 0, 0, &mut noise);
        noise
    };
    let mut behaviour = target.clone();
    let shifts = normals(Purpose::Dynamics, behaviour.mean_parameters.len());
    for (parameter, shift) in behaviour.mean_parameters.iter_mut().zip(shifts) {
        *parameter += 0.01 * f64::from(shift);
    }
    let mut batch = Trajectories::zeros(shape);
    let rows = shape.trajectories * shape.horizon;
    batch.lengths.fill(shape.horizon as u32);
    batch.observations = normals(Purpose::Reset, rows * shape.observation_size);
    batch.rewards = normals(Purpose::EvaluationDynamics, rows).into_iter().map(f64::from).collect();
    let observations = TensorData::new(batch.observations.clone(), [rows, shape.observation_size]);
    let means = GaussianPolicy::from_state(&behaviour, device).mean(Tensor::from_data(observations, device));
    batch.means = means.into_data().iter::<f32>().collect();
    let noise = normals(Purpose::Action, batch.means.len());
    batch.actions = batch.means.iter().zip(noise).map(|(mean, noise)| mean + noise).collect();
    batch
}

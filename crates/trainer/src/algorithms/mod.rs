//! Algorithms: what to sample, and how to turn it into a gradient estimate.

mod balance_heuristic;
#[cfg(all(feature = "kernels", not(feature = "fusion")))]
mod device_reuse;
mod fused_reuse;
mod off_policy;
mod reuse;
mod variance_reduced;
mod weighting;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use estimator::Diagnostics;
use policy_nets::tensor_file::HostTensor;
use policy_nets::{GaussianPolicy, PolicyState};

#[cfg(all(feature = "kernels", not(feature = "fusion")))]
pub use device_reuse::{DeviceReuse, Passes};
pub use fused_reuse::{FusedReuse, HostEstimate};
pub use reuse::TrajectoryReuse;
pub use variance_reduced::VarianceReduced;

use crate::config::{AlgorithmConfig, Config, KernelChoice};
use crate::device::SelectedDevice;
use crate::device_trajectories::DeviceTrajectories;
use crate::finite::Layout;
use crate::optimizer::Optimizer;
use crate::phases::{Phase, Phases};
use crate::random::Streams;
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

/// Trajectories to sample under one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Number of trajectories.
    pub trajectories: usize,
    /// Flat parameters of the policy to sample from; `None` is the current one.
    pub parameters: Option<Vec<f64>>,
}

/// A gradient estimate at the current policy.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Estimated gradient of the expected return, `[P]`, in the order of the flat parameters.
    pub gradient: Tensor<1>,
    /// What the estimate says about itself.
    pub diagnostics: Diagnostics,
    /// Number of batches behind the diagnostics, `omega_k`.
    pub batches: usize,
    /// Slot of the newest batch in the diagnostics' order.
    pub newest: usize,
}

/// What an update leaves for the record.
#[derive(Clone, Debug)]
pub struct Update {
    /// Diagnostics, squared gradient, parameters after the update: all that the host reads, in one piece.
    pub packed: Packed,
    /// What stands where in `packed`.
    pub layout: Layout,
    /// The gradient `[P]`, where it is there as a whole; read only when it holds a bad number.
    pub gradient: Option<Packed>,
}

/// Numbers for the host.
#[derive(Clone, Debug)]
pub enum Packed {
    /// One transfer away.
    Device(Box<Tensor<1>>),
    /// There already.
    Host(Vec<f64>),
}

impl From<Tensor<1>> for Packed {
    fn from(tensor: Tensor<1>) -> Self {
        Self::Device(Box::new(tensor))
    }
}

impl Packed {
    /// The numbers, behind those of `before`, when there are some: in one transfer.
    ///
    /// # Errors
    /// The device's error.
    pub fn read(self, before: Option<Tensor<1>>) -> Result<Vec<f64>, String> {
        let read = |tensor: Tensor<1>| {
            let data = tensor.try_into_data().map_err(|error| error.to_string())?;
            Ok(data.iter::<f64>().collect::<Vec<_>>())
        };
        match (self, before) {
            (Self::Host(values), None) => Ok(values),
            (Self::Host(values), Some(before)) => Ok([read(before)?, values].concat()),
            (Self::Device(tensor), None) => read(*tensor),
            (Self::Device(tensor), Some(before)) => read(Tensor::cat(vec![before, *tensor], 0)),
        }
    }
}

impl Estimate {
    /// Steps along the gradient.
    pub fn apply(self, policy: &mut GaussianPolicy, optimizer: &mut Optimizer) -> Update {
        let Self { gradient, diagnostics, batches, newest } = self;
        let squared_norm = gradient.clone().square().sum();
        policy.set_parameters(optimizer.step(policy.parameters(), gradient.clone()));
        let (packed, layout) =
            Layout::pack(&diagnostics, (batches, newest), squared_norm, policy.parameters());
        Update { packed: packed.into(), layout, gradient: Some(gradient.into()) }
    }
}

/// Named tensors of a checkpoint.
pub type Saved = BTreeMap<String, HostTensor>;

/// Why an algorithm's memory was not restored, or a batch not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AlgorithmError(pub String);

/// Finds a tensor of a checkpoint by name and checks its shape.
pub type Restore<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f64>, AlgorithmError> + 'a;

/// One algorithm with its memory.
///
/// The trainer asks for a [`plan`](Self::plan), samples it, and hands the trajectories to
/// [`estimate`](Self::estimate); the optimiser applies the result. Every iteration makes one update.
pub trait Algorithm: Send {
    /// What to sample in `iteration` (from 0).
    fn plan(&mut self, iteration: u32) -> Vec<Draw>;

    /// Estimates the gradient at `policy` from the fresh trajectories, one batch for each [`Draw`] of the plan, and from
    /// what the algorithm remembers.
    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate;

    /// Whether [`push_on_device`](Self::push_on_device) takes batches; then every plan is one [`Draw`] of the current policy.
    fn accepts_device_batches(&self) -> bool {
        false
    }

    /// Takes in a batch that was rolled out on the device; the estimate or update after it gets no fresh trajectories.
    ///
    /// # Errors
    /// When the algorithm takes its batches from the host, or the batch is on another device.
    fn push_on_device(
        &mut self,
        _fresh: &DeviceTrajectories,
        _phases: &mut Phases,
    ) -> Result<(), AlgorithmError> {
        Err(AlgorithmError("the algorithm takes its batches from the host".to_owned()))
    }

    /// Estimates the gradient and steps along it.
    fn update(
        &mut self,
        policy: &mut GaussianPolicy,
        optimizer: &mut Optimizer,
        fresh: &[Trajectories],
        phases: &mut Phases,
    ) -> Update {
        let estimate = self.estimate(policy, fresh, phases);
        phases.time(Phase::Update, || estimate.apply(policy, optimizer))
    }

    /// Copies the memory to the host, for a checkpoint.
    fn save(&self, saved: &mut Saved);

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError>;
}

/// Makes the algorithm of a configuration, for policies like `policy`; `shape.trajectories` is its batch size, and `streams`
/// are those of the run.
///
/// Fused kernels compute the estimate where they cover it, on the CPU or on the GPU; where they do not, tensor operations
/// do, and one line of the log says why.
pub fn make(
    config: &Config,
    policy: &PolicyState,
    shape: BatchShape,
    streams: Streams,
    device: &SelectedDevice,
    threads: &Threads,
) -> Box<dyn Algorithm> {
    let algorithm = &config.algorithm;
    if let Some(reduction) = algorithm.variance_reduction() {
        let count = policy.parameter_count();
        return Box::new(VarianceReduced::new(reduction, count, streams, &device.device));
    }
    if config.kernels == KernelChoice::Auto {
        match fused(algorithm, policy, shape, streams, device, threads) {
            Ok(fused) => return fused,
            // On a processor it costs little, and the algorithm says it all.
            Err(reason) if device.is_host() => {
                tracing::debug!("the estimator uses tensor operations: {reason}");
            }
            Err(reason) => tracing::info!("the estimator uses tensor operations: {reason}"),
        }
    }
    match TrajectoryReuse::new(algorithm, policy, shape, &device.device) {
        Ok(reuse) => Box::new(reuse.with_streams(streams)),
        Err(reason) => unreachable!("{reason}"),
    }
}

/// The algorithm by the fused kernels for the device.
fn fused(
    config: &AlgorithmConfig,
    policy: &PolicyState,
    shape: BatchShape,
    streams: Streams,
    device: &SelectedDevice,
    threads: &Threads,
) -> Result<Box<dyn Algorithm>, String> {
    if device.is_host() {
        let fused = FusedReuse::new(config, policy, shape, &device.device, threads)?;
        return Ok(Box::new(fused.with_streams(streams)));
    }
    #[cfg(all(feature = "kernels", not(feature = "fusion")))]
    return Ok(Box::new(DeviceReuse::new(config, policy, shape, &device.device)?.with_streams(streams)));
    #[cfg(not(all(feature = "kernels", not(feature = "fusion"))))]
    Err("this build has no kernels for the device".to_owned())
}

/// Whether fused kernels compute the estimate; on a GPU, if the network fits into its shared memory.
pub fn may_use_kernels(config: &Config, device: &SelectedDevice) -> bool {
    (device.is_host() || cfg!(all(feature = "kernels", not(feature = "fusion"))))
        && config.kernels == KernelChoice::Auto
        && !config.algorithm.evaluates_earlier_policies()
        && !config.policy.normalize_observations
}

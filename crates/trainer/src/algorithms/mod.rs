//! Algorithms: what to sample, and how to turn it into a gradient estimate.

mod balance_heuristic;
mod fused_reuse;
mod off_policy;
mod reuse;
mod variance_reduced;
mod weighting;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use estimator::Diagnostics;
use policy_nets::GaussianPolicy;
use policy_nets::tensor_file::HostTensor;

pub use fused_reuse::FusedReuse;
pub use reuse::TrajectoryReuse;
pub use variance_reduced::VarianceReduced;

use crate::config::{Config, KernelChoice};
use crate::device::SelectedDevice;
use crate::device_trajectories::DeviceTrajectories;
use crate::phases::Phases;
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

/// Named tensors of a checkpoint.
pub type Saved = BTreeMap<String, HostTensor>;

/// Finds a tensor of a checkpoint by name and checks its shape.
pub type Restore<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f64>, anyhow::Error> + 'a;

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

    /// Whether [`estimate_on_device`](Self::estimate_on_device) takes a batch from the device's memory without a way over
    /// the host. Then its plan is one [`Draw`] of the current policy.
    fn accepts_device_batches(&self) -> bool {
        false
    }

    /// As [`estimate`](Self::estimate), from one batch that was rolled out on the device.
    fn estimate_on_device(
        &mut self,
        policy: &GaussianPolicy,
        fresh: &DeviceTrajectories,
        phases: &mut Phases,
    ) -> Estimate {
        self.estimate(policy, &[fresh.to_host()], phases)
    }

    /// Copies the memory to the host, for a checkpoint.
    fn save(&self, saved: &mut Saved);

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), anyhow::Error>;
}

/// Makes the algorithm of a configuration; `shape.trajectories` is its batch size, and `streams` are those of the run.
///
/// On a CPU device the fused kernels compute the estimate where they cover it; elsewhere, and where they do not, tensor
/// operations do.
pub fn make(
    config: &Config,
    shape: BatchShape,
    parameter_count: usize,
    streams: Streams,
    device: &SelectedDevice,
    threads: &Threads,
) -> Box<dyn Algorithm> {
    let algorithm = &config.algorithm;
    if let Some(reduction) = algorithm.variance_reduction() {
        return Box::new(VarianceReduced::new(reduction, parameter_count, streams, &device.device));
    }
    if uses_fused(config, device) {
        let fused = FusedReuse::new(algorithm, shape, parameter_count, &device.device, threads);
        return Box::new(fused.with_streams(streams));
    }
    if config.kernels == KernelChoice::Auto && device.is_host() {
        tracing::debug!(
            "no fused kernel covers this algorithm and policy: the estimator uses tensor operations"
        );
    }
    let reuse = TrajectoryReuse::new(algorithm, shape, parameter_count, &device.device);
    Box::new(reuse.with_streams(streams))
}

/// Whether the fused CPU kernels compute the estimate.
pub fn uses_fused(config: &Config, device: &SelectedDevice) -> bool {
    config.kernels == KernelChoice::Auto
        && device.is_host()
        && config.algorithm.variance_reduction().is_none()
        && FusedReuse::covers(&config.algorithm, config.policy.normalize_observations)
}

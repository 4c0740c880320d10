//! Roll-outs on a GPU: one kernel launch for a whole batch of trajectories.
//!
//! Each unit follows one trajectory from its reset to the horizon: observation, mean network, noise, dynamics, reward. The
//! batch stays in the device's memory. Streams are those of [`crate::random`], and the dynamics are the same functions
//! that the host evaluates (`environments::Dynamics`), so host and device agree up to single precision:
//!
//! - `launch` starts the kernel, `kernel` is it, `summary` adds up what metrics need;
//! - `simulation` and `traced` write an environment's dynamics into it;
//! - `network` is the policy's mean, `random` Philox and the normal numbers, `functions` sine and cosine,
//!   and `numbers` checks these.

#[cfg(not(all(feature = "device", not(feature = "fusion"))))]
mod absent;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod functions;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod kernel;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod launch;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod network;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod numbers;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod random;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod simulation;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod summary;
#[cfg(test)]
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod tests;
#[cfg(all(feature = "device", not(feature = "fusion")))]
mod traced;

use burn::tensor::Tensor;

#[cfg(not(all(feature = "device", not(feature = "fusion"))))]
pub use absent::{DeviceRollOut, number_errors};
#[cfg(all(feature = "device", not(feature = "fusion")))]
pub use launch::DeviceRollOut;
#[cfg(all(feature = "device", not(feature = "fusion")))]
pub use numbers::number_errors;

use crate::random::Streams;
use crate::rollout::Mode;

/// Most numbers in a layer of a kernel's policy: the sums of a layer stay in registers.
pub const LARGEST_WIDTH: usize = 64;

/// Why a batch is rolled out on the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// The device is a processor.
    #[error("the device runs no kernels")]
    Device,
    /// There is no kernel of these dynamics.
    #[error("no kernel computes the environment `{0}`")]
    Environment(&'static str),
    /// Observations are standardised.
    #[error("no kernel standardises observations (policy.normalize_observations)")]
    Normalizer,
    /// A layer is too wide.
    #[error("a kernel's layers have at most {LARGEST_WIDTH} numbers, the policy is {0}")]
    Width(String),
    /// The parameters do not fit into shared memory.
    #[error("{parameters} parameters do not fit into the {bytes} bytes that units of the device share")]
    SharedMemory {
        /// Parameters of the mean network.
        parameters: usize,
        /// Bytes of shared memory.
        bytes: usize,
    },
    /// A cube has too few units.
    #[error("a cube of the device has at most {0} units, and sums take more")]
    Units(usize),
    /// The batch has more numbers than a kernel counts.
    #[error("{0} numbers in a batch are more than a kernel counts")]
    Size(usize),
}

/// Whose policy acts, and with which randomness.
#[derive(Clone, Debug)]
pub struct DeviceSampling {
    /// Flat parameters of the policy; only the mean network's are read.
    pub parameters: Tensor<1>,
    /// `ln sigma`, `[action]`.
    pub log_std: Tensor<1>,
    /// Random streams of the run.
    pub streams: Streams,
    /// Iteration that the streams are keyed with.
    pub iteration: u32,
    /// Number that the first trajectory's stream is keyed with.
    pub first_trajectory: u32,
    /// Training or evaluation.
    pub mode: Mode,
}

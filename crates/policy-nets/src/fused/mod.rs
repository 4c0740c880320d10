//! The mean network and the estimator's hot computations over plain slices on the CPU.
//!
//! For the small perceptrons of policy-gradient training a tensor operation per layer costs many times the arithmetic in
//! it. Here a network runs over blocks of samples that stay in the first caches, forward and backward, with all
//! matrix products in one kind of register tile:
//!
//! - [`FusedNetwork::means`]: the policy step of a roll-out, for any number of observations;
//! - [`FusedNetwork::vjp`]: the gradient of the parameters from the gradient of the means;
//! - [`FusedNetwork::trajectory_statistics`], [`FusedNetwork::surrogate_gradient`] and, in one,
//!   [`FusedNetwork::window_gradient`]: the estimator over stored [`Trajectories`], in parallel.
//!
//! # Numbers
//! Single precision. Sums over steps of log-ratios and divergences carry their rounding errors along and end in double
//! precision; sums over trajectories are in single precision for sixteen at a time and in double precision over these. The mean of an observation is the same to the bit
//! whatever else is in the batch; the results over windows are the same to the bit whatever the number of threads.
//! Processors with different instruction sets may differ in the last bits.
//!
//! # Layout
//! `tile` holds the matrix products, `aligned` the memory, `activation` the nonlinearities, `layer` the packing of parameters, `network` the
//! forward and backward passes over a block, `gaussian` what the policy's density adds, `trajectories` the data, `pass`
//! the computation for one trajectory and `window` that for all, `instruction_set` the choice of instructions and
//! `ceiling` the arithmetic bound; `vectors` are the operations of the instruction sets, and `avx512` those of one.

#![expect(
    clippy::inline_always,
    reason = "a kernel gets its instructions by being inlined into a function that enables them"
)]

mod activation;
mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod ceiling;
mod gaussian;
mod instruction_set;
mod layer;
mod network;
mod pass;
mod tile;
mod trajectories;
mod vectors;
mod window;

#[cfg(test)]
mod tests;

pub use instruction_set::InstructionSet;
pub use network::{FusedNetwork, Scratch};
pub use trajectories::{Trajectories, TrajectoryStatistics};
pub use window::{SWEEP_BYTES, SurrogateGradient, Workspace};

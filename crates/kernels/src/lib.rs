//! The trajectory-reuse estimate in few launches: GPU kernels written in CubeCL, for Burn's wgpu and cuda devices.
//!
//! | kernel | launches | reads | leaves |
//! |---|---|---|---|
//! | [`Sweep`] | 1 | window, parameters | `l` and the exponent of `D`, `[parts, window, batch]`, and the gradients of the parts |
//! | [`Statistics`] | 1 | window, parameters | `l` and the exponent of `D`, `[window, batch]` |
//! | [`Weights`] | 1 | statistics | weights `[window, batch]`, diagnostics |
//! | [`Gradient`] | 1 | window, parameters, weights | partial gradients, `[rows, P]` |
//! | [`reduce::sum`] | 1 | partial gradients, weights | gradient, `[P]` |
//! | [`reduce::step`] | 1 | partial gradients, weights, parameters, moments | the same after one step, `|g|^2` |
//! | [`WindowBuffers::store`] | 2 or 3 | a batch on the device | its slot, with step returns |
//!
//! An estimate is sweep, weights and sum; or, where the sweep's gradients would take too much memory, there are more of them than cubes, or
//! trajectories are short, statistics, weights, gradient and sum. Activations never leave a cube: `plan` lays a network out in shared memory, `network` runs it forward and backward over
//! a block of steps. Sums have an order that sizes and device decide and no atomics, so results do not depend on scheduling.
//! There is no infinity in the arithmetic, only the estimator's `1e30`; a NaN that comes in reaches the gradient, unless its trajectory has
//! weight 0.
//!
//! Without a GPU backend (features `wgpu`, `vulkan`, `metal`, `cuda`), and with `fusion`, the crate is empty.
#![cfg_attr(
    not(all(feature = "device", not(feature = "fusion"))),
    allow(rustdoc::broken_intra_doc_links, reason = "the crate is empty, its introduction is not")
)]
#![cfg(all(feature = "device", not(feature = "fusion")))]
#![expect(
    unsafe_code,
    reason = "kernels run without bounds checks; every launch says why its indices stay inside"
)]
#![allow(unused_qualifications, reason = "the macro qualifies what a kernel calls")]
#![expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "an array of a kernel is not the handle that it is on the host"
)]
#![allow(clippy::needless_range_loop, reason = "kernels have no iterators over what they index")]

mod device;
mod gradient;
mod lanes;
mod layer_plan;
mod loading;
mod moments;
mod network;
#[allow(missing_docs, reason = "the macro makes a module of each function")]
pub mod numeric;
mod plan;
pub mod reduce;
mod statistics;
mod sweep;
mod weights;
mod window;

pub use burn_cubecl::cubecl;
pub use device::{Buffer, KernelDevice};
pub use gradient::{Gradient, PartialGradients};
pub use plan::{Limits, NotCovered};
pub use statistics::{Statistics, TrajectoryStatistics};
pub use sweep::Sweep;
pub use weights::{WeightRule, Weights};
pub use window::{BatchBuffers, MOST_NUMBERS, Returns, WindowBuffers};

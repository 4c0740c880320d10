//! Every compiled backend against the float64 oracle, in single precision, and properties that hold for every input.

#![allow(clippy::unwrap_used, reason = "a test ends where its own preparation fails")]

mod bounds;
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
mod device_kernels;
mod estimates;
mod fused;
mod parts;
mod properties;
mod runs;
mod support;

use burn::tensor::Tensor;
use support::{devices, host};

/// Software Vulkan of Mesa 22 stops every shader loop after 65535 iterations, without an error. A running sum is one
/// such loop on the cubecl backends: each element adds up all before it.
#[test]
fn loops_of_a_hundred_thousand_iterations_come_to_their_end() {
    const LENGTH: usize = 100_000;
    for device in devices() {
        let sums = Tensor::<1>::ones([LENGTH], &device.device).cumsum(0);
        let last = host(sums.slice(LENGTH - 1..LENGTH));
        assert_eq!(last, [LENGTH as f64], "{} ends shader loops early: update its driver", device.name);
    }
}

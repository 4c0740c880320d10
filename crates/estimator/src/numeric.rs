//! Stable building blocks.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Stands for the logarithm of zero: finite, and far below every logarithm that arithmetic produces.
pub const LOG_ZERO: f64 = -1e30;

/// Mask of the steps that exist: 1 where `step < length`, else 0.
///
/// # Shapes
/// `lengths` is `[window * batch]` in row-major order; the result is `[window, batch, horizon]`.
///
/// # Panics
/// When `lengths` has another number of elements, or one is beyond the horizon.
pub fn step_mask(lengths: &[u32], [window, batch, horizon]: [usize; 3], device: &Device) -> Tensor<3> {
    assert_eq!(lengths.len(), window * batch, "one length per trajectory");
    assert!(lengths.iter().all(|length| *length as usize <= horizon), "lengths of at most {horizon} steps");
    let mask: Vec<f32> = lengths
        .iter()
        .flat_map(|length| (0..horizon).map(move |step| if step < *length as usize { 1.0 } else { 0.0 }))
        .collect();
    Tensor::from_data(TensorData::new(mask, [window, batch, horizon]), device)
}

/// `ln sum_j exp(x_j)` along `axis`, which becomes 1.
pub fn log_sum_exp<const D: usize>(values: Tensor<D>, axis: usize) -> Tensor<D> {
    let largest = values.clone().max_dim(axis);
    (values - largest.clone()).exp().sum_dim(axis).log() + largest
}

/// `ln(exp(left) + exp(right))`, elementwise.
pub(crate) fn log_add_exp<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    let larger = left.clone().max_pair(right.clone());
    let difference = left.min_pair(right) - larger.clone();
    larger + difference.exp().log1p()
}

/// The smallest positive number of full precision.
pub(crate) fn smallest_normal(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) }
}

/// The largest argument of `exp` that stays finite, with room for a sum of a few thousand terms.
fn largest_exponent(dtype: DType) -> f64 {
    if dtype == DType::F64 { 700.0 } else { 80.0 }
}

/// `exp`, which saturates just below the overflow of the device's float type.
pub(crate) fn saturating_exp<const D: usize>(exponents: Tensor<D>) -> Tensor<D> {
    let largest = largest_exponent(exponents.dtype());
    exponents.clamp(LOG_ZERO, largest).exp()
}

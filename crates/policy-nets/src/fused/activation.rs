//! Nonlinearities over slices, and their derivatives from the value.

use pulp::Simd;

use super::tile::Store;

/// Coefficients of `tanh x = x P(x^2) / Q(x^2)` in ascending order, fitted to the least largest relative error, 5.8e-9,
/// on `|x| <= 7.92`. With the roundings of single precision the result for every number is within 4.7 units in the last
/// place, and 2.8e-7, of the exact value (5.1 and 3.1e-7 without fused multiply-add), and never beyond 1.
const P: [f32; 5] = [1.0, 0.134_494_37, 3.577_560_2e-3, 2.199_820_9e-5, 1.538_916_9e-8];
const Q: [f32; 5] = [1.0, 0.467_827_65, 2.618_686_3e-2, 3.421_252e-4, 8.583_857e-7];
/// Beyond this the value at this is taken, which is 2.7e-7 from 1: nearer to 1 a rounding error could exceed 1.
const LIMIT: f32 = 7.9;

/// Hyperbolic tangent.
#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (low, high) = (simd.splat_f32s(-LIMIT), simd.splat_f32s(LIMIT));
    // Selections, not `min` and `max`, whose treatment of a NaN depends on the instruction set: it stays a NaN.
    let x = simd.select_f32s(simd.greater_than_f32s(x, high), high, x);
    let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
    let square = simd.mul_f32s(x, x);
    let numerator = simd.mul_f32s(x, polynomial(simd, P, square));
    simd.div_f32s(numerator, polynomial(simd, Q, square))
}

#[inline(always)]
fn polynomial<S: Simd>(simd: S, coefficients: [f32; 5], x: S::f32s) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[4]);
    for index in [3, 2, 1, 0] {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(coefficients[index]));
    }
    sum
}

/// Hyperbolic tangent of a finished sum.
pub(super) struct Tanh;

impl Store for Tanh {
    #[inline(always)]
    fn store<S: Simd>(simd: S, target: &mut S::f32s, sum: S::f32s) {
        *target = tanh(simd, sum);
    }
}

/// Positive part of a finished sum.
pub(super) struct Relu;

impl Store for Relu {
    #[inline(always)]
    fn store<S: Simd>(simd: S, target: &mut S::f32s, sum: S::f32s) {
        let zero = simd.splat_f32s(0.0);
        *target = simd.select_f32s(simd.less_than_f32s(sum, zero), zero, sum);
    }
}

/// Multiplies the gradient with `1 - h^2`, the derivative of `h = tanh x`, and writes it over `h`.
pub(super) struct TimesTanhDerivative;

impl Store for TimesTanhDerivative {
    #[inline(always)]
    fn store<S: Simd>(simd: S, target: &mut S::f32s, sum: S::f32s) {
        let square = simd.mul_f32s(*target, *target);
        *target = simd.mul_f32s(simd.sub_f32s(simd.splat_f32s(1.0), square), sum);
    }
}

/// Multiplies the gradient with the derivative of `h = max(x, 0)`, which is 0 at 0, and writes it over `h`.
pub(super) struct TimesReluDerivative;

impl Store for TimesReluDerivative {
    #[inline(always)]
    fn store<S: Simd>(simd: S, target: &mut S::f32s, sum: S::f32s) {
        let zero = simd.splat_f32s(0.0);
        *target = simd.select_f32s(simd.greater_than_f32s(*target, zero), sum, zero);
    }
}

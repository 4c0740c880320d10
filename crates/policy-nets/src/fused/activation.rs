//! Nonlinearities over slices, and their derivatives from the value.

use super::{tile::Store, vectors::Vectors};

/// Coefficients of `tanh x = x P(x^2) / Q(x^2)` in ascending order, fitted to the least largest relative error, 5.8e-9,
/// on `|x| <= 7.92`. With the roundings of single precision the result for every number is within 4.7 units in the last
/// place, and 2.8e-7, of the exact value (5.1 and 3.1e-7 without fused multiply-add), and never beyond 1.
const P: [f32; 5] = [1.0, 0.134_494_37, 3.577_560_2e-3, 2.199_820_9e-5, 1.538_916_9e-8];
const Q: [f32; 5] = [1.0, 0.467_827_65, 2.618_686_3e-2, 3.421_252e-4, 8.583_857e-7];
/// Beyond this the value at this is taken, which is 2.7e-7 from 1: nearer to 1 a rounding error could exceed 1.
const LIMIT: f32 = 7.9;

/// Hyperbolic tangent.
#[inline(always)]
fn tanh<V: Vectors>(simd: V, x: V::Vector) -> V::Vector {
    let (low, high) = (simd.splat(-LIMIT), simd.splat(LIMIT));
    let x = simd.clamp(x, low, high);
    let square = simd.mul(x, x);
    let numerator = simd.mul(x, polynomial(simd, P, square));
    simd.quotient(numerator, polynomial(simd, Q, square))
}

#[inline(always)]
fn polynomial<V: Vectors>(simd: V, coefficients: [f32; 5], x: V::Vector) -> V::Vector {
    let mut sum = simd.splat(coefficients[4]);
    for index in [3, 2, 1, 0] {
        sum = simd.mul_add(sum, x, simd.splat(coefficients[index]));
    }
    sum
}

/// Puts every number's value in its place; whole vectors.
#[inline(always)]
pub(super) fn apply<V: Vectors, E: Store>(simd: V, values: &mut [f32]) {
    for value in V::vectors_mut(values) {
        let sum = *value;
        E::store(simd, value, sum);
    }
}

/// Hyperbolic tangent of a finished sum.
pub(super) struct Tanh;

impl Store for Tanh {
    #[inline(always)]
    fn store<V: Vectors>(simd: V, target: &mut V::Vector, sum: V::Vector) {
        *target = tanh(simd, sum);
    }
}

/// Positive part of a finished sum.
pub(super) struct Relu;

impl Store for Relu {
    #[inline(always)]
    fn store<V: Vectors>(simd: V, target: &mut V::Vector, sum: V::Vector) {
        *target = simd.positive_part(sum);
    }
}

/// Multiplies the gradient with `1 - h^2`, the derivative of `h = tanh x`, and writes it over `h`.
pub(super) struct TimesTanhDerivative;

impl Store for TimesTanhDerivative {
    #[inline(always)]
    fn store<V: Vectors>(simd: V, target: &mut V::Vector, sum: V::Vector) {
        let square = simd.mul(*target, *target);
        *target = simd.mul(simd.sub(simd.splat(1.0), square), sum);
    }
}

/// Multiplies the gradient with the derivative of `h = max(x, 0)`, which is 0 at 0, and writes it over `h`.
pub(super) struct TimesReluDerivative;

impl Store for TimesReluDerivative {
    #[inline(always)]
    fn store<V: Vectors>(simd: V, target: &mut V::Vector, sum: V::Vector) {
        *target = simd.where_positive(*target, sum);
    }
}

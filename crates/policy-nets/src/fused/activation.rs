//! Nonlinearities over slices, and their derivatives from the value.

use super::{
    tile::{Combine, PANEL_VECTORS},
    vectors::Vectors,
};

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

/// Puts every number's value in its place, in a matrix of `rows` samples and `vectors` vectors of columns in panels.
#[inline(always)]
pub(super) fn apply<V: Vectors, A: Activate>(simd: V, values: &mut [f32], rows: usize, vectors: usize) {
    let used = if vectors.is_multiple_of(PANEL_VECTORS) { vectors } else { vectors - 1 };
    let (pairs, single) = V::vectors_mut(values).split_at_mut(used * rows);
    for value in pairs {
        *value = A::value(simd, *value);
    }
    if used < vectors {
        for value in single[..PANEL_VECTORS * rows].iter_mut().step_by(PANEL_VECTORS) {
            *value = A::value(simd, *value);
        }
    }
}

/// A nonlinearity.
pub(super) trait Activate {
    /// Its value.
    fn value<V: Vectors>(simd: V, x: V::Vector) -> V::Vector;
}

/// Hyperbolic tangent.
pub(super) struct Tanh;

impl Activate for Tanh {
    #[inline(always)]
    fn value<V: Vectors>(simd: V, x: V::Vector) -> V::Vector {
        tanh(simd, x)
    }
}

/// Positive part.
pub(super) struct Relu;

impl Activate for Relu {
    #[inline(always)]
    fn value<V: Vectors>(simd: V, x: V::Vector) -> V::Vector {
        simd.positive_part(x)
    }
}

/// Multiplies the gradient with `1 - h^2`, the derivative of `h = tanh x`, and writes it over `h`.
pub(super) struct TimesTanhDerivative;

impl Combine for TimesTanhDerivative {
    #[inline(always)]
    fn combine<V: Vectors>(simd: V, value: V::Vector, sum: V::Vector) -> V::Vector {
        simd.mul(simd.negative_mul_add(value, value, simd.splat(1.0)), sum)
    }
}

/// Multiplies the gradient with the derivative of `h = max(x, 0)`, which is 0 at 0, and writes it over `h`.
pub(super) struct TimesReluDerivative;

impl Combine for TimesReluDerivative {
    #[inline(always)]
    fn combine<V: Vectors>(simd: V, value: V::Vector, sum: V::Vector) -> V::Vector {
        simd.where_positive(value, sum)
    }
}

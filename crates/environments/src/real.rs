//! The numbers that dynamics are written in.

use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub};

/// A real number: `f64` in the environments of this crate; elsewhere a value of a GPU kernel that is being written.
///
/// Dynamics that are generic over it are written once for both. A kernel computes every value before it knows any, so
/// there are no branches on numbers, only [`select`](Self::select) between them.
///
/// Operators take a plain `f64` on their right; on their left a constant is [`constant`](Self::constant).
pub trait Real:
    Copy
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
    + Div<f64, Output = Self>
{
    /// The outcome of a comparison.
    type Truth: Copy + From<bool> + BitAnd<Output = Self::Truth> + BitOr<Output = Self::Truth>;

    /// A number that is known beforehand.
    fn constant(value: f64) -> Self;

    /// Sine of an angle in radians.
    #[must_use]
    fn sin(self) -> Self;

    /// Cosine of an angle in radians.
    #[must_use]
    fn cos(self) -> Self;

    /// Sine and cosine of an angle in radians.
    fn sin_cos(self) -> (Self, Self) {
        (self.sin(), self.cos())
    }

    /// Absolute value.
    #[must_use]
    fn abs(self) -> Self;

    /// The nearest number of `low..=high`.
    #[must_use]
    fn clamp(self, low: f64, high: f64) -> Self;

    /// The number of `0..divisor` that differs from this one by a multiple of the positive `divisor`.
    #[must_use]
    fn rem_euclid(self, divisor: f64) -> Self;

    /// Whether the number is less than `bound`.
    fn is_less(self, bound: f64) -> Self::Truth;

    /// Whether the number is less than or equal to `bound`.
    fn is_at_most(self, bound: f64) -> Self::Truth;

    /// Whether the number is greater than `bound`.
    fn is_greater(self, bound: f64) -> Self::Truth;

    /// Whether the number is greater than or equal to `bound`.
    fn is_at_least(self, bound: f64) -> Self::Truth;

    /// `yes` where the condition holds, else `no`.
    fn select(condition: Self::Truth, yes: Self, no: Self) -> Self;
}

impl Real for f64 {
    type Truth = bool;

    fn constant(value: f64) -> Self {
        value
    }

    fn sin(self) -> Self {
        f64::sin(self)
    }

    fn cos(self) -> Self {
        f64::cos(self)
    }

    fn sin_cos(self) -> (Self, Self) {
        f64::sin_cos(self)
    }

    fn abs(self) -> Self {
        f64::abs(self)
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        f64::clamp(self, low, high)
    }

    fn rem_euclid(self, divisor: f64) -> Self {
        f64::rem_euclid(self, divisor)
    }

    fn is_less(self, bound: f64) -> bool {
        self < bound
    }

    fn is_at_most(self, bound: f64) -> bool {
        self <= bound
    }

    fn is_greater(self, bound: f64) -> bool {
        self > bound
    }

    fn is_at_least(self, bound: f64) -> bool {
        self >= bound
    }

    fn select(condition: bool, yes: Self, no: Self) -> Self {
        if condition { yes } else { no }
    }
}

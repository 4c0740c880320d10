//! Elementary functions and exact sums in single precision, the same on every device.
//!
//! Shading languages allow `exp`, `log` and `tanh` errors that grow with the argument, and some drivers overflow inside
//! `tanh`. These are polynomials (Cephes' single-precision coefficients; the hyperbolic tangent is that of
//! `policy_nets::fused`) with errors of a few units in the last place. None makes an infinity or a NaN from a number.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// Stands for the logarithm of zero, as in the estimator.
pub(crate) const LOG_ZERO: f32 = -1e30;

/// `exp(x)`: 0 below -87, and saturated at `exp(88)`.
#[cube]
pub fn exp(x: f32) -> f32 {
    let inside = x.clamp(-87.0, 88.0);
    let count = (inside * f32::new(std::f32::consts::LOG2_E)).round();
    let rest = inside - count * 0.693_359_4_f32;
    let rest = rest - count * -2.121_944_4e-4_f32;
    let sum = rest * 1.987_569_1e-4_f32 + 1.398_199_9e-3_f32;
    let sum = sum * rest + 8.333_452e-3_f32;
    let sum = sum * rest + 4.166_579_6e-2_f32;
    let sum = sum * rest + 1.666_666_5e-1_f32;
    let sum = sum * rest + 5e-1_f32;
    let value = sum * rest * rest + rest + 1.0_f32;
    let scale = f32::reinterpret((i32::cast_from(count) + 127) << 23);
    select(x < -87.0_f32, 0.0_f32, value * scale)
}

/// `ln(1 + x)` for `-0.2929 <= x <= 0.4143`.
#[cube]
fn log_near_one(x: f32) -> f32 {
    let square = x * x;
    let sum = x * 7.037_683_6e-2_f32 - 1.151_461e-1_f32;
    let sum = sum * x + 1.167_699_9e-1_f32;
    let sum = sum * x - 1.242_014_1e-1_f32;
    let sum = sum * x + 1.424_932_3e-1_f32;
    let sum = sum * x - 1.666_805_8e-1_f32;
    let sum = sum * x + 2.000_071_5e-1_f32;
    let sum = sum * x - 2.499_999_4e-1_f32;
    let sum = sum * x + 3.333_333e-1_f32;
    x + (sum * x * square - 0.5_f32 * square)
}

/// `ln x` of a normal positive number.
#[cube]
pub fn log(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let mantissa = f32::reinterpret((bits & 0x007f_ffff) | 0x3f00_0000);
    let exponent = f32::cast_from(bits >> 23) - 126.0_f32;
    let small = mantissa < 0.707_106_77_f32;
    let exponent = select(small, exponent - 1.0_f32, exponent);
    let mantissa = select(small, mantissa + mantissa, mantissa) - 1.0_f32;
    log_near_one(mantissa) + exponent * -2.121_944_4e-4_f32 + exponent * 0.693_359_4_f32
}

/// `ln(1 + x)` for `x > -1`.
#[cube]
pub(crate) fn log_1p(x: f32) -> f32 {
    let near = x > -0.2929_f32 && x < 0.4143_f32;
    let inside = select(near, x, 0.0_f32);
    select(near, log_near_one(inside), log(1.0_f32 + x))
}

/// `exp(x) - 1`.
#[cube]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let near = x > -0.35_f32 && x < 0.35_f32;
    let y = select(near, x, 0.0_f32);
    let sum = 1.0_f32 + y * 0.125_f32;
    let sum = 1.0_f32 + y * sum * 0.142_857_15_f32;
    let sum = 1.0_f32 + y * sum * 0.166_666_67_f32;
    let sum = 1.0_f32 + y * sum * 0.2_f32;
    let sum = 1.0_f32 + y * sum * 0.25_f32;
    let sum = 1.0_f32 + y * sum * 0.333_333_34_f32;
    let sum = 1.0_f32 + y * sum * 0.5_f32;
    select(near, y * sum, exp(x) - 1.0_f32)
}

/// `ln(1 - exp(x))` for `x <= 0`; [`LOG_ZERO`] at 0.
#[cube]
pub(crate) fn log_1m_exp(x: f32) -> f32 {
    let is_one = x >= 0.0_f32;
    let inside = select(is_one, -1.0_f32, x);
    let near = inside > -0.35_f32;
    let complement = select(near, -exp_m1(inside), 0.5_f32);
    let value = select(near, log(complement), log_1p(-exp(inside)));
    select(is_one, f32::new(LOG_ZERO), value)
}

/// `ln(exp(left) + exp(right))`.
#[cube]
pub(crate) fn log_add_exp(left: f32, right: f32) -> f32 {
    let larger = left.max(right);
    larger + log_1p(exp(left.min(right) - larger))
}

/// Hyperbolic tangent, to 3e-7. A NaN stays one, also where the device's compiler takes comparison and selection for `min`, which
/// drops it.
#[cube]
pub fn tanh(x: f32) -> f32 {
    let inside = select(x > 7.9_f32, 7.9_f32, x);
    let inside = select(inside < -7.9_f32, -7.9_f32, inside);
    let square = inside * inside;
    let above = square * 1.538_916_9e-8_f32 + 2.199_820_9e-5_f32;
    let above = above * square + 3.577_560_2e-3_f32;
    let above = above * square + 0.134_494_37_f32;
    let above = above * square + 1.0_f32;
    let below = square * 8.583_857e-7_f32 + 3.421_252e-4_f32;
    let below = below * square + 2.618_686_3e-2_f32;
    let below = below * square + 0.467_827_65_f32;
    let below = below * square + 1.0_f32;
    select(x.is_nan(), x, divide(inside * above, below))
}

/// The larger of `x` and 0. A NaN stays one, as in [`tanh()`].
#[cube]
pub fn relu(x: f32) -> f32 {
    let above = select(x < 0.0_f32, 0.0_f32, x);
    select(x.is_nan(), x, above)
}

/// `above / below` for `1 <= below <= 1e30` and `|above| <= 1e30`, to about a unit in the last place.
///
/// Division is a call on some devices, and a slow one where its result is 0 or subnormal. The reciprocal begins with a number
/// whose exponent is the negative one of `below`, wrong by an eighth at most, and each step of Newton's squares the error.
#[cube]
fn divide(above: f32, below: f32) -> f32 {
    let mut reciprocal = f32::reinterpret(0x7ef3_11c7u32 - u32::reinterpret(below));
    #[unroll]
    for _ in 0..3 {
        let error = 1.0_f32 - below * reciprocal;
        reciprocal += reciprocal * error;
    }
    let quotient = above * reciprocal;
    quotient + (above - quotient * below) * reciprocal
}

/// What `left + right` loses to rounding, given the rounded `sum` (Knuth's two-sum).
#[cube]
pub(crate) fn lost(left: f32, right: f32, sum: f32) -> f32 {
    let added = sum - left;
    (left - (sum - added)) + (right - added)
}

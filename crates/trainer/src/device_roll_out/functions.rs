//! Elementary functions in a kernel, the same on every device: those of shading languages may be wrong in the fourth
//! digit.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// What a logarithm's leading part of `ln 2` lacks.
const LN_2_LOW: f32 = 9.058_001e-6;
/// Quarter turns in a radian.
const QUADRANTS: f32 = std::f32::consts::FRAC_2_PI;

/// Natural logarithm of a normal number in `(0, 1]`, to about one unit in the last place.
///
/// `x = m 2^e` with `m` in `[sqrt 1/2, sqrt 2)`; `ln m` by the series of `atanh((m - 1) / (m + 1))` with the coefficients
/// of FreeBSD's `logf`.
#[cube]
pub(super) fn ln(x: f32) -> f32 {
    let bits = u32::reinterpret(x) + 0x004a_fb0du32;
    // At most 127, so that the difference is not negative.
    let exponent = f32::cast_from(127u32 - (bits >> 23u32));
    let mantissa = f32::reinterpret((bits & 0x007f_ffffu32) + 0x3f35_04f3u32) - 1.0_f32;
    let s = mantissa / (mantissa + 2.0_f32);
    let z = s * s;
    let w = z * z;
    let series = z * (w * 0.284_987_87_f32 + 0.666_666_6_f32) + w * (w * 0.242_790_79_f32 + 0.400_009_72_f32);
    let half_square = mantissa * mantissa * 0.5_f32;
    (s * (half_square + series) - exponent * LN_2_LOW - half_square + mantissa) - exponent * 0.693_138_1_f32
}

/// Sine and cosine of an angle of at most some thousand turns, to about one unit in the last place of 1 (coefficients of
/// Cephes).
#[cube]
pub(super) fn sin_cos(angle: f32) -> (f32, f32) {
    let count = (angle * QUADRANTS + 0.5_f32).floor();
    let quadrant = i32::cast_from(count);
    // Pi / 2 in three parts, the first two with few bits, so that their products are exact.
    let x = ((angle - count * 1.570_312_5_f32) - count * 4.837_513e-4_f32) - count * 7.549_79e-8_f32;
    let z = x * x;
    let sine = ((z * -1.951_529_6e-4_f32 + 8.332_161e-3_f32) * z - 0.166_666_55_f32) * z * x + x;
    let cosine = ((z * 2.443_315_7e-5_f32 - 1.388_731_6e-3_f32) * z + 4.166_664_6e-2_f32) * z * z
        - z * 0.5_f32
        + 1.0_f32;
    let swap = (quadrant & 1i32) == 1i32;
    let a = select(swap, cosine, sine);
    let b = select(swap, sine, cosine);
    let negative_sine = (quadrant & 2i32) == 2i32;
    let negative_cosine = ((quadrant + 1i32) & 2i32) == 2i32;
    (select(negative_sine, -a, a), select(negative_cosine, -b, b))
}

//! Elementary functions in a kernel, the same on every device: those of shading languages may be wrong in the fourth
//! digit.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Quarter turns in a radian.
const QUADRANTS: f32 = std::f32::consts::FRAC_2_PI;

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

//! The streams of [`crate::random`] in a kernel.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use kernels::numeric::log;

use super::functions::sin_cos;

const MULTIPLIER_0: u32 = 0xd251_1f53;
const MULTIPLIER_1: u32 = 0xcd9e_8d57;
const WEYL_0: u32 = 0x9e37_79b9;
const WEYL_1: u32 = 0xbb67_ae85;

const TWO_TO_MINUS_16: f32 = 1.0 / 65_536.0;
const TWO_TO_MINUS_24: f32 = 1.0 / 16_777_216.0;
const TWO_TO_MINUS_32: f32 = 1.0 / 4_294_967_296.0;
const TWO_TO_MINUS_48: f32 = 1.0 / 281_474_976_710_656.0;
const TAU: f32 = std::f32::consts::TAU;

/// Philox4x32-10: replaces the counter in the first four of `words` by its block under the key. Additions and products
/// wrap.
#[cube]
pub(super) fn philox4x32_10(words: &mut Array<u32>, key_low: u32, key_high: u32) {
    let mut low = key_low;
    let mut high = key_high;
    for _round in 0..10u32 {
        let left = words[0];
        let right = words[2];
        let first = right.mul_hi(MULTIPLIER_1) ^ words[1] ^ low;
        let third = left.mul_hi(MULTIPLIER_0) ^ words[3] ^ high;
        words[0] = first;
        words[1] = right * MULTIPLIER_1;
        words[2] = third;
        words[3] = left * MULTIPLIER_0;
        low += WEYL_0;
        high += WEYL_1;
    }
}

/// The number in `[0, 1)` that the host makes of two words of a stream, rounded to single precision, in which the largest are 1.
#[cube]
pub(super) fn unit_uniform(low: u32, high: u32) -> f32 {
    // Halves, because a whole word is converted with a rounding that devices choose.
    let first = f32::cast_from(high >> 16u32) * TWO_TO_MINUS_16;
    let second = f32::cast_from(high & 0xffffu32) * TWO_TO_MINUS_32;
    let third = f32::cast_from(low >> 16u32) * TWO_TO_MINUS_48;
    first + (second + third)
}

/// The two standard normal numbers that the host makes of two words (Box and Muller).
#[cube]
pub(super) fn normal_pair(first: u32, second: u32) -> (f32, f32) {
    let unit = f32::cast_from((first >> 8u32) + 1u32) * TWO_TO_MINUS_24;
    let radius = (log(unit) * -2.0_f32).sqrt();
    let angle = f32::cast_from(second >> 8u32) * TWO_TO_MINUS_24 * TAU;
    let (sine, cosine) = sin_cos(angle);
    (radius * cosine, radius * sine)
}

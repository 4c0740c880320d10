//! The arithmetic bound: what a loop of nothing but multiply-adds reaches on one core.

use std::{hint::black_box, time::Instant};

use pulp::{Simd, WithSimd};

use super::instruction_set::InstructionSet;

/// Independent vectors: enough to hide the latency of the multiply-add, few enough to stay in registers.
const VECTORS: usize = 12;
const ROUNDS: usize = 4096;

impl InstructionSet {
    /// Single-precision operations per second of one core in a dense multiply-add loop on registers, the best of
    /// `repetitions` runs of some ten microseconds each. A multiply-add counts as two operations.
    pub fn measure_ceiling(self, repetitions: usize) -> f64 {
        let mut best = f64::INFINITY;
        for _ in 0..repetitions {
            let start = Instant::now();
            black_box(self.dispatch(Dense { factor: black_box(0.999), addend: black_box(0.001) }));
            best = best.min(start.elapsed().as_secs_f64());
        }
        (2 * VECTORS * self.lanes() * ROUNDS) as f64 / best
    }
}

struct Dense {
    factor: f32,
    addend: f32,
}

impl WithSimd for Dense {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (factor, addend) = (simd.splat_f32s(self.factor), simd.splat_f32s(self.addend));
        let mut sums = [simd.splat_f32s(1.0); VECTORS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, addend);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = simd.add_f32s(total, *sum);
        }
        simd.reduce_sum_f32s(total)
    }
}

//! The arithmetic bound: what a loop of nothing but multiply-adds reaches on one core.

use std::{hint::black_box, time::Instant};

use super::{
    instruction_set::InstructionSet,
    vectors::{Kernel, Vectors},
};

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

impl Kernel for Dense {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) -> f32 {
        let (factor, addend) = (simd.splat(self.factor), simd.splat(self.addend));
        let mut sums = [simd.splat(1.0); VECTORS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, factor, addend);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = simd.add(total, *sum);
        }
        pulp::bytemuck::cast_slice::<_, f32>(&[total]).iter().sum()
    }
}

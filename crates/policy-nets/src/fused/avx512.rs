//! AVX-512, which [`pulp`] offers only behind a feature that changes the features of crates below Burn as well.

#![expect(unsafe_code, reason = "instructions are called that the processor must have")]

use std::arch::x86_64::{
    __m512, _CMP_GT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_rcp14_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_sub_ps,
};
use std::mem::transmute;

use pulp::f32x16;

use super::vectors::{Kernel, Vectors};

/// Stands for a processor that has AVX-512F; only [`Avx512::detect`] makes one, so that every method may use its instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The instruction set, when this processor has it.
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    /// Runs a kernel compiled for AVX-512.
    #[inline]
    pub(super) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f")]
        fn run<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so the processor has the instructions.
        unsafe { run(self, kernel) }
    }
}

#[inline(always)]
fn wide(vector: f32x16) -> __m512 {
    // SAFETY: both are 16 single-precision numbers, of which every bit pattern is one.
    unsafe { transmute(vector) }
}

#[inline(always)]
fn plain(vector: __m512) -> f32x16 {
    // SAFETY: as in `wide`.
    unsafe { transmute(vector) }
}

/// The `unsafe` blocks call instructions of AVX-512F, which the processor has, since a value of the type exists.
impl Vectors for Avx512 {
    type Vector = f32x16;

    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, value: f32) -> f32x16 {
        plain(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn add(self, a: f32x16, b: f32x16) -> f32x16 {
        plain(unsafe { _mm512_add_ps(wide(a), wide(b)) })
    }

    #[inline(always)]
    fn sub(self, a: f32x16, b: f32x16) -> f32x16 {
        plain(unsafe { _mm512_sub_ps(wide(a), wide(b)) })
    }

    #[inline(always)]
    fn mul(self, a: f32x16, b: f32x16) -> f32x16 {
        plain(unsafe { _mm512_mul_ps(wide(a), wide(b)) })
    }

    #[inline(always)]
    fn quotient(self, a: f32x16, b: f32x16) -> f32x16 {
        // A division takes as long as a dozen multiplications. The approximate reciprocal has 14 bits, so that one correction
        // by what is left of `a` leaves 2^-28 beside the last rounding.
        let (a, b) = (wide(a), wide(b));
        plain(unsafe {
            let reciprocal = _mm512_rcp14_ps(b);
            let first = _mm512_mul_ps(a, reciprocal);
            _mm512_fmadd_ps(_mm512_fnmadd_ps(first, b, a), reciprocal, first)
        })
    }

    #[inline(always)]
    fn mul_add(self, a: f32x16, b: f32x16, c: f32x16) -> f32x16 {
        plain(unsafe { _mm512_fmadd_ps(wide(a), wide(b), wide(c)) })
    }

    #[inline(always)]
    fn clamp(self, x: f32x16, low: f32x16, high: f32x16) -> f32x16 {
        // Of two numbers of which one is a NaN, these instructions return the second.
        plain(unsafe { _mm512_max_ps(wide(low), _mm512_min_ps(wide(high), wide(x))) })
    }

    #[inline(always)]
    fn where_positive(self, x: f32x16, value: f32x16) -> f32x16 {
        plain(unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(wide(x), _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, wide(value))
        })
    }

    #[inline(always)]
    fn positive_part(self, x: f32x16) -> f32x16 {
        // As in `clamp`.
        plain(unsafe { _mm512_max_ps(_mm512_setzero_ps(), wide(x)) })
    }

    #[inline(always)]
    fn load_part(self, values: &[f32]) -> f32x16 {
        let count = values.len().min(Self::LANES);
        let lanes = ((1_u32 << count) - 1) as u16;
        // SAFETY: beside the instruction, lanes beyond `values` are masked, and masked lanes are not read.
        plain(unsafe { _mm512_maskz_loadu_ps(lanes, values.as_ptr()) })
    }

    #[inline(always)]
    fn outlined<K: Kernel>(self, part: K) -> K::Output {
        self.dispatch(part)
    }
}

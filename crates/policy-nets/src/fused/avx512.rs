//! AVX-512, which [`pulp`] offers only behind a feature that changes the features of crates below Burn as well.

#![expect(unsafe_code, reason = "instructions are called that the processor must have")]

use std::arch::x86_64::{
    __m512, _CMP_GT_OQ, _mm_loadu_ps, _mm256_loadu_pd, _mm512_add_ps, _mm512_broadcast_f32x4,
    _mm512_broadcast_f64x4, _mm512_castpd_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_maskz_permutexvar_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_mullo_epi32, _mm512_permute_ps, _mm512_rcp14_ps,
    _mm512_set1_epi32, _mm512_set1_pd, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_sub_ps,
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

/// A mask of the first `count` lanes, or of all.
#[inline(always)]
fn first_lanes(count: usize) -> u16 {
    ((1_u32 << count.min(Avx512::LANES)) - 1) as u16
}

/// The `unsafe` blocks call instructions of AVX-512F, which the processor has, since a value of the type exists.
impl Vectors for Avx512 {
    type Vector = f32x16;

    const REGISTERS: usize = 32;

    const MOST_GROUP: usize = 8;

    #[inline(always)]
    fn splat(self, value: f32) -> f32x16 {
        plain(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn splat_group<const G: usize>(self, values: &[f32; G]) -> f32x16 {
        // SAFETY: beside the instructions, the addresses are those of as many numbers as are read.
        plain(unsafe {
            let address = values.as_ptr();
            match G {
                2 => _mm512_castpd_ps(_mm512_set1_pd(address.cast::<f64>().read_unaligned())),
                4 => _mm512_broadcast_f32x4(_mm_loadu_ps(address)),
                8 => _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_loadu_pd(address.cast()))),
                _ => _mm512_set1_ps(*address),
            }
        })
    }

    #[inline(always)]
    fn sum_groups<const G: usize>(self, vector: f32x16) -> f32x16 {
        let mut sum = wide(vector);
        plain(unsafe {
            if G >= 2 {
                sum = _mm512_add_ps(sum, _mm512_permute_ps::<0b10_11_00_01>(sum));
            }
            if G >= 4 {
                sum = _mm512_add_ps(sum, _mm512_permute_ps::<0b01_00_11_10>(sum));
            }
            if G >= 8 {
                sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4::<0b10_11_00_01>(sum, sum));
            }
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let first = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(G as i32));
            _mm512_maskz_permutexvar_ps(((1_u32 << (Self::LANES / G)) - 1) as u16, first, sum)
        })
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
    fn negative_mul_add(self, a: f32x16, b: f32x16, c: f32x16) -> f32x16 {
        plain(unsafe { _mm512_fnmadd_ps(wide(a), wide(b), wide(c)) })
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
        // SAFETY: beside the instruction, lanes beyond `values` are masked, and masked lanes are not read.
        plain(unsafe { _mm512_maskz_loadu_ps(first_lanes(values.len()), values.as_ptr()) })
    }

    #[inline(always)]
    fn save_part(self, vector: f32x16, target: &mut [f32]) {
        // SAFETY: beside the instruction, lanes beyond `target` are masked, and masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(target.as_mut_ptr(), first_lanes(target.len()), wide(vector)) }
    }

    #[inline(always)]
    fn outlined<K: Kernel>(self, part: K) -> K::Output {
        self.dispatch(part)
    }
}

//! The vector operations that the kernels are made of.

use pulp::{Simd, WithSimd, bytemuck, bytemuck::Pod};

/// The operations of one instruction set on vectors of single-precision numbers: those of [`pulp`], and AVX-512.
///
/// Every method is `#[inline(always)]`: a kernel gets its instructions from the function into which it is inlined.
pub(super) trait Vectors: Copy {
    /// A vector.
    type Vector: Copy + Pod;

    /// Numbers in a vector.
    const LANES: usize = size_of::<Self::Vector>() / size_of::<f32>();

    /// Vectors that the processor's registers hold.
    const REGISTERS: usize;

    /// Most numbers of a group that [`Self::splat_group`] and [`Self::sum_groups`] take.
    const MOST_GROUP: usize = 1;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::Vector;

    /// `values` over and over in the lanes. `G` is a power of two, at most [`Self::MOST_GROUP`].
    #[inline(always)]
    fn splat_group<const G: usize>(self, values: &[f32; G]) -> Self::Vector {
        debug_assert!(G <= Self::MOST_GROUP, "no groups of {G}");
        self.splat(values[0])
    }

    /// The sums of every `G` lanes one after the other, in the first lanes, and zeros in the others. `G` as in [`Self::splat_group`].
    #[inline(always)]
    fn sum_groups<const G: usize>(self, vector: Self::Vector) -> Self::Vector {
        debug_assert!(G <= Self::MOST_GROUP, "no groups of {G}");
        vector
    }

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a / b` to about one unit in the last place, where neither `b` nor `1 / b` overflows or vanishes.
    fn quotient(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a b + c`, with one rounding where the processor has it.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// `c - a b`, with one rounding where the processor has it.
    #[inline(always)]
    fn negative_mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        self.sub(c, self.mul(a, b))
    }

    /// The number of `[low, high]` nearest to `x`; a NaN stays one.
    fn clamp(self, x: Self::Vector, low: Self::Vector, high: Self::Vector) -> Self::Vector;

    /// `value` where `x > 0`, else 0.
    fn where_positive(self, x: Self::Vector, value: Self::Vector) -> Self::Vector;

    /// The larger of `x` and 0; a NaN stays one.
    fn positive_part(self, x: Self::Vector) -> Self::Vector;

    /// The first numbers of `values`, at most a vector, and zeros in the lanes that are left.
    fn load_part(self, values: &[f32]) -> Self::Vector;

    /// The first `count` of `values`, at most a vector, and zeros in the lanes that are left. Faster where more follow.
    #[inline(always)]
    fn load_first(self, values: &[f32], count: usize) -> Self::Vector {
        self.load_part(&values[..count])
    }

    /// Writes the first lanes to `target`, as many as it has room for.
    fn save_part(self, vector: Self::Vector, target: &mut [f32]);

    /// Runs a part of a kernel as a function of its own, which all kernels share: it is compiled once.
    fn outlined<K: Kernel>(self, part: K) -> K::Output;

    /// The vector at the start of `values`.
    #[inline(always)]
    fn load(values: &[f32]) -> Self::Vector {
        Self::vectors(&values[..Self::LANES])[0]
    }

    /// The whole vectors of `values`; what is left is not in them.
    #[inline(always)]
    fn vectors(values: &[f32]) -> &[Self::Vector] {
        bytemuck::cast_slice(&values[..values.len() / Self::LANES * Self::LANES])
    }

    /// The whole vectors of `values`; what is left is not in them.
    #[inline(always)]
    fn vectors_mut(values: &mut [f32]) -> &mut [Self::Vector] {
        let whole = values.len() / Self::LANES * Self::LANES;
        bytemuck::cast_slice_mut(&mut values[..whole])
    }
}

/// A computation that is compiled for every instruction set.
pub(super) trait Kernel {
    /// What it returns.
    type Output;

    /// Runs it; the implementation is `#[inline(always)]`.
    fn run<V: Vectors>(self, simd: V) -> Self::Output;
}

impl<S: Simd> Vectors for S {
    type Vector = S::f32s;

    const REGISTERS: usize = S::REGISTER_COUNT;

    #[inline(always)]
    fn splat(self, value: f32) -> S::f32s {
        self.splat_f32s(value)
    }

    #[inline(always)]
    fn add(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.add_f32s(a, b)
    }

    #[inline(always)]
    fn sub(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.sub_f32s(a, b)
    }

    #[inline(always)]
    fn mul(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.mul_f32s(a, b)
    }

    #[inline(always)]
    fn quotient(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.div_f32s(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        self.mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn negative_mul_add(self, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        self.negate_mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn clamp(self, x: S::f32s, low: S::f32s, high: S::f32s) -> S::f32s {
        if Self::LANES == 1 {
            // The scalar `min` and `max` return the number where the other is a NaN.
            let x = self.select_f32s(self.greater_than_f32s(x, high), high, x);
            return self.select_f32s(self.less_than_f32s(x, low), low, x);
        }
        // Of two numbers of which one is a NaN, those of x86 return the second, the others the NaN.
        self.max_f32s(low, self.min_f32s(high, x))
    }

    #[inline(always)]
    fn where_positive(self, x: S::f32s, value: S::f32s) -> S::f32s {
        let zero = self.splat_f32s(0.0);
        self.select_f32s(self.greater_than_f32s(x, zero), value, zero)
    }

    #[inline(always)]
    fn positive_part(self, x: S::f32s) -> S::f32s {
        let zero = self.splat_f32s(0.0);
        self.select_f32s(self.less_than_f32s(x, zero), zero, x)
    }

    #[inline(always)]
    fn load_part(self, values: &[f32]) -> S::f32s {
        self.partial_load_f32s(values)
    }

    #[inline(always)]
    fn load_first(self, values: &[f32], count: usize) -> S::f32s {
        // pulp loads parts by a call of a function.
        if values.len() < Self::LANES {
            return self.partial_load_f32s(&values[..count]);
        }
        let first = self.mask_between_m32s(0, count as u32).mask();
        self.select_f32s(first, Self::load(values), self.splat_f32s(0.0))
    }

    #[inline(always)]
    fn save_part(self, vector: S::f32s, target: &mut [f32]) {
        let count = target.len().min(Self::LANES);
        self.partial_store_f32s(&mut target[..count], vector);
    }

    #[inline(always)]
    fn outlined<K: Kernel>(self, part: K) -> K::Output {
        self.vectorize(ByPulp(part))
    }
}

/// A kernel as [`pulp`] runs it.
pub(super) struct ByPulp<K>(pub(super) K);

impl<K: Kernel> WithSimd for ByPulp<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        self.0.run(simd)
    }
}

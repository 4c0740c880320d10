//! Choice of the processor's instruction set at run time.
//!
//! Every kernel is written once, generic over [`Vectors`] and marked `#[inline(always)]` down to the last loop;
//! [`InstructionSet::dispatch`] runs the copy that was compiled for the instruction set in use. Kernels call no
//! closure-taking array functions such as `array::map`: they may stay out of line, where the instructions are not
//! enabled.

use std::fmt;

use pulp::Arch;

#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
use super::vectors::{ByPulp, Kernel, Vectors};

/// The instructions that the fused kernels use: AVX-512 or AVX2 with FMA on x86-64, NEON on aarch64, SIMD128 in
/// WebAssembly, or none beyond scalar arithmetic.
///
/// Results of different instruction sets may differ in the last bits, because vectors of different lengths sum in another
/// order and not all have a fused multiply-add; with one instruction set they are reproducible to the bit.
#[derive(Clone, Copy)]
pub struct InstructionSet(Choice);

#[derive(Clone, Copy)]
enum Choice {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    Pulp(Arch),
}

impl InstructionSet {
    /// The best of this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = Avx512::detect() {
            return Self(Choice::Avx512(avx512));
        }
        Self(Choice::Pulp(Arch::new()))
    }

    /// Scalar arithmetic, which every processor has.
    pub fn scalar() -> Self {
        Self(Choice::Pulp(Arch::Scalar))
    }

    /// All that this processor has, the best first and scalar arithmetic last.
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::detect(), Self(Choice::Pulp(Arch::new())), Self::scalar()];
        sets.dedup_by_key(|set| set.name());
        sets
    }

    /// Numbers in a vector.
    pub fn lanes(self) -> usize {
        self.lanes_and_most_group().0
    }

    /// Numbers in a vector, and in the largest group of [`Vectors::splat_group`].
    pub(super) fn lanes_and_most_group(self) -> (usize, usize) {
        self.dispatch(Sizes)
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(_) => "AVX-512",
            Choice::Pulp(Arch::Scalar) => "scalar",
            Choice::Pulp(_) if cfg!(target_arch = "x86_64") => "AVX2 with FMA",
            Choice::Pulp(_) if cfg!(target_arch = "aarch64") => "NEON",
            Choice::Pulp(_) => "SIMD",
        }
    }

    /// Runs the kernel compiled for this instruction set.
    #[inline]
    pub(super) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(avx512) => avx512.dispatch(kernel),
            Choice::Pulp(arch) => arch.dispatch(ByPulp(kernel)),
        }
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

struct Sizes;

impl Kernel for Sizes {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) -> (usize, usize) {
        (V::LANES, V::MOST_GROUP)
    }
}

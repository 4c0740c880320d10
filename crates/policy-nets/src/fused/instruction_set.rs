//! Choice of the processor's instruction set at run time.
//!
//! Every kernel is written once, generic over [`pulp::Simd`] and marked `#[inline(always)]` down to the last loop;
//! [`InstructionSet::dispatch`] runs the copy that was compiled for the instruction set in use. Kernels call no
//! closure-taking array functions such as `array::map`: they may stay out of line, where the instructions are not
//! enabled.

use std::fmt;

use pulp::{Arch, Simd, WithSimd};

/// The instructions that the fused kernels use: AVX2 with FMA on x86-64, NEON on aarch64, SIMD128 in WebAssembly, or
/// none beyond scalar arithmetic.
///
/// Results of different instruction sets may differ in the last bits, because not all have a fused multiply-add;
/// with one instruction set they are reproducible to the bit.
#[derive(Clone, Copy)]
pub struct InstructionSet(Arch);

impl InstructionSet {
    /// The best of this processor.
    pub fn detect() -> Self {
        Self(Arch::new())
    }

    /// Scalar arithmetic, which every processor has.
    pub fn scalar() -> Self {
        Self(Arch::Scalar)
    }

    /// Numbers in a vector.
    pub fn lanes(self) -> usize {
        self.dispatch(Lanes)
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self.0 {
            Arch::Scalar => "scalar",
            _ if cfg!(target_arch = "x86_64") => "AVX2 with FMA",
            _ if cfg!(target_arch = "aarch64") => "NEON",
            _ => "SIMD",
        }
    }

    /// Runs the kernel compiled for this instruction set.
    #[inline]
    pub(super) fn dispatch<K: WithSimd>(self, kernel: K) -> K::Output {
        self.0.dispatch(kernel)
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

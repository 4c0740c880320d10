//! Memory for vectors.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the longest vector.
const LINE: usize = 64;

/// Numbers in a cache line.
pub(super) const LINE_NUMBERS: usize = LINE / size_of::<f32>();

/// Numbers of which the first lies at the start of a cache line, so that no vector lies in two.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    /// `length` numbers and room for the way to the next cache line.
    memory: Vec<f32>,
    length: usize,
}

impl Aligned {
    /// As many zeros.
    pub(super) fn zeros(length: usize) -> Self {
        Self { memory: vec![0.0; length + LINE_NUMBERS], length }
    }

    /// Makes it at least as long; the numbers are then zero.
    pub(super) fn reserve(&mut self, length: usize) {
        if self.length < length {
            *self = Self::zeros(length);
        }
    }

    /// Where the numbers lie in the memory.
    #[inline]
    fn start(&self) -> usize {
        self.memory.as_ptr().align_offset(LINE)
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        match self.length {
            0 => &[],
            length => &self.memory[self.start()..][..length],
        }
    }
}

impl DerefMut for Aligned {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = self.start();
        match self.length {
            0 => &mut [],
            length => &mut self.memory[start..][..length],
        }
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.length);
        copy.copy_from_slice(self);
        copy
    }
}

//! The mean network over slices on the CPU.
use crate::{Activation, Architecture};

/// Work memory.
#[derive(Debug, Default)]
pub struct Scratch;

/// The mean network.
#[derive(Clone, Debug)]
pub struct FusedNetwork {
    architecture: Architecture,
    parameters: Vec<f32>,
}

impl FusedNetwork {
    /// New.
    pub fn new(architecture: &Architecture) -> Self {
        Self { architecture: architecture.clone(), parameters: vec![] }
    }
    /// Load.
    pub fn load(&mut self, parameters: &[f32]) {
        self.parameters = parameters.to_vec();
    }
    /// Means.
    pub fn means(&self, observations: &[f32], means: &mut [f32], _scratch: &mut Scratch) {
        let layers = self.architecture.layers();
        let o = self.architecture.observation_size;
        let a = self.architecture.action_size;
        for (s, m) in observations.chunks(o).zip(means.chunks_mut(a)) {
            let mut x = s.to_vec();
            let mut p = 0;
            for (l, (i, out)) in layers.iter().enumerate() {
                let mut y = vec![0.0; *out];
                for (r, y) in y.iter_mut().enumerate() {
                    *y = (0..*i).map(|c| self.parameters[p + r * i + c] * x[c]).sum();
                }
                p += i * out;
                if self.architecture.bias {
                    for (r, y) in y.iter_mut().enumerate() {
                        *y += self.parameters[p + r];
                    }
                    p += out;
                }
                if l + 1 < layers.len() {
                    y.iter_mut().for_each(|y| {
                        *y = match self.architecture.activation {
                            Activation::Tanh => y.tanh(),
                            Activation::Relu => y.max(0.0),
                        }
                    });
                }
                x = y;
            }
            m.copy_from_slice(&x);
        }
    }
}

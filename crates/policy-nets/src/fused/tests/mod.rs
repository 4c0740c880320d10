//! The fused path against plain double-precision code written from the formulas.

mod activations;
mod networks;
mod oracle;
mod windows;

use super::{FusedNetwork, InstructionSet};
use crate::{Activation, Architecture};

/// A `SplitMix64` generator: the same numbers on every platform.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// Uniform in [-scale, scale).
    fn number(&mut self, scale: f32) -> f32 {
        ((self.bits() >> 40) as f32 / 8_388_608.0 - 1.0) * scale
    }

    fn numbers(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.number(scale)).collect()
    }
}

fn architecture(
    observation_size: usize,
    hidden: &[usize],
    action_size: usize,
    activation: Activation,
    bias: bool,
) -> Architecture {
    Architecture { observation_size, action_size, hidden: hidden.to_vec(), activation, bias }
}

/// Shapes at and around the widths of vectors, panels and tiles, then random ones.
fn architectures(random: &mut Random, random_count: usize) -> Vec<Architecture> {
    let (tanh, relu) = (Activation::Tanh, Activation::Relu);
    let mut list = vec![
        architecture(1, &[], 1, tanh, false),
        architecture(4, &[], 1, tanh, true),
        architecture(4, &[32, 32], 1, tanh, false),
        architecture(17, &[32, 32], 6, tanh, false),
        architecture(17, &[32, 32], 6, relu, true),
        architecture(8, &[1], 2, tanh, true),
        architecture(3, &[7, 8, 9, 15, 16, 17], 5, tanh, true),
        architecture(64, &[23], 64, relu, false),
        architecture(376, &[256, 129], 17, tanh, true),
    ];
    for _ in 0..random_count {
        let hidden: Vec<_> = (0..random.below(4)).map(|_| 1 + random.below(70)).collect();
        let activation = if random.below(2) == 0 { tanh } else { relu };
        let (observation_size, action_size) = (1 + random.below(64), 1 + random.below(64));
        list.push(architecture(observation_size, &hidden, action_size, activation, random.below(2) == 0));
    }
    list
}

/// Parameters that keep the layers' outputs of order one.
fn parameters(architecture: &Architecture, random: &mut Random) -> Vec<f32> {
    let mut parameters = Vec::new();
    for (inputs, outputs) in architecture.layers() {
        parameters.extend(random.numbers(inputs * outputs, (3.0 / inputs as f32).sqrt()));
        parameters.extend(random.numbers(if architecture.bias { outputs } else { 0 }, 0.5));
    }
    parameters
}

fn loaded(architecture: &Architecture, parameters: &[f32], instructions: InstructionSet) -> FusedNetwork {
    let mut network = FusedNetwork::with_instruction_set(architecture, instructions);
    network.load(parameters);
    network
}

/// Euclidean distance relative to the second vector's norm.
fn relative_distance(values: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(values.len(), expected.len());
    let distance: f64 = values.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| b.powi(2)).sum();
    if norm == 0.0 { distance.sqrt() } else { (distance / norm).sqrt() }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

//! The mean network over blocks of samples that stay in the processor's first caches.

use super::{
    activation::{Relu, Tanh, TimesReluDerivative, TimesTanhDerivative, apply},
    aligned::Aligned,
    instruction_set::InstructionSet,
    layer::Layer,
    tile::{Assign, ToPanels, ToRows, even_parts, panel_columns, panel_count, rows_to_panels},
    vectors::{Kernel, Vectors},
};
use crate::{Activation, Architecture};

/// Samples in a block, when the layers are narrow.
const BLOCK_ROWS: usize = 128;
/// Least number of samples in a block, when they are wide.
const LEAST_BLOCK_ROWS: usize = 24;
/// Numbers of all layers' outputs over a block, unless the block has the least number of samples.
const BLOCK_NUMBERS: usize = 1 << 15;
/// Samples whose gradient is summed in single precision before it is added to the double-precision sum.
const FLUSH_ROWS: usize = 1024;

/// The mean network with its parameters packed for the fused kernels.
#[derive(Clone, Debug)]
pub struct FusedNetwork {
    activation: Activation,
    layers: Vec<Layer>,
    instruction_set: InstructionSet,
    block_rows: usize,
}

/// Memory for the intermediate results of one thread; grows to what a network needs and is kept between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Intermediate results over one block.
    pub(super) block: Block,
    /// The means over one block, `[block_rows, action_size]` without gaps.
    pub(super) means: Aligned,
    /// A parameter gradient in packed order, and that of the log standard deviations.
    pub(super) gradient: Aligned,
}

/// A block of samples on its way through the network, in panels.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    observations: Aligned,
    /// Outputs of every hidden layer; the backward pass writes their gradients over them. Then the gradient with respect to
    /// the means.
    outputs: Vec<Aligned>,
}

impl FusedNetwork {
    /// A network of this shape with all parameters zero, for the best instruction set of this processor.
    ///
    /// # Panics
    /// When a layer is empty.
    pub fn new(architecture: &Architecture) -> Self {
        Self::with_instruction_set(architecture, InstructionSet::detect())
    }

    /// The same for a given instruction set.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_instruction_set(architecture: &Architecture, instruction_set: InstructionSet) -> Self {
        let sizes = architecture.layers();
        assert!(sizes.iter().all(|(inputs, outputs)| *inputs > 0 && *outputs > 0), "empty layers: {sizes:?}");
        let mut layers = Vec::new();
        let (vectors, mut packed_start) = (instruction_set.lanes_and_most_group(), 0);
        for sizes in architecture.layers() {
            let layer = Layer::new(sizes, architecture.bias, layers.is_empty(), vectors, packed_start);
            packed_start = layer.packed_end();
            layers.push(layer);
        }
        let numbers: usize = layers.iter().map(|layer| layer.width).sum();
        Self { activation: architecture.activation, layers, instruction_set, block_rows: block_rows(numbers) }
    }

    /// Most bytes of a [`Scratch`] for a network of this shape, which is not made.
    pub fn scratch_bytes(architecture: &Architecture) -> f64 {
        let lanes = InstructionSet::detect().lanes();
        let padded = |columns: usize| panel_count(columns.div_ceil(lanes)) * panel_columns(lanes);
        let outputs = || architecture.layers().into_iter().map(|(_, outputs)| outputs);
        let widths: usize = outputs().map(|outputs| outputs.next_multiple_of(lanes)).sum();
        let columns: usize = outputs().map(padded).sum::<usize>() + padded(architecture.observation_size);
        let block = block_rows(widths) * (columns + architecture.action_size);
        ((block + architecture.parameter_count()) * size_of::<f32>()) as f64
    }

    /// Takes over a parameter vector in the order that [`Architecture`] documents; numbers behind those of the mean
    /// network (the log standard deviations) are ignored. Allocates nothing.
    ///
    /// # Panics
    /// When the vector is shorter than [`Architecture::parameter_count`].
    pub fn load(&mut self, parameters: &[f32]) {
        let mut rest = parameters;
        for layer in &mut self.layers {
            let (own, others) = rest.split_at(layer.parameter_count());
            layer.load(own);
            rest = others;
        }
    }

    /// The instruction set in use.
    pub fn instruction_set(&self) -> InstructionSet {
        self.instruction_set
    }

    /// Number of components of an observation.
    pub fn observation_size(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// Number of components of an action.
    pub fn action_size(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Number of parameters of the mean network.
    pub fn parameter_count(&self) -> usize {
        self.layers.iter().map(Layer::parameter_count).sum()
    }

    /// Means of the actions: `observations` `[rows, observation_size]` to `means` `[rows, action_size]`.
    /// A row's result is the same to the bit whatever the number of rows and its position among them.
    ///
    /// # Panics
    /// When the lengths are not those of the same number of rows.
    pub fn means(&self, observations: &[f32], means: &mut [f32], scratch: &mut Scratch) {
        self.assert_rows(observations, means.len());
        self.reserve_outputs(scratch);
        self.instruction_set.dispatch(Means { network: self, observations, out: means, scratch });
    }

    /// Adds to `gradient` (flat order, `[parameter_count]`) the product of the Jacobian's transpose with a vector,
    /// `sum_{s, d} mean_gradient[s, d] d mean_d(observation_s) / d theta`.
    ///
    /// | argument | shape |
    /// |---|---|
    /// | `observations` | `[rows, observation_size]` |
    /// | `mean_gradient` | `[rows, action_size]` |
    ///
    /// # Panics
    /// When the lengths are not those of the same number of rows, or `gradient` has another length.
    pub fn vjp(
        &self,
        observations: &[f32],
        mean_gradient: &[f32],
        gradient: &mut [f64],
        scratch: &mut Scratch,
    ) {
        self.assert_rows(observations, mean_gradient.len());
        assert_eq!(gradient.len(), self.parameter_count(), "length of the gradient");
        self.reserve_outputs(scratch);
        let (observation_size, action_size) = (self.observation_size(), self.action_size());
        let parts = observations
            .chunks(FLUSH_ROWS * observation_size)
            .zip(mean_gradient.chunks(FLUSH_ROWS * action_size));
        for (observations, mean_gradient) in parts {
            scratch.gradient.reserve(self.packed_count());
            self.instruction_set.dispatch(Vjp { network: self, observations, mean_gradient, scratch });
            self.unpack(&scratch.gradient, gradient);
        }
    }

    fn assert_rows(&self, observations: &[f32], action_numbers: usize) {
        let rows = action_numbers / self.action_size();
        assert_eq!(action_numbers, rows * self.action_size(), "a whole number of actions");
        assert_eq!(observations.len(), rows * self.observation_size(), "as many observations as actions");
    }

    /// Makes room for a block's outputs.
    #[inline]
    pub(super) fn reserve_outputs(&self, scratch: &mut Scratch) {
        if scratch.block.outputs.len() < self.layers.len() {
            scratch.block.outputs.resize(self.layers.len(), Aligned::default());
        }
        let lanes = self.instruction_set.lanes();
        let numbers =
            |columns: usize| self.block_rows * panel_count(columns.div_ceil(lanes)) * panel_columns(lanes);
        scratch.block.observations.reserve(numbers(self.observation_size()));
        for (output, layer) in scratch.block.outputs.iter_mut().zip(&self.layers) {
            output.reserve(numbers(layer.outputs));
        }
        scratch.means.reserve(self.block_rows * self.action_size());
    }

    /// Length of a packed gradient.
    pub(super) fn packed_count(&self) -> usize {
        self.layers.last().map_or(0, Layer::packed_end)
    }

    /// Adds a packed gradient to one in flat order.
    pub(super) fn unpack<T: Copy + Into<f64>>(&self, packed: &[T], flat: &mut [f64]) {
        let mut rest = flat;
        for layer in &self.layers {
            let (own, others) = rest.split_at_mut(layer.parameter_count());
            layer.unpack(packed, own);
            rest = others;
        }
    }

    /// Ranges of rows that [`Self::forward_block`] takes at a time.
    #[inline(always)]
    pub(super) fn blocks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        even_parts(rows, self.block_rows)
    }

    /// Writes the means for the observations, at most a block, to `means`, `[rows, action_size]` without gaps, and leaves in
    /// `block` what [`Self::backward_block`] needs.
    #[inline(always)]
    pub(super) fn forward_block<V: Vectors>(
        &self,
        simd: V,
        observations: &[f32],
        block: &mut Block,
        means: &mut [f32],
    ) {
        let rows = observations.len() / self.observation_size();
        let Block { observations: first, outputs } = block;
        rows_to_panels(simd, observations, self.observation_size(), first);
        let (mut input, last) = (&**first, self.layers.len() - 1);
        for (layer, output) in self.layers[..last].iter().zip(outputs) {
            let vectors = layer.width / V::LANES;
            let values = &mut output[..rows * panel_count(vectors) * panel_columns(V::LANES)];
            layer.forward(simd, input, rows, ToPanels::<Assign>::new(values, rows));
            match self.activation {
                Activation::Tanh => apply::<V, Tanh>(simd, values, rows, vectors),
                Activation::Relu => apply::<V, Relu>(simd, values, rows, vectors),
            }
            input = &**output;
        }
        let layer = &self.layers[last];
        layer.forward(simd, input, rows, ToRows { values: means, columns: layer.outputs });
    }

    /// The panels of `block` for the gradient with respect to the means.
    #[inline(always)]
    pub(super) fn mean_gradient<'a>(&self, block: &'a mut Block) -> &'a mut [f32] {
        &mut block.outputs[self.layers.len() - 1]
    }

    /// Writes the gradient of the parameters to the packed `gradient`, or adds it to that unless it is the `first`, given what
    /// [`Self::forward_block`] left in `block` for so many rows, and the [`Self::mean_gradient`].
    #[inline(always)]
    pub(super) fn backward_block<V: Vectors>(
        &self,
        simd: V,
        block: &mut Block,
        rows: usize,
        gradient: &mut [f32],
        first: bool,
    ) {
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (before, from_here) = block.outputs.split_at_mut(index);
            let delta = &*from_here[0];
            let Some(inputs) = before.last_mut() else {
                layer.accumulate(simd, rows, (&block.observations, delta), gradient, first);
                break;
            };
            layer.accumulate(simd, rows, (inputs, delta), gradient, first);
            match self.activation {
                Activation::Tanh => layer.backward::<V, TimesTanhDerivative>(simd, delta, rows, inputs),
                Activation::Relu => layer.backward::<V, TimesReluDerivative>(simd, delta, rows, inputs),
            }
        }
    }
}

/// Samples in a block, for layers with so many outputs in all.
fn block_rows(numbers: usize) -> usize {
    (BLOCK_NUMBERS / numbers.max(1)).clamp(LEAST_BLOCK_ROWS, BLOCK_ROWS)
}

struct Means<'a> {
    network: &'a FusedNetwork,
    observations: &'a [f32],
    out: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl Kernel for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { network, observations, out, scratch } = self;
        let (observation_size, action_size) = (network.observation_size(), network.action_size());
        for (start, rows) in network.blocks(out.len() / action_size) {
            let observations = &observations[start * observation_size..][..rows * observation_size];
            let means = &mut out[start * action_size..][..rows * action_size];
            network.forward_block(simd, observations, &mut scratch.block, means);
        }
    }
}

struct Vjp<'a> {
    network: &'a FusedNetwork,
    observations: &'a [f32],
    mean_gradient: &'a [f32],
    scratch: &'a mut Scratch,
}

impl Kernel for Vjp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { network, observations, mean_gradient, scratch } = self;
        let (observation_size, action_size) = (network.observation_size(), network.action_size());
        let Scratch { block, means, gradient, .. } = scratch;
        for (start, rows) in network.blocks(mean_gradient.len() / action_size) {
            let observations = &observations[start * observation_size..][..rows * observation_size];
            let means = &mut means[..rows * action_size];
            network.forward_block(simd, observations, block, means);
            let mean_gradient = &mean_gradient[start * action_size..][..rows * action_size];
            rows_to_panels(simd, mean_gradient, action_size, network.mean_gradient(block));
            network.backward_block(simd, block, rows, gradient, start == 0);
        }
    }
}

//! The mean network over blocks of samples that stay in the processor's first caches.

use super::{
    activation::{Relu, Tanh, TimesReluDerivative, TimesTanhDerivative, apply},
    aligned::Aligned,
    instruction_set::InstructionSet,
    layer::Layer,
    tile::{Rows, even_parts},
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
    /// Outputs of every layer over one block, `[block_rows, width]`; the backward pass writes their gradients over them.
    pub(super) outputs: Vec<Aligned>,
    /// The means over one block, `[block_rows, action_size]` without gaps and a vector more, then the gradient with respect
    /// to them.
    pub(super) means: Aligned,
    /// The steps' returns over one block, one for each number of `means`.
    pub(super) returns: Aligned,
    /// Sum of the parameter gradients in packed order.
    pub(super) gradient: Vec<f32>,
}

impl FusedNetwork {
    /// A network of this shape with all parameters zero, for the best instruction set of this processor.
    pub fn new(architecture: &Architecture) -> Self {
        Self::with_instruction_set(architecture, InstructionSet::detect())
    }

    /// The same for a given instruction set.
    pub fn with_instruction_set(architecture: &Architecture, instruction_set: InstructionSet) -> Self {
        let mut layers = Vec::new();
        let (lanes, mut packed_start) = (instruction_set.lanes(), 0);
        for sizes in architecture.layers() {
            let layer = Layer::new(sizes, architecture.bias, layers.is_empty(), lanes, packed_start);
            packed_start = layer.packed_end();
            layers.push(layer);
        }
        let numbers: usize = layers.iter().map(|layer| layer.width).sum();
        let block_rows = (BLOCK_NUMBERS / numbers.max(1)).clamp(LEAST_BLOCK_ROWS, BLOCK_ROWS);
        Self { activation: architecture.activation, layers, instruction_set, block_rows }
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
            self.clear_gradient(scratch);
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
        if scratch.outputs.len() < self.layers.len() {
            scratch.outputs.resize(self.layers.len(), Aligned::default());
        }
        for (output, layer) in scratch.outputs.iter_mut().zip(&self.layers) {
            output.reserve(self.block_rows * layer.width);
        }
        let numbers = self.block_rows * self.action_size() + self.instruction_set.lanes();
        scratch.means.reserve(numbers);
        scratch.returns.reserve(numbers);
    }

    /// Sets the packed gradient to zero.
    pub(super) fn clear_gradient(&self, scratch: &mut Scratch) {
        scratch.gradient.clear();
        scratch.gradient.resize(self.packed_count(), 0.0);
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

    /// Length of a row of the last layer's outputs in scratch memory.
    fn output_width(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.width)
    }

    /// Fills `outputs` with every layer's outputs for `rows` observations, at most a block.
    #[inline(always)]
    pub(super) fn forward_block<V: Vectors>(
        &self,
        simd: V,
        observations: &[f32],
        rows: usize,
        outputs: &mut [Aligned],
    ) {
        let mut input = Rows { values: observations, stride: self.observation_size() };
        let last = self.layers.len() - 1;
        for (index, (layer, output)) in self.layers.iter().zip(outputs).enumerate() {
            let output = &mut output[..rows * layer.width];
            layer.forward(simd, input, output);
            match self.activation {
                _ if index == last => {}
                Activation::Tanh => apply::<V, Tanh>(simd, output),
                Activation::Relu => apply::<V, Relu>(simd, output),
            }
            input = Rows { values: output, stride: layer.width };
        }
    }

    /// Copies the last layer's outputs for `rows` observations to `means`, `[rows, action_size]` without gaps, and puts a
    /// vector of zeros behind them.
    #[inline(always)]
    pub(super) fn gather_means<V: Vectors>(&self, rows: usize, outputs: &[Aligned], means: &mut [f32]) {
        let (size, width) = (self.action_size(), self.output_width());
        for (row, output) in outputs[self.layers.len() - 1].chunks_exact(width).take(rows).enumerate() {
            // What a row's last vector writes behind it, the next row writes over.
            for (part, values) in output.chunks_exact(V::LANES).enumerate() {
                V::save(V::load(values), &mut means[row * size + part * V::LANES..]);
            }
        }
        means[rows * size..][..V::LANES].fill(0.0);
    }

    /// Adds the gradient of the parameters to the packed `gradient`, given what [`Self::forward_block`] left in `outputs`
    /// and the gradient with respect to the means, `[rows, action_size]` with a vector of numbers behind it.
    #[inline(always)]
    pub(super) fn backward_block<V: Vectors>(
        &self,
        simd: V,
        observations: &[f32],
        rows: usize,
        outputs: &mut [Aligned],
        mean_gradient: &[f32],
        gradient: &mut [f32],
    ) {
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let (before, from_here) = outputs.split_at_mut(index);
            let delta = if index + 1 == self.layers.len() {
                Rows { values: mean_gradient, stride: layer.outputs }
            } else {
                Rows { values: &from_here[0], stride: layer.width }
            };
            let Some(hidden) = before.last_mut() else {
                let observations = Rows { values: observations, stride: self.observation_size() };
                layer.accumulate(simd, rows, observations, delta, gradient);
                break;
            };
            let stride = self.layers[index - 1].width;
            let hidden = &mut hidden[..rows * stride];
            layer.accumulate(simd, rows, Rows { values: hidden, stride }, delta, gradient);
            match self.activation {
                Activation::Tanh => layer.backward::<V, TimesTanhDerivative>(simd, delta, hidden),
                Activation::Relu => layer.backward::<V, TimesReluDerivative>(simd, delta, hidden),
            }
        }
    }
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
        let (last, width) = (network.layers.len() - 1, network.output_width());
        for (start, rows) in network.blocks(out.len() / action_size) {
            let observations = &observations[start * observation_size..][..rows * observation_size];
            network.forward_block(simd, observations, rows, &mut scratch.outputs);
            let means = &mut out[start * action_size..][..rows * action_size];
            for (mean, row) in
                means.chunks_exact_mut(action_size).zip(scratch.outputs[last].chunks_exact(width))
            {
                for (target, value) in mean.iter_mut().zip(row) {
                    *target = *value;
                }
            }
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
        for (start, rows) in network.blocks(mean_gradient.len() / action_size) {
            let observations = &observations[start * observation_size..][..rows * observation_size];
            network.forward_block(simd, observations, rows, &mut scratch.outputs);
            let mean_gradient = &mean_gradient[start * action_size..][..rows * action_size];
            let Scratch { outputs, means, gradient, .. } = &mut *scratch;
            let (deltas, behind) = means.split_at_mut(mean_gradient.len());
            deltas.copy_from_slice(mean_gradient);
            behind[..V::LANES].fill(0.0);
            network.backward_block(simd, observations, rows, outputs, means, gradient);
        }
    }
}

//! The mean network in a kernel: parameters in shared memory, four to a vector; some sums of a layer at a time in registers.
//!
//! Loops stay loops, because the code of a network that is written out takes drivers minutes to compile.

#![expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "an array of a kernel is not the handle that it is on the host"
)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use policy_nets::{Activation, Architecture};

use super::LARGEST_WIDTH;
use kernels::numeric::{relu, tanh};

/// Numbers of a vector, and the fewest sums that are formed together from one input.
pub(super) const LANES: usize = 4;
/// The most sums that are formed together: one after the other, inputs come from memory slower than they are used.
const MOST_LANES: usize = 16;

/// Weights from one input to four outputs.
type Four = Vector<f32, Const<LANES>>;

/// One layer, as a kernel is written for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layer {
    inputs: usize,
    outputs: usize,
    /// Sums that are formed together, whole [`LANES`].
    lanes: usize,
    /// `outputs` rounded up to whole `lanes`.
    width: usize,
    /// Where its weights begin in the flat parameters; its biases follow them.
    flat: usize,
    /// Where its rows begin in shared memory, in vectors: `[inputs, width]`, and `[width]` for the biases.
    start: usize,
    bias: bool,
    /// `None` for the output layer.
    activation: Option<Activation>,
}

/// The network, as a kernel is written for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network {
    layers: Vec<Layer>,
    parameters: usize,
    /// Vectors in shared memory.
    shared: usize,
    /// The longest row of hidden numbers, at least [`LANES`].
    widest: usize,
}

impl Network {
    /// The network of `architecture`; `None` when a layer is too wide.
    pub(super) fn new(architecture: &Architecture) -> Option<Self> {
        let sizes = architecture.layers();
        let (mut flat, mut start) = (0, 0);
        let layers = sizes.iter().enumerate().map(|(index, (inputs, outputs))| {
            let hidden = index + 1 < sizes.len();
            // The means have room for whole vectors and no more.
            let lanes = if hidden { outputs.next_multiple_of(LANES).min(MOST_LANES) } else { LANES };
            let width = outputs.next_multiple_of(lanes);
            let layer = Layer {
                inputs: *inputs,
                outputs: *outputs,
                lanes,
                width,
                flat,
                start,
                bias: architecture.bias,
                activation: hidden.then_some(architecture.activation),
            };
            let rows = inputs + usize::from(architecture.bias);
            flat += outputs * rows;
            start += layer.width / LANES * rows;
            layer
        });
        let layers: Vec<_> = layers.collect();
        let fits = |layer: &Layer| layer.inputs <= LARGEST_WIDTH && layer.outputs <= LARGEST_WIDTH;
        let widest = layers.iter().map(|layer| layer.width).max().unwrap_or(LANES);
        let all_fit = layers.iter().all(fits);
        all_fit.then_some(Self { layers, parameters: flat, shared: start, widest })
    }

    /// Number of parameters.
    pub(super) fn parameter_count(&self) -> usize {
        self.parameters
    }

    /// Vectors in shared memory.
    pub(super) fn shared_count(&self) -> usize {
        self.shared
    }

    /// Bytes of shared memory.
    pub(super) fn shared_bytes(&self) -> usize {
        LANES * self.shared * size_of::<f32>()
    }

    /// Length of the work arrays.
    pub(super) fn widest(&self) -> usize {
        self.widest
    }
}

/// Copies flat parameters to shared memory, every weight matrix transposed to `[input, output]`, rows filled up with
/// zeros.
#[cube]
pub(super) fn load(parameters: &[f32], weights: &mut Shared<[Four]>, #[comptime] network: Network) {
    intrinsic!(|scope| {
        for layer in network.layers {
            load_layer::expand(scope, parameters, weights, layer);
        }
    });
}

#[cube]
fn load_layer(parameters: &[f32], weights: &mut Shared<[Four]>, #[comptime] layer: Layer) {
    let inputs = comptime!(layer.inputs);
    let outputs = comptime!(layer.outputs);
    let matrix = comptime!(layer.flat);
    let biases = comptime!(layer.flat + layer.inputs * layer.outputs);
    let start = comptime!(layer.start);
    let vectors = comptime!(layer.width / LANES);
    let count = comptime!(layer.width / LANES * (layer.inputs + usize::from(layer.bias)));
    let mut index = UNIT_POS as usize;
    while index < count {
        let row = index / vectors;
        let mut four = Four::new(0.0);
        #[unroll]
        for lane in 0..LANES {
            let column = index % vectors * LANES + lane;
            let output = min(column, outputs - 1);
            let place = select(row < inputs, matrix + output * inputs + row, biases + output);
            four.insert(lane, select(column < outputs, parameters[place], f32::new(0.0)));
        }
        weights[start + index] = four;
        index += CUBE_DIM as usize;
    }
}

/// Writes the mean of the action at `observation`. `first` and `second` are work arrays of [`Network::widest`] numbers;
/// `mean` has whole [`LANES`].
#[cube]
pub(super) fn mean(
    weights: &Shared<[Four]>,
    observation: &Array<f32>,
    mean: &mut Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    #[comptime] network: Network,
) {
    intrinsic!(|scope| {
        let last = network.layers.len() - 1;
        for (index, layer) in network.layers.into_iter().enumerate() {
            let (own, other) = if index % 2 == 0 { (&mut *first, &*second) } else { (&mut *second, &*first) };
            let input = if index == 0 { observation } else { other };
            let output = if index == last { &mut *mean } else { own };
            forward::expand(scope, weights, input, output, layer);
        }
    });
}

#[cube]
fn forward(weights: &Shared<[Four]>, input: &Array<f32>, output: &mut Array<f32>, #[comptime] layer: Layer) {
    let inputs = comptime!(layer.inputs);
    let vectors = comptime!(layer.width / LANES);
    let start = comptime!(layer.start);
    let biases = comptime!(layer.start + layer.inputs * layer.width / LANES);
    let mut sums = Array::<f32>::new(comptime!(layer.lanes));
    for block in 0..comptime!(layer.width / layer.lanes) {
        let first = block * comptime!(layer.lanes / LANES);
        #[unroll]
        for vector in 0..comptime!(layer.lanes / LANES) {
            let mut four = Four::new(0.0);
            if comptime!(layer.bias) {
                four = weights[biases + first + vector];
            }
            #[unroll]
            for lane in 0..LANES {
                sums[comptime!(vector * LANES + lane)] = four.extract(lane);
            }
        }
        for row in 0..inputs {
            let value = input[row];
            let place = start + row * vectors + first;
            #[unroll]
            for vector in 0..comptime!(layer.lanes / LANES) {
                let four = weights[place + vector];
                #[unroll]
                for lane in 0..LANES {
                    let index = comptime!(vector * LANES + lane);
                    sums[index] = fma(value, four.extract(lane), sums[index]);
                }
            }
        }
        let column = block * comptime!(layer.lanes);
        #[unroll]
        for lane in 0..comptime!(layer.lanes) {
            match comptime!(layer.activation) {
                Some(Activation::Tanh) => output[column + lane] = tanh(sums[lane]),
                Some(Activation::Relu) => output[column + lane] = relu(sums[lane]),
                None => output[column + lane] = sums[lane],
            }
        }
    }
}

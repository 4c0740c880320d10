//! The mean network in a kernel: parameters in shared memory, [`LANES`] sums of a layer at a time in registers.
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
use kernels::numeric::tanh;

/// Sums that are formed together from one input.
pub(super) const LANES: usize = 4;

/// One layer, as a kernel is written for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layer {
    inputs: usize,
    outputs: usize,
    /// `outputs` rounded up to whole [`LANES`].
    width: usize,
    /// Where its weights begin in the flat parameters; its biases follow them.
    flat: usize,
    /// Where its rows begin in shared memory: `[inputs, width]`, and `[width]` for the biases.
    start: usize,
    bias: bool,
    /// `None` for the output layer.
    activation: Option<Nonlinearity>,
}

/// What follows a hidden layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Nonlinearity {
    Tanh,
    Relu,
}

/// The network, as a kernel is written for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network {
    layers: Vec<Layer>,
    parameters: usize,
    /// Numbers in shared memory.
    shared: usize,
    /// The longest row of hidden numbers, at least [`LANES`].
    widest: usize,
}

impl Network {
    /// The network of `architecture`; `None` when a layer is too wide.
    pub(super) fn new(architecture: &Architecture) -> Option<Self> {
        let activation = match architecture.activation {
            Activation::Tanh => Nonlinearity::Tanh,
            Activation::Relu => Nonlinearity::Relu,
        };
        let sizes = architecture.layers();
        let (mut flat, mut start) = (0, 0);
        let layers = sizes.iter().enumerate().map(|(index, (inputs, outputs))| {
            let hidden = index + 1 < sizes.len();
            let layer = Layer {
                inputs: *inputs,
                outputs: *outputs,
                width: outputs.next_multiple_of(LANES),
                flat,
                start,
                bias: architecture.bias,
                activation: hidden.then_some(activation),
            };
            let rows = inputs + usize::from(architecture.bias);
            flat += outputs * rows;
            start += layer.width * rows;
            layer
        });
        let layers: Vec<_> = layers.collect();
        let fits = |layer: &Layer| layer.inputs <= LARGEST_WIDTH && layer.outputs <= LARGEST_WIDTH;
        let widest = architecture.hidden.iter().map(|width| width.next_multiple_of(LANES)).max();
        layers.iter().all(fits).then(|| Self {
            layers,
            parameters: flat,
            shared: start,
            widest: widest.unwrap_or(LANES),
        })
    }

    /// Number of parameters.
    pub(super) fn parameter_count(&self) -> usize {
        self.parameters
    }

    /// Numbers in shared memory.
    pub(super) fn shared_count(&self) -> usize {
        self.shared
    }

    /// Length of the work arrays.
    pub(super) fn widest(&self) -> usize {
        self.widest
    }
}

/// Copies flat parameters to shared memory, every weight matrix transposed to `[input, output]`, rows filled up with
/// zeros.
#[cube]
pub(super) fn load(parameters: &[f32], weights: &mut Shared<[f32]>, #[comptime] network: Network) {
    intrinsic!(|scope| {
        for layer in network.layers {
            load_layer::expand(scope, parameters, weights, layer);
        }
    });
}

#[cube]
fn load_layer(parameters: &[f32], weights: &mut Shared<[f32]>, #[comptime] layer: Layer) {
    let inputs = comptime!(layer.inputs);
    let outputs = comptime!(layer.outputs);
    let width = comptime!(layer.width);
    let matrix = comptime!(layer.flat);
    let biases = comptime!(layer.flat + layer.inputs * layer.outputs);
    let start = comptime!(layer.start);
    let count = comptime!(layer.width * (layer.inputs + usize::from(layer.bias)));
    let mut index = UNIT_POS as usize;
    while index < count {
        let row = index / width;
        let column = index % width;
        let output = min(column, outputs - 1);
        let place = select(row < inputs, matrix + output * inputs + row, biases + output);
        weights[start + index] = select(column < outputs, parameters[place], f32::new(0.0));
        index += CUBE_DIM as usize;
    }
}

/// Writes the mean of the action at `observation`. `first` and `second` are work arrays of [`Network::widest`] numbers;
/// `mean` has whole [`LANES`].
#[cube]
pub(super) fn mean(
    weights: &Shared<[f32]>,
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
fn forward(weights: &Shared<[f32]>, input: &Array<f32>, output: &mut Array<f32>, #[comptime] layer: Layer) {
    let inputs = comptime!(layer.inputs);
    let width = comptime!(layer.width);
    let start = comptime!(layer.start);
    let biases = comptime!(layer.start + layer.inputs * layer.width);
    let mut sums = Array::<f32>::new(LANES);
    for block in 0..comptime!(layer.width / LANES) {
        let column = block * LANES;
        #[unroll]
        for lane in 0..LANES {
            if comptime!(layer.bias) {
                sums[lane] = weights[biases + column + lane];
            } else {
                sums[lane] = f32::new(0.0);
            }
        }
        for row in 0..inputs {
            let value = input[row];
            let place = start + row * width + column;
            #[unroll]
            for lane in 0..LANES {
                sums[lane] = fma(value, weights[place + lane], sums[lane]);
            }
        }
        #[unroll]
        for lane in 0..LANES {
            match comptime!(layer.activation) {
                Some(Nonlinearity::Tanh) => output[column + lane] = tanh(sums[lane]),
                Some(Nonlinearity::Relu) => output[column + lane] = max(sums[lane], f32::new(0.0)),
                None => output[column + lane] = sums[lane],
            }
        }
    }
}

//! Forward and backward passes over a block of steps in shared memory.
//!
//! All three matrix products run in tiles of up to [`TILE`] by [`TILE`] numbers that one unit sums in registers, in an
//! order that is fixed by the sizes alone.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use policy_nets::Activation;

use crate::numeric::tanh;
use crate::plan::{LayerPlan, NetworkPlan, TILE, UNITS};

/// Copies the weights of `layer` and all after it into shared memory, where the plan has room for them.
#[cube]
pub(crate) fn load_weights(
    parameters: &[f32],
    memory: &mut [f32],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: usize,
) {
    if comptime!(layer < plan.layers.len() && plan.layers[layer].shared_weight.is_some()) {
        let inputs = comptime!(plan.layers[layer].inputs);
        let count = comptime!(plan.layers[layer].inputs * plan.layers[layer].outputs);
        let from = comptime!(plan.layers[layer].weight);
        let to = comptime!(plan.layers[layer].shared_weight.unwrap_or(0));
        let stride = comptime!(plan.layers[layer].weight_stride);
        let mut index = UNIT_POS as usize;
        while index < count {
            memory[to + (index / inputs) * stride + index % inputs] = parameters[from + index];
            index += comptime!(UNITS);
        }
        load_weights(parameters, memory, comptime!(plan.clone()), comptime!(layer + 1));
    }
}

/// Copies the observations of `count` steps from `first_step` on into the inputs of the first layer, with zeros behind
/// them.
#[cube]
pub(crate) fn load_observations(
    observations: &[f32],
    first_step: usize,
    count: usize,
    memory: &mut [f32],
    #[comptime] plan: NetworkPlan,
) {
    let size = comptime!(plan.observation_size);
    let stride = comptime!(plan.stride);
    let input = comptime!(plan.layers[0].input);
    let numbers = comptime!(plan.observation_size * plan.rows);
    let mut index = UNIT_POS as usize;
    while index < numbers {
        let (row, feature) = (index / size, index % size);
        let mut value = f32::new(0.0);
        if row < count {
            value = observations[first_step * size + index];
        }
        memory[input + feature * stride + row] = value;
        index += comptime!(UNITS);
    }
}

/// Runs `layer` and all after it. Ends with a barrier.
#[cube]
pub(crate) fn forward(
    parameters: &[f32],
    memory: &mut [f32],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: usize,
) {
    if comptime!(layer < plan.layers.len()) {
        forward_layer(parameters, memory, comptime!(plan.clone()), comptime!(plan.layers[layer]));
        sync_cube();
        forward(parameters, memory, comptime!(plan.clone()), comptime!(layer + 1));
    }
}

#[cube]
fn weight(
    parameters: &[f32],
    memory: &mut [f32],
    output: usize,
    input: usize,
    #[comptime] layer: LayerPlan,
) -> f32 {
    let stride = comptime!(layer.weight_stride);
    if comptime!(layer.shared_weight.is_some()) {
        memory[comptime!(layer.shared_weight.unwrap_or(0)) + output * stride + input]
    } else {
        parameters[comptime!(layer.weight) + output * stride + input]
    }
}

#[cube]
fn forward_layer(
    parameters: &[f32],
    memory: &mut [f32],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let stride = comptime!(plan.stride);
    let row_groups = comptime!(plan.rows / TILE);
    let width = comptime!(layer.outputs.min(TILE));
    let groups = comptime!(layer.outputs.div_ceil(layer.outputs.min(TILE)));
    let tiles = comptime!((plan.rows / TILE) * layer.outputs.div_ceil(layer.outputs.min(TILE)));
    let (inputs, outputs) = comptime!((layer.inputs, layer.outputs));
    let (input, output) = comptime!((layer.input, layer.output));
    let mut tile = UNIT_POS as usize;
    while tile < tiles {
        let (row, column) = (tile % row_groups, tile / row_groups);
        let mut sums = Array::<f32>::new(comptime!(TILE * layer.outputs.min(TILE)));
        #[unroll]
        for c in 0..width {
            let mut start = f32::new(0.0);
            if comptime!(layer.bias.is_some()) {
                let feature = (column + c * groups).min(comptime!(layer.outputs - 1));
                start = parameters[comptime!(layer.bias.unwrap_or(0)) + feature];
            }
            #[unroll]
            for r in 0..TILE {
                sums[c * TILE + r] = start;
            }
        }
        for i in 0..inputs {
            let mut values = Array::<f32>::new(TILE);
            #[unroll]
            for r in 0..TILE {
                values[r] = memory[input + i * stride + row + r * row_groups];
            }
            #[unroll]
            for c in 0..width {
                let feature = (column + c * groups).min(comptime!(layer.outputs - 1));
                let factor = weight(parameters, memory, feature, i, layer);
                #[unroll]
                for r in 0..TILE {
                    sums[c * TILE + r] += factor * values[r];
                }
            }
        }
        #[unroll]
        for c in 0..width {
            let feature = column + c * groups;
            if feature < outputs {
                #[unroll]
                for r in 0..TILE {
                    let value = nonlinearity(sums[c * TILE + r], comptime!(plan.activation), layer);
                    memory[output + feature * stride + row + r * row_groups] = value;
                }
            }
        }
        tile += comptime!(UNITS);
    }
}

#[cube]
fn nonlinearity(sum: f32, #[comptime] activation: Activation, #[comptime] layer: LayerPlan) -> f32 {
    if comptime!(!layer.hidden) {
        sum
    } else if comptime!(activation == Activation::Tanh) {
        tanh(sum)
    } else {
        // Not `max`, which may drop a NaN.
        select(sum < 0.0_f32, 0.0_f32, sum)
    }
}

/// Adds the gradient of the parameters of the first `layers` layers to `gradient` from `to` on, given the gradient with
/// respect to the outputs of the last of them in their place. With `first`, what was in `gradient` is replaced.
///
/// The activations before these layers are overwritten. Begins and ends with all units past a barrier.
#[cube]
pub(crate) fn backward(
    parameters: &[f32],
    memory: &mut [f32],
    gradient: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
    #[comptime] layers: usize,
) {
    if comptime!(layers > 0) {
        let layer = comptime!(plan.layers[layers - 1]);
        accumulate_weight(memory, gradient, to, first, comptime!(plan.clone()), layer);
        if comptime!(layer.bias.is_some()) {
            accumulate_bias(memory, gradient, to, first, comptime!(plan.clone()), layer);
        }
        sync_cube();
        if comptime!(layers > 1) {
            backward_layer(parameters, memory, comptime!(plan.clone()), layer);
            sync_cube();
            backward(parameters, memory, gradient, to, first, comptime!(plan.clone()), comptime!(layers - 1));
        }
    }
}

#[cube]
fn accumulate_weight(
    memory: &mut [f32],
    gradient: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let (stride, rows) = comptime!((plan.stride, plan.rows));
    let (inputs, outputs) = comptime!((layer.inputs, layer.outputs));
    let (input, output) = comptime!((layer.input, layer.output));
    let (wide, high) = comptime!((layer.inputs.min(TILE), layer.outputs.min(TILE)));
    let wide_groups = comptime!(layer.inputs.div_ceil(layer.inputs.min(TILE)));
    let high_groups = comptime!(layer.outputs.div_ceil(layer.outputs.min(TILE)));
    let tiles = comptime!(
        layer.inputs.div_ceil(layer.inputs.min(TILE)) * layer.outputs.div_ceil(layer.outputs.min(TILE))
    );
    let mut tile = UNIT_POS as usize;
    while tile < tiles {
        let (column, line) = (tile % wide_groups, tile / wide_groups);
        let mut sums = Array::<f32>::new(comptime!(layer.inputs.min(TILE) * layer.outputs.min(TILE)));
        #[unroll]
        for index in 0..comptime!(layer.inputs.min(TILE) * layer.outputs.min(TILE)) {
            sums[index] = f32::new(0.0);
        }
        for row in 0..rows {
            let mut values = Array::<f32>::new(comptime!(layer.inputs.min(TILE)));
            #[unroll]
            for i in 0..wide {
                let feature = (column + i * wide_groups).min(comptime!(layer.inputs - 1));
                values[i] = memory[input + feature * stride + row];
            }
            #[unroll]
            for o in 0..high {
                let feature = (line + o * high_groups).min(comptime!(layer.outputs - 1));
                let delta = memory[output + feature * stride + row];
                #[unroll]
                for i in 0..wide {
                    sums[o * wide + i] += delta * values[i];
                }
            }
        }
        #[unroll]
        for o in 0..high {
            #[unroll]
            for i in 0..wide {
                let (from, into) = (column + i * wide_groups, line + o * high_groups);
                if from < inputs && into < outputs {
                    let place = to + comptime!(layer.weight) + into * inputs + from;
                    add(gradient, place, sums[o * wide + i], first);
                }
            }
        }
        tile += comptime!(UNITS);
    }
}

#[cube]
fn accumulate_bias(
    memory: &mut [f32],
    gradient: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let (stride, rows) = comptime!((plan.stride, plan.rows));
    let output = comptime!(layer.output);
    let outputs = comptime!(layer.outputs);
    let mut feature = UNIT_POS as usize;
    while feature < outputs {
        let mut sum = f32::new(0.0);
        for row in 0..rows {
            sum += memory[output + feature * stride + row];
        }
        add(gradient, to + comptime!(layer.bias.unwrap_or(0)) + feature, sum, first);
        feature += comptime!(UNITS);
    }
}

/// Adds `value` to `numbers[place]`, or replaces it.
#[cube]
pub(crate) fn add(numbers: &mut [f32], place: usize, value: f32, replace: bool) {
    let mut before = f32::new(0.0);
    if !replace {
        before = numbers[place];
    }
    numbers[place] = before + value;
}

/// Replaces the inputs of `layer`, outputs of a hidden layer, by the gradient with respect to the sums behind them.
#[cube]
fn backward_layer(
    parameters: &[f32],
    memory: &mut [f32],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let stride = comptime!(plan.stride);
    let row_groups = comptime!(plan.rows / TILE);
    let width = comptime!(layer.inputs.min(TILE));
    let groups = comptime!(layer.inputs.div_ceil(layer.inputs.min(TILE)));
    let tiles = comptime!((plan.rows / TILE) * layer.inputs.div_ceil(layer.inputs.min(TILE)));
    let (inputs, outputs) = comptime!((layer.inputs, layer.outputs));
    let (input, output) = comptime!((layer.input, layer.output));
    let mut tile = UNIT_POS as usize;
    while tile < tiles {
        let (row, column) = (tile % row_groups, tile / row_groups);
        let mut sums = Array::<f32>::new(comptime!(TILE * layer.inputs.min(TILE)));
        #[unroll]
        for index in 0..comptime!(TILE * layer.inputs.min(TILE)) {
            sums[index] = f32::new(0.0);
        }
        for o in 0..outputs {
            let mut deltas = Array::<f32>::new(TILE);
            #[unroll]
            for r in 0..TILE {
                deltas[r] = memory[output + o * stride + row + r * row_groups];
            }
            #[unroll]
            for c in 0..width {
                let feature = (column + c * groups).min(comptime!(layer.inputs - 1));
                let factor = weight(parameters, memory, o, feature, layer);
                #[unroll]
                for r in 0..TILE {
                    sums[c * TILE + r] += factor * deltas[r];
                }
            }
        }
        #[unroll]
        for c in 0..width {
            let feature = column + c * groups;
            if feature < inputs {
                #[unroll]
                for r in 0..TILE {
                    let place = input + feature * stride + row + r * row_groups;
                    let slope = derivative(memory[place], comptime!(plan.activation));
                    memory[place] = slope * sums[c * TILE + r];
                }
            }
        }
        tile += comptime!(UNITS);
    }
}

/// Derivative of the nonlinearity, from its value.
#[cube]
fn derivative(value: f32, #[comptime] activation: Activation) -> f32 {
    if comptime!(activation == Activation::Tanh) {
        1.0_f32 - value * value
    } else {
        select(value > 0.0_f32, 1.0_f32, 0.0_f32)
    }
}

//! Forward and backward passes over a block of steps in shared memory.
//!
//! All three matrix products run in tiles that one unit sums in registers, four rows of a feature to a vector, in an order
//! that is fixed by the sizes alone.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use policy_nets::Activation;

use crate::layer_plan::{LayerPlan, Product};
use crate::loading::factors;
use crate::numeric::{relu, tanh};
use crate::plan::{FOUR, NetworkPlan};

/// Four rows of a feature, or four weights.
pub(crate) type Four = Vector<f32, Const<FOUR>>;

/// Runs `layer` and all after it. Ends with a barrier.
#[cube]
pub(crate) fn forward(
    parameters: &[f32],
    weights: &[Four],
    activations: &mut [Four],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: usize,
) {
    if comptime!(layer < plan.layers.len()) {
        let layer_plan = comptime!(plan.layers[layer]);
        forward_layer(parameters, weights, activations, comptime!(plan.clone()), layer_plan);
        sync_cube();
        forward(parameters, weights, activations, comptime!(plan.clone()), comptime!(layer + 1));
    }
}

#[cube]
fn forward_layer(
    parameters: &[f32],
    weights: &[Four],
    activations: &mut [Four],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let (stride, groups) = comptime!((plan.stride, plan.groups()));
    let product = comptime!(layer.forward);
    let mut tile = UNIT_POS as usize;
    while tile < comptime!(product.tiles(plan.groups())) {
        let (group, first) = (tile % groups, tile / groups * comptime!(product.features()));
        let mut sums = Array::<Four>::new(comptime!(product.features()));
        #[unroll]
        for c in 0..comptime!(product.features()) {
            let mut start = f32::new(0.0);
            if comptime!(layer.bias.is_some()) {
                let feature = (first + c).min(comptime!(layer.outputs - 1));
                start = parameters[comptime!(layer.bias.unwrap_or(0)) + feature];
            }
            sums[c] = Four::new(start);
        }
        let values = comptime!(layer.input) + group;
        multiply(parameters, weights, activations, &mut sums, values, first, stride, product);
        #[unroll]
        for c in 0..comptime!(product.features()) {
            let feature = first + c;
            if feature < comptime!(layer.outputs) {
                let place = comptime!(layer.output) + feature * stride + group;
                activations[place] = nonlinearity(sums[c], comptime!(plan.activation), layer);
            }
        }
        tile += comptime!(plan.units);
    }
}

/// Adds the products of four rows of features, which begin at `values` and stand `stride` vectors apart, with their weights for
/// the features from `first` on.
#[cube]
fn multiply(
    parameters: &[f32],
    weights: &[Four],
    activations: &mut [Four],
    sums: &mut Array<Four>,
    values: usize,
    first: usize,
    #[comptime] stride: usize,
    #[comptime] product: Product,
) {
    if comptime!(product.narrow) {
        let line = comptime!(product.shared.unwrap_or(0)) + first * comptime!(product.across());
        for column in 0..comptime!(product.across()) {
            let factors = weights[line + column];
            #[unroll]
            for k in 0..FOUR {
                // Behind the last feature, its values once more, with weights of zero.
                let from = (column * FOUR + k).min(comptime!(product.from - 1));
                sums[0] += Four::new(factors.extract(k)) * activations[values + from * stride];
            }
        }
    } else {
        for from in 0..comptime!(product.from) {
            let four = activations[values + from * stride];
            #[unroll]
            for q in 0..comptime!(product.columns) {
                let column = (first / FOUR + q).min(comptime!(product.vectors() - 1));
                let factors = if comptime!(product.shared.is_some()) {
                    weights
                        [comptime!(product.shared.unwrap_or(0)) + from * comptime!(product.across()) + column]
                } else {
                    factors(parameters, from, column, product)
                };
                #[unroll]
                for k in 0..FOUR {
                    sums[comptime!(FOUR * q + k)] += Four::new(factors.extract(k)) * four;
                }
            }
        }
    }
}

#[cube]
fn nonlinearity(sums: Four, #[comptime] activation: Activation, #[comptime] layer: LayerPlan) -> Four {
    let mut values = sums;
    if comptime!(layer.hidden) {
        #[unroll]
        for k in 0..FOUR {
            let sum = sums.extract(k);
            if comptime!(activation == Activation::Tanh) {
                values.insert(k, tanh(sum));
            } else {
                values.insert(k, relu(sum));
            }
        }
    }
    values
}

/// Adds the gradients of a block with respect to the parameters of the first `layers` layers, given the gradient with respect
/// to the outputs of the last of them in their place: those of kept layers to `kept`, the others to `gradient` from `to` on.
/// With `first`, what was in `gradient` is replaced.
///
/// The activations before these layers are overwritten. Begins and ends with all units past a barrier.
#[cube]
pub(crate) fn backward(
    parameters: &[f32],
    weights: &[Four],
    activations: &mut [Four],
    kept: &mut Array<f32>,
    gradient: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
    #[comptime] layers: usize,
) {
    if comptime!(layers > 0) {
        let layer = comptime!(plan.layers[layers - 1]);
        accumulate_weight(activations, kept, gradient, to, first, comptime!(plan.clone()), layer);
        if comptime!(layer.bias.is_some()) {
            let places = comptime!((layer.output, layer.bias.unwrap_or(0), layer.outputs));
            accumulate_rows(activations, gradient, to, first, comptime!(plan.clone()), places);
        }
        sync_cube();
        if comptime!(layers > 1) {
            backward_layer(parameters, weights, activations, comptime!(plan.clone()), layer);
            sync_cube();
            backward(
                parameters,
                weights,
                activations,
                kept,
                gradient,
                to,
                first,
                comptime!(plan.clone()),
                comptime!(layers - 1),
            );
        }
    }
}

#[cube]
fn accumulate_weight(
    activations: &mut [Four],
    kept: &mut Array<f32>,
    gradient: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let [across, down, wide, high] = comptime!(layer.gradient_tiles());
    let tiles = comptime!(across * down);
    let unit = UNIT_POS as usize;
    if comptime!(layer.kept.is_some()) {
        if unit < comptime!(across * down * layer.parts) {
            let mut sums = Array::<f32>::new(comptime!(FOUR * FOUR));
            sum_tile(activations, &mut sums, unit % tiles, unit / tiles, comptime!(plan.clone()), layer);
            let place = comptime!(FOUR * FOUR * layer.kept.unwrap_or(0));
            #[unroll]
            for index in 0..comptime!(wide * high) {
                kept[place + index] += sums[index];
            }
        }
    } else {
        let mut tile = unit;
        while tile < tiles {
            let mut sums = Array::<f32>::new(comptime!(FOUR * FOUR));
            sum_tile(activations, &mut sums, tile, 0_usize.runtime(), comptime!(plan.clone()), layer);
            #[unroll]
            for o in 0..high {
                #[unroll]
                for i in 0..wide {
                    let (from, into) = (tile % across + i * across, tile / across + o * down);
                    if from < comptime!(layer.inputs) && into < comptime!(layer.outputs) {
                        let place = to + comptime!(layer.weight) + into * comptime!(layer.inputs) + from;
                        add(gradient, place, sums[o * wide + i], first);
                    }
                }
            }
            tile += comptime!(plan.units);
        }
    }
}

/// One tile of a layer's weight gradient, summed over the groups of rows of one part.
#[cube]
fn sum_tile(
    activations: &mut [Four],
    sums: &mut Array<f32>,
    tile: usize,
    part: usize,
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let [across, down, wide, high] = comptime!(layer.gradient_tiles());
    let (stride, groups) = comptime!((plan.stride, plan.groups()));
    let (column, line) = (tile % across, tile / across);
    #[unroll]
    for index in 0..comptime!(wide * high) {
        sums[index] = f32::new(0.0);
    }
    let mut group = part;
    while group < groups {
        let mut values = Array::<Four>::new(FOUR);
        #[unroll]
        for i in 0..wide {
            let feature = (column + i * across).min(comptime!(layer.inputs - 1));
            values[i] = activations[comptime!(layer.input) + feature * stride + group];
        }
        #[unroll]
        for o in 0..high {
            let feature = (line + o * down).min(comptime!(layer.outputs - 1));
            let delta = activations[comptime!(layer.output) + feature * stride + group];
            #[unroll]
            for i in 0..wide {
                let value = values[i];
                let mut sum = sums[o * wide + i];
                #[unroll]
                for k in 0..FOUR {
                    sum += delta.extract(k) * value.extract(k);
                }
                sums[o * wide + i] = sum;
            }
        }
        group += comptime!(layer.parts);
    }
}

/// Adds the parts of the kept tiles of `layer` and all after it up, and writes them to `gradient` from `to` on. Begins with all
/// units past a barrier.
#[cube]
pub(crate) fn write_kept(
    kept: &Array<f32>,
    activations: &mut [Four],
    gradient: &mut [f32],
    to: usize,
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: usize,
) {
    if comptime!(layer < plan.layers.len()) {
        if comptime!(plan.layers[layer].kept.is_some()) {
            write_layer(
                kept,
                activations,
                gradient,
                to,
                comptime!(plan.clone()),
                comptime!(plan.layers[layer]),
            );
            sync_cube();
        }
        write_kept(kept, activations, gradient, to, comptime!(plan.clone()), comptime!(layer + 1));
    }
}

#[cube]
fn write_layer(
    kept: &Array<f32>,
    exchange: &mut [Four],
    gradient: &mut [f32],
    to: usize,
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let [across, down, wide, high] = comptime!(layer.gradient_tiles());
    let tiles = comptime!(across * down);
    let unit = UNIT_POS as usize;
    #[unroll]
    for o in 0..high {
        let mut four = Four::new(0.0);
        #[unroll]
        for i in 0..wide {
            four.insert(i, kept[comptime!(FOUR * FOUR * layer.kept.unwrap_or(0) + o * wide + i)]);
        }
        exchange[comptime!(o * plan.units) + unit] = four;
    }
    sync_cube();
    if unit < tiles {
        #[unroll]
        for o in 0..high {
            let mut sum = exchange[comptime!(o * plan.units) + unit];
            for part in 1..comptime!(layer.parts) {
                sum += exchange[comptime!(o * plan.units) + part * tiles + unit];
            }
            #[unroll]
            for i in 0..wide {
                let (from, into) = (unit % across + i * across, unit / across + o * down);
                if from < comptime!(layer.inputs) && into < comptime!(layer.outputs) {
                    gradient[to + comptime!(layer.weight) + into * comptime!(layer.inputs) + from] =
                        sum.extract(i);
                }
            }
        }
    }
}

/// Adds the sums over all rows of some features to `gradient` from `to` on. `places` are where the features begin among the
/// activations, where their sums begin, and how many they are.
#[cube]
pub(crate) fn accumulate_rows(
    activations: &mut [Four],
    gradient: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
    #[comptime] places: (usize, usize, usize),
) {
    let (stride, groups) = comptime!((plan.stride, plan.groups()));
    let (from, into, count) = comptime!(places);
    let mut feature = UNIT_POS as usize;
    while feature < count {
        let mut four = Four::new(0.0);
        for group in 0..groups {
            four += activations[from + feature * stride + group];
        }
        let mut sum = f32::new(0.0);
        #[unroll]
        for k in 0..FOUR {
            sum += four.extract(k);
        }
        add(gradient, to + into + feature, sum, first);
        feature += comptime!(plan.units);
    }
}

/// Adds `value` to `numbers[place]`, or replaces it.
#[cube]
fn add(numbers: &mut [f32], place: usize, value: f32, replace: bool) {
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
    weights: &[Four],
    activations: &mut [Four],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: LayerPlan,
) {
    let (stride, groups) = comptime!((plan.stride, plan.groups()));
    let product = comptime!(layer.backward);
    let mut tile = UNIT_POS as usize;
    while tile < comptime!(product.tiles(plan.groups())) {
        let (group, first) = (tile % groups, tile / groups * comptime!(product.features()));
        let mut sums = Array::<Four>::new(comptime!(product.features()));
        #[unroll]
        for c in 0..comptime!(product.features()) {
            sums[c] = Four::new(0.0);
        }
        let deltas = comptime!(layer.output) + group;
        multiply(parameters, weights, activations, &mut sums, deltas, first, stride, product);
        #[unroll]
        for c in 0..comptime!(product.features()) {
            let feature = first + c;
            if feature < comptime!(layer.inputs) {
                let place = comptime!(layer.input) + feature * stride + group;
                let slopes = derivative(activations[place], comptime!(plan.activation));
                activations[place] = slopes * sums[c];
            }
        }
        tile += comptime!(plan.units);
    }
}

/// Derivative of the nonlinearity, from its values.
#[cube]
fn derivative(values: Four, #[comptime] activation: Activation) -> Four {
    if comptime!(activation == Activation::Tanh) {
        Four::new(1.0) - values * values
    } else {
        let mut slopes = Four::new(0.0);
        #[unroll]
        for k in 0..FOUR {
            slopes.insert(k, select(values.extract(k) > 0.0_f32, 1.0_f32, 0.0_f32));
        }
        slopes
    }
}

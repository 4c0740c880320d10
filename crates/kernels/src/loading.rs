//! Weights and observations on their way into shared memory.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::layer_plan::Product;
use crate::network::Four;
use crate::plan::{FOUR, NetworkPlan};

/// Vectors that a unit reads in code of their own.
const MOST_UNROLLED: usize = 8;

/// Copies the weights of `layer` and all after it into shared memory, where the plan has room for them.
#[cube]
pub(crate) fn load_weights(
    parameters: &[f32],
    weights: &mut [Four],
    #[comptime] plan: NetworkPlan,
    #[comptime] layer: usize,
) {
    if comptime!(layer < plan.layers.len()) {
        load_product(parameters, weights, comptime!(plan.units), comptime!(plan.layers[layer].forward));
        load_product(parameters, weights, comptime!(plan.units), comptime!(plan.layers[layer].backward));
        load_weights(parameters, weights, comptime!(plan.clone()), comptime!(layer + 1));
    }
}

#[cube]
fn load_product(
    parameters: &[f32],
    weights: &mut [Four],
    #[comptime] units: usize,
    #[comptime] product: Product,
) {
    if comptime!(product.shared.is_some()) {
        let across = comptime!(product.across());
        let mut index = UNIT_POS as usize;
        while index < comptime!(product.size()) {
            let (line, column) = (index / across, index % across);
            let four = if comptime!(product.narrow) {
                summands(parameters, column, line, product)
            } else {
                factors(parameters, line, column, product)
            };
            weights[comptime!(product.shared.unwrap_or(0)) + index] = four;
            index += units;
        }
    }
}

/// The weights of the four features of vector `column`, which are summed over, for feature `to`; zeros behind the last one.
#[cube]
fn summands(parameters: &[f32], column: usize, to: usize, #[comptime] product: Product) -> Four {
    let from = column * FOUR;
    let place = product_place(from, to, product);
    four_of(parameters, place, comptime!(product.from) - from, comptime!(product.from_stride))
}

/// The weights of feature `from` for those of vector `column`; zeros behind the last one.
#[cube]
pub(crate) fn factors(parameters: &[f32], from: usize, column: usize, #[comptime] product: Product) -> Four {
    let to = column * FOUR;
    let place = product_place(from, to, product);
    four_of(parameters, place, comptime!(product.to) - to, comptime!(product.to_stride))
}

/// Place of the weight of feature `from` for feature `to`.
#[cube]
fn product_place(from: usize, to: usize, #[comptime] product: Product) -> usize {
    comptime!(product.weight) + from * comptime!(product.from_stride) + to * comptime!(product.to_stride)
}

/// The numbers that stand `stride` apart from `place` on, as far as there are `count`, and zeros behind them.
#[cube]
fn four_of(parameters: &[f32], place: usize, count: usize, #[comptime] stride: usize) -> Four {
    let mut four = Four::new(0.0);
    #[unroll]
    for k in 0..FOUR {
        if k < count {
            four.insert(k, parameters[place + comptime!(k * stride)]);
        }
    }
    four
}

/// Copies the observations of a block's steps, `first_step` and those after it, into the inputs of the first layer; zeros for
/// rows that are not kept.
#[cube]
pub(crate) fn load_observations(
    observations: &[f32],
    first_step: usize,
    count: usize,
    numbers: &[f32],
    activations: &mut [Four],
    #[comptime] plan: NetworkPlan,
) {
    let (size, stride) = comptime!((plan.observation_size, plan.stride));
    let input = comptime!(plan.layers[0].input);
    let vectors = comptime!(plan.observation_size * plan.groups());
    let rounds = comptime!(vectors.div_ceil(plan.units));
    // A compiler that unrolls by itself takes some forty registers more.
    #[unroll(rounds <= MOST_UNROLLED)]
    for round in 0..rounds {
        let index = round * comptime!(plan.units) + UNIT_POS as usize;
        if index < vectors {
            let (group, feature) = (index / size, index % size);
            let mut four = Four::new(0.0);
            #[unroll]
            for k in 0..FOUR {
                let row = group * FOUR + k;
                if is_kept(numbers, row, count, comptime!(plan.row_flags())) {
                    four.insert(k, observations[(first_step + row) * size + feature]);
                }
            }
            activations[input + feature * stride + group] = four;
        }
    }
}

/// Whether `row` is kept: by its flag, or as one of the first `count`.
#[cube]
pub(crate) fn is_kept(numbers: &[f32], row: usize, count: usize, #[comptime] flags: Option<usize>) -> bool {
    if comptime!(flags.is_some()) {
        numbers[comptime!(flags.unwrap_or(0)) + row] > 0.0_f32
    } else {
        row < count
    }
}

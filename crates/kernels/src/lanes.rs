//! Sums and maxima over the units of a cube, or over those that share a batch of trajectories.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// The sum over the units that share a batch, in all of them. Has barriers.
#[cube]
pub(crate) fn lane_sum(memory: &mut [f32], value: f32, lane: usize, #[comptime] lanes: usize) -> f32 {
    reduce(memory, value, lane, lanes, false)
}

/// The largest over the units that share a batch, in all of them. Has barriers.
#[cube]
pub(crate) fn lane_max(memory: &mut [f32], value: f32, lane: usize, #[comptime] lanes: usize) -> f32 {
    reduce(memory, value, lane, lanes, true)
}

#[cube]
fn reduce(
    memory: &mut [f32],
    value: f32,
    lane: usize,
    #[comptime] lanes: usize,
    #[comptime] largest: bool,
) -> f32 {
    let unit = UNIT_POS as usize;
    memory[unit] = value;
    sync_cube();
    let mut half = comptime!(lanes / 2).runtime();
    while half > 0 {
        if lane < half {
            let (left, right) = (memory[unit], memory[unit + half]);
            memory[unit] = if comptime!(largest) { left.max(right) } else { left + right };
        }
        sync_cube();
        half /= 2;
    }
    let result = memory[unit - lane];
    sync_cube();
    result
}

#[cube]
pub(crate) fn cube_sum(memory: &mut [f32], value: f32, #[comptime] units: usize) -> f32 {
    lane_sum(memory, value, UNIT_POS as usize, units)
}

#[cube]
pub(crate) fn cube_max(memory: &mut [f32], value: f32, #[comptime] units: usize) -> f32 {
    lane_max(memory, value, UNIT_POS as usize, units)
}

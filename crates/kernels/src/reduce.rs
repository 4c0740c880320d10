//! Sum of the partial gradients, and the optimiser's step with it.
//!
//! The sum runs over the rows in an order that their number and the size of the device's cubes decide, with the rounding errors carried along. Rows of
//! single trajectories are multiplied with their weights on the way; one of weight 0 is left out.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::device::{Buffer, KernelDevice, length};
use crate::gradient::{PartialGradients, row_length};
use crate::numeric::lost;

/// Units of a cube, as many as WebGPU guarantees.
pub(crate) const UNITS: usize = 256;
/// Parameters that a cube sums, one for each unit of a line: few, so that many cubes share the rows.
const COLUMNS: usize = 8;
/// Rows that a unit reads before it adds the first of them.
const AHEAD: usize = 8;
/// Lines of units whose sums a line adds up before lines wait for each other.
const TOGETHER: usize = 8;
/// Units of a cube that sums many rows, where the device runs so many.
const MANY_UNITS: usize = 1024;
/// How many rows are many.
const MANY: usize = 1024;

/// How parameters follow from a gradient; ascending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepRule {
    /// `theta + rate g`.
    Constant {
        /// Step size.
        rate: f32,
    },
    /// Adam with `m = beta_1 m + (1 - beta_1) g`, `v = beta_2 v + (1 - beta_2) g^2` and
    /// `theta + rate m / (sqrt(v / square_correction) + epsilon)`.
    Adam {
        /// Learning rate over the correction of the first moment.
        rate: f32,
        /// Decay of the first moment.
        beta_1: f32,
        /// `1 - beta_1`, formed in double precision.
        complement_1: f32,
        /// Decay of the second moment.
        beta_2: f32,
        /// `1 - beta_2`, formed in double precision.
        complement_2: f32,
        /// Correction of the second moment, `1 - beta_2^t`.
        square_correction: f32,
        /// What keeps the denominator from 0.
        epsilon: f32,
    },
}

/// Bounds that parameters from `first` on are projected onto.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    /// First parameter with bounds; the number of parameters when none has.
    pub first: usize,
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
}

/// What a step leaves.
#[derive(Clone, Debug)]
pub struct Stepped {
    /// The gradient, `[P]`.
    pub gradient: Buffer,
    /// Parameters after the step, `[P]`.
    pub parameters: Buffer,
    /// Adam's moments after the step, `[P]` each; rubbish after a constant step.
    pub moments: [Buffer; 2],
}

/// Squares of the gradient that [`step`] packs, one for every eight parameters.
pub fn square_count(parameters: usize) -> usize {
    parameters.div_ceil(COLUMNS)
}

impl PartialGradients {
    /// Rows of a trajectory.
    fn parts(&self) -> usize {
        self.of_trajectory.unwrap_or(1).max(1)
    }

    /// Units of the cubes that sum the rows.
    fn units(&self, device: &KernelDevice) -> usize {
        if self.rows >= MANY && device.limits().units >= MANY_UNITS { MANY_UNITS } else { UNITS }
    }

    /// Checks that all rows are there, and a weight for every trajectory whose rows need one.
    fn check(&self, weights: &Buffer) {
        assert!(length(&self.values) >= self.rows * row_length(self.parameters), "rows of partial gradients");
        let trajectories = self.of_trajectory.map_or(0, |_| self.rows.div_ceil(self.parts()));
        assert!(length(weights) >= trajectories, "a weight for every trajectory");
    }
}

/// The sum of the partial gradients, `[P]`, those of single trajectories times their `weights` `[window, batch]`. One launch.
///
/// # Panics
/// When a buffer is too small.
pub fn sum(partial: &PartialGradients, weights: &Buffer, device: &KernelDevice) -> Buffer {
    partial.check(weights);
    let gradient = device.empty(partial.parameters);
    let units = partial.units(device);
    // SAFETY: no index leaves its buffer: units with a column below the number of parameters read and write that column alone,
    // rows below the number of rows, and their trajectories' weights.
    unsafe {
        sum_kernel::launch_unchecked(
            device.client(),
            CubeCount::Static(device.cubes(square_count(partial.parameters)), 1, 1),
            CubeDim::new_1d(units as u32),
            partial.values.clone().into_buffer_arg(),
            weights.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            partial.rows as u32,
            partial.parameters as u32,
            row_length(partial.parameters) as u32,
            partial.parts() as u32,
            units,
            partial.of_trajectory.is_some(),
        );
    }
    gradient
}

/// What [`sum`] gives, and a step along it. Writes the [`square_count`] partial sums of the squared
/// gradient into `packed` from `to` on, and the new parameters behind them. One launch.
///
/// `moments` are Adam's, `[P]` each; a constant step reads none and takes any buffer.
///
/// # Panics
/// When a buffer is too small.
pub fn step(
    (partial, weights): (&PartialGradients, &Buffer),
    parameters: &Buffer,
    moments: [&Buffer; 2],
    rule: StepRule,
    projection: Projection,
    (packed, to): (&Buffer, usize),
    device: &KernelDevice,
) -> Stepped {
    let count = partial.parameters;
    partial.check(weights);
    assert!(length(parameters) >= count, "parameters of the network");
    assert!(length(packed) >= to + square_count(count) + count, "room for squares and parameters");
    let stepped = Stepped {
        gradient: device.empty(count),
        parameters: device.empty(count),
        moments: [device.empty(count), device.empty(count)],
    };
    let (adam, numbers) = match rule {
        StepRule::Constant { rate } => (false, [rate, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        StepRule::Adam { rate, beta_1, complement_1, beta_2, complement_2, square_correction, epsilon } => {
            (true, [rate, beta_1, complement_1, beta_2, complement_2, square_correction, epsilon])
        }
    };
    let units = partial.units(device);
    assert!(!adam || moments.iter().all(|moment| length(moment) >= count), "moments of every parameter");
    let [rate, beta_1, complement_1, beta_2, complement_2, square_correction, epsilon] = numbers;
    // SAFETY: no index leaves its buffer: units with a column below the number of parameters read and write that column alone,
    // rows below the number of rows, their trajectories' weights, and `packed` from `to` on, where its caller made room.
    unsafe {
        step_kernel::launch_unchecked(
            device.client(),
            CubeCount::Static(device.cubes(square_count(count)), 1, 1),
            CubeDim::new_1d(units as u32),
            partial.values.clone().into_buffer_arg(),
            weights.clone().into_buffer_arg(),
            parameters.clone().into_buffer_arg(),
            moments[0].clone().into_buffer_arg(),
            moments[1].clone().into_buffer_arg(),
            stepped.gradient.clone().into_buffer_arg(),
            stepped.parameters.clone().into_buffer_arg(),
            stepped.moments[0].clone().into_buffer_arg(),
            stepped.moments[1].clone().into_buffer_arg(),
            packed.clone().into_buffer_arg(),
            partial.rows as u32,
            count as u32,
            row_length(count) as u32,
            partial.parts() as u32,
            to as u32,
            rate,
            beta_1,
            complement_1,
            beta_2,
            complement_2,
            square_correction,
            epsilon,
            projection.first as u32,
            projection.min,
            projection.max,
            adam,
            units,
            partial.of_trajectory.is_some(),
        );
    }
    stepped
}

/// The sum of one column, in the units of the first line; the others get a part of it. Has barriers, and ends with one: every unit
/// calls it.
#[cube]
fn column_sum(
    partial: &[f32],
    weights: &[f32],
    memory: &mut [f32],
    column: usize,
    rows: usize,
    count: usize,
    row_length: usize,
    parts: usize,
    #[comptime] units: usize,
    #[comptime] weighted: bool,
) -> f32 {
    let lines = comptime!(units / COLUMNS);
    let unit = UNIT_POS as usize;
    let line = unit / comptime!(COLUMNS);
    let mut sum = f32::new(0.0);
    let mut rest = f32::new(0.0);
    if column < count {
        let mut row = line;
        while row < rows {
            let mut terms = Array::<f32>::new(AHEAD);
            #[unroll]
            for k in 0..AHEAD {
                let at = row + comptime!(k * lines);
                let inside = at.min(rows - 1);
                let mut term = partial[inside * row_length + column];
                if comptime!(weighted) {
                    let weight = weights[inside / parts];
                    term = select(weight == 0.0_f32, 0.0_f32, weight * term);
                }
                terms[k] = select(at < rows, term, 0.0_f32);
            }
            #[unroll]
            for k in 0..AHEAD {
                let next = sum + terms[k];
                rest += lost(sum, terms[k], next);
                sum = next;
            }
            row += comptime!(AHEAD * lines);
        }
    }
    memory[unit] = sum;
    memory[units + unit] = rest;
    sync_cube();
    let mut left = comptime!(lines).runtime();
    while left > 1 {
        let adding = (left / TOGETHER).max(1);
        if line < adding {
            let mut other = line + adding;
            while other < left {
                let place = other * COLUMNS + unit % COLUMNS;
                let term = memory[place];
                let next = sum + term;
                rest += lost(sum, term, next) + memory[units + place];
                sum = next;
                other += adding;
            }
            memory[unit] = sum;
            memory[units + unit] = rest;
        }
        sync_cube();
        left = adding;
    }
    sum + rest
}

#[cube(launch_unchecked)]
fn sum_kernel(
    partial: &[f32],
    weights: &[f32],
    gradient: &mut [f32],
    rows: u32,
    count: u32,
    row_length: u32,
    parts: u32,
    #[comptime] units: usize,
    #[comptime] weighted: bool,
) {
    let mut memory = Shared::<[f32]>::new_slice(comptime!(2 * units));
    let unit = UNIT_POS as usize;
    let mut cube = CUBE_POS;
    while cube * comptime!(COLUMNS) < count as usize {
        let column = cube * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
        let (rows, count) = (rows as usize, count as usize);
        let (row_length, parts) = (row_length as usize, parts as usize);
        let total = column_sum(
            partial,
            weights,
            &mut memory,
            column,
            rows,
            count,
            row_length,
            parts,
            units,
            weighted,
        );
        if unit < comptime!(COLUMNS) && column < count {
            gradient[column] = total;
        }
        cube += CUBE_COUNT;
    }
}

#[cube(launch_unchecked)]
fn step_kernel(
    partial: &[f32],
    weights: &[f32],
    parameters: &[f32],
    mean: &[f32],
    square: &[f32],
    gradient: &mut [f32],
    to_parameters: &mut [f32],
    to_mean: &mut [f32],
    to_square: &mut [f32],
    packed: &mut [f32],
    rows: u32,
    count: u32,
    row_length: u32,
    parts: u32,
    to: u32,
    rate: f32,
    beta_1: f32,
    complement_1: f32,
    beta_2: f32,
    complement_2: f32,
    square_correction: f32,
    epsilon: f32,
    first_bounded: u32,
    min: f32,
    max: f32,
    #[comptime] adam: bool,
    #[comptime] units: usize,
    #[comptime] weighted: bool,
) {
    let mut memory = Shared::<[f32]>::new_slice(comptime!(2 * units));
    let unit = UNIT_POS as usize;
    let (count, to) = (count as usize, to as usize);
    let cubes = count.div_ceil(comptime!(COLUMNS));
    let mut cube = CUBE_POS;
    while cube < cubes {
        let column = cube * comptime!(COLUMNS) + unit % comptime!(COLUMNS);
        let (rows, row_length, parts) = (rows as usize, row_length as usize, parts as usize);
        let total = column_sum(
            partial,
            weights,
            &mut memory,
            column,
            rows,
            count,
            row_length,
            parts,
            units,
            weighted,
        );
        if unit < comptime!(COLUMNS) {
            let mut squared = f32::new(0.0);
            if column < count {
                squared = total * total;
                gradient[column] = total;
                let mut value = parameters[column];
                if comptime!(adam) {
                    let next_mean = mean[column] * beta_1 + total * complement_1;
                    let next_square = square[column] * beta_2 + squared * complement_2;
                    to_mean[column] = next_mean;
                    to_square[column] = next_square;
                    value += next_mean / ((next_square / square_correction).sqrt() + epsilon) * rate;
                } else {
                    value += total * rate;
                }
                if column >= first_bounded as usize {
                    // Selections keep a NaN.
                    value = select(value > max, max, value);
                    value = select(value < min, min, value);
                }
                to_parameters[column] = value;
                packed[to + cubes + column] = value;
            }
            memory[unit] = squared;
        }
        sync_cube();
        if unit == 0 {
            let mut sum = f32::new(0.0);
            for index in 0..comptime!(COLUMNS) {
                sum += memory[index];
            }
            packed[to + cube] = sum;
        }
        sync_cube();
        cube += CUBE_COUNT;
    }
}

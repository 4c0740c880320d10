//! Gradient of the surrogate `sum_ij w_ij sum_t G_ijt ln pi(a_ijt | s_ijt)`: forward and backward over blocks of steps.
//!
//! Every cube adds the gradients of its blocks into a row of its own, in the order of the blocks, which the sizes alone
//! decide; [`crate::reduce`] adds the rows.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use policy_nets::Architecture;

use crate::device::{Buffer, KernelDevice};
use crate::network::{add, backward, forward, load_observations, load_weights};
use crate::numeric::exp;
use crate::plan::{Keep, NetworkPlan, NotCovered, UNITS};
use crate::statistics::target_log_std;
use crate::window::WindowBuffers;

/// Most rows of partial gradients.
const MOST_ROWS: usize = 512;

/// The kernel for one architecture and horizon.
#[derive(Clone, Debug)]
pub struct Gradient {
    plan: NetworkPlan,
}

/// Gradients of parts of the window, `[rows, parameters]`, whose sum is that of the surrogate.
#[derive(Clone, Debug)]
pub struct PartialGradients {
    /// The rows.
    pub values: Buffer,
    /// Number of rows.
    pub rows: usize,
    /// Numbers of a row, `P`.
    pub parameters: usize,
}

impl Gradient {
    /// Plans the kernel; `learned` says whether `ln sigma` stands at the end of the flat parameters and has a gradient.
    ///
    /// # Errors
    /// [`NotCovered`] when the network does not fit.
    pub fn new(
        architecture: &Architecture,
        horizon: usize,
        learned: bool,
        device: &KernelDevice,
    ) -> Result<Self, NotCovered> {
        let plan = NetworkPlan::new(architecture, horizon, learned, Keep::All, device.limits())?;
        Ok(Self { plan })
    }

    /// Partial gradients with `weights` `[window, batch]` at the flat `parameters`, and `log_std` `[action]` when it is
    /// not learned. A trajectory of weight 0 is left out. One launch.
    pub fn launch(
        &self,
        parameters: &Buffer,
        log_std: &Buffer,
        weights: &Buffer,
        window: &WindowBuffers,
        device: &KernelDevice,
    ) -> PartialGradients {
        let blocks_each = window.horizon.div_ceil(self.plan.rows);
        let blocks = window.trajectories() * blocks_each;
        // As few rows as give every cube equally many blocks.
        let rows = blocks.div_ceil(blocks.div_ceil(MOST_ROWS)).max(1);
        let count = self.plan.parameter_count();
        let partial = PartialGradients { values: device.empty(rows * count), rows, parameters: count };
        gradient_kernel::launch(
            device.client(),
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            parameters.clone().into_buffer_arg(),
            log_std.clone().into_buffer_arg(),
            weights.clone().into_buffer_arg(),
            window.observations.clone().into_buffer_arg(),
            window.actions.clone().into_buffer_arg(),
            window.returns.clone().into_buffer_arg(),
            window.lengths.clone().into_buffer_arg(),
            partial.values.clone().into_buffer_arg(),
            blocks as u32,
            blocks_each as u32,
            window.horizon as u32,
            self.plan.clone(),
        );
        partial
    }
}

#[cube(launch)]
fn gradient_kernel(
    parameters: &[f32],
    fixed_log_std: &[f32],
    weights: &[f32],
    observations: &[f32],
    actions: &[f32],
    returns: &[f32],
    lengths: &[i32],
    partial: &mut [f32],
    blocks: u32,
    blocks_each: u32,
    horizon: u32,
    #[comptime] plan: NetworkPlan,
) {
    let mut memory = Shared::<[f32]>::new_slice(comptime!(plan.memory));
    let (rows, size) = comptime!((plan.rows, plan.action_size));
    let parameter_count = comptime!(plan.parameter_count());
    load_weights(parameters, &mut memory, comptime!(plan.clone()), comptime!(0_usize));
    let mut d = UNIT_POS as usize;
    while d < size {
        let log_std = target_log_std(parameters, fixed_log_std, d, comptime!(plan.clone()));
        memory[comptime!(plan.per_action) + d] = exp(log_std * -2.0_f32);
        d += comptime!(UNITS);
    }

    let to = CUBE_POS * parameter_count;
    let mut first = true;
    let mut block = CUBE_POS;
    while block < blocks as usize {
        let trajectory = block / blocks_each as usize;
        let start = (block % blocks_each as usize) * rows;
        let length = lengths[trajectory] as usize;
        let weight = weights[trajectory];
        // Shading languages take `!=` to be false for a NaN.
        let left_out = weight == 0.0_f32;
        if start < length && !left_out {
            let first_step = trajectory * horizon as usize + start;
            let count = (length - start).min(rows);
            load_observations(observations, first_step, count, &mut memory, comptime!(plan.clone()));
            sync_cube();
            forward(parameters, &mut memory, comptime!(plan.clone()), comptime!(0_usize));
            score(actions, returns, first_step, count, weight, &mut memory, comptime!(plan.clone()));
            sync_cube();
            if comptime!(plan.learned) {
                accumulate_deviation(&mut memory, partial, to, first, comptime!(plan.clone()));
            }
            let layers = comptime!(plan.layers.len());
            backward(parameters, &mut memory, partial, to, first, comptime!(plan.clone()), layers);
            first = false;
        }
        block += CUBE_COUNT;
    }
    if first {
        let mut index = UNIT_POS as usize;
        while index < parameter_count {
            partial[to + index] = f32::new(0.0);
            index += comptime!(UNITS);
        }
    }
}

/// Replaces the means by the gradient with respect to them, `w G (a - mu) / sigma^2`, with zeros behind the last step;
/// keeps every row's gradient with respect to a learned `ln sigma`, `w G ((a - mu)^2 / sigma^2 - 1)`.
#[cube]
fn score(
    actions: &[f32],
    returns: &[f32],
    first_step: usize,
    count: usize,
    weight: f32,
    memory: &mut [f32],
    #[comptime] plan: NetworkPlan,
) {
    let (rows, stride, size) = comptime!((plan.rows, plan.stride, plan.action_size));
    let (output, precision) = comptime!((plan.last().output, plan.per_action));
    let mut index = UNIT_POS as usize;
    while index < comptime!(plan.rows * plan.action_size) {
        let (row, d) = (index % rows, index / rows);
        let place = output + d * stride + row;
        let mut coefficient = f32::new(0.0);
        let mut deviation = f32::new(0.0);
        if row < count {
            let step = first_step + row;
            coefficient = weight * returns[step];
            deviation = actions[step * size + d] - memory[place];
        }
        let scaled = deviation * memory[precision + d];
        if comptime!(plan.learned) {
            memory[comptime!(plan.deviation) + d * stride + row] =
                coefficient * (deviation * scaled - 1.0_f32);
        }
        memory[place] = coefficient * scaled;
        index += comptime!(UNITS);
    }
}

/// Adds the gradient of `ln sigma` over the rows that [`score`] left.
#[cube]
fn accumulate_deviation(
    memory: &mut [f32],
    partial: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
) {
    let (rows, stride, size) = comptime!((plan.rows, plan.stride, plan.action_size));
    let from = comptime!(plan.deviation);
    let mut d = UNIT_POS as usize;
    while d < size {
        let mut sum = f32::new(0.0);
        for row in 0..rows {
            sum += memory[from + d * stride + row];
        }
        add(partial, to + comptime!(plan.mean_parameters) + d, sum, first);
        d += comptime!(UNITS);
    }
}

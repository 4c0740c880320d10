//! Gradient of the surrogate `sum_ij w_ij sum_t G_ijt ln pi(a_ijt | s_ijt)`: forward and backward over blocks of steps.
//!
//! Blocks are steps in a row, whosever trajectories they are. Every cube adds the gradients of its blocks, in their order, and
//! leaves a row of sums; [`crate::reduce`] adds the rows. Which blocks are whose follows from the sizes and from the number of
//! processors that the device tells.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use policy_nets::Architecture;
use policy_nets::fused::SWEEP_BYTES;

use crate::device::{Buffer, KernelDevice, length};
use crate::loading::{is_kept, load_observations, load_weights};
use crate::network::{Four, accumulate_rows, backward, forward, write_kept};
use crate::numeric::exp;
use crate::plan::{FOUR, NetworkPlan, NotCovered, Pass, UNITS};
use crate::statistics::target_log_std;
use crate::window::WindowBuffers;

/// Numbers that a device reads together.
const SECTOR: usize = 8;
/// The kernel for one architecture. Its partial gradients take at most [`SWEEP_BYTES`], or are a single one.
#[derive(Clone, Debug)]
pub struct Gradient {
    plan: NetworkPlan,
}

/// Gradients of parts of the window, `[rows, parameters]`, whose sum is that of the surrogate. From one row's beginning to the
/// next's is a multiple of eight numbers.
#[derive(Clone, Debug)]
pub struct PartialGradients {
    /// The rows.
    pub values: Buffer,
    /// Number of rows.
    pub rows: usize,
    /// Numbers of a row, `P`.
    pub parameters: usize,
    /// Rows of a trajectory, which its weight is still to be multiplied with; `None` for rows that are weighted.
    pub of_trajectory: Option<usize>,
}

/// Numbers from one row of partial gradients to the next: whole sectors of a device's memory.
pub(crate) fn row_length(parameters: usize) -> usize {
    parameters.next_multiple_of(SECTOR)
}

impl PartialGradients {
    /// Room for so many rows of `parameters` numbers.
    pub(crate) fn empty(
        rows: usize,
        parameters: usize,
        of_trajectory: Option<usize>,
        device: &KernelDevice,
    ) -> Self {
        Self { values: device.empty(rows * row_length(parameters)), rows, parameters, of_trajectory }
    }
}

impl Gradient {
    /// Plans the kernel; `learned` says whether `ln sigma` stands at the end of the flat parameters and has a gradient.
    ///
    /// # Errors
    /// [`NotCovered`] when the network does not fit.
    pub fn new(
        architecture: &Architecture,
        learned: bool,
        device: &KernelDevice,
    ) -> Result<Self, NotCovered> {
        let plan = NetworkPlan::new(architecture, learned, Pass::Gradient, device.limits())?;
        Ok(Self { plan })
    }

    /// Partial gradients with `weights` `[window, batch]` at the flat `parameters`, and `log_std` `[action]` when it is
    /// not learned. A trajectory of weight 0 is left out. One launch.
    ///
    /// # Panics
    /// When a buffer is too small.
    pub fn launch(
        &self,
        parameters: &Buffer,
        log_std: &Buffer,
        weights: &Buffer,
        window: &WindowBuffers,
        device: &KernelDevice,
    ) -> PartialGradients {
        let steps = window.trajectories() * window.horizon;
        let blocks = steps.div_ceil(self.plan.rows);
        // As few rows as give every cube equally many blocks.
        let count = self.plan.parameter_count();
        let most = self.plan.cubes_at_once(device.limits());
        let most = most.min(SWEEP_BYTES / (size_of::<f32>() * row_length(count))).max(1);
        let rows = blocks.div_ceil(blocks.div_ceil(most).max(1)).max(1);
        self.plan.check(parameters, log_std, window);
        assert!(length(weights) >= window.trajectories(), "a weight for every trajectory");
        let partial = PartialGradients::empty(rows, count, None, device);
        // SAFETY: no index leaves its buffer: the plan and the parameters are of one architecture, the window's buffers have its sizes,
        // and there is a row for each cube.
        unsafe {
            gradient_kernel::launch_unchecked(
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
                steps as u32,
                window.horizon as u32,
                self.plan.clone(),
            );
        }
        partial
    }
}

#[cube(launch_unchecked)]
fn gradient_kernel(
    parameters: &[f32],
    fixed_log_std: &[f32],
    weights: &[f32],
    observations: &[f32],
    actions: &[f32],
    returns: &[f32],
    lengths: &[i32],
    partial: &mut [f32],
    steps: u32,
    horizon: u32,
    #[comptime] plan: NetworkPlan,
) {
    let mut activations = Shared::<[Four]>::new_slice(comptime!(plan.activations));
    let mut weights_shared = Shared::<[Four]>::new_slice(comptime!(plan.weights));
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(plan.numbers));
    let (rows, size) = comptime!((plan.rows, plan.action_size));
    let (steps, horizon) = (steps as usize, horizon as usize);
    load_weights(parameters, &mut weights_shared, comptime!(plan.clone()), comptime!(0_usize));
    let mut d = UNIT_POS as usize;
    while d < size {
        let log_std = target_log_std(parameters, fixed_log_std, d, comptime!(plan.clone()));
        numbers[d] = exp(-log_std);
        d += comptime!(UNITS);
    }
    let mut kept = nothing_kept(comptime!(plan.clone()));

    let to = CUBE_POS * comptime!(row_length(plan.parameter_count()));
    let mut first = true;
    let mut first_step = CUBE_POS * rows;
    while first_step < steps {
        let end = (first_step + rows).min(steps);
        if is_any_kept(weights, lengths, first_step, end, horizon) {
            let row = first_step + UNIT_POS as usize;
            if UNIT_POS < comptime!(plan.rows as u32) {
                let (coefficient, kept) = coefficient_of(weights, lengths, returns, row, end, horizon);
                numbers[comptime!(plan.coefficients()) + UNIT_POS as usize] = coefficient;
                numbers[comptime!(plan.coefficients() + plan.rows) + UNIT_POS as usize] = kept;
            }
            sync_cube();
            load_observations(
                observations,
                first_step,
                end - first_step,
                &numbers,
                &mut activations,
                comptime!(plan.clone()),
            );
            sync_cube();
            forward(
                parameters,
                &weights_shared,
                &mut activations,
                comptime!(plan.clone()),
                comptime!(0_usize),
            );
            score(actions, first_step, end - first_step, &numbers, &mut activations, comptime!(plan.clone()));
            sync_cube();
            add_block(
                parameters,
                &weights_shared,
                &mut activations,
                &mut kept,
                partial,
                to,
                first,
                comptime!(plan.clone()),
            );
            first = false;
        }
        first_step += CUBE_COUNT * rows;
    }
    write_row(&kept, &mut activations, partial, to, first, comptime!(plan.clone()));
}

/// Zeros, of which a unit keeps its tiles' sums in registers.
#[cube]
pub(crate) fn nothing_kept(#[comptime] plan: NetworkPlan) -> Array<f32> {
    let mut kept = Array::<f32>::new(comptime!(FOUR * FOUR * plan.kept.max(1)));
    #[unroll]
    for index in 0..comptime!(FOUR * FOUR * plan.kept) {
        kept[index] = f32::new(0.0);
    }
    kept
}

/// Adds the gradient of a block, whose outputs [`score`] has replaced, to the row that begins at `to`. Begins and ends with all
/// units past a barrier.
#[cube]
pub(crate) fn add_block(
    parameters: &[f32],
    weights: &[Four],
    activations: &mut [Four],
    kept: &mut Array<f32>,
    partial: &mut [f32],
    to: usize,
    first: bool,
    #[comptime] plan: NetworkPlan,
) {
    if comptime!(plan.learned) {
        let places = comptime!((plan.deviation, plan.mean_parameters, plan.action_size));
        accumulate_rows(activations, partial, to, first, comptime!(plan.clone()), places);
    }
    let layers = comptime!(plan.layers.len());
    backward(parameters, weights, activations, kept, partial, to, first, plan, layers);
}

/// Completes a row of partial gradients that begins at `to`: with what was kept, or, without any block, with zeros. Begins with
/// all units past a barrier.
#[cube]
pub(crate) fn write_row(
    kept: &Array<f32>,
    activations: &mut [Four],
    partial: &mut [f32],
    to: usize,
    empty: bool,
    #[comptime] plan: NetworkPlan,
) {
    if empty {
        let mut index = UNIT_POS as usize;
        while index < comptime!(plan.parameter_count()) {
            partial[to + index] = f32::new(0.0);
            index += comptime!(plan.units);
        }
    } else {
        write_kept(kept, activations, partial, to, comptime!(plan.clone()), comptime!(0_usize));
    }
}

/// Whether any of the steps from `first` to `end` is before the end of its trajectory, and that of a weight other than 0.
#[cube]
fn is_any_kept(weights: &[f32], lengths: &[i32], first: usize, end: usize, horizon: usize) -> bool {
    let mut any = false;
    let mut trajectory = first / horizon;
    while trajectory * horizon < end {
        // Shading languages take `!=` to be false for a NaN.
        let left_out = weights[trajectory] == 0.0_f32;
        let length = (lengths[trajectory] as usize).min(horizon);
        any = any || (trajectory * horizon + length > first && length > 0 && !left_out);
        trajectory += 1;
    }
    any
}

/// What the score of step `row` is multiplied with, `w G`, and 1; or 0 and 0 for a step that is left out: behind its
/// trajectory's end, of weight 0, or not before `end`.
#[cube]
fn coefficient_of(
    weights: &[f32],
    lengths: &[i32],
    returns: &[f32],
    row: usize,
    end: usize,
    horizon: usize,
) -> (f32, f32) {
    let mut coefficient = f32::new(0.0);
    let mut kept = f32::new(0.0);
    if row < end {
        let trajectory = row / horizon;
        let weight = weights[trajectory];
        let left_out = weight == 0.0_f32;
        if row - trajectory * horizon < (lengths[trajectory] as usize) && !left_out {
            coefficient = weight * returns[row];
            kept = f32::new(1.0);
        }
    }
    (coefficient, kept)
}

/// Replaces the means by the gradient with respect to them, `c (a - mu) / sigma^2`, with every row's coefficient `c`, and zeros
/// for steps that are left out; keeps every row's gradient with respect to a learned `ln sigma`, `c ((a - mu)^2 / sigma^2 - 1)`.
#[cube]
pub(crate) fn score(
    actions: &[f32],
    first_step: usize,
    count: usize,
    numbers: &[f32],
    activations: &mut [Four],
    #[comptime] plan: NetworkPlan,
) {
    let (stride, size) = comptime!((plan.stride, plan.action_size));
    let output = comptime!(plan.last().output);
    let mut index = UNIT_POS as usize;
    while index < comptime!(plan.groups() * plan.action_size) {
        let (group, d) = (index / size, index % size);
        let means = activations[output + d * stride + group];
        let mut coefficients = Four::new(0.0);
        let mut deviations = Four::new(0.0);
        #[unroll]
        for k in 0..FOUR {
            let row = group * FOUR + k;
            if is_kept(numbers, row, count, comptime!(plan.row_flags())) {
                coefficients.insert(k, numbers[comptime!(plan.coefficients()) + row]);
                deviations.insert(k, actions[(first_step + row) * size + d] - means.extract(k));
            }
        }
        let scale = numbers[d];
        let scaled = deviations * Four::new(scale * scale);
        if comptime!(plan.learned) {
            activations[comptime!(plan.deviation) + d * stride + group] =
                coefficients * (deviations * scaled - Four::new(1.0));
        }
        activations[output + d * stride + group] = coefficients * scaled;
        index += comptime!(plan.units);
    }
}

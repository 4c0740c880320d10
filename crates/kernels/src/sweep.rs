//! Statistics and gradient of every trajectory in one pass: forward and backward over its blocks of steps.
//!
//! The gradient of `sum_t G_t ln pi(a_t | s_t)` of a trajectory needs no weight, so it is formed where the statistics are that
//! the weights follow from, and [`crate::reduce`] multiplies with these when it sums. That saves a forward pass over the window
//! and a launch, for a row of numbers for each trajectory instead of each cube.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use policy_nets::Architecture;
use policy_nets::fused::SWEEP_BYTES;

use crate::device::{Buffer, KernelDevice};
use crate::gradient::{PartialGradients, add_block, nothing_kept, row_length, score, write_row};
use crate::loading::{load_observations, load_weights};
use crate::network::{Four, forward};
use crate::plan::{NetworkPlan, NotCovered, Pass, UNITS};
use crate::statistics::{TrajectoryStatistics, clear_sums, density_constants, sum_steps, write_statistics};
use crate::window::WindowBuffers;

/// The kernel for one architecture and horizon.
#[derive(Clone, Debug)]
pub struct Sweep {
    plan: NetworkPlan,
    horizon: usize,
    /// Whether trajectories fill their blocks.
    pays: bool,
    /// Most rows of gradients, for which there is a cube each.
    most_rows: usize,
    /// Cubes that run at the same time.
    at_once: usize,
}

impl Sweep {
    /// Plans the kernel for windows of up to so many `trajectories`; `learned` says whether `ln sigma` stands at the end of the flat
    /// parameters and has a gradient.
    ///
    /// # Errors
    /// [`NotCovered`] when the network does not fit, or the device gives a kernel too few buffers.
    pub fn new(
        architecture: &Architecture,
        [trajectories, horizon]: [usize; 2],
        learned: bool,
        device: &KernelDevice,
    ) -> Result<Self, NotCovered> {
        let limits = device.limits();
        let plan = |pass| NetworkPlan::new(architecture, learned, pass, limits);
        let sweep = |large| plan(Pass::Sweep { horizon, large });
        let large = sweep(true)?;
        // Not where half of the cubes that run at once would be idle.
        let has_work = 2 * trajectories * horizon.div_ceil(large.rows) >= large.cubes_at_once(limits);
        let plan_of_sweep = if has_work { large } else { sweep(false)? };
        let most_rows = SWEEP_BYTES / (size_of::<f32>() * row_length(plan_of_sweep.parameter_count()));
        Ok(Self {
            horizon,
            pays: fills(plan_of_sweep.rows, plan(Pass::Gradient)?.rows),
            most_rows: most_rows.min(device.cubes(usize::MAX) as usize),
            at_once: plan_of_sweep.cubes_at_once(limits),
            plan: plan_of_sweep,
        })
    }

    /// Whether the gradients of so many trajectories fit into [`SWEEP_BYTES`], and the device runs so many cubes.
    pub fn has_room(&self, trajectories: usize) -> bool {
        trajectories <= self.most_rows
    }

    /// Whether one pass is less work than two: not where trajectories leave most of a block of their own empty.
    pub fn is_less_work(&self) -> bool {
        self.pays
    }

    /// Statistics of all trajectories held and the gradients of their parts, both at the flat `parameters`, and `log_std`
    /// `[action]` when it is not learned. One launch.
    ///
    /// # Panics
    /// When a buffer is too small, or [there is no room](Self::has_room).
    pub fn launch(
        &self,
        parameters: &Buffer,
        log_std: &Buffer,
        window: &WindowBuffers,
        device: &KernelDevice,
    ) -> (TrajectoryStatistics, PartialGradients) {
        let trajectories = window.trajectories();
        self.plan.check(parameters, log_std, window);
        assert_eq!(window.horizon, self.horizon, "horizon of the window");
        assert!(self.has_room(trajectories), "a cube for every trajectory");
        let blocks = self.horizon.div_ceil(self.plan.rows).max(1);
        let [span, parts] = split(blocks, trajectories, self.at_once, self.most_rows);
        let (rows, count) = (trajectories * parts, self.plan.parameter_count());
        let statistics = TrajectoryStatistics::empty(trajectories, parts, device);
        let partial = PartialGradients::empty(rows, count, Some(parts), device);
        // SAFETY: no index leaves its buffer: the plan and the parameters are of one architecture, the window's buffers have its sizes,
        // and there is a row and room for both statistics for each part of a trajectory.
        unsafe {
            sweep_kernel::launch_unchecked(
                device.client(),
                CubeCount::Static(rows as u32, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                parameters.clone().into_buffer_arg(),
                log_std.clone().into_buffer_arg(),
                window.observations.clone().into_buffer_arg(),
                window.actions.clone().into_buffer_arg(),
                window.means.clone().into_buffer_arg(),
                window.log_std.clone().into_buffer_arg(),
                window.returns.clone().into_buffer_arg(),
                window.lengths.clone().into_buffer_arg(),
                statistics.log_ratio.clone().into_buffer_arg(),
                statistics.moment_exponent.clone().into_buffer_arg(),
                partial.values.clone().into_buffer_arg(),
                window.batch as u32,
                window.horizon as u32,
                parts as u32,
                (span * self.plan.rows) as u32,
                self.plan.clone(),
            );
        }
        (statistics, partial)
    }
}

/// Whether blocks of a trajectory are at least half as long as those that go on from one to the next.
fn fills(rows: usize, full: usize) -> bool {
    2 * rows >= full
}

/// How many of a trajectory's blocks a cube computes one after the other, and how many cubes that makes for a trajectory: with them
/// all `trajectories` are done soonest, when so many cubes run `at_once` and what a cube does beside its blocks (weights in, row out,
/// which is read again) takes as long as a quarter of one; of several such, the fewest cubes. No more than `most_rows` in all, but for
/// one a trajectory.
fn split(blocks: usize, trajectories: usize, at_once: usize, most_rows: usize) -> [usize; 2] {
    (1..=blocks)
        .map(|span| [span, blocks.div_ceil(span)])
        .filter(|[span, parts]| *span == blocks || trajectories * parts <= most_rows)
        .min_by_key(|[span, parts]| ((trajectories * parts).div_ceil(at_once) * (4 * span + 1), *parts))
        .unwrap_or([blocks, 1])
}

/// A cube for each part of a trajectory, `steps` in a row.
#[cube(launch_unchecked)]
fn sweep_kernel(
    parameters: &[f32],
    fixed_log_std: &[f32],
    observations: &[f32],
    actions: &[f32],
    means: &[f32],
    behaviour_log_std: &[f32],
    returns: &[f32],
    lengths: &[i32],
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    partial: &mut [f32],
    batch: u32,
    horizon: u32,
    parts: u32,
    steps: u32,
    #[comptime] plan: NetworkPlan,
) {
    let mut activations = Shared::<[Four]>::new_slice(comptime!(plan.activations));
    let mut weights = Shared::<[Four]>::new_slice(comptime!(plan.weights));
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(plan.numbers));
    let rows = comptime!(plan.rows);
    let (horizon, parts, steps) = (horizon as usize, parts as usize, steps as usize);
    load_weights(parameters, &mut weights, comptime!(plan.clone()), comptime!(0_usize));

    let (trajectory, part) = (CUBE_POS / parts, CUBE_POS % parts);
    let length = (lengths[trajectory] as usize).min(horizon);
    let begin = (part * steps).min(length);
    let end = (begin + steps).min(length);
    density_constants(
        parameters,
        fixed_log_std,
        behaviour_log_std,
        (trajectory / batch as usize) * comptime!(plan.action_size),
        &mut numbers,
        comptime!(plan.clone()),
    );
    // The first unit reads all of them, also when there is no step.
    sync_cube();

    clear_sums(&mut numbers, comptime!(plan.clone()));
    let mut kept = nothing_kept(comptime!(plan.clone()));
    let to = CUBE_POS * comptime!(row_length(plan.parameter_count()));
    let mut start = begin;
    while start < end {
        let first_step = trajectory * horizon + start;
        let count = (end - start).min(rows);
        if (UNIT_POS as usize) < count {
            numbers[comptime!(plan.coefficients()) + UNIT_POS as usize] =
                returns[first_step + UNIT_POS as usize];
        }
        load_observations(
            observations,
            first_step,
            count,
            &numbers,
            &mut activations,
            comptime!(plan.clone()),
        );
        sync_cube();
        forward(parameters, &weights, &mut activations, comptime!(plan.clone()), comptime!(0_usize));
        sum_steps(actions, means, first_step, count, &mut numbers, &activations, comptime!(plan.clone()));
        // Of the same outputs that the unit has just read.
        score(actions, first_step, count, &numbers, &mut activations, comptime!(plan.clone()));
        sync_cube();
        let first = start == begin;
        add_block(
            parameters,
            &weights,
            &mut activations,
            &mut kept,
            partial,
            to,
            first,
            comptime!(plan.clone()),
        );
        start += rows;
    }
    write_row(&kept, &mut activations, partial, to, begin == end, comptime!(plan.clone()));
    let place = part * (CUBE_COUNT / parts) + trajectory;
    write_statistics(&mut numbers, end - begin, place, log_ratio, moment_exponent, comptime!(plan.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_trajectories_are_split_and_many_are_not() {
        const MOST: usize = 19_065;
        // Two cubes each would be more than run at once.
        assert_eq!(split(2, 320, 528, MOST), [2, 1]);
        // The window of CartPole, and five whole episodes of a thousand steps.
        assert_eq!(split(4, 80, 528, MOST), [1, 4]);
        assert_eq!(split(16, 5, 528, MOST), [1, 16]);
        // One turn of four blocks, or four of one.
        assert_eq!(split(4, 7, 9, MOST), [4, 1]);
        // One turn of sixteen blocks, or five of two.
        assert_eq!(split(16, 300, 528, MOST), [2, 8]);
        // 62 turns of a block instead of 64 are not worth eight times the rows.
        assert_eq!(split(16, 2000, 528, MOST), [16, 1]);
        assert_eq!(split(1, 1, 1, MOST), [1, 1]);
    }

    #[test]
    fn short_trajectories_leave_blocks_empty() {
        assert_eq!(
            [(100, 64), (52, 64), (32, 64), (28, 64), (12, 64), (12, 16)]
                .map(|(rows, full)| fills(rows, full)),
            [true, true, true, false, false, true]
        );
    }

    #[test]
    fn parts_keep_within_the_rows() {
        for blocks in 1..20 {
            for trajectories in [1, 3, 17, 100, 1000] {
                for most_rows in [1000, 1500, 5000] {
                    let [span, parts] = split(blocks, trajectories, 528, most_rows);
                    assert!(trajectories * parts <= most_rows && span * parts >= blocks);
                    assert!(span * (parts - 1) < blocks, "no part is empty");
                }
            }
        }
    }
}

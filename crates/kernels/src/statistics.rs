//! Log-ratio and second-moment exponent of every trajectory: one forward pass, a cube a trajectory.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use policy_nets::Architecture;

use crate::device::{Buffer, KernelDevice};
use crate::loading::{load_observations, load_weights};
use crate::network::{Four, forward};
use crate::numeric::{LOG_ZERO, exp, exp_m1, log_1p, lost};
use crate::plan::{FOUR, NetworkPlan, NotCovered, Pass};
use crate::window::WindowBuffers;

/// Numbers that a unit adds up before units wait for each other.
const TOGETHER: usize = 8;
/// Numbers of a unit's sums: of the log-ratio and what it lost, of the divergence and what it lost.
pub(crate) const SUMS: usize = 4;

/// The kernel for one architecture and horizon.
#[derive(Clone, Debug)]
pub struct Statistics {
    plan: NetworkPlan,
}

/// What the kernel leaves, `[parts, window, batch]` each, to be summed over the parts.
#[derive(Clone, Debug)]
pub struct TrajectoryStatistics {
    /// `l_ij = ln p_i(tau_ij) - ln p_k(tau_ij)`, behaviour less target.
    pub log_ratio: Buffer,
    /// `sum_t ln d2` of the steps' order-2 Renyi divergences, the exponent of the closed-form second moment; `1e30` where
    /// the target's variance is at least twice the behaviour's.
    pub moment_exponent: Buffer,
    /// Parts of a trajectory that were computed apart.
    pub parts: usize,
}

impl TrajectoryStatistics {
    /// Room for the statistics of `trajectories` in so many parts.
    pub(crate) fn empty(trajectories: usize, parts: usize, device: &KernelDevice) -> Self {
        let count = trajectories * parts;
        Self { log_ratio: device.empty(count), moment_exponent: device.empty(count), parts }
    }
}

impl Statistics {
    /// Plans the kernel; `learned` says whether `ln sigma` of the target stands at the end of its flat parameters.
    ///
    /// # Errors
    /// [`NotCovered`] when the network does not fit.
    pub fn new(
        architecture: &Architecture,
        horizon: usize,
        learned: bool,
        device: &KernelDevice,
    ) -> Result<Self, NotCovered> {
        let plan = NetworkPlan::new(architecture, learned, Pass::Statistics { horizon }, device.limits())?;
        Ok(Self { plan })
    }

    /// Statistics of all trajectories held under the policy with flat `parameters`, and `log_std` `[action]` when it is
    /// not learned. One launch.
    ///
    /// # Panics
    /// When a buffer is too small.
    pub fn launch(
        &self,
        parameters: &Buffer,
        log_std: &Buffer,
        window: &WindowBuffers,
        device: &KernelDevice,
    ) -> TrajectoryStatistics {
        let count = window.trajectories();
        self.plan.check(parameters, log_std, window);
        let statistics = TrajectoryStatistics::empty(count, 1, device);
        let cubes = device.cubes(count);
        // SAFETY: no index leaves its buffer: the plan and the parameters are of one architecture, the window's buffers have its sizes,
        // and there is room for one number a trajectory.
        unsafe {
            statistics_kernel::launch_unchecked(
                device.client(),
                CubeCount::Static(cubes, 1, 1),
                CubeDim::new_1d(self.plan.units as u32),
                parameters.clone().into_buffer_arg(),
                log_std.clone().into_buffer_arg(),
                window.observations.clone().into_buffer_arg(),
                window.actions.clone().into_buffer_arg(),
                window.means.clone().into_buffer_arg(),
                window.log_std.clone().into_buffer_arg(),
                window.lengths.clone().into_buffer_arg(),
                statistics.log_ratio.clone().into_buffer_arg(),
                statistics.moment_exponent.clone().into_buffer_arg(),
                count as u32,
                window.batch as u32,
                window.horizon as u32,
                self.plan.clone(),
            );
        }
        statistics
    }
}

#[cube(launch_unchecked)]
fn statistics_kernel(
    parameters: &[f32],
    fixed_log_std: &[f32],
    observations: &[f32],
    actions: &[f32],
    means: &[f32],
    behaviour_log_std: &[f32],
    lengths: &[i32],
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    trajectories: u32,
    batch: u32,
    horizon: u32,
    #[comptime] plan: NetworkPlan,
) {
    let mut activations = Shared::<[Four]>::new_slice(comptime!(plan.activations));
    let mut weights = Shared::<[Four]>::new_slice(comptime!(plan.weights));
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(plan.numbers));
    let (rows, size) = comptime!((plan.rows, plan.action_size));
    load_weights(parameters, &mut weights, comptime!(plan.clone()), comptime!(0_usize));

    let mut trajectory = CUBE_POS;
    while trajectory < trajectories as usize {
        let length = (lengths[trajectory] as usize).min(horizon as usize);
        density_constants(
            parameters,
            fixed_log_std,
            behaviour_log_std,
            (trajectory / batch as usize) * size,
            &mut numbers,
            comptime!(plan.clone()),
        );
        // The first unit reads all of them, also when the trajectory has no step.
        sync_cube();

        clear_sums(&mut numbers, comptime!(plan.clone()));
        let mut start = 0_usize;
        while start < length {
            let first_step = trajectory * horizon as usize + start;
            let count = (length - start).min(rows);
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
            sync_cube();
            start += rows;
        }
        write_statistics(
            &mut numbers,
            length,
            trajectory,
            log_ratio,
            moment_exponent,
            comptime!(plan.clone()),
        );
        trajectory += CUBE_COUNT;
    }
}

/// Begins a unit's sums of both statistics and of what each of them loses. They stand in shared memory, since registers are scarce
/// in a backward pass.
#[cube]
pub(crate) fn clear_sums(numbers: &mut [f32], #[comptime] plan: NetworkPlan) {
    #[unroll]
    for index in 0..comptime!(SUMS) {
        numbers[comptime!(plan.sums() + index * plan.units) + UNIT_POS as usize] = f32::new(0.0);
    }
}

/// Adds what the first `count` steps of a block, whose means are the network's outputs, give to both statistics.
#[cube]
pub(crate) fn sum_steps(
    actions: &[f32],
    means: &[f32],
    first_step: usize,
    count: usize,
    numbers: &mut [f32],
    activations: &[Four],
    #[comptime] plan: NetworkPlan,
) {
    let (stride, size) = comptime!((plan.stride, plan.action_size));
    let output = comptime!(plan.last().output);
    let mut index = UNIT_POS as usize;
    while index < comptime!(plan.groups() * plan.action_size) {
        let (group, d) = (index / size, index % size);
        let new_means = activations[output + d * stride + group];
        let (target_scale, behaviour_scale) = (numbers[d], numbers[size + d]);
        let remainder = numbers[2 * size + d];
        let mut of_ratio = f32::new(0.0);
        let mut of_divergence = f32::new(0.0);
        #[unroll]
        for k in 0..FOUR {
            let row = group * FOUR + k;
            if row < count {
                let place = (first_step + row) * size + d;
                let (action, behaviour) = (actions[place], means[place]);
                let mean = new_means.extract(k);
                let apart = behaviour - mean;
                of_ratio += ratio_of_step(action, behaviour, mean, target_scale, behaviour_scale);
                of_divergence += apart * apart * remainder;
            }
        }
        let place = comptime!(plan.sums()) + UNIT_POS as usize;
        add_to(numbers, place, of_ratio, comptime!(plan.units));
        add_to(numbers, place + comptime!(2 * plan.units), of_divergence, comptime!(plan.units));
        index += comptime!(plan.units);
    }
}

/// Adds `value` to the sum at `place`, and what that loses to the number `apart` behind it.
#[cube]
fn add_to(memory: &mut [f32], place: usize, value: f32, #[comptime] apart: usize) {
    let before = memory[place];
    let sum = before + value;
    memory[place + apart] += lost(before, value, sum);
    memory[place] = sum;
}

/// Adds the sums of all units up and writes both statistics, of so many steps, to `place`. Ends with all units past a barrier.
#[cube]
pub(crate) fn write_statistics(
    numbers: &mut [f32],
    steps: usize,
    place: usize,
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    #[comptime] plan: NetworkPlan,
) {
    let unit = UNIT_POS as usize;
    let size = comptime!(plan.action_size);
    sync_cube();
    add_up(numbers, comptime!(plan.clone()));
    if unit == 0 {
        let mut ratio_constant = f32::new(0.0);
        let mut divergence_constant = f32::new(0.0);
        let mut infinite = false;
        for d in 0..size {
            ratio_constant += numbers[3 * size + d];
            let constant = numbers[4 * size + d];
            infinite = infinite || constant > 1e29_f32;
            divergence_constant += constant;
        }
        let steps = f32::cast_from(steps as u32);
        let lost = numbers[comptime!(plan.sums() + plan.units)];
        log_ratio[place] = numbers[comptime!(plan.sums())] + (lost + ratio_constant * steps);
        let lost = numbers[comptime!(plan.sums() + 3 * plan.units)];
        let sum = numbers[comptime!(plan.sums() + 2 * plan.units)];
        let total = sum + (lost + divergence_constant * steps);
        moment_exponent[place] = select(infinite, f32::new(comptime!(-LOG_ZERO)), total);
    }
    sync_cube();
}

/// The part of a step's log-ratio that the means enter: the difference of the squared distances of the action from both, each in
/// deviations, as a product, which is 0 for equal policies.
#[cube]
fn ratio_of_step(action: f32, behaviour: f32, mean: f32, target_scale: f32, behaviour_scale: f32) -> f32 {
    let (from_behaviour, from_target) = (action - behaviour, action - mean);
    let apart = behaviour - mean;
    let difference = apart * target_scale + from_behaviour * (target_scale - behaviour_scale);
    let sum = from_target * target_scale + from_behaviour * behaviour_scale;
    difference * sum * 0.5_f32
}

/// Adds up what every unit left of both sums, and of what they lost, into the place of the first. Begins and ends with all units
/// past a barrier.
#[cube]
fn add_up(numbers: &mut [f32], #[comptime] plan: NetworkPlan) {
    let (ratio, divergence) = comptime!((plan.sums(), plan.sums() + 2 * plan.units));
    let unit = UNIT_POS as usize;
    let mut count = comptime!(plan.units).runtime();
    while count > 1 {
        let left = (count / TOGETHER).max(1);
        if unit < left {
            let mut other = unit + left;
            while other < count {
                add_exactly(numbers, ratio + unit, ratio + other, comptime!(plan.units));
                add_exactly(numbers, divergence + unit, divergence + other, comptime!(plan.units));
                other += left;
            }
        }
        sync_cube();
        count = left;
    }
}

/// Adds the sum at `from` to the one at `to`, and what both lost, which stands `apart` numbers behind.
#[cube]
fn add_exactly(memory: &mut [f32], to: usize, from: usize, #[comptime] apart: usize) {
    let (value, lost) = (memory[from], memory[apart + from]);
    memory[apart + to] += lost;
    add_to(memory, to, value, apart);
}

/// `ln sigma` of component `d` of the target.
#[cube]
pub(crate) fn target_log_std(
    parameters: &[f32],
    fixed_log_std: &[f32],
    d: usize,
    #[comptime] plan: NetworkPlan,
) -> f32 {
    if comptime!(plan.learned) { parameters[comptime!(plan.mean_parameters) + d] } else { fixed_log_std[d] }
}

/// For every action component: `1 / s_t`, `1 / s_b`, `1 / (2 s_b^2 - s_t^2)`, and the terms of a step's log-ratio and
/// divergence that no mean enters, for target `t` and behaviour `b`.
#[cube]
pub(crate) fn density_constants(
    parameters: &[f32],
    fixed_log_std: &[f32],
    behaviour_log_std: &[f32],
    behaviour: usize,
    numbers: &mut [f32],
    #[comptime] plan: NetworkPlan,
) {
    let size = comptime!(plan.action_size);
    let mut d = UNIT_POS as usize;
    while d < size {
        let target_log = target_log_std(parameters, fixed_log_std, d, comptime!(plan.clone()));
        let behaviour_log = behaviour_log_std[behaviour + d];
        // With r = (s_t / s_b)^2 everything is a function of r - 1, which is exactly 0 for equal deviations:
        // ln d2 = -ln(r)/2 - ln(2 - r)/2 + ((mu_t - mu_b) / s_b)^2 / (2 - r).
        let log_variance_ratio = (target_log - behaviour_log) * 2.0_f32;
        let excess = exp_m1(log_variance_ratio);
        let infinite = excess >= 1.0_f32;
        let excess = select(infinite, 0.0_f32, excess);
        let behaviour_scale = exp(-behaviour_log);
        numbers[d] = exp(-target_log);
        numbers[size + d] = behaviour_scale;
        numbers[2 * size + d] = behaviour_scale * behaviour_scale / (1.0_f32 - excess);
        numbers[3 * size + d] = target_log - behaviour_log;
        let constant = (log_variance_ratio + log_1p(-excess)) * -0.5_f32;
        numbers[4 * size + d] = select(infinite, f32::new(comptime!(-LOG_ZERO)), constant);
        d += comptime!(plan.units);
    }
}

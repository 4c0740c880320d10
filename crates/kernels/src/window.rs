//! The window in buffers, and the kernels that put a batch there.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use estimator::{Baseline, StepReturn};

use crate::device::{Buffer, KernelDevice, length};
use crate::numeric::lost;
use crate::plan::UNITS;

/// Steps of which a cube forms the baseline at a time.
const COLUMNS: usize = 8;
/// Units that share a step's sum.
const LINES: usize = UNITS / COLUMNS;

/// Batches of trajectories in slots, padded to the horizon; what lies behind a trajectory's end is never read.
///
/// | field | shape |
/// |---|---|
/// | `observations` | `[slot, trajectory, time, observation]` |
/// | `actions`, `means` | `[slot, trajectory, time, action]` |
/// | `log_std` | `[slot, action]` |
/// | `lengths` | `[slot, trajectory]` |
/// | `returns` | `[slot, trajectory, time]` |
#[derive(Clone, Debug)]
pub struct WindowBuffers {
    /// Raw observations.
    pub observations: Buffer,
    /// Raw actions.
    pub actions: Buffer,
    /// Means of the behaviour policies.
    pub means: Buffer,
    /// `ln sigma` of the behaviour policies.
    pub log_std: Buffer,
    /// Steps of each trajectory.
    pub lengths: Buffer,
    /// Step returns less their baseline.
    pub returns: Buffer,
    /// Slots filled, the first ones.
    pub filled: usize,
    /// Trajectories of a slot, `N`.
    pub batch: usize,
    /// Steps for which a trajectory has room, `T`.
    pub horizon: usize,
}

/// A batch in the memory of the device, shaped as a slot.
#[derive(Clone, Debug)]
pub struct BatchBuffers {
    /// Raw observations.
    pub observations: Buffer,
    /// Raw actions.
    pub actions: Buffer,
    /// Means of the behaviour policy.
    pub means: Buffer,
    /// `ln sigma` of the behaviour policy.
    pub log_std: Buffer,
    /// Steps of each trajectory.
    pub lengths: Buffer,
    /// Rewards `[trajectory, time]`.
    pub rewards: Buffer,
}

/// How step returns are computed on the device.
#[derive(Clone, Debug)]
pub struct Returns {
    powers: Buffer,
    kind: StepReturn,
    baseline: Baseline,
}

impl Returns {
    /// Returns with the given `discount` over at most `horizon` steps.
    pub fn new(
        discount: f64,
        kind: StepReturn,
        baseline: Baseline,
        horizon: usize,
        device: &KernelDevice,
    ) -> Self {
        let powers = std::iter::successors(Some(1.0), |power| Some(power * discount)).take(horizon);
        Self { powers: device.upload(powers.map(|power: f64| power as f32).collect()), kind, baseline }
    }
}

/// Numbers that kernels count: in 32 bits, and some way beyond the end.
pub const MOST_NUMBERS: usize = u32::MAX as usize / 2;

impl WindowBuffers {
    /// Number of trajectories in the slots that are filled.
    pub fn trajectories(&self) -> usize {
        self.filled * self.batch
    }

    /// Checks that the buffers have room for the first `slots`, and no more numbers than kernels count, on which these rely.
    ///
    /// # Panics
    /// When they have not, or more.
    pub(crate) fn check(&self, slots: usize, observation_size: usize, action_size: usize) {
        let trajectories = slots * self.batch;
        let steps = trajectories * self.horizon;
        let sizes = [
            (&self.observations, steps * observation_size),
            (&self.actions, steps * action_size),
            (&self.means, steps * action_size),
            (&self.log_std, slots * action_size),
            (&self.lengths, trajectories),
            (&self.returns, steps),
        ];
        assert!(
            sizes.iter().all(|(buffer, least)| length(buffer) >= *least && *least <= MOST_NUMBERS),
            "sizes of the window's buffers"
        );
    }

    /// Copies a batch into `slot` and computes its step returns: two launches, one more with a baseline. Nothing passes
    /// through the host.
    ///
    /// # Panics
    /// When the batch or the slot has other sizes than the window.
    pub fn store(&self, slot: usize, batch: &BatchBuffers, returns: &Returns, device: &KernelDevice) {
        let (count, horizon) = (self.batch, self.horizon);
        let observation_size = length(&batch.observations) / (count * horizon);
        let action_size = length(&batch.log_std);
        self.check(slot + 1, observation_size, action_size);
        let steps = count * horizon;
        let sizes = [
            (&batch.actions, steps * action_size),
            (&batch.means, steps * action_size),
            (&batch.lengths, count),
            (&batch.rewards, steps),
            (&returns.powers, horizon),
        ];
        assert!(sizes.iter().all(|(buffer, least)| length(buffer) >= *least), "sizes of the batch's buffers");
        let numbers = count * horizon * observation_size.max(action_size);
        // SAFETY: no index leaves its buffer: a slot of the window has the batch's sizes, and units with an index below a size alone
        // read and write.
        unsafe {
            store_kernel::launch_unchecked(
                device.client(),
                CubeCount::Static(device.cubes(numbers.div_ceil(UNITS)), 1, 1),
                CubeDim::new_1d(UNITS as u32),
                batch.observations.clone().into_buffer_arg(),
                batch.actions.clone().into_buffer_arg(),
                batch.means.clone().into_buffer_arg(),
                batch.log_std.clone().into_buffer_arg(),
                batch.lengths.clone().into_buffer_arg(),
                self.observations.clone().into_buffer_arg(),
                self.actions.clone().into_buffer_arg(),
                self.means.clone().into_buffer_arg(),
                self.log_std.clone().into_buffer_arg(),
                self.lengths.clone().into_buffer_arg(),
                slot as u32,
                (count * horizon * observation_size) as u32,
                (count * horizon * action_size) as u32,
                action_size as u32,
                count as u32,
            );
        }
        let others = match returns.baseline {
            Baseline::Average => Some(count),
            Baseline::LeaveOneOut => (count > 1).then(|| count - 1),
            Baseline::None => None,
        };
        // SAFETY: no index leaves its buffer: units with a trajectory of the batch write its row of the slot alone, and there are as
        // many powers as steps.
        unsafe {
            returns_kernel::launch_unchecked(
                device.client(),
                CubeCount::Static(device.cubes(count.div_ceil(UNITS)), 1, 1),
                CubeDim::new_1d(UNITS as u32),
                batch.rewards.clone().into_buffer_arg(),
                batch.lengths.clone().into_buffer_arg(),
                returns.powers.clone().into_buffer_arg(),
                self.returns.clone().into_buffer_arg(),
                (slot * count * horizon) as u32,
                count as u32,
                horizon as u32,
                returns.kind == StepReturn::Total,
                others.is_some(),
            );
        }
        let Some(others) = others else { return };
        // SAFETY: no index leaves its buffer: units with a step below the horizon read and write that step of the batch's rows alone.
        unsafe {
            baseline_kernel::launch_unchecked(
                device.client(),
                CubeCount::Static(device.cubes(horizon.div_ceil(COLUMNS)), 1, 1),
                CubeDim::new_1d(UNITS as u32),
                batch.lengths.clone().into_buffer_arg(),
                self.returns.clone().into_buffer_arg(),
                (slot * count * horizon) as u32,
                count as u32,
                horizon as u32,
                1.0 / others as f32,
                returns.baseline == Baseline::LeaveOneOut,
            );
        }
    }
}

#[cube(launch_unchecked)]
fn store_kernel(
    observations: &[f32],
    actions: &[f32],
    means: &[f32],
    log_std: &[f32],
    lengths: &[i32],
    to_observations: &mut [f32],
    to_actions: &mut [f32],
    to_means: &mut [f32],
    to_log_std: &mut [f32],
    to_lengths: &mut [i32],
    slot: u32,
    observation_numbers: u32,
    action_numbers: u32,
    action_size: u32,
    batch: u32,
) {
    let slot = slot as usize;
    let (observation_numbers, action_numbers) = (observation_numbers as usize, action_numbers as usize);
    let (action_size, batch) = (action_size as usize, batch as usize);
    let numbers = observation_numbers.max(action_numbers);
    let mut index = ABSOLUTE_POS;
    while index < numbers {
        if index < observation_numbers {
            to_observations[slot * observation_numbers + index] = observations[index];
        }
        if index < action_numbers {
            to_actions[slot * action_numbers + index] = actions[index];
            to_means[slot * action_numbers + index] = means[index];
        }
        if index < action_size {
            to_log_std[slot * action_size + index] = log_std[index];
        }
        if index < batch {
            to_lengths[slot * batch + index] = lengths[index];
        }
        index += CUBE_COUNT * comptime!(UNITS);
    }
}

/// One unit a trajectory: a sum from the end that carries its rounding errors along. Padded steps become 0, but for a total that
/// goes into a baseline: it is that of every step.
#[cube(launch_unchecked)]
fn returns_kernel(
    rewards: &[f32],
    lengths: &[i32],
    powers: &[f32],
    returns: &mut [f32],
    to: u32,
    batch: u32,
    horizon: u32,
    #[comptime] total: bool,
    #[comptime] baseline_follows: bool,
) {
    let (to, horizon) = (to as usize, horizon as usize);
    let mut trajectory = ABSOLUTE_POS;
    while trajectory < batch as usize {
        let length = (lengths[trajectory] as usize).min(horizon);
        let row = trajectory * horizon;
        let mut sum = f32::new(0.0);
        let mut rest = f32::new(0.0);
        for back in 0..horizon {
            let step = horizon - 1 - back;
            let mut term = f32::new(0.0);
            if step < length {
                term = rewards[row + step] * powers[step];
            }
            let next = sum + term;
            rest += lost(sum, term, next);
            sum = next;
            returns[to + row + step] = sum + rest;
        }
        if comptime!(total) {
            for step in 0..horizon {
                let mut value = sum + rest;
                if comptime!(!baseline_follows) {
                    value = select(step < length, value, 0.0_f32);
                }
                returns[to + row + step] = value;
            }
        }
        trajectory += CUBE_COUNT * comptime!(UNITS);
    }
}

/// A cube for every [`COLUMNS`] steps: subtracts the mean over the batch, or over the others of the batch, where a trajectory
/// has the step. Every unit of a column sums each so-many-th trajectory; the sums are added in the order of the units.
#[cube(launch_unchecked)]
fn baseline_kernel(
    lengths: &[i32],
    returns: &mut [f32],
    to: u32,
    batch: u32,
    horizon: u32,
    share: f32,
    #[comptime] leave_one_out: bool,
) {
    let (to, horizon, batch) = (to as usize, horizon as usize, batch as usize);
    let unit = UNIT_POS as usize;
    let (line, column) = (unit / COLUMNS, unit % COLUMNS);
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    let mut rests = Shared::<[f32]>::new_slice(UNITS);
    let mut first = CUBE_POS * COLUMNS;
    while first < horizon {
        let step = first + column;
        let mut sum = f32::new(0.0);
        let mut rest = f32::new(0.0);
        // Everything is less the first trajectory's: so equal returns leave no rounding errors behind.
        let mut origin = f32::new(0.0);
        if step < horizon {
            origin = returns[to + step];
            let mut trajectory = line;
            while trajectory < batch {
                let term = returns[to + trajectory * horizon + step] - origin;
                let next = sum + term;
                rest += lost(sum, term, next);
                sum = next;
                trajectory += LINES;
            }
        }
        sums[unit] = sum;
        rests[unit] = rest;
        sync_cube();
        sum = f32::new(0.0);
        rest = f32::new(0.0);
        for other in 0..LINES {
            let term = sums[other * COLUMNS + column];
            let next = sum + term;
            rest += lost(sum, term, next) + rests[other * COLUMNS + column];
            sum = next;
        }
        // Before the next steps' sums are written.
        sync_cube();
        if step < horizon {
            let mut trajectory = line;
            while trajectory < batch {
                let place = to + trajectory * horizon + step;
                let own = returns[place] - origin;
                let mut others = sum + rest;
                if comptime!(leave_one_out) {
                    others = (sum - own) + rest;
                }
                let value = own - others * share;
                returns[place] = select(step < lengths[trajectory] as usize, value, 0.0_f32);
                trajectory += LINES;
            }
        }
        first += CUBE_COUNT * COLUMNS;
    }
}

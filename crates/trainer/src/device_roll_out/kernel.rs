//! The kernel of roll-outs: one unit follows one trajectory from its reset to the horizon.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use kernels::numeric::exp;

use super::network::{LANES, Network, load, mean};
use super::random::{normal_pair, philox4x32_10};
use super::simulation::{BLOCK, Simulation, observe, reset, step};

/// Larger numbers end a trajectory as unstable: their squares may leave single precision, and a kernel must not rely on
/// infinities.
const LARGEST: f32 = 1e18;

/// Rolls out a batch. Padding is written as zeros.
///
/// | argument | shape |
/// |---|---|
/// | `parameters` | the mean network's, flat; what is behind them is not read |
/// | `log_std` | `[action]` |
/// | `observations` | `[trajectory, time, observation]` |
/// | `actions`, `means` | `[trajectory, time, action]` |
/// | `rewards` | `[trajectory, time]` |
/// | `lengths` | `[trajectory]` |
/// | `summaries` | `[trajectory, 2]`: undiscounted return; 1 when the trajectory turned unstable, else 0 |
///
/// Streams have the key (`key_low`, `key_high`) and the counters of [`crate::random`]; `exploration` is 1, or 0 for mean
/// actions.
#[allow(clippy::too_many_lines, reason = "one kernel is one function")]
#[cube(launch_unchecked)]
pub(super) fn roll_out<E: Simulation>(
    parameters: &[f32],
    log_std: &[f32],
    observations: &mut [f32],
    actions: &mut [f32],
    means: &mut [f32],
    rewards: &mut [f32],
    lengths: &mut [i32],
    summaries: &mut [f32],
    key_low: u32,
    key_high: u32,
    reset_purpose: u32,
    action_purpose: u32,
    iteration: u32,
    first_trajectory: u32,
    horizon: u32,
    exploration: f32,
    #[comptime] network: Network,
) {
    let state_size = comptime!(E::STATE);
    let observation_size = comptime!(E::OBSERVATION);
    let action_size = comptime!(E::ACTION);
    let mut weights = Shared::<[Vector<f32, Const<LANES>>]>::new_slice(comptime!(network.shared_count()));
    load(parameters, &mut weights, comptime!(network.clone()));
    sync_cube();

    let trajectory = ABSOLUTE_POS;
    if trajectory < lengths.len() {
        let stream = first_trajectory + trajectory as u32;
        let mut words = Array::<u32>::new(4usize);
        let mut state = Array::<f32>::new(state_size);
        let mut next = Array::<f32>::new(state_size);
        let mut observation = Array::<f32>::new(observation_size);
        let mut centre = Array::<f32>::new(comptime!(E::ACTION.next_multiple_of(LANES)));
        let mut action = Array::<f32>::new(action_size);
        let mut noise = Array::<f32>::new(comptime!(E::ACTION.next_multiple_of(4)));
        let mut deviation = Array::<f32>::new(action_size);
        let mut first = Array::<f32>::new(comptime!(network.widest()));
        let mut second = Array::<f32>::new(comptime!(network.widest()));
        #[unroll]
        for index in 0..action_size {
            deviation[index] = exp(log_std[index]) * exploration;
        }
        reset::<E>(&mut state, &mut words, key_low, key_high, reset_purpose, iteration, stream);

        let mut running = u32::new(1);
        let mut unstable = f32::new(0.0);
        let mut length = i32::new(0);
        let mut total = f32::new(0.0);
        // What rounding has taken from the total.
        let mut lost = f32::new(0.0);
        for time in 0..horizon {
            let place = trajectory * horizon as usize + time as usize;
            let mut made = u32::new(0);
            if running == 1u32 {
                observe::<E>(&state, &mut observation);
                mean(
                    &weights,
                    &observation,
                    &mut centre,
                    &mut first,
                    &mut second,
                    comptime!(network.clone()),
                );
                #[unroll]
                for block in 0..comptime!(E::ACTION.div_ceil(4)) {
                    words[0] = action_purpose + comptime!(block as u32 * BLOCK);
                    words[1] = iteration;
                    words[2] = stream;
                    words[3] = time;
                    philox4x32_10(&mut words, key_low, key_high);
                    let (a, b) = normal_pair(words[0], words[1]);
                    noise[comptime!(4 * block)] = a;
                    noise[comptime!(4 * block + 1)] = b;
                    if comptime!(E::ACTION > 4 * block + 2) {
                        let (c, d) = normal_pair(words[2], words[3]);
                        noise[comptime!(4 * block + 2)] = c;
                        noise[comptime!(4 * block + 3)] = d;
                    }
                }
                #[unroll]
                for index in 0..action_size {
                    action[index] = centre[index] + deviation[index] * noise[index];
                }
                let (reward, terminated) = step::<E>(&state, &action, &mut next);

                let mut largest = reward.abs();
                // A NaN, which `max` may leave out, stays in a sum.
                let mut all = reward;
                #[unroll]
                for index in 0..state_size {
                    largest = max(largest, next[index].abs());
                    all += next[index];
                }
                #[unroll]
                for index in 0..action_size {
                    largest = max(largest, action[index].abs());
                    all += action[index];
                }
                if largest <= LARGEST && !all.is_nan() {
                    made = u32::new(1);
                    length += 1i32;
                    let addend = reward - lost;
                    let sum = total + addend;
                    lost = (sum - total) - addend;
                    total = sum;
                    rewards[place] = reward;
                    #[unroll]
                    for index in 0..observation_size {
                        observations[place * observation_size + index] = observation[index];
                    }
                    #[unroll]
                    for index in 0..action_size {
                        actions[place * action_size + index] = action[index];
                        means[place * action_size + index] = centre[index];
                    }
                    #[unroll]
                    for index in 0..state_size {
                        state[index] = next[index];
                    }
                    if terminated {
                        running = u32::new(0);
                    }
                } else {
                    running = u32::new(0);
                    unstable = f32::new(1.0);
                }
            }
            if made == 0u32 {
                rewards[place] = f32::new(0.0);
                #[unroll]
                for index in 0..observation_size {
                    observations[place * observation_size + index] = f32::new(0.0);
                }
                #[unroll]
                for index in 0..action_size {
                    actions[place * action_size + index] = f32::new(0.0);
                    means[place * action_size + index] = f32::new(0.0);
                }
            }
        }
        lengths[trajectory] = length;
        summaries[trajectory * 2] = total;
        summaries[trajectory * 2 + 1] = unstable;
    }
}

//! Second moments of batches and the coefficients that follow from them, in the cube of [`crate::weights`].

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use crate::lanes::{cube_max, cube_sum, lane_max, lane_sum};
use crate::numeric::{LOG_ZERO, exp, log, lost};
use crate::weights::WeightPlan;

/// Adds the statistics of every trajectory's parts `[parts, window, batch]` up, in the place of the first part.
#[cube]
pub(crate) fn add_parts(
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    window: usize,
    batch: usize,
    parts: usize,
    #[comptime] plan: WeightPlan,
) {
    let lanes = comptime!(plan.lanes);
    let unit = UNIT_POS as usize;
    let mut i = unit / lanes;
    while i < window {
        let mut j = unit % lanes;
        while j < batch {
            let place = i * batch + j;
            let mut ratio = log_ratio[place];
            let mut ratio_lost = f32::new(0.0);
            let mut total = moment_exponent[place];
            let mut total_lost = f32::new(0.0);
            for part in 1..parts {
                let term = log_ratio[part * window * batch + place];
                let sum = ratio + term;
                ratio_lost += lost(ratio, term, sum);
                ratio = sum;
                let term = moment_exponent[part * window * batch + place];
                let sum = total + term;
                total_lost += lost(total, term, sum);
                total = sum;
            }
            ratio += ratio_lost;
            total += total_lost;
            log_ratio[place] = ratio;
            // A selection keeps a NaN.
            let infinity = f32::new(comptime!(-LOG_ZERO));
            moment_exponent[place] = select(total > infinity, infinity, total);
            j += lanes;
        }
        i += comptime!(plan.units / plan.lanes);
    }
}

/// `ln D_i = logsumexp_j x_ij - ln N` of every batch, with the closed form's exponents or `-2 l_ij`.
#[cube]
pub(crate) fn log_moments(
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    memory: &mut [f32],
    window: usize,
    batch: usize,
    log_batch: f32,
    #[comptime] plan: WeightPlan,
) {
    let lanes = comptime!(plan.lanes);
    let groups = comptime!(plan.units / plan.lanes);
    let unit = UNIT_POS as usize;
    let (group, lane) = (unit / lanes, unit % lanes);
    let mut first = 0_usize;
    while first < window {
        let i = first + group;
        // Below every exponent, and no lane without one adds anything.
        let mut largest = f32::new(-3e38);
        if i < window {
            let mut j = lane;
            while j < batch {
                largest = largest.max(moment_term(log_ratio, moment_exponent, i * batch + j, plan));
                j += lanes;
            }
        }
        let largest = lane_max(memory, largest, lane, lanes);
        let mut sum = f32::new(0.0);
        if i < window {
            let mut j = lane;
            while j < batch {
                sum += exp(moment_term(log_ratio, moment_exponent, i * batch + j, plan) - largest);
                j += lanes;
            }
        }
        let sum = lane_sum(memory, sum, lane, lanes);
        if lane == 0 && i < window {
            memory[comptime!(plan.place(0)) + i] = (log(sum) - log_batch) + largest;
        }
        first += groups;
    }
    sync_cube();
}

#[cube]
fn moment_term(
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    place: usize,
    #[comptime] plan: WeightPlan,
) -> f32 {
    if comptime!(plan.closed_form) { moment_exponent[place] } else { log_ratio[place] * -2.0_f32 }
}

/// `ln alpha_i` and `ln lambda_i` of every batch.
#[cube]
pub(crate) fn coefficients(
    memory: &mut [f32],
    window: usize,
    log_window: f32,
    log_lambda: f32,
    #[comptime] plan: WeightPlan,
) {
    let (moments, alphas, lambdas) = comptime!((plan.place(0), plan.place(1), plan.place(2)));
    let unit = UNIT_POS as usize;
    let mut largest = f32::new(-3e38);
    let mut log_total = f32::new(0.0);
    if comptime!(plan.adaptive_alpha) {
        let mut i = unit;
        while i < window {
            largest = largest.max(memory[moments + i] * -0.5_f32);
            i += comptime!(plan.units);
        }
        largest = cube_max(memory, largest, comptime!(plan.units));
        let mut sum = f32::new(0.0);
        let mut i = unit;
        while i < window {
            sum += exp(memory[moments + i] * -0.5_f32 - largest);
            i += comptime!(plan.units);
        }
        log_total = log(cube_sum(memory, sum, comptime!(plan.units)));
    }
    let mut i = unit;
    while i < window {
        let half = memory[moments + i] * -0.5_f32;
        let mut log_alpha = -log_window;
        if comptime!(plan.adaptive_alpha) {
            log_alpha = ((half - largest) - log_total).max(f32::new(LOG_ZERO));
        }
        let mut log_correction = log_lambda;
        if comptime!(plan.adaptive_lambda) {
            log_correction = (log_lambda + half).max(f32::new(LOG_ZERO)).min(f32::new(0.0));
        }
        memory[alphas + i] = log_alpha;
        memory[lambdas + i] = log_correction;
        i += comptime!(plan.units);
    }
    sync_cube();
}

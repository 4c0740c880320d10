//! Second moments, coefficients, weights and diagnostics from the trajectories' statistics: one cube, one launch.
//!
//! The formulas are the estimator's ([`estimator::CoefficientRule`], [`estimator::power_mean_weights`] and its
//! neighbours, [`estimator::Diagnostics`]), in logarithms throughout.

use burn_cubecl::cubecl;
use cubecl::prelude::*;
use estimator::{
    CoefficientRule, DiagnosticsReport, DivergenceEstimator, MixtureRule, theoretical_log_lambda,
};

use crate::device::{Buffer, KernelDevice, length};
use crate::lanes::{cube_max, cube_sum, lane_max, lane_sum};
use crate::moments::{add_parts, coefficients, log_moments};
use crate::numeric::{exp, exp_m1, log_1m_exp, log_add_exp};
use crate::plan::Limits;
use crate::statistics::TrajectoryStatistics;

/// Units of the cube, as many as WebGPU guarantees.
const UNITS: usize = 256;
/// From how many trajectories on the cube has how many units, where the device runs so many; fewer trajectories are weighed sooner where
/// fewer units wait for each other.
const MANY_UNITS: [(usize, usize); 2] = [(16_384, 1024), (1024, 512)];
/// Numbers for every batch: `ln D`, `ln alpha`, `ln lambda`, sum and sum of squares of its weights.
const PER_BATCH: usize = 5;
/// The largest logarithm of a weight.
const LARGEST_LOG: f32 = 80.0;

/// How trajectories are weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightRule {
    /// `1 / (N omega_k)`.
    Uniform,
    /// `exp(-l) / (N omega_k)`, with ratios of at most `exp(log_clip)`.
    MultipleImportance {
        /// Logarithm of the largest ratio; `f64::INFINITY` for no bound.
        log_clip: f64,
    },
    /// Power-mean-corrected weights.
    PowerMean {
        /// The coefficients' rule.
        rule: CoefficientRule,
        /// The second moments' estimator.
        divergence: DivergenceEstimator,
        /// The exponent, at most 0.
        exponent: f64,
    },
}

/// What the kernel is compiled for.
#[expect(clippy::struct_excessive_bools, reason = "each leaves a part of the kernel out")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WeightPlan {
    pub(crate) kind: Kind,
    pub(crate) closed_form: bool,
    pub(crate) adaptive_alpha: bool,
    pub(crate) adaptive_lambda: bool,
    pub(crate) geometric: bool,
    /// Most batches.
    pub(crate) capacity: usize,
    /// Units of the cube, a power of two.
    pub(crate) units: usize,
    /// Units that share a batch, a power of two.
    pub(crate) lanes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Uniform,
    MultipleImportance,
    PowerMean,
}

/// The kernel for one rule and one size of window.
#[derive(Clone, Debug)]
pub struct Weights {
    rule: WeightRule,
    plan: WeightPlan,
}

impl Weights {
    /// Plans the kernel for windows of up to `capacity` batches of `batch` trajectories; `None` when so many batches do not fit
    /// into a cube's memory.
    pub fn new(rule: WeightRule, [capacity, batch]: [usize; 2], limits: Limits) -> Option<Self> {
        let plan = |units: usize| WeightPlan {
            kind: match rule {
                WeightRule::Uniform => Kind::Uniform,
                WeightRule::MultipleImportance { .. } => Kind::MultipleImportance,
                WeightRule::PowerMean { .. } => Kind::PowerMean,
            },
            closed_form: matches!(
                rule,
                WeightRule::PowerMean { divergence: DivergenceEstimator::ClosedForm, .. }
            ),
            adaptive_alpha: matches!(
                rule,
                WeightRule::PowerMean {
                    rule: CoefficientRule::Adaptive { .. }
                        | CoefficientRule::Fixed { mixture: MixtureRule::Adaptive, .. },
                    ..
                }
            ),
            adaptive_lambda: matches!(
                rule,
                WeightRule::PowerMean { rule: CoefficientRule::Adaptive { .. }, .. }
            ),
            geometric: matches!(rule, WeightRule::PowerMean { exponent: 0.0, .. }),
            capacity,
            units,
            lanes: units / capacity.next_power_of_two().min(units),
        };
        let fits = |plan: &WeightPlan| {
            plan.memory() * size_of::<f32>() <= limits.shared_bytes && plan.units <= limits.units
        };
        let many = MANY_UNITS.into_iter().filter(|(least, _)| capacity * batch >= *least);
        let units = many.map(|(_, units)| units).chain([UNITS]);
        units.map(plan).find(fits).map(|plan| Self { rule, plan })
    }

    /// Weights `[window, batch]` of windows of `[window, batch]` trajectories. Writes their diagnostics, in the order of
    /// [`DiagnosticsReport::unpack`], to the beginning of `packed`, and from `place` on the log-ratios, unless the weights
    /// are uniform, and the weights once more. Statistics in several parts become their sums, in the place of the first part. One
    /// launch.
    ///
    /// # Panics
    /// When a buffer is too small, or there are more batches than planned for.
    pub fn launch(
        &self,
        statistics: &mut TrajectoryStatistics,
        [window, batch]: [usize; 2],
        (packed, place): (&Buffer, usize),
        device: &KernelDevice,
    ) -> Buffer {
        let trajectories = window * batch;
        let copies = if self.rule == WeightRule::Uniform { 1 } else { 2 };
        assert!(window <= self.plan.capacity, "at most {} batches, not {window}", self.plan.capacity);
        assert!(place >= DiagnosticsReport::packed_len(window), "room for the diagnostics");
        assert!(length(packed) >= place + copies * trajectories, "room for weights and log-ratios");
        // Uniform weights read none.
        let parts = if copies == 1 { 1 } else { statistics.parts };
        let statistics_needed = if copies == 1 { 0 } else { trajectories * parts };
        assert!(parts > 0, "statistics of at least one part");
        assert!(length(&statistics.log_ratio) >= statistics_needed, "a log-ratio for every trajectory");
        assert!(
            length(&statistics.moment_exponent) >= statistics_needed,
            "a moment exponent for every trajectory"
        );
        let weights = device.empty(trajectories);
        let count = trajectories as f64;
        // The logarithm of lambda is `log_lambda`, less half of `ln D` where it is adaptive.
        let (log_lambda, power) = match self.rule {
            WeightRule::PowerMean { rule, exponent: power, .. } => {
                let log_lambda = match rule {
                    CoefficientRule::Adaptive { scale } => 0.5 * (scale.ln() - count.ln()),
                    CoefficientRule::Theoretical { second_moment, delta, parameter_count } => {
                        theoretical_log_lambda(second_moment, delta, parameter_count, count.ln())
                    }
                    CoefficientRule::Fixed { lambda, .. } => lambda.ln().max(estimator::LOG_ZERO),
                };
                (log_lambda, power)
            }
            _ => (estimator::LOG_ZERO, -1.0),
        };
        let log_clip = match self.rule {
            WeightRule::MultipleImportance { log_clip } => log_clip.min(-estimator::LOG_ZERO),
            _ => -estimator::LOG_ZERO,
        };
        // SAFETY: no index leaves its buffer: statistics and weights have `window * batch` numbers, at most `capacity` batches have
        // room in shared memory, and `packed` has room for what the documentation says is written there.
        unsafe {
            weights_kernel::launch_unchecked(
                device.client(),
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(self.plan.units as u32),
                statistics.log_ratio.clone().into_buffer_arg(),
                statistics.moment_exponent.clone().into_buffer_arg(),
                weights.clone().into_buffer_arg(),
                packed.clone().into_buffer_arg(),
                window as u32,
                batch as u32,
                count as f32,
                (batch as f64).ln() as f32,
                (window as f64).ln() as f32,
                log_lambda as f32,
                power as f32,
                log_clip as f32,
                place as u32,
                parts as u32,
                self.plan,
            );
        }
        if copies > 1 {
            statistics.parts = 1;
        }
        weights
    }
}

impl WeightPlan {
    /// Numbers of shared memory.
    fn memory(&self) -> usize {
        self.units + PER_BATCH * self.capacity
    }

    /// Place of the numbers of one kind.
    pub(crate) fn place(&self, kind: usize) -> usize {
        self.units + kind * self.capacity
    }
}

#[cube(launch_unchecked)]
fn weights_kernel(
    log_ratio: &mut [f32],
    moment_exponent: &mut [f32],
    weights: &mut [f32],
    packed: &mut [f32],
    window: u32,
    batch: u32,
    count: f32,
    log_batch: f32,
    log_window: f32,
    log_lambda: f32,
    power: f32,
    log_clip: f32,
    to: u32,
    parts: u32,
    #[comptime] plan: WeightPlan,
) {
    let mut memory = Shared::<[f32]>::new_slice(comptime!(plan.memory()));
    let (window, batch) = (window as usize, batch as usize);
    let (alphas, lambdas) = comptime!((plan.place(1), plan.place(2)));
    let lanes = comptime!(plan.lanes);
    let groups = comptime!(plan.units / plan.lanes);
    let unit = UNIT_POS as usize;
    let (group, lane) = (unit / lanes, unit % lanes);

    // A unit reads back only what it wrote itself: sums of the parts, and weights.
    if parts > 1 {
        add_parts(log_ratio, moment_exponent, window, batch, parts as usize, plan);
    }
    if comptime!(plan.kind == Kind::PowerMean) {
        log_moments(log_ratio, moment_exponent, &mut memory, window, batch, log_batch, plan);
        coefficients(&mut memory, window, log_window, log_lambda, plan);
    }

    let mut largest = f32::new(0.0);
    let mut first = 0_usize;
    while first < window {
        let i = first + group;
        if i < window {
            let mut log_alpha = f32::new(0.0);
            let mut log_correction = f32::new(0.0);
            let mut log_complement = f32::new(0.0);
            if comptime!(plan.kind == Kind::PowerMean) {
                log_alpha = memory[alphas + i] - log_batch;
                log_correction = memory[lambdas + i];
                log_complement = log_1m_exp(log_correction);
            }
            let mut j = lane;
            while j < batch {
                let place = i * batch + j;
                let mut weight = 1.0_f32 / count;
                let mut copy = to as usize + place;
                if comptime!(plan.kind != Kind::Uniform) {
                    let ratio = log_ratio[place];
                    packed[copy] = ratio;
                    copy += window * batch;
                    let log_weight = if comptime!(plan.kind == Kind::MultipleImportance) {
                        (-ratio).min(log_clip) - (log_window + log_batch)
                    } else if comptime!(plan.geometric) {
                        ratio * exp_m1(log_correction) + log_alpha
                    } else {
                        let of_ratio = log_complement - power * ratio;
                        log_add_exp(of_ratio, log_correction) / power + log_alpha
                    };
                    weight = exp(log_weight.min(f32::new(LARGEST_LOG)));
                    // A NaN stays one.
                    weight = select(ratio.is_nan(), ratio, weight);
                }
                weights[place] = weight;
                packed[copy] = weight;
                largest = largest.max(weight);
                j += lanes;
            }
        }
        first += groups;
    }
    let largest = cube_max(&mut memory, largest, comptime!(plan.units)).max(f32::new(f32::MIN_POSITIVE));
    diagnostics(weights, packed, &mut memory, window, batch, largest, plan);
}

/// Effective sample sizes, shares and coefficients, in the order of [`DiagnosticsReport::unpack`].
#[cube]
fn diagnostics(
    weights: &mut [f32],
    packed: &mut [f32],
    memory: &mut [f32],
    window: usize,
    batch: usize,
    largest: f32,
    #[comptime] plan: WeightPlan,
) {
    let (moments, alphas, lambdas) = comptime!((plan.place(0), plan.place(1), plan.place(2)));
    let (sums, squares) = comptime!((plan.place(3), plan.place(4)));
    let lanes = comptime!(plan.lanes);
    let groups = comptime!(plan.units / plan.lanes);
    let unit = UNIT_POS as usize;
    let (group, lane) = (unit / lanes, unit % lanes);
    let floor = f32::new(f32::MIN_POSITIVE);

    let mut first = 0_usize;
    while first < window {
        let i = first + group;
        // Scaled by the batch's largest weight, and then by that among all: no batch's squares all underflow.
        let mut own_largest = f32::new(0.0);
        if i < window {
            let mut j = lane;
            while j < batch {
                own_largest = own_largest.max(weights[i * batch + j]);
                j += lanes;
            }
        }
        let own_largest = lane_max(memory, own_largest, lane, lanes).max(floor);
        let mut sum = f32::new(0.0);
        let mut square = f32::new(0.0);
        if i < window {
            let mut j = lane;
            while j < batch {
                let scaled = weights[i * batch + j] / own_largest;
                sum += scaled;
                square += scaled * scaled;
                j += lanes;
            }
        }
        let sum = lane_sum(memory, sum, lane, lanes);
        let square = lane_sum(memory, square, lane, lanes);
        if lane == 0 && i < window {
            packed[2 + i] = sum * sum / square.max(floor);
            let relative = own_largest / largest;
            memory[sums + i] = sum * relative;
            memory[squares + i] = square * relative * relative;
        }
        first += groups;
    }
    sync_cube();

    let mut sum = f32::new(0.0);
    let mut square = f32::new(0.0);
    let mut i = unit;
    while i < window {
        sum += memory[sums + i];
        square += memory[squares + i];
        i += comptime!(plan.units);
    }
    let total = cube_sum(memory, sum, comptime!(plan.units));
    let square = cube_sum(memory, square, comptime!(plan.units));
    if unit == 0 {
        packed[0] = total * total / square.max(floor);
        packed[1] = largest * (window * batch) as f32;
    }
    let mut i = unit;
    while i < window {
        packed[2 + window + i] = memory[sums + i] / total.max(floor);
        let mut log_moment = f32::new(0.0);
        let mut alpha = 1.0_f32 / (window as f32);
        let mut lambda = f32::new(0.0);
        if comptime!(plan.kind == Kind::PowerMean) {
            log_moment = memory[moments + i];
            alpha = exp(memory[alphas + i]);
            lambda = exp(memory[lambdas + i]);
        }
        packed[2 + 2 * window + i] = log_moment;
        packed[2 + 3 * window + i] = alpha;
        packed[2 + 4 * window + i] = lambda;
        i += comptime!(plan.units);
    }
}

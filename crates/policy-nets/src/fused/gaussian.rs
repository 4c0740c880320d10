//! What the Gaussian policy adds to the mean network at every step.

use pulp::Simd;

use super::trajectories::TrajectoryStatistics;

/// Constants of one pair of behaviour and target policy with standard deviations `s_b` and `s_t`, every one a row of
/// `width` numbers, zero beyond `action_size`.
///
/// For a step with action a, behaviour mean `m_b` and target mean `m_t` the statistics are, summed over the components,
///
/// ```text
/// l = ln s_t - ln s_b + (m_b - m_t)(2 a - m_b - m_t) / (2 s_t^2) + (a - m_b)^2 (1 / (2 s_t^2) - 1 / (2 s_b^2))
/// q = 2 ln s_b - ln s_t - ln(2 s_b^2 - s_t^2) / 2 + (m_t - m_b)^2 / (2 s_b^2 - s_t^2)
/// ```
///
/// The log-ratio is arranged so that equal deviations leave the difference of the means as a factor, and nothing
/// cancels.
#[derive(Clone, Debug)]
pub(super) struct Gaussian {
    action_size: usize,
    /// `1 / s_t^2`.
    precision: Vec<f32>,
    /// `1 / (2 s_t^2)`.
    half_precision: Vec<f32>,
    /// `1 / (2 s_t^2) - 1 / (2 s_b^2)`.
    half_precision_difference: Vec<f32>,
    /// `1 / (2 s_b^2 - s_t^2)`; zero when that is not positive.
    divergence_factor: Vec<f32>,
    /// Sums over the components of the terms without means.
    per_step: TrajectoryStatistics,
}

impl Gaussian {
    /// The constants for these logarithms of standard deviations `[action_size]`.
    pub(super) fn new(behaviour_log_std: &[f32], target_log_std: &[f32], width: usize) -> Self {
        let row = vec![0.0; width];
        let mut gaussian = Self {
            action_size: target_log_std.len(),
            precision: row.clone(),
            half_precision: row.clone(),
            half_precision_difference: row.clone(),
            divergence_factor: row,
            per_step: TrajectoryStatistics::default(),
        };
        for (index, (&behaviour, &target)) in behaviour_log_std.iter().zip(target_log_std).enumerate() {
            let (log_b, log_t) = (f64::from(behaviour), f64::from(target));
            let (variance_b, variance_t) = ((2.0 * log_b).exp(), (2.0 * log_t).exp());
            gaussian.precision[index] = (1.0 / variance_t) as f32;
            gaussian.half_precision[index] = (0.5 / variance_t) as f32;
            gaussian.half_precision_difference[index] = (0.5 / variance_t - 0.5 / variance_b) as f32;
            gaussian.per_step.log_ratio += log_t - log_b;
            let excess = 2.0 * variance_b - variance_t;
            if excess > 0.0 {
                gaussian.divergence_factor[index] = (1.0 / excess) as f32;
                gaussian.per_step.divergence += 2.0 * log_b - log_t - excess.ln() / 2.0;
            } else {
                gaussian.per_step.divergence = f64::INFINITY;
            }
        }
        gaussian
    }

    /// Vectors of the constants' rows, each with its columns.
    #[inline(always)]
    fn columns<S: Simd>(&self) -> impl Iterator<Item = (usize, Columns)> {
        let size = self.action_size;
        (0..size.div_ceil(S::F32_LANES)).map(move |vector| {
            let first = vector * S::F32_LANES;
            (vector, Columns { first, count: S::F32_LANES.min(size - first), size })
        })
    }

    /// Adds the statistics of the steps in `actions` and `behaviour_means` `[rows, action_size]`, given the target
    /// `means` `[rows, width]`.
    #[inline(always)]
    pub(super) fn accumulate_statistics<S: Simd>(
        &self,
        simd: S,
        actions: &[f32],
        behaviour_means: &[f32],
        means: &[f32],
        statistics: &mut TrajectoryStatistics,
    ) {
        let (means, stride) = (S::as_simd_f32s(means).0, self.precision.len() / S::F32_LANES);
        let rows = means.len() / stride;
        statistics.log_ratio += self.per_step.log_ratio * rows as f64;
        statistics.divergence += self.per_step.divergence * rows as f64;
        for (vector, columns) in self.columns::<S>() {
            let half_precision = S::as_simd_f32s(&self.half_precision).0[vector];
            let half_precision_difference = S::as_simd_f32s(&self.half_precision_difference).0[vector];
            let divergence_factor = S::as_simd_f32s(&self.divergence_factor).0[vector];
            let (mut log_ratio, mut divergence) = (Sum::new(simd), Sum::new(simd));
            for row in 0..rows {
                let action = columns.load(simd, actions, row);
                let behaviour = columns.load(simd, behaviour_means, row);
                let mean = means[row * stride + vector];
                let (difference, deviation) =
                    (simd.sub_f32s(behaviour, mean), simd.sub_f32s(action, behaviour));
                let both_deviations = simd.add_f32s(deviation, simd.sub_f32s(action, mean));
                let scaled = simd.mul_f32s(simd.mul_f32s(deviation, deviation), half_precision_difference);
                let product = simd.mul_f32s(difference, both_deviations);
                log_ratio.add(simd, simd.mul_add_e_f32s(product, half_precision, scaled));
                divergence.add(simd, simd.mul_f32s(simd.mul_f32s(difference, difference), divergence_factor));
            }
            statistics.log_ratio += log_ratio.total();
            statistics.divergence += divergence.total();
        }
    }

    /// Replaces the `means` `[rows, width]` by the gradient of `sum_t returns[t] log pi(a_t | s_t)` with respect to them,
    /// `returns[t] (a - mean) / s_t^2`, and adds the gradient with respect to the log standard deviations,
    /// `sum_t returns[t] ((a - mean)^2 / s_t^2 - 1)`.
    #[inline(always)]
    pub(super) fn score<S: Simd>(
        &self,
        simd: S,
        actions: &[f32],
        returns: &[f32],
        means: &mut [f32],
        log_std_gradient: &mut [f32],
    ) {
        let (means, stride) = (S::as_mut_simd_f32s(means).0, self.precision.len() / S::F32_LANES);
        let minus_one = simd.splat_f32s(-1.0);
        for (vector, columns) in self.columns::<S>() {
            let precision = S::as_simd_f32s(&self.precision).0[vector];
            let mut sum = simd.splat_f32s(0.0);
            for (row, &return_) in returns.iter().enumerate() {
                let mean = &mut means[row * stride + vector];
                let deviation = simd.sub_f32s(columns.load(simd, actions, row), *mean);
                let (score, return_) = (simd.mul_f32s(deviation, precision), simd.splat_f32s(return_));
                *mean = simd.mul_f32s(return_, score);
                sum = simd.mul_add_e_f32s(return_, simd.mul_add_e_f32s(deviation, score, minus_one), sum);
            }
            let sums = [sum];
            let targets = &mut log_std_gradient[columns.first..][..columns.count];
            for (target, value) in targets.iter_mut().zip(pulp::bytemuck::cast_slice::<_, f32>(&sums)) {
                *target += value;
            }
        }
    }
}

/// The columns of a `[rows, size]` matrix that one vector holds.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    count: usize,
    size: usize,
}

impl Columns {
    /// These columns of a row, with zeros in what is left of the vector.
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, values: &[f32], row: usize) -> S::f32s {
        simd.partial_load_f32s(&values[row * self.size + self.first..][..self.count])
    }
}

/// A sum in every lane that carries the rounding errors along, about as exact as one in double precision (Knuth's
/// two-sum).
struct Sum<S: Simd> {
    sum: S::f32s,
    error: S::f32s,
}

impl<S: Simd> Sum<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Self { sum: simd.splat_f32s(0.0), error: simd.splat_f32s(0.0) }
    }

    #[inline(always)]
    fn add(&mut self, simd: S, term: S::f32s) {
        let sum = simd.add_f32s(self.sum, term);
        let added = simd.sub_f32s(sum, self.sum);
        let lost = simd.sub_f32s(self.sum, simd.sub_f32s(sum, added));
        let error = simd.add_f32s(lost, simd.sub_f32s(term, added));
        self.error = simd.add_f32s(self.error, error);
        self.sum = sum;
    }

    /// The sum over the lanes.
    #[inline(always)]
    fn total(self) -> f64 {
        let parts = [self.sum, self.error];
        pulp::bytemuck::cast_slice::<_, f32>(&parts).iter().map(|&value| f64::from(value)).sum()
    }
}

//! What the Gaussian policy adds to the mean network at every step.

use super::{tile::PANEL_VECTORS, trajectories::TrajectoryStatistics, vectors::Vectors};

/// Constants of one pair of behaviour and target policy with standard deviations `s_b` and `s_t`. The statistics take actions and
/// means as rows of numbers without gaps, so their constants are repeated until components and vectors end together.
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
    /// The constants for these logarithms of standard deviations `[action_size]` and vectors of `lanes` numbers, a power
    /// of two.
    pub(super) fn new(behaviour_log_std: &[f32], target_log_std: &[f32], lanes: usize) -> Self {
        let size = target_log_std.len();
        let row = vec![0.0; size];
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
        // The smallest common multiple of `size` and `lanes`, in rows.
        let repetitions = lanes >> size.trailing_zeros().min(lanes.trailing_zeros());
        for row in [
            &mut gaussian.half_precision,
            &mut gaussian.half_precision_difference,
            &mut gaussian.divergence_factor,
        ] {
            *row = row.repeat(repetitions);
        }
        gaussian
    }

    /// Adds the statistics of the steps in `actions`, `behaviour_means` and the target `means`, all `[rows, action_size]`;
    /// `means` may be longer.
    #[inline(always)]
    pub(super) fn accumulate_statistics<V: Vectors>(
        &self,
        simd: V,
        actions: &[f32],
        behaviour_means: &[f32],
        means: &[f32],
        statistics: &mut TrajectoryStatistics,
    ) {
        let rows = actions.len() / self.action_size;
        statistics.log_ratio += self.per_step.log_ratio * rows as f64;
        statistics.divergence += self.per_step.divergence * rows as f64;
        let mut sums = StatisticsSums { log_ratio: Sum::new(simd), divergence: Sum::new(simd) };
        let (count, means) = (actions.len(), &means[..actions.len()]);
        let half_precisions = V::vectors(&self.half_precision);
        for (index, &half_precision) in half_precisions.iter().enumerate() {
            let constants = StatisticsConstants::<V> {
                half_precision,
                half_precision_difference: V::vectors(&self.half_precision_difference)[index],
                divergence_factor: V::vectors(&self.divergence_factor)[index],
            };
            let mut start = index * V::LANES;
            while start + V::LANES <= count {
                let (action, behaviour) = (V::load(&actions[start..]), V::load(&behaviour_means[start..]));
                sums.add(simd, &constants, action, behaviour, V::load(&means[start..]));
                start += half_precisions.len() * V::LANES;
            }
            if start < count {
                let (action, behaviour) = (&actions[start..], &behaviour_means[start..]);
                let (action, behaviour) = (simd.load_part(action), simd.load_part(behaviour));
                sums.add(simd, &constants, action, behaviour, simd.load_part(&means[start..]));
            }
        }
        let StatisticsSums { log_ratio, divergence } = sums;
        statistics.log_ratio += log_ratio.total();
        statistics.divergence += divergence.total();
    }

    /// Writes the gradient of `w sum_t returns[t] log pi(a_t | s_t)` with respect to the means, `w returns[t] (a - mean) / s_t^2`,
    /// to panels, and adds the gradient with respect to the log standard deviations,
    /// `w sum_t returns[t] ((a - mean)^2 / s_t^2 - 1)`. `actions` and `means` are `[rows, action_size]`.
    #[inline(always)]
    pub(super) fn score<V: Vectors>(
        &self,
        simd: V,
        (actions, means): (&[f32], &[f32]),
        (returns, weight): (&[f32], f32),
        panels: &mut [f32],
        log_std_gradient: &mut [f32],
    ) {
        let (rows, minus_one) = (returns.len(), simd.splat(-1.0));
        let (panels, _) = V::vectors_mut(panels).as_chunks_mut::<PANEL_VECTORS>();
        for (index, log_std_gradient) in log_std_gradient.chunks_mut(V::LANES).enumerate() {
            let columns = log_std_gradient.len();
            let precision = simd.load_part(&self.precision[index * V::LANES..][..columns]);
            let panel = &mut panels[index / PANEL_VECTORS * rows..][..rows];
            let mut sum = simd.splat(0.0);
            let mut start = index * V::LANES;
            for (target, &return_) in panel.iter_mut().zip(returns) {
                let action = simd.load_first(&actions[start..], columns);
                let mean = simd.load_first(&means[start..], columns);
                start += self.action_size;
                let (deviation, return_) = (simd.sub(action, mean), simd.splat(weight * return_));
                let score = simd.mul(deviation, precision);
                target[index % PANEL_VECTORS] = simd.mul(return_, score);
                sum = simd.mul_add(return_, simd.mul_add(deviation, score, minus_one), sum);
            }
            let sum = [sum];
            for (total, value) in log_std_gradient.iter_mut().zip(pulp::bytemuck::cast_slice::<_, f32>(&sum))
            {
                *total += value;
            }
        }
    }
}

/// The constants of [`Gaussian`] for one vector of components.
struct StatisticsConstants<V: Vectors> {
    half_precision: V::Vector,
    half_precision_difference: V::Vector,
    divergence_factor: V::Vector,
}

/// The sums of the statistics' terms with means.
struct StatisticsSums<V: Vectors> {
    log_ratio: Sum<V>,
    divergence: Sum<V>,
}

impl<V: Vectors> StatisticsSums<V> {
    #[inline(always)]
    fn add(
        &mut self,
        simd: V,
        constants: &StatisticsConstants<V>,
        action: V::Vector,
        behaviour: V::Vector,
        mean: V::Vector,
    ) {
        let (difference, deviation) = (simd.sub(behaviour, mean), simd.sub(action, behaviour));
        let both_deviations = simd.add(deviation, simd.sub(action, mean));
        let scaled = simd.mul(simd.mul(deviation, deviation), constants.half_precision_difference);
        let product = simd.mul(difference, both_deviations);
        self.log_ratio.add(simd, simd.mul_add(product, constants.half_precision, scaled));
        let square = simd.mul(difference, difference);
        self.divergence.add(simd, simd.mul(square, constants.divergence_factor));
    }
}

/// A sum in every lane that carries the rounding errors along, about as exact as one in double precision (Knuth's
/// two-sum).
struct Sum<V: Vectors> {
    sum: V::Vector,
    error: V::Vector,
}

impl<V: Vectors> Sum<V> {
    #[inline(always)]
    fn new(simd: V) -> Self {
        Self { sum: simd.splat(0.0), error: simd.splat(0.0) }
    }

    #[inline(always)]
    fn add(&mut self, simd: V, term: V::Vector) {
        let sum = simd.add(self.sum, term);
        let added = simd.sub(sum, self.sum);
        let lost = simd.sub(self.sum, simd.sub(sum, added));
        let error = simd.add(lost, simd.sub(term, added));
        self.error = simd.add(self.error, error);
        self.sum = sum;
    }

    /// The sum over the lanes.
    #[inline(always)]
    fn total(self) -> f64 {
        let parts = [self.sum, self.error];
        pulp::bytemuck::cast_slice::<_, f32>(&parts).iter().map(|&value| f64::from(value)).sum()
    }
}

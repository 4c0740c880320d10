//! Stored trajectories, and what the Gaussian policy adds to the mean network at every step.

use super::network::FusedNetwork;

/// Trajectories of a window in padded arrays, oldest batch first.
///
/// | field | shape | content |
/// |---|---|---|
/// | `observations` | `[window, batch, horizon, observation_size]` | s |
/// | `actions` | `[window, batch, horizon, action_size]` | a, as drawn |
/// | `behaviour_means` | `[window, batch, horizon, action_size]` | mean of the policy that drew a |
/// | `behaviour_log_std` | `[window, action_size]` | logarithm of its standard deviation |
/// | `lengths` | `[window, batch]` | steps of each trajectory; what lies behind them is never read |
#[derive(Clone, Copy, Debug)]
pub struct Trajectories<'a> {
    /// Observations.
    pub observations: &'a [f32],
    /// Actions.
    pub actions: &'a [f32],
    /// Means under the behaviour policy.
    pub behaviour_means: &'a [f32],
    /// Logarithms of the behaviour policy's standard deviations.
    pub behaviour_log_std: &'a [f32],
    /// Lengths.
    pub lengths: &'a [u32],
    /// Steps for which the arrays have room.
    pub horizon: usize,
}

/// What a trajectory's importance weight is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrajectoryStatistics {
    /// `l = log p_behaviour(trajectory) - log p_target(trajectory)`.
    pub log_ratio: f64,
    /// `q = sum_t ln d2(pi_target(. | s_t) || pi_behaviour(. | s_t))`, with `d2` the exponentiated order-2 Renyi divergence,
    /// whose product over the steps estimates the second moment of the ratio. With equal deviations it is
    /// `sum_t |mean_target - mean_behaviour|^2 / sigma^2`. Infinite when the target's variance is at least twice the
    /// behaviour's.
    pub divergence: f64,
}

impl Trajectories<'_> {
    /// Number of trajectories.
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Panics unless all arrays have the shapes of the table for this network.
    pub(super) fn assert_shapes(&self, network: &FusedNetwork) {
        let (observation_size, action_size) = (network.observation_size(), network.action_size());
        let steps = self.count() * self.horizon;
        assert_eq!(self.observations.len(), steps * observation_size, "numbers in the observations");
        assert_eq!(self.actions.len(), steps * action_size, "numbers in the actions");
        assert_eq!(self.behaviour_means.len(), steps * action_size, "numbers in the behaviour means");
        let batches = self.behaviour_log_std.len() / action_size;
        assert_eq!(
            self.behaviour_log_std.len(),
            batches * action_size,
            "whole rows of log standard deviations"
        );
        assert!(
            self.count() == 0 || (batches > 0 && self.count().is_multiple_of(batches)),
            "{} trajectories in {batches} batches of equal size",
            self.count()
        );
        for (index, &length) in self.lengths.iter().enumerate() {
            assert!(
                length as usize <= self.horizon,
                "trajectory {index}: {length} steps, horizon {}",
                self.horizon
            );
        }
    }

    /// Row of `behaviour_log_std` of a trajectory.
    fn batch_of(&self, trajectory: usize, action_size: usize) -> usize {
        trajectory * self.behaviour_log_std.len() / action_size / self.count()
    }
}

/// Constants of one action component for one pair of behaviour and target policy, with standard deviations `s_b` and
/// `s_t`. The log-ratio is arranged so that equal deviations leave the difference of the means as a factor, and
/// nothing cancels.
#[derive(Clone, Copy, Debug)]
struct Component {
    /// `1 / (2 s_t^2)`.
    half_precision: f64,
    /// `1 / (2 s_t^2) - 1 / (2 s_b^2)`.
    half_precision_difference: f64,
    /// `1 / (2 s_b^2 - s_t^2)`.
    divergence_factor: f64,
    /// `1 / s_t^2`.
    precision: f32,
}

/// Sums over steps for one trajectory, and the constants of its batch.
///
/// For a step with action a, behaviour mean `m_b` and target mean `m_t`, per component:
///
/// ```text
/// l += ln s_t - ln s_b + (m_b - m_t)(2 a - m_b - m_t) / (2 s_t^2) + (a - m_b)^2 (1 / (2 s_t^2) - 1 / (2 s_b^2))
/// q += 2 ln s_b - ln s_t - ln(2 s_b^2 - s_t^2) / 2 + (m_t - m_b)^2 / (2 s_b^2 - s_t^2)
/// ```
#[derive(Clone, Debug, Default)]
pub(super) struct Gaussian {
    components: Vec<Component>,
    /// `sum_d` of the terms without means.
    per_step: TrajectoryStatistics,
}

impl Gaussian {
    /// Takes over the deviations of a trajectory's behaviour policy and of the target policy.
    pub(super) fn load(
        &mut self,
        trajectories: &Trajectories<'_>,
        trajectory: usize,
        target_log_std: &[f32],
    ) {
        let size = target_log_std.len();
        let row = trajectories.batch_of(trajectory, size) * size;
        self.components.clear();
        self.per_step = TrajectoryStatistics::default();
        for (&behaviour, &target) in trajectories.behaviour_log_std[row..][..size].iter().zip(target_log_std)
        {
            let (log_b, log_t) = (f64::from(behaviour), f64::from(target));
            let (variance_b, variance_t) = ((2.0 * log_b).exp(), (2.0 * log_t).exp());
            let excess = 2.0 * variance_b - variance_t;
            self.per_step.log_ratio += log_t - log_b;
            self.per_step.divergence +=
                if excess > 0.0 { 2.0 * log_b - log_t - excess.ln() / 2.0 } else { f64::INFINITY };
            self.components.push(Component {
                half_precision: 0.5 / variance_t,
                half_precision_difference: 0.5 / variance_t - 0.5 / variance_b,
                divergence_factor: if excess > 0.0 { 1.0 / excess } else { 0.0 },
                precision: (1.0 / variance_t) as f32,
            });
        }
    }

    /// The statistics of the steps in `actions` and `behaviour_means` `[rows, action_size]`, given the target `means`
    /// `[rows, width]`.
    #[inline(always)]
    pub(super) fn statistics(
        &self,
        actions: &[f32],
        behaviour_means: &[f32],
        means: &[f32],
        width: usize,
    ) -> TrajectoryStatistics {
        let size = self.components.len();
        let rows = actions.len() / size;
        let mut log_ratio = self.per_step.log_ratio * rows as f64;
        let mut divergence = self.per_step.divergence * rows as f64;
        let steps =
            actions.chunks_exact(size).zip(behaviour_means.chunks_exact(size)).zip(means.chunks_exact(width));
        for ((actions, behaviour_means), means) in steps {
            for (((component, &action), &behaviour), &target) in
                self.components.iter().zip(actions).zip(behaviour_means).zip(means)
            {
                let (action, behaviour, target) =
                    (f64::from(action), f64::from(behaviour), f64::from(target));
                let (difference, deviation) = (behaviour - target, action - behaviour);
                log_ratio += difference * (deviation + action - target) * component.half_precision
                    + deviation * deviation * component.half_precision_difference;
                divergence += difference * difference * component.divergence_factor;
            }
        }
        TrajectoryStatistics { log_ratio, divergence }
    }

    /// Replaces the `means` `[rows, width]` by the gradient of `sum_t returns[t] log pi(a_t | s_t)` with respect to them,
    /// `returns[t] (a - mean) / s_t^2`, and adds the gradient with respect to the log standard deviations,
    /// `sum_t returns[t] ((a - mean)^2 / s_t^2 - 1)`.
    #[inline(always)]
    pub(super) fn score(
        &self,
        actions: &[f32],
        returns: &[f32],
        means: &mut [f32],
        width: usize,
        log_std_gradient: &mut [f32],
    ) {
        let size = self.components.len();
        let steps = actions.chunks_exact(size).zip(returns).zip(means.chunks_exact_mut(width));
        for ((actions, &return_), means) in steps {
            for (((component, &action), mean), gradient) in
                self.components.iter().zip(actions).zip(means).zip(log_std_gradient.iter_mut())
            {
                let deviation = action - *mean;
                let score = deviation * component.precision;
                *mean = return_ * score;
                *gradient += return_ * (deviation * score - 1.0);
            }
        }
    }
}

//! Trajectories as they are stored.

use super::network::FusedNetwork;

/// Trajectories of a window in padded arrays, batch after batch in any order.
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
}

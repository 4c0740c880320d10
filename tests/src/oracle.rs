//! The method in plain float64: policies, log-ratios, second moments, coefficients, weights, returns, gradients.

mod coefficients;
mod density;
mod diagnostics;
mod estimate;
mod network;
mod returns;
mod weights;

pub use coefficients::{Coefficients, coefficients};
pub use density::{
    log_density, log_ratio, log_ratio_scale, log_second_moment_closed_form, log_second_moment_sample,
    log_second_moment_scale,
};
pub use diagnostics::{effective_sample_size, share};
pub use estimate::{Answer, Settings, Weighting, answer, gradient_for_weights};
pub use network::{Activation, Layer, Policy};
pub use returns::{Baseline, step_returns};
pub use weights::{balance_heuristic_weight, multiple_importance_weight, power_mean_weight};

/// One step of a logged trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Observation that the action was chosen at.
    pub observation: Vec<f64>,
    /// Raw action.
    pub action: Vec<f64>,
    /// Reward.
    pub reward: f64,
    /// Mean of the behaviour policy.
    pub behaviour_mean: Vec<f64>,
}

/// Trajectories sampled by one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Steps of each trajectory, as many as there were.
    pub trajectories: Vec<Vec<Step>>,
    /// The policy that sampled them.
    pub behaviour: Policy,
}

/// A target policy and the batches of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Policy that the gradient is wanted at.
    pub target: Policy,
    /// Batches, oldest first.
    pub batches: Vec<Batch>,
    /// Longest length allowed.
    pub horizon: usize,
}

impl Problem {
    /// Number of batches, `omega_k`.
    pub fn window(&self) -> usize {
        self.batches.len()
    }

    /// Trajectories of a batch, `N`.
    pub fn batch(&self) -> usize {
        self.batches[0].trajectories.len()
    }

    /// A value for every trajectory, by batch.
    pub fn map<T>(&self, value: impl Fn(&Batch, &[Step]) -> T) -> Vec<Vec<T>> {
        let of_batch = |batch: &Batch| batch.trajectories.iter().map(|steps| value(batch, steps)).collect();
        self.batches.iter().map(of_batch).collect()
    }
}

/// `ln sum_j exp(x_j)`, of which minus infinity adds nothing.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln() + largest
}

//! Gradients at any policy from a batch of trajectories.

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{
    LoggedActions, RatioScope, cumulative_log_ratios, step_log_ratios, step_mask, surrogate,
    weighted_step_returns,
};
use policy_nets::{GaussianPolicy, gaussian};

use crate::trajectories::{BatchShape, Trajectories};

/// A batch on the device, of all trajectories sampled in an iteration.
///
/// | field | shape |
/// |---|---|
/// | `observations` | `[batch * time, observation]` |
/// | `actions` | `[1, batch, time, action]` |
/// | `rewards`, `mask` | `[1, batch, time]` |
#[derive(Clone, Debug)]
pub(super) struct Sample {
    observations: Tensor<2>,
    actions: Tensor<4>,
    rewards: Tensor<3>,
    mask: Tensor<3>,
}

impl Sample {
    /// Copies the trajectories of all draws to the device, one after the other.
    ///
    /// # Panics
    /// Without a draw.
    pub(super) fn new(draws: &[Trajectories], device: &Device) -> Self {
        let BatchShape { horizon, observation_size, action_size, .. } = draws[0].shape;
        let batch: usize = draws.iter().map(|draw| draw.shape.trajectories).sum();
        let steps = batch * horizon;
        let observations: Vec<f32> =
            draws.iter().flat_map(|draw| draw.observations.iter().copied()).collect();
        let actions: Vec<f32> = draws.iter().flat_map(|draw| draw.actions.iter().copied()).collect();
        let rewards: Vec<f64> = draws.iter().flat_map(|draw| draw.rewards.iter().copied()).collect();
        let lengths: Vec<u32> = draws.iter().flat_map(|draw| draw.lengths.iter().copied()).collect();
        let shape = [1, batch, horizon];
        Self {
            observations: Tensor::from_data(TensorData::new(observations, [steps, observation_size]), device),
            actions: Tensor::from_data(TensorData::new(actions, [1, batch, horizon, action_size]), device),
            rewards: Tensor::from_data(TensorData::new(rewards, shape), device),
            mask: step_mask(&lengths, shape, device),
        }
    }

    /// Number of trajectories.
    pub(super) fn len(&self) -> usize {
        self.mask.dims()[1]
    }

    /// The means of the policy with the flat vector `parameters`, ready for a gradient with respect to them.
    pub(super) fn forward(&self, policy: &GaussianPolicy, parameters: Tensor<1>) -> Forward {
        let parameters = parameters.autodiff().require_grad();
        let mean = policy.mean_at(&parameters, self.observations.clone());
        let log_std = policy.log_std_at(&parameters).autodiff();
        Forward { parameters, mean, log_std }
    }

    /// Cumulative log-ratios `ln p_from - ln p_to`, `[1, batch, time]`. Equal policies give exactly 0.
    pub(super) fn log_ratios(&self, from: &Forward, to: &Forward, scope: RatioScope) -> Tensor<3> {
        let shape = self.actions.dims();
        let mean = |forward: &Forward| forward.mean.clone().without_autodiff().reshape(shape);
        let log_std = |forward: &Forward| forward.log_std.clone().without_autodiff();
        let logged = LoggedActions {
            actions: self.actions.clone(),
            behaviour_mean: mean(from),
            behaviour_log_std: log_std(from).unsqueeze(),
            mask: self.mask.clone(),
        };
        cumulative_log_ratios(step_log_ratios(mean(to), log_std(to), &logged), scope)
    }

    /// `(1/B) sum_j sum_u score(u) sum_{t>=u} w_jt gamma^t r_jt`, `[P]`, at the parameters of `forward`, by one backward
    /// pass. `weights` are `[1, batch, time]`; without them, every reward has the weight 1.
    pub(super) fn gradient(&self, forward: Forward, weights: Option<Tensor<3>>, discount: f64) -> Tensor<1> {
        let [_, batch, time, action] = self.actions.dims();
        let weights = weights.unwrap_or_else(|| self.rewards.ones_like());
        let returns = weighted_step_returns(self.rewards.clone(), weights, self.mask.clone(), discount);
        let actions = self.actions.clone().reshape([batch * time, action]).autodiff();
        let Forward { parameters, mean, log_std } = forward;
        let log_prob = gaussian::log_prob(mean, log_std, actions);
        let gradients = surrogate(log_prob, returns.div_scalar(batch as f64)).backward();
        let gradient = parameters.grad(&gradients);
        gradient.unwrap_or_else(|| parameters.zeros_like()).without_autodiff()
    }
}

/// A policy's means at the observations of a [`Sample`], tracked for differentiation.
#[derive(Debug)]
pub(super) struct Forward {
    parameters: Tensor<1>,
    mean: Tensor<2>,
    log_std: Tensor<1>,
}

//! Log-ratios of trajectory densities.

use burn::tensor::Tensor;

/// What is known of logged actions: enough to compare any Gaussian policy with the ones that drew them.
///
/// | symbol | field | shape |
/// |---|---|---|
/// | `a` | `actions` | `[window, batch, time, action]` |
/// | `mu_i` | `behaviour_mean` | `[window, batch, time, action]` |
/// | `ln sigma_i` | `behaviour_log_std` | `[window, action]` |
/// | | `mask` | `[window, batch, time]` |
#[derive(Clone, Debug)]
pub struct LoggedActions {
    /// Raw actions, as sampled.
    pub actions: Tensor<4>,
    /// Means of the behaviour policies at the observations.
    pub behaviour_mean: Tensor<4>,
    /// Log-deviations of the behaviour policies.
    pub behaviour_log_std: Tensor<2>,
    /// 1 for the steps that exist, 0 for padding.
    pub mask: Tensor<3>,
}

impl LoggedActions {
    /// # Panics
    /// When the shapes are not those of means `[window, batch, time, action]`.
    pub(crate) fn assert_fits(&self, means: [usize; 4]) {
        let [window, batch, time, action] = means;
        assert_eq!(self.actions.dims(), means, "actions");
        assert_eq!(self.behaviour_mean.dims(), means, "means of the behaviour policies");
        assert_eq!(self.behaviour_log_std.dims(), [window, action], "deviations of the behaviour policies");
        assert_eq!(self.mask.dims(), [window, batch, time], "mask");
    }
}

/// Log-ratio of behaviour to target density of every trajectory, `l_ij = ln p_i(tau_ij) - ln p_k(tau_ij)`.
///
/// With `z = (a - mu) / sigma` of behaviour `b` and target `t`,
///
/// `l = sum_{t,d} [ ln(sigma_t / sigma_b) + (z_t - z_b)(z_t + z_b) / 2 ]`.
///
/// The difference is formed as `z_t - z_b = (mu_b - mu_t) / sigma_t + (a - mu_b)(1/sigma_t - 1/sigma_b)`: no log-density
/// is ever formed, equal policies give exactly 0, and equal deviations leave
/// `(mu_b - mu_t)(2a - mu_b - mu_t) / (2 sigma^2)` (docs/method.md, equation 5).
///
/// # Shapes
/// `target_mean`: `[window, batch, time, action]`; `target_log_std`: `[action]`; result: `[window, batch]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn log_ratio(target_mean: Tensor<4>, target_log_std: Tensor<1>, logged: &LoggedActions) -> Tensor<2> {
    let [window, batch, _, _] = target_mean.dims();
    step_log_ratios(target_mean, target_log_std, logged).sum_dim(2).reshape([window, batch])
}

/// The terms of [`log_ratio`]: `ln pi_b(a|s) - ln pi_t(a|s)` of every step, 0 at padded ones.
///
/// # Shapes
/// `target_mean`: `[window, batch, time, action]`; `target_log_std`: `[action]`; result: `[window, batch, time]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn step_log_ratios(
    target_mean: Tensor<4>,
    target_log_std: Tensor<1>,
    logged: &LoggedActions,
) -> Tensor<3> {
    let [window, batch, time, action] = target_mean.dims();
    logged.assert_fits(target_mean.dims());
    let behaviour_log_std = logged.behaviour_log_std.clone().reshape([window, 1, 1, action]);
    let target_log_std = target_log_std.reshape([1, 1, 1, action]);
    let behaviour_scale = behaviour_log_std.clone().neg().exp();
    let target_scale = target_log_std.clone().neg().exp();

    let from_behaviour = logged.actions.clone() - logged.behaviour_mean.clone();
    let from_target = logged.actions.clone() - target_mean.clone();
    let difference = (logged.behaviour_mean.clone() - target_mean) * target_scale.clone()
        + from_behaviour.clone() * (target_scale.clone() - behaviour_scale.clone());
    let sum = from_target * target_scale + from_behaviour * behaviour_scale;
    let terms = (difference * sum).mul_scalar(0.5) + (target_log_std - behaviour_log_std);

    terms.sum_dim(3).reshape([window, batch, time]) * logged.mask.clone()
}

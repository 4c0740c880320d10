//! Second moments of the importance ratio, `D_i = E_{tau ~ p_i} (p_k / p_i)^2`, that is chi-square divergence plus 1.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::numeric::{LOG_ZERO, log_sum_exp};
use crate::ratio::LoggedActions;

/// How `D_i` is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DivergenceEstimator {
    /// Product of the steps' exact second moments along each trajectory ([`closed_form_log_second_moment`]).
    #[default]
    ClosedForm,
    /// Mean squared ratio of the batch ([`sample_log_second_moment`]).
    Sample,
}

/// `ln D_i` from the closed form of each step (docs/method.md, equation 7):
///
/// `D_i = (1/N) sum_j exp( sum_{t,d} ln d2 )`, with, for target `t` and behaviour `b`,
///
/// `ln d2 = 2 ln s_b - ln s_t - ln(2 s_b^2 - s_t^2) / 2 + (mu_t - mu_b)^2 / (2 s_b^2 - s_t^2)`.
///
/// Equal deviations leave `(mu_t - mu_b)^2 / sigma^2`. Where `s_t^2 >= 2 s_b^2` the second moment is infinite, and the
/// result is `-LOG_ZERO`, which gives the batch the weight zero.
///
/// # Shapes
/// `target_mean`: `[window, batch, time, action]`; `target_log_std`: `[action]`; result: `[window]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn closed_form_log_second_moment(
    target_mean: Tensor<4>,
    target_log_std: Tensor<1>,
    logged: &LoggedActions,
) -> Tensor<1> {
    let [window, batch, time, action] = target_mean.dims();
    logged.assert_fits(target_mean.dims());
    let behaviour_log_std = logged.behaviour_log_std.clone();
    let target_log_std = target_log_std.reshape([1, action]);
    // With r = (s_t / s_b)^2, all terms are functions of 2 - r, which is exactly 1 for equal deviations:
    // ln d2 = -ln(r)/2 - ln(2 - r)/2 + ((mu_t - mu_b) / s_b)^2 / (2 - r).
    let log_variance_ratio = (target_log_std - behaviour_log_std.clone()).mul_scalar(2.0);
    let remainder = log_variance_ratio.clone().exp().neg().add_scalar(2.0);
    let infinite = remainder.clone().lower_equal_scalar(0.0);
    let remainder = remainder.mask_fill(infinite.clone(), 1.0);
    let constant = (log_variance_ratio + remainder.clone().log()).mul_scalar(-0.5).sum_dim(1);
    let scale = behaviour_log_std.mul_scalar(-2.0).exp() / remainder;

    let squares =
        (target_mean - logged.behaviour_mean.clone()).square() * scale.reshape([window, 1, 1, action]);
    let steps = squares.sum_dim(3).reshape([window, batch, time]) + constant.reshape([window, 1, 1]);
    let exponents = (steps * logged.mask.clone()).sum_dim(2).reshape([window, batch]);
    let log_moment = log_second_moment(exponents);
    let infinite = infinite.any_dim(1).reshape([window]);
    log_moment.mask_fill(infinite, -LOG_ZERO)
}

/// `ln D_i` from the batch's own ratios, `D_i = (1/N) sum_j exp(-2 l_ij)` (docs/method.md, equation 8).
///
/// # Shapes
/// `log_ratio`: `[window, batch]`; result: `[window]`.
pub fn sample_log_second_moment(log_ratio: Tensor<2>) -> Tensor<1> {
    log_second_moment(log_ratio.mul_scalar(-2.0))
}

/// `ln D_i = ln( (1/N) sum_j exp(x_ij) )` from the trajectories' exponents.
///
/// # Shapes
/// `exponents`: `[window, batch]`; result: `[window]`.
pub fn log_second_moment(exponents: Tensor<2>) -> Tensor<1> {
    let [window, batch] = exponents.dims();
    log_sum_exp(exponents, 1).sub_scalar((batch as f64).ln()).reshape([window])
}

//! Mixture coefficients `alpha` and corrections `lambda` of the power-mean estimator.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use serde::{Deserialize, Serialize};

use crate::numeric::LOG_ZERO;

/// How `alpha` is chosen when `lambda` is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixtureRule {
    /// `alpha = 1 / omega_k`.
    #[default]
    Uniform,
    /// `alpha_i` proportional to `D_i^(-1/2)`.
    Adaptive,
}

/// How the coefficients follow from the second moments `D_i` (docs/method.md, equations 9 to 11).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CoefficientRule {
    /// `alpha_i = D_i^(-1/2) / sum_l D_l^(-1/2)`, `lambda_i = min(1, sqrt(c / (D_i N omega_k)))`.
    Adaptive {
        /// The constant `c > 0`: 1 in the paper, `(4/3) ln(1/delta)` with `delta = 0.2` in the authors' code.
        scale: f64,
    },
    /// `alpha = 1 / omega_k`, `lambda = min(1, sqrt((4 d ln 6 + 4 ln(1/delta)) / (3 D N omega_k)))`.
    Theoretical {
        /// Given bound `D` on the second moments, at least 1.
        second_moment: f64,
        /// Failure probability `delta` in (0, 1).
        delta: f64,
        /// Number `d` of policy parameters.
        parameter_count: usize,
    },
    /// `lambda` a constant in [0, 1].
    Fixed {
        /// The constant.
        lambda: f64,
        /// How `alpha` is chosen.
        mixture: MixtureRule,
    },
}

/// Coefficients of every batch, as logarithms.
#[derive(Clone, Debug)]
pub struct Coefficients {
    /// `ln alpha_i`, `[window]`.
    pub log_alpha: Tensor<1>,
    /// `ln lambda_i`, `[window]`: at most 0, and [`LOG_ZERO`] or below for `lambda = 0`.
    pub log_lambda: Tensor<1>,
}

impl CoefficientRule {
    /// Whether every constant is in the range that is stated for it.
    pub fn is_valid(&self) -> bool {
        match *self {
            Self::Adaptive { scale } => scale.is_finite() && scale > 0.0,
            Self::Theoretical { second_moment, delta, .. } => {
                second_moment.is_finite() && second_moment >= 1.0 && delta > 0.0 && delta < 1.0
            }
            Self::Fixed { lambda, .. } => (0.0..=1.0).contains(&lambda),
        }
    }

    /// # Panics
    /// With constants out of their range, or empty batches.
    pub(crate) fn assert_valid(&self, batch: usize) {
        assert!(self.is_valid() && batch > 0, "{self:?} of batches of {batch}: a number is out of its range");
    }

    /// The coefficients for `log_second_moment` (`ln D_i`, `[window]`) and batches of `batch` trajectories.
    ///
    /// # Panics
    /// When [`is_valid`](Self::is_valid) does not hold, or `batch` is 0.
    pub fn coefficients(&self, log_second_moment: Tensor<1>, batch: usize) -> Coefficients {
        self.assert_valid(batch);
        let [window] = log_second_moment.dims();
        let log_samples = ((window * batch) as f64).ln();
        let uniform = || log_second_moment.full_like(-(window as f64).ln());
        match *self {
            Self::Adaptive { scale } => Coefficients {
                log_alpha: adaptive_log_alpha(log_second_moment.clone()),
                log_lambda: log_second_moment
                    .neg()
                    .add_scalar(scale.ln() - log_samples)
                    .mul_scalar(0.5)
                    .clamp(LOG_ZERO, 0.0),
            },
            Self::Theoretical { second_moment, delta, parameter_count } => {
                let log_lambda = theoretical_log_lambda(second_moment, delta, parameter_count, log_samples);
                Coefficients { log_alpha: uniform(), log_lambda: log_second_moment.full_like(log_lambda) }
            }
            Self::Fixed { lambda, mixture } => Coefficients {
                log_alpha: match mixture {
                    MixtureRule::Uniform => uniform(),
                    MixtureRule::Adaptive => adaptive_log_alpha(log_second_moment.clone()),
                },
                log_lambda: log_second_moment.full_like(lambda.ln().max(LOG_ZERO)),
            },
        }
    }
}

/// `ln lambda` of docs/method.md, equation 10, for `exp(log_samples)` trajectories in the window.
pub fn theoretical_log_lambda(
    second_moment: f64,
    delta: f64,
    parameter_count: usize,
    log_samples: f64,
) -> f64 {
    let numerator = 4.0 * parameter_count as f64 * 6.0_f64.ln() - 4.0 * delta.ln();
    (0.5 * (numerator.ln() - 3.0_f64.ln() - second_moment.ln() - log_samples)).min(0.0)
}

/// `ln softmax(-log D / 2)`. Batches of infinite D share it equally when there are no others.
fn adaptive_log_alpha(log_second_moment: Tensor<1>) -> Tensor<1> {
    // It takes the largest away first: beside large scores the logarithm of their sum would vanish.
    log_softmax(log_second_moment.mul_scalar(-0.5), 0).clamp_min(LOG_ZERO)
}

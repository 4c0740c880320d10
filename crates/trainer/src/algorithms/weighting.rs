//! From log-ratios to weights, with the diagnostics.

use burn::tensor::Tensor;
use estimator::{
    CoefficientRule, Diagnostics, DivergenceEstimator, multiple_importance_weights, power_mean_weights,
    sample_log_second_moment,
};

use crate::config::AlgorithmConfig;

/// How the trajectories of a window are weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Weighting {
    /// `1 / (N omega_k)` for every trajectory.
    Uniform,
    /// Power-mean-corrected weights.
    PowerMean { rule: CoefficientRule, divergence: DivergenceEstimator, exponent: f64 },
    /// Uniform multiple importance weights.
    MultipleImportance,
    /// The balance heuristic, which needs more than the ratios.
    BalanceHeuristic,
}

impl Weighting {
    /// The weighting that a configuration names.
    pub(super) fn new(config: &AlgorithmConfig, parameter_count: usize) -> Self {
        match config {
            AlgorithmConfig::RtPg(options) => Self::PowerMean {
                rule: options.rule(parameter_count),
                divergence: options.divergence,
                exponent: options.exponent,
            },
            AlgorithmConfig::Gpomdp(_) | AlgorithmConfig::Reinforce(_) => Self::Uniform,
            AlgorithmConfig::Miw(_) => Self::MultipleImportance,
            AlgorithmConfig::Bh(_) => Self::BalanceHeuristic,
        }
    }

    /// Weights `[window, batch]` and their diagnostics.
    ///
    /// `log_ratio` is `[window, batch]`; `closed_form` gives `ln D` (`[window]`) and is called only when it is needed.
    pub(super) fn weigh(
        &self,
        log_ratio: Tensor<2>,
        closed_form: impl FnOnce() -> Tensor<1>,
    ) -> (Tensor<2>, Diagnostics) {
        let [window, batch] = log_ratio.dims();
        match *self {
            Self::PowerMean { rule, divergence, exponent } => {
                let log_second_moment = match divergence {
                    DivergenceEstimator::ClosedForm => closed_form(),
                    DivergenceEstimator::Sample => sample_log_second_moment(log_ratio.clone()),
                };
                let coefficients = rule.coefficients(log_second_moment.clone(), batch);
                let weights = power_mean_weights(log_ratio, &coefficients, exponent);
                let diagnostics = Diagnostics::new(&weights, Some((&log_second_moment, &coefficients)));
                (weights, diagnostics)
            }
            Self::MultipleImportance => with_diagnostics(multiple_importance_weights(log_ratio)),
            Self::Uniform | Self::BalanceHeuristic => {
                with_diagnostics(log_ratio.full_like(1.0 / (window * batch) as f64))
            }
        }
    }
}

/// Weights that have no coefficients.
pub(super) fn with_diagnostics(weights: Tensor<2>) -> (Tensor<2>, Diagnostics) {
    let diagnostics = Diagnostics::new(&weights, None);
    (weights, diagnostics)
}

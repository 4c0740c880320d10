//! From log-ratios to weights, with the diagnostics.

use burn::tensor::Tensor;
use estimator::{
    CoefficientRule, Diagnostics, DivergenceEstimator, multiple_importance_weights, power_mean_weights,
    sample_log_second_moment,
};

use crate::config::AlgorithmConfig;
use crate::random::{Purpose, Streams};

/// How the trajectories of a window are weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Weighting {
    /// `1 / (N omega_k)` for every trajectory.
    Uniform,
    /// Power-mean-corrected weights.
    PowerMean {
        rule: CoefficientRule,
        divergence: DivergenceEstimator,
        exponent: f64,
        noise: DivergenceNoise,
    },
    /// Uniform multiple importance weights.
    MultipleImportance,
    /// The balance heuristic, which needs more than the ratios.
    BalanceHeuristic,
}

/// Noise on `ln D`, of an experiment on the method's robustness: normal, with mean 0, drawn for every iteration and batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DivergenceNoise {
    deviation: f64,
    streams: Streams,
    iteration: u32,
}

impl DivergenceNoise {
    fn add(self, log_second_moment: Tensor<1>) -> Tensor<1> {
        if self.deviation == 0.0 {
            return log_second_moment;
        }
        let mut noise = vec![0.0; log_second_moment.dims()[0]];
        self.streams.normals(Purpose::Algorithm, self.iteration, 0, 0, &mut noise);
        let noise = Tensor::<1>::from_data(noise.as_slice(), &log_second_moment.device());
        log_second_moment + noise.mul_scalar(self.deviation)
    }
}

impl Weighting {
    /// The weighting that a configuration names.
    pub(super) fn new(config: &AlgorithmConfig, parameter_count: usize) -> Self {
        match config {
            AlgorithmConfig::RtPg(options) => Self::PowerMean {
                rule: options.rule(parameter_count),
                divergence: options.divergence,
                exponent: options.exponent,
                noise: DivergenceNoise {
                    deviation: options.divergence_noise,
                    streams: Streams::new(0),
                    iteration: 0,
                },
            },
            AlgorithmConfig::Miw(_) => Self::MultipleImportance,
            AlgorithmConfig::Bh(_) => Self::BalanceHeuristic,
            // On-policy algorithms; a variance-reduced one is made elsewhere, and without its corrections is one of them.
            _ => Self::Uniform,
        }
    }

    /// Takes in the random streams of a run.
    pub(super) fn set_streams(&mut self, of_run: Streams) {
        if let Self::PowerMean { noise, .. } = self {
            noise.streams = of_run;
        }
    }

    /// Takes in the iteration (from 0) that the next weights belong to.
    pub(super) fn begin(&mut self, current: u32) {
        if let Self::PowerMean { noise, .. } = self {
            noise.iteration = current;
        }
    }

    /// The rule for the kernel that computes these weights, where there is one.
    #[cfg(all(feature = "kernels", not(feature = "fusion")))]
    pub(super) fn kernel_rule(&self) -> Option<kernels::WeightRule> {
        use kernels::WeightRule;
        match *self {
            Self::Uniform => Some(WeightRule::Uniform),
            Self::MultipleImportance => Some(WeightRule::MultipleImportance { log_clip: f64::INFINITY }),
            Self::PowerMean { rule, divergence, exponent, noise } => {
                (noise.deviation == 0.0).then_some(WeightRule::PowerMean { rule, divergence, exponent })
            }
            Self::BalanceHeuristic => None,
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
            Self::PowerMean { rule, divergence, exponent, noise } => {
                let log_second_moment = noise.add(match divergence {
                    DivergenceEstimator::ClosedForm => closed_form(),
                    DivergenceEstimator::Sample => sample_log_second_moment(log_ratio.clone()),
                });
                let coefficients = rule.coefficients(log_second_moment.clone(), batch);
                let weights = power_mean_weights(log_ratio.clone(), &coefficients, exponent);
                let diagnostics = Diagnostics::new(&weights, Some((&log_second_moment, &coefficients)));
                (weights, diagnostics.with_log_ratio(log_ratio))
            }
            Self::MultipleImportance => {
                let (weights, diagnostics) = with_diagnostics(multiple_importance_weights(log_ratio.clone()));
                (weights, diagnostics.with_log_ratio(log_ratio))
            }
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

//! From log-ratios to weights, with the diagnostics.

use burn::tensor::Tensor;
use estimator::{
    CoefficientRule, Diagnostics, DivergenceEstimator, host, multiple_importance_weights, power_mean_weights,
    sample_log_second_moment,
};
use policy_nets::PolicyState;

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
    /// Uniform multiple importance weights, with ratios of at most `clip`.
    MultipleImportance { clip: f64 },
}

/// Noise on `ln D`, of an experiment on the method's robustness: normal, with mean 0, drawn for every iteration and batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DivergenceNoise {
    deviation: f64,
    streams: Streams,
    iteration: u32,
}

impl DivergenceNoise {
    fn add_on_host(self, log_second_moment: &mut [f64]) {
        if self.deviation == 0.0 {
            return;
        }
        let mut noise = vec![0.0; log_second_moment.len()];
        self.streams.normals(Purpose::Algorithm, self.iteration, 0, 0, &mut noise);
        for (value, noise) in log_second_moment.iter_mut().zip(noise) {
            *value += self.deviation * f64::from(noise);
        }
    }

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
    /// The weighting that a configuration names, for a policy of `parameter_count` parameters; none for algorithms that
    /// evaluate earlier policies, whose estimates need more than the ratios.
    pub(super) fn new(config: &AlgorithmConfig, parameter_count: usize) -> Option<Self> {
        match config {
            AlgorithmConfig::RtPg(options) => Some(Self::PowerMean {
                rule: options.rule(parameter_count),
                divergence: options.divergence,
                exponent: options.exponent,
                noise: DivergenceNoise {
                    deviation: options.divergence_noise,
                    streams: Streams::new(0),
                    iteration: 0,
                },
            }),
            AlgorithmConfig::Miw(options) => Some(Self::MultipleImportance { clip: options.clip }),
            AlgorithmConfig::Gpomdp(_) | AlgorithmConfig::Reinforce(_) => Some(Self::Uniform),
            AlgorithmConfig::Bh(_)
            | AlgorithmConfig::Svrpg(_)
            | AlgorithmConfig::SrvrPg(_)
            | AlgorithmConfig::StormPg(_)
            | AlgorithmConfig::PagePg(_)
            | AlgorithmConfig::DefPg(_) => None,
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
            Self::MultipleImportance { clip } => Some(WeightRule::MultipleImportance { log_clip: clip.ln() }),
            Self::PowerMean { rule, divergence, exponent, noise } => {
                (noise.deviation == 0.0).then_some(WeightRule::PowerMean { rule, divergence, exponent })
            }
        }
    }

    /// Weights `[window, batch]` and their diagnostics as [`DiagnosticsReport::unpack`](estimator::DiagnosticsReport::unpack)
    /// reads them, from the trajectories' log-ratios and exponents of the second moments, on the host.
    pub(super) fn weigh_on_host(
        &self,
        log_ratio: &[f64],
        exponents: &[f64],
        window: usize,
    ) -> (Vec<f64>, Vec<f64>) {
        let batch = log_ratio.len() / window;
        match *self {
            Self::PowerMean { rule, divergence, exponent, noise } => {
                let mut log_second_moment = match divergence {
                    DivergenceEstimator::ClosedForm => host::log_second_moment(exponents, batch),
                    DivergenceEstimator::Sample => {
                        let exponents: Vec<f64> = log_ratio.iter().map(|ratio| -2.0 * ratio).collect();
                        host::log_second_moment(&exponents, batch)
                    }
                };
                noise.add_on_host(&mut log_second_moment);
                let coefficients = host::coefficients(&rule, &log_second_moment, batch);
                let weights = host::power_mean_weights(log_ratio, &coefficients, exponent);
                let given = Some((log_second_moment.as_slice(), &coefficients));
                let packed = host::packed_diagnostics(&weights, window, given);
                (weights, packed)
            }
            Self::MultipleImportance { clip } => {
                let weights = host::multiple_importance_weights(log_ratio, clip);
                let packed = host::packed_diagnostics(&weights, window, None);
                (weights, packed)
            }
            Self::Uniform => {
                let weights = vec![1.0 / log_ratio.len() as f64; log_ratio.len()];
                let packed = host::packed_diagnostics(&weights, window, None);
                (weights, packed)
            }
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
            Self::MultipleImportance { clip } => {
                let weights = multiple_importance_weights(log_ratio.clone(), clip);
                let (weights, diagnostics) = with_diagnostics(weights);
                (weights, diagnostics.with_log_ratio(log_ratio))
            }
            Self::Uniform => with_diagnostics(log_ratio.full_like(1.0 / (window * batch) as f64)),
        }
    }
}

/// The weighting of an algorithm that fused kernels cover for such policies, on the CPU or a GPU.
pub(super) fn kernel_weighting(config: &AlgorithmConfig, policy: &PolicyState) -> Result<Weighting, String> {
    if policy.normalizer.is_some() {
        return Err("no kernel standardizes observations".to_owned());
    }
    Weighting::new(config, policy.parameter_count())
        .ok_or_else(|| format!("no kernel evaluates the earlier policies of `{}`", config.name()))
}

/// Weights that have no coefficients.
pub(super) fn with_diagnostics(weights: Tensor<2>) -> (Tensor<2>, Diagnostics) {
    let diagnostics = Diagnostics::new(&weights, None);
    (weights, diagnostics)
}

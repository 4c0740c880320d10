//! The table `algorithm`: one set of options for each algorithm.

use estimator::{Baseline, CoefficientRule, DivergenceEstimator, MixtureRule};
use serde::{Deserialize, Serialize};

/// The table `algorithm`; the key `name` chooses the variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum AlgorithmConfig {
    /// Trajectory reuse with power-mean weights (MPM).
    RtPg(PowerMeanConfig),
    /// Policy gradient with rewards to go.
    Gpomdp(OnPolicyConfig),
    /// Policy gradient with total returns.
    Reinforce(OnPolicyConfig),
    /// Trajectory reuse with uniform multiple importance weights.
    Miw(WindowConfig),
    /// Trajectory reuse with the balance heuristic.
    Bh(WindowConfig),
}

/// Options of `gpomdp` and `reinforce`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnPolicyConfig {
    /// Fresh trajectories in each iteration, `N`.
    pub batch_size: usize,
    /// Discount `gamma`.
    pub discount: f64,
    /// What is subtracted from returns.
    pub baseline: Baseline,
}

impl Default for OnPolicyConfig {
    fn default() -> Self {
        Self { batch_size: 10, discount: 1.0, baseline: Baseline::None }
    }
}

/// Options of `miw` and `bh`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Fresh trajectories in each iteration, `N`.
    pub batch_size: usize,
    /// Batches kept, `omega`.
    pub window: usize,
    /// Discount `gamma`.
    pub discount: f64,
    /// What is subtracted from returns.
    pub baseline: Baseline,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self { batch_size: 10, window: 8, discount: 1.0, baseline: Baseline::None }
    }
}

/// How coefficients are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoefficientKind {
    /// From the estimated second moments.
    #[default]
    Adaptive,
    /// From a given bound on the second moments.
    Theoretical,
    /// A constant `lambda`.
    Fixed,
}

/// Options of `rt-pg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerMeanConfig {
    /// Fresh trajectories in each iteration, `N`.
    pub batch_size: usize,
    /// Batches kept, `omega`.
    pub window: usize,
    /// Discount `gamma`.
    pub discount: f64,
    /// What is subtracted from returns.
    pub baseline: Baseline,
    /// Exponent `s` of the power mean, at most 0; -1 is the harmonic mean.
    pub exponent: f64,
    /// How second moments are estimated.
    pub divergence: DivergenceEstimator,
    /// How coefficients are chosen.
    pub coefficients: CoefficientKind,
    /// The constant `c` of adaptive coefficients: 1 in the paper, 2.1459 in the authors' code.
    pub correction_scale: f64,
    /// The bound `D` of theoretical coefficients.
    pub second_moment_bound: f64,
    /// The failure probability `delta` of theoretical coefficients.
    pub confidence_delta: f64,
    /// The constant `lambda` of fixed coefficients.
    pub lambda: f64,
    /// How `alpha` is chosen with fixed coefficients.
    pub mixture: MixtureRule,
}

impl Default for PowerMeanConfig {
    fn default() -> Self {
        Self {
            batch_size: 10,
            window: 8,
            discount: 1.0,
            baseline: Baseline::None,
            exponent: -1.0,
            divergence: DivergenceEstimator::ClosedForm,
            coefficients: CoefficientKind::Adaptive,
            correction_scale: 1.0,
            second_moment_bound: 1.0,
            confidence_delta: 0.2,
            lambda: 1.0,
            mixture: MixtureRule::Uniform,
        }
    }
}

impl PowerMeanConfig {
    /// The estimator's rule for a policy of `parameter_count` parameters.
    pub fn rule(&self, parameter_count: usize) -> CoefficientRule {
        match self.coefficients {
            CoefficientKind::Adaptive => CoefficientRule::Adaptive { scale: self.correction_scale },
            CoefficientKind::Theoretical => CoefficientRule::Theoretical {
                second_moment: self.second_moment_bound,
                delta: self.confidence_delta,
                parameter_count,
            },
            CoefficientKind::Fixed => CoefficientRule::Fixed { lambda: self.lambda, mixture: self.mixture },
        }
    }
}

impl AlgorithmConfig {
    /// Names of all algorithms with one line on each.
    pub const SUMMARIES: [(&'static str, &'static str); 5] = [
        ("rt-pg", "trajectory reuse with power-mean-corrected multiple importance weights (MPM)"),
        ("gpomdp", "policy gradient with rewards to go"),
        ("reinforce", "policy gradient with total returns"),
        ("miw", "trajectory reuse with uniform multiple importance weights"),
        ("bh", "trajectory reuse with the balance heuristic"),
    ];

    /// The algorithm's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RtPg(_) => "rt-pg",
            Self::Gpomdp(_) => "gpomdp",
            Self::Reinforce(_) => "reinforce",
            Self::Miw(_) => "miw",
            Self::Bh(_) => "bh",
        }
    }

    /// The most fresh trajectories of one iteration.
    pub fn batch_size(&self) -> usize {
        match self {
            Self::RtPg(options) => options.batch_size,
            Self::Gpomdp(options) | Self::Reinforce(options) => options.batch_size,
            Self::Miw(options) | Self::Bh(options) => options.batch_size,
        }
    }

    /// Batches kept, `omega`.
    pub fn window(&self) -> usize {
        match self {
            Self::RtPg(options) => options.window,
            Self::Gpomdp(_) | Self::Reinforce(_) => 1,
            Self::Miw(options) | Self::Bh(options) => options.window,
        }
    }
}

//! The table `algorithm`: one set of options for each algorithm.

use estimator::{Baseline, CoefficientRule, DivergenceEstimator, MixtureRule};
use serde::{Deserialize, Serialize};

use super::variance_reduction::{DefensiveConfig, EpochConfig, MomentumConfig, SwitchConfig};

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
    Miw(ImportanceConfig),
    /// Trajectory reuse with the balance heuristic.
    Bh(WindowConfig),
    /// Stochastic variance-reduced policy gradient (Papini et al. 2018).
    Svrpg(EpochConfig),
    /// Stochastic recursive variance-reduced policy gradient (Xu et al. 2019).
    SrvrPg(EpochConfig),
    /// Recursive momentum (Yuan et al. 2020).
    StormPg(MomentumConfig),
    /// Probabilistic switching between large and small batches (Gargiani et al. 2022).
    PagePg(SwitchConfig),
    /// Probabilistic switching with defensive sampling (Paczolay et al. 2024).
    DefPg(DefensiveConfig),
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

/// Options of `miw`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportanceConfig {
    /// Fresh trajectories in each iteration, `N`.
    pub batch_size: usize,
    /// Batches kept, `omega`.
    pub window: usize,
    /// Discount `gamma`.
    pub discount: f64,
    /// What is subtracted from returns.
    pub baseline: Baseline,
    /// The largest importance ratio that a trajectory is weighted with; infinite for none.
    pub clip: f64,
}

impl Default for ImportanceConfig {
    fn default() -> Self {
        Self { batch_size: 10, window: 8, discount: 1.0, baseline: Baseline::None, clip: f64::INFINITY }
    }
}

/// Options of `bh`.
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

impl CoefficientKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Adaptive, Self::Theoretical, Self::Fixed];

    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Theoretical => "theoretical",
            Self::Fixed => "fixed",
        }
    }

    /// The kind of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether coefficients of this kind have a use for an option of `rt-pg`.
    pub(super) fn has_use_for(self, option: &str) -> bool {
        match option {
            "correction_scale" => self == Self::Adaptive,
            "second_moment_bound" | "confidence_delta" => self == Self::Theoretical,
            "lambda" | "mixture" => self == Self::Fixed,
            _ => true,
        }
    }
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
    /// Standard deviation of noise added to every `ln D`: an experiment on robustness, 0 in earnest.
    pub divergence_noise: f64,
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
            divergence_noise: 0.0,
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
    /// Every algorithm with its default options; the first is the default.
    pub fn all() -> [Self; 10] {
        [
            Self::RtPg(PowerMeanConfig::default()),
            Self::Gpomdp(OnPolicyConfig::default()),
            Self::Reinforce(OnPolicyConfig::default()),
            Self::Miw(ImportanceConfig::default()),
            Self::Bh(WindowConfig::default()),
            Self::Svrpg(EpochConfig::default()),
            Self::SrvrPg(EpochConfig::default()),
            Self::StormPg(MomentumConfig::default()),
            Self::PagePg(SwitchConfig::default()),
            Self::DefPg(DefensiveConfig::default()),
        ]
    }

    /// One line on the algorithm.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::RtPg(_) => "trajectory reuse with power-mean-corrected multiple importance weights (MPM)",
            Self::Gpomdp(_) => "policy gradient with rewards to go",
            Self::Reinforce(_) => "policy gradient with total returns",
            Self::Miw(_) => "trajectory reuse with uniform multiple importance weights",
            Self::Bh(_) => "trajectory reuse with the balance heuristic",
            Self::Svrpg(_) => "stochastic variance-reduced policy gradient (snapshot correction)",
            Self::SrvrPg(_) => "stochastic recursive variance-reduced policy gradient",
            Self::StormPg(_) => "recursive momentum policy gradient",
            Self::PagePg(_) => "probabilistic switching between large and corrected small batches",
            Self::DefPg(_) => "probabilistic switching with defensive sampling from two policies",
        }
    }

    /// The algorithm's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RtPg(_) => "rt-pg",
            Self::Gpomdp(_) => "gpomdp",
            Self::Reinforce(_) => "reinforce",
            Self::Miw(_) => "miw",
            Self::Bh(_) => "bh",
            Self::Svrpg(_) => "svrpg",
            Self::SrvrPg(_) => "srvr-pg",
            Self::StormPg(_) => "storm-pg",
            Self::PagePg(_) => "page-pg",
            Self::DefPg(_) => "def-pg",
        }
    }

    /// The most fresh trajectories of one iteration.
    pub fn batch_size(&self) -> usize {
        match self {
            Self::RtPg(options) => options.batch_size,
            Self::Gpomdp(options) | Self::Reinforce(options) => options.batch_size,
            Self::Miw(options) => options.batch_size,
            Self::Bh(options) => options.batch_size,
            Self::Svrpg(options) | Self::SrvrPg(options) => options.snapshot_size.max(options.batch_size),
            Self::StormPg(options) => options.snapshot_size.max(options.batch_size),
            Self::PagePg(options) => options.snapshot_size.max(options.batch_size),
            Self::DefPg(options) => options.snapshot_size.max(options.batch_size),
        }
    }

    /// The most iterations that a budget of fresh trajectories pays for; expected ones, where chance decides.
    pub fn iterations_within(&self, budget: u64) -> u32 {
        let Some(reduction) = self.variance_reduction() else {
            return u32::try_from(budget / self.batch_size() as u64).unwrap_or(u32::MAX);
        };
        // An iteration takes at least one trajectory, and the sum grows with every iteration.
        let (mut paid, mut beyond) = (0, u32::try_from(budget).unwrap_or(u32::MAX).saturating_add(1));
        while beyond - paid > 1 {
            let middle = paid + (beyond - paid) / 2;
            let affordable = reduction.expected_trajectories(middle) <= budget as f64;
            if affordable { paid = middle } else { beyond = middle }
        }
        paid
    }

    /// Batches kept, `omega`.
    pub fn window(&self) -> usize {
        match self {
            Self::RtPg(options) => options.window,
            Self::Miw(options) => options.window,
            Self::Bh(options) => options.window,
            _ => 1,
        }
    }

    /// Discount `gamma`.
    pub fn discount(&self) -> f64 {
        match self {
            Self::RtPg(options) => options.discount,
            Self::Gpomdp(options) | Self::Reinforce(options) => options.discount,
            Self::Miw(options) => options.discount,
            Self::Bh(options) => options.discount,
            Self::Svrpg(options) | Self::SrvrPg(options) => options.discount,
            Self::StormPg(options) => options.discount,
            Self::PagePg(options) => options.discount,
            Self::DefPg(options) => options.discount,
        }
    }

    /// What is subtracted from returns.
    pub fn baseline(&self) -> Baseline {
        match self {
            Self::RtPg(options) => options.baseline,
            Self::Gpomdp(options) | Self::Reinforce(options) => options.baseline,
            Self::Miw(options) => options.baseline,
            Self::Bh(options) => options.baseline,
            _ => Baseline::None,
        }
    }

    /// Whether densities of earlier policies are evaluated again, so that observations must not be standardised by
    /// moments that change.
    pub fn evaluates_earlier_policies(&self) -> bool {
        matches!(self, Self::Bh(_)) || self.variance_reduction().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_pay_for_whole_iterations() {
        let gpomdp = AlgorithmConfig::Gpomdp(OnPolicyConfig { batch_size: 128, ..OnPolicyConfig::default() });
        assert_eq!([127, 128, 1279, 1280].map(|budget| gpomdp.iterations_within(budget)), [0, 1, 9, 10]);
        // 110, then 10 each, and 110 again in the eleventh iteration.
        let svrpg = AlgorithmConfig::Svrpg(EpochConfig::default());
        assert_eq!(
            [109, 110, 119, 200, 309, 310].map(|budget| svrpg.iterations_within(budget)),
            [0, 1, 1, 10, 10, 11]
        );
        assert_eq!(svrpg.iterations_within(20_000), 1000);
        let storm = AlgorithmConfig::StormPg(MomentumConfig::default());
        assert_eq!(storm.iterations_within(10_100), 1000);
        // 55 at first, then 0.1 * 55 + 0.9 * 5 = 10 on average.
        let page = AlgorithmConfig::PagePg(SwitchConfig::default());
        assert_eq!(page.iterations_within(55 + 999 * 10), 1000);
    }
}

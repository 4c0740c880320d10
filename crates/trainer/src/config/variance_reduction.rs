//! Options of the variance-reduced algorithms.

use estimator::RatioScope;
use serde::{Deserialize, Serialize};

use super::AlgorithmConfig;

/// Options of `svrpg` and `srvr-pg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpochConfig {
    /// Fresh trajectories of a snapshot, `N`.
    pub snapshot_size: usize,
    /// Fresh trajectories of the iterations between, `B`.
    pub batch_size: usize,
    /// Iterations from one snapshot to the next, `m`.
    pub epoch: u32,
    /// Discount `gamma`.
    pub discount: f64,
    /// Steps or whole trajectories in importance ratios.
    pub ratio: RatioScope,
}

impl Default for EpochConfig {
    fn default() -> Self {
        Self { snapshot_size: 110, batch_size: 10, epoch: 10, discount: 1.0, ratio: RatioScope::PerStep }
    }
}

/// Options of `storm-pg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MomentumConfig {
    /// Fresh trajectories of the first iteration.
    pub snapshot_size: usize,
    /// Fresh trajectories of all other iterations, `B`.
    pub batch_size: usize,
    /// Weight `a` of the fresh estimate; 1 is the plain policy gradient, 0 the recursion of `srvr-pg`.
    pub momentum: f64,
    /// Discount `gamma`.
    pub discount: f64,
    /// Steps or whole trajectories in importance ratios.
    pub ratio: RatioScope,
}

impl Default for MomentumConfig {
    fn default() -> Self {
        Self { snapshot_size: 110, batch_size: 10, momentum: 0.9, discount: 1.0, ratio: RatioScope::PerStep }
    }
}

/// Options of `page-pg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchConfig {
    /// Fresh trajectories of an iteration that starts anew, `N`.
    pub snapshot_size: usize,
    /// Fresh trajectories of the iterations between, `B`.
    pub batch_size: usize,
    /// Probability `p` that an iteration starts anew; the first one always does.
    pub snapshot_probability: f64,
    /// Discount `gamma`.
    pub discount: f64,
    /// Steps or whole trajectories in importance ratios.
    pub ratio: RatioScope,
}

impl Default for SwitchConfig {
    fn default() -> Self {
        Self {
            snapshot_size: 55,
            batch_size: 5,
            snapshot_probability: 0.1,
            discount: 1.0,
            ratio: RatioScope::PerStep,
        }
    }
}

/// Options of `def-pg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DefensiveConfig {
    /// Fresh trajectories of an iteration that starts anew, `N`.
    pub snapshot_size: usize,
    /// Fresh trajectories of the iterations between, `B`.
    pub batch_size: usize,
    /// Probability `p` that an iteration starts anew; the first one always does.
    pub snapshot_probability: f64,
    /// Probability `beta` that a trajectory is sampled from the previous policy.
    pub defensive_share: f64,
    /// Discount `gamma`.
    pub discount: f64,
    /// Steps or whole trajectories in importance ratios.
    pub ratio: RatioScope,
}

impl Default for DefensiveConfig {
    fn default() -> Self {
        Self {
            snapshot_size: 55,
            batch_size: 5,
            snapshot_probability: 0.1,
            defensive_share: 0.5,
            discount: 1.0,
            ratio: RatioScope::PerStep,
        }
    }
}

/// When an iteration takes the large batch. The first one always does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SnapshotSchedule {
    /// Every so many iterations.
    Every(u32),
    /// Only in the first iteration.
    First,
    /// With this probability.
    Random(f64),
}

/// How the estimates between are corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CorrectionRule {
    /// Against the last snapshot.
    Snapshot,
    /// Against the previous iteration.
    Recursive,
    /// Against the previous iteration, with weight `1 - a` for the given `a`.
    Momentum(f64),
    /// Against the previous iteration, with the given share of the trajectories sampled from its policy.
    Defensive(f64),
}

/// A variance-reduced algorithm: its schedule, its correction, and what all have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VarianceReduction {
    /// Fresh trajectories of a large batch, `N`.
    pub snapshot_size: usize,
    /// Fresh trajectories of a small batch, `B`.
    pub batch_size: usize,
    /// When the large batch is taken.
    pub schedule: SnapshotSchedule,
    /// How the small batch is used.
    pub correction: CorrectionRule,
    /// Discount `gamma`.
    pub discount: f64,
    /// Steps or whole trajectories in importance ratios.
    pub ratio: RatioScope,
}

impl AlgorithmConfig {
    /// The same algorithm with a single large batch, in its first iteration.
    #[must_use]
    pub fn with_one_snapshot(mut self) -> Self {
        match &mut self {
            Self::Svrpg(options) | Self::SrvrPg(options) => options.epoch = u32::MAX,
            Self::PagePg(options) => options.snapshot_probability = 0.0,
            Self::DefPg(options) => options.snapshot_probability = 0.0,
            _ => {}
        }
        self
    }

    /// The variance-reduced algorithm that this is, when it is one.
    pub fn variance_reduction(&self) -> Option<VarianceReduction> {
        let by_epoch = |options: &EpochConfig, correction| VarianceReduction {
            snapshot_size: options.snapshot_size,
            batch_size: options.batch_size,
            schedule: SnapshotSchedule::Every(options.epoch),
            correction,
            discount: options.discount,
            ratio: options.ratio,
        };
        match self {
            Self::Svrpg(options) => Some(by_epoch(options, CorrectionRule::Snapshot)),
            Self::SrvrPg(options) => Some(by_epoch(options, CorrectionRule::Recursive)),
            Self::StormPg(options) => Some(VarianceReduction {
                snapshot_size: options.snapshot_size,
                batch_size: options.batch_size,
                schedule: SnapshotSchedule::First,
                correction: CorrectionRule::Momentum(options.momentum),
                discount: options.discount,
                ratio: options.ratio,
            }),
            Self::PagePg(options) => Some(VarianceReduction {
                snapshot_size: options.snapshot_size,
                batch_size: options.batch_size,
                schedule: SnapshotSchedule::Random(options.snapshot_probability),
                correction: CorrectionRule::Recursive,
                discount: options.discount,
                ratio: options.ratio,
            }),
            Self::DefPg(options) => Some(VarianceReduction {
                snapshot_size: options.snapshot_size,
                batch_size: options.batch_size,
                schedule: SnapshotSchedule::Random(options.snapshot_probability),
                correction: CorrectionRule::Defensive(options.defensive_share),
                discount: options.discount,
                ratio: options.ratio,
            }),
            _ => None,
        }
    }
}

impl VarianceReduction {
    /// Fresh trajectories of the first `iterations` iterations together; expected ones, where chance decides.
    pub fn expected_trajectories(&self, iterations: u32) -> f64 {
        let (large, small) = (self.snapshot_size as f64, self.batch_size as f64);
        let snapshots = match self.schedule {
            SnapshotSchedule::Every(epoch) => f64::from(iterations.div_ceil(epoch)),
            SnapshotSchedule::First => f64::from(iterations.min(1)),
            SnapshotSchedule::Random(probability) => {
                f64::from(iterations.min(1)) + probability * f64::from(iterations.saturating_sub(1))
            }
        };
        snapshots * large + (f64::from(iterations) - snapshots) * small
    }
}

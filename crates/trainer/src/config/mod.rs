//! The configuration of a run.
//!
//! A configuration is TOML. [`load`] merges, in this order, the defaults, a preset (when the file names one), the file,
//! and `key=value` overrides; unknown keys, wrong types and values out of range are [`ConfigError`]s that name the key.
//! What a run used is written back with every default, and repeats the run.

mod algorithm;
mod check;
mod error;
pub(crate) mod layers;
pub(crate) mod load;
mod presets;
mod variance_reduction;

use std::path::PathBuf;

use policy_nets::{Activation, Architecture, Deviation, Initialization, LogStdBounds};
use serde::{Deserialize, Serialize};

pub use algorithm::{
    AlgorithmConfig, CoefficientKind, ImportanceConfig, OnPolicyConfig, PowerMeanConfig, WindowConfig,
};
pub use check::MOST_THREADS;
pub use error::ConfigError;
pub(crate) use error::{nearest, suggestion};
pub use load::{Source, load, recorded};
pub use presets::{Preset, presets};
pub use variance_reduction::{
    CorrectionRule, DefensiveConfig, EpochConfig, MomentumConfig, SnapshotSchedule, SwitchConfig,
    VarianceReduction,
};

use crate::device::DeviceChoice;

/// Keys that may change when a run goes on: the others would make it another run.
pub const RESUMABLE: [&str; 6] = ["iterations", "threads", "device", "kernels", "bad_batches", "checkpoint"];

/// The configuration of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Key of every random stream.
    pub seed: u64,
    /// Number of updates.
    pub iterations: u32,
    /// Worker threads of roll-outs and of the estimator; 0 takes one for each processor. Results do not depend on it.
    pub threads: usize,
    /// Compute device of the estimator.
    pub device: DeviceChoice,
    /// Which code computes the estimate.
    pub kernels: KernelChoice,
    /// What happens to a batch with a number that is not finite.
    pub bad_batches: BadBatches,
    /// What is controlled.
    pub environment: EnvironmentConfig,
    /// Who controls it.
    pub policy: PolicyConfig,
    /// How the gradient is estimated.
    pub algorithm: AlgorithmConfig,
    /// How the gradient is applied.
    pub optimizer: OptimizerConfig,
    /// How the policy is evaluated while it trains.
    pub evaluation: EvaluationConfig,
    /// When the run saves what it needs to go on.
    pub checkpoint: CheckpointConfig,
}

/// Which code computes the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelChoice {
    /// Fused kernels where they cover the device, the algorithm and the policy; else tensor operations.
    #[default]
    Auto,
    /// Tensor operations everywhere.
    Generic,
}

/// What happens to a batch that holds a number that is not finite, or leads to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadBatches {
    /// The run ends before the update, with its last good state saved.
    #[default]
    Stop,
    /// The batch is dropped and counted, the update is not made, and the run goes on.
    Drop,
}

/// The table `environment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentConfig {
    /// Name in the registry.
    pub name: String,
    /// Steps after which a trajectory is cut off. Without it, the environment's own.
    #[serde(default)]
    pub horizon: Option<usize>,
}

/// The table `policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Widths of the hidden layers; empty is the linear policy.
    pub hidden: Vec<usize>,
    /// Nonlinearity of the hidden layers.
    pub activation: Activation,
    /// Whether layers add biases.
    pub bias: bool,
    /// Start values of the weights.
    pub initialization: Initialization,
    /// Policy file whose mean network a run starts from, in the place of `initialization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<PathBuf>,
    /// `sigma^2` of every action component (the start value when it is learned).
    pub variance: f64,
    /// Whether `ln sigma` is trained, one for each action component.
    pub learn_variance: bool,
    /// Bounds of a trained `ln sigma`.
    pub log_std_bounds: LogStdBounds,
    /// Whether observations are standardised by their running mean and deviation.
    pub normalize_observations: bool,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            hidden: vec![32, 32],
            activation: Activation::Tanh,
            bias: false,
            initialization: Initialization::XavierUniform,
            start: None,
            variance: 0.3,
            learn_variance: false,
            log_std_bounds: LogStdBounds::default(),
            normalize_observations: false,
        }
    }
}

impl PolicyConfig {
    /// The shape of the mean network for an environment's sizes.
    pub fn architecture(&self, observation_size: usize, action_size: usize) -> Architecture {
        Architecture {
            observation_size,
            action_size,
            hidden: self.hidden.clone(),
            activation: self.activation,
            bias: self.bias,
        }
    }

    /// Whether and within which bounds the deviation is trained.
    pub fn deviation(&self) -> Deviation {
        if self.learn_variance { Deviation::Learned(self.log_std_bounds) } else { Deviation::Fixed }
    }
}

/// The table `optimizer`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum OptimizerConfig {
    /// Adam (Kingma and Ba 2015), ascending.
    Adam(AdamConfig),
    /// `theta + learning_rate * gradient`.
    Constant(ConstantConfig),
}

impl OptimizerConfig {
    /// Every optimizer with its default options; the first is the default.
    pub fn all() -> [Self; 2] {
        [Self::Adam(AdamConfig::default()), Self::Constant(ConstantConfig::default())]
    }

    /// The optimizer's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adam",
            Self::Constant(_) => "constant",
        }
    }
}

/// Options of [`OptimizerConfig::Adam`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta_1: f64,
    /// Decay of the mean of squared gradients.
    pub beta_2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { learning_rate: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 }
    }
}

/// Options of [`OptimizerConfig::Constant`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConstantConfig {
    /// Step size.
    pub learning_rate: f64,
}

impl Default for ConstantConfig {
    fn default() -> Self {
        Self { learning_rate: 0.01 }
    }
}

/// The table `evaluation`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Iterations between evaluations; 0 never evaluates. Evaluation episodes count towards nothing.
    pub interval: u32,
    /// Episodes of an evaluation, all with the mean action.
    pub episodes: usize,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { interval: 50, episodes: 10 }
    }
}

/// The table `checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Most seconds between checkpoints; 0 leaves it to `iterations`.
    pub seconds: f64,
    /// Most iterations between checkpoints; 0 leaves it to `seconds`.
    pub iterations: u32,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { seconds: 60.0, iterations: 0 }
    }
}

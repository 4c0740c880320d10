//! A policy as plain numbers on the host.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Architecture, Initialization, Normalizer};

/// Bounds of a learned log-deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogStdBounds {
    /// Smallest `ln sigma`.
    pub min: f64,
    /// Largest `ln sigma`.
    pub max: f64,
}

impl Default for LogStdBounds {
    fn default() -> Self {
        Self { min: -5.0, max: 2.0 }
    }
}

/// Whether the standard deviation is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deviation {
    /// Constant.
    Fixed,
    /// State-independent and trained; projected onto the bounds after every update, so that its gradient never dies.
    Learned(LogStdBounds),
}

/// Why numbers do not form a policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyStateError {
    /// The flat vector has another length than the architecture asks for.
    #[error("the policy has {expected} mean parameters, got {found}")]
    ParameterCount {
        /// What the architecture asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// The log-deviation has another length than the action.
    #[error("the policy has {expected} action components, but log_std has {found}")]
    LogStdCount {
        /// Number of action components.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A size is zero.
    #[error("layer sizes must be at least 1, got {observation_size} -> {hidden:?} -> {action_size}")]
    EmptyLayer {
        /// Number of observation components.
        observation_size: usize,
        /// Hidden widths.
        hidden: Vec<usize>,
        /// Number of action components.
        action_size: usize,
    },
    /// A number is NaN or infinite.
    #[error("{what} {index} is {value}, expected a finite number")]
    NotFinite {
        /// Which group of numbers.
        what: &'static str,
        /// Position in the group.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// A deviation of the normaliser is not above 0.
    #[error("normalizer std {index} is {value}, expected a number above 0")]
    NormalizerStd {
        /// Component of an observation.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// A learned log-deviation is not within its bounds.
    #[error("log_std {index} is {value}, expected a number from {} to {}, the bounds of a learned one", bounds.min, bounds.max)]
    OutOfBounds {
        /// Component of an action.
        index: usize,
        /// The value found.
        value: f64,
        /// The bounds.
        bounds: LogStdBounds,
    },
    /// No log-deviation is within its bounds.
    #[error("the bounds of log_std are {min} and {max}, expected a smaller and a larger number")]
    Bounds {
        /// The lower one.
        min: f64,
        /// The upper one.
        max: f64,
    },
    /// The normaliser has another number of components than an observation.
    #[error("the normalizer has {found} components, but the policy observes {expected}")]
    NormalizerSize {
        /// Number of observation components.
        expected: usize,
        /// What was given.
        found: usize,
    },
}

/// A Gaussian policy as plain numbers: what files hold and roll-outs read.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyState {
    /// Shape of the mean network.
    pub architecture: Architecture,
    /// Whether `log_std` is trained.
    pub deviation: Deviation,
    /// Flat parameters of the mean network, in the order of [`Architecture`].
    pub mean_parameters: Vec<f64>,
    /// `ln sigma` of each action component.
    pub log_std: Vec<f64>,
    /// Standardisation of observations, when there is one.
    pub normalizer: Option<Normalizer>,
}

impl PolicyState {
    /// A policy at its start: mean parameters drawn by `initialization`, the same `log_std` for every component.
    pub fn start(
        architecture: Architecture,
        initialization: Initialization,
        log_std: f64,
        deviation: Deviation,
        random: &mut dyn Rng,
    ) -> Self {
        let mean_parameters = initialization.draw(&architecture, random);
        let log_std = vec![f64::from(log_std as f32); architecture.action_size];
        Self { architecture, deviation, mean_parameters, log_std, normalizer: None }
    }

    /// The trainable vector: mean parameters, then `log_std` when it is learned.
    pub fn flat_parameters(&self) -> Vec<f64> {
        let mut parameters = self.mean_parameters.clone();
        if matches!(self.deviation, Deviation::Learned(_)) {
            parameters.extend(&self.log_std);
        }
        parameters
    }

    /// Length of the trainable vector.
    pub fn parameter_count(&self) -> usize {
        let learned = if matches!(self.deviation, Deviation::Learned(_)) { self.log_std.len() } else { 0 };
        self.mean_parameters.len() + learned
    }

    /// Checks that the lengths fit together.
    ///
    /// # Errors
    /// The first [`PolicyStateError`] found.
    pub fn check_sizes(&self) -> Result<(), PolicyStateError> {
        let Architecture { observation_size, action_size, hidden, .. } = &self.architecture;
        if *observation_size == 0 || *action_size == 0 || hidden.contains(&0) {
            return Err(PolicyStateError::EmptyLayer {
                observation_size: *observation_size,
                hidden: hidden.clone(),
                action_size: *action_size,
            });
        }
        let (expected, found) = (self.architecture.parameter_count(), self.mean_parameters.len());
        if expected != found {
            return Err(PolicyStateError::ParameterCount { expected, found });
        }
        let (expected, found) = (*action_size, self.log_std.len());
        if expected != found {
            return Err(PolicyStateError::LogStdCount { expected, found });
        }
        if let Some(normalizer) = &self.normalizer {
            for statistics in [normalizer.mean(), normalizer.std()] {
                let (expected, found) = (*observation_size, statistics.len());
                if expected != found {
                    return Err(PolicyStateError::NormalizerSize { expected, found });
                }
            }
        }
        Ok(())
    }

    /// Checks lengths, finiteness, deviations and bounds.
    ///
    /// # Errors
    /// The first [`PolicyStateError`] found.
    pub fn check(&self) -> Result<(), PolicyStateError> {
        self.check_sizes()?;
        if let Some(normalizer) = &self.normalizer {
            check_finite("normalizer mean", normalizer.mean())?;
            check_finite("normalizer std", normalizer.std())?;
            if let Some(index) = normalizer.std().iter().position(|std| *std <= 0.0) {
                return Err(PolicyStateError::NormalizerStd { index, value: normalizer.std()[index] });
            }
        }
        check_finite("mean parameter", &self.mean_parameters)?;
        check_finite("log_std", &self.log_std)?;
        if let Deviation::Learned(bounds) = self.deviation {
            let LogStdBounds { min, max } = bounds;
            if !(min <= max && min.is_finite() && max.is_finite()) {
                return Err(PolicyStateError::Bounds { min, max });
            }
            // In the precision in which it is trained.
            let held = min as f32..=max as f32;
            if let Some(index) = self.log_std.iter().position(|log_std| !held.contains(&(*log_std as f32))) {
                return Err(PolicyStateError::OutOfBounds { index, value: self.log_std[index], bounds });
            }
        }
        Ok(())
    }
}

fn check_finite(what: &'static str, values: &[f64]) -> Result<(), PolicyStateError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(PolicyStateError::NotFinite { what, index, value: values[index] }),
        None => Ok(()),
    }
}

//! Why a run did not start or go on.

use std::path::PathBuf;

use environments::StepError;
use environments::registry::UnknownEnvironment;
use policy_nets::PolicyFileError;
use policy_nets::tensor_file::TensorFileError;

use super::MOST_DROPPED_IN_A_ROW;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::figures::FigureError;
use crate::finite::{BadNumber, Quantity};
use crate::folder_lock::LockError;
use crate::memory::{MemoryNeed, format_bytes};
use crate::metrics::MetricsError;
use crate::rollout::RollOutError;
use crate::run_folder::{RunFolderError, is_exhausted, quoted};

/// Why a run did not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// No such environment.
    #[error("key `environment.name`: {0}")]
    Environment(UnknownEnvironment),
    /// The run does not fit into memory.
    #[error(
        "the run needs {need} ({window} batches of {trajectories} trajectories of {horizon} steps), but {} are available; \
         lower {advice}",
        format_bytes(*available)
    )]
    Memory {
        /// What it needs.
        need: MemoryNeed,
        /// Bytes that are left.
        available: f64,
        /// The keys that decide about the largest part.
        advice: String,
        /// Batches in the window.
        window: usize,
        /// Trajectories in a batch.
        trajectories: usize,
        /// Steps of a trajectory.
        horizon: usize,
    },
    /// A buffer of the window is larger than the device allows.
    #[error(
        "the window ({window} batches of {trajectories} trajectories of {horizon} steps) needs a buffer of {}, but {device} allows {}; \
         lower algorithm.window or algorithm.batch_size",
        format_bytes(*needed),
        format_bytes(*largest)
    )]
    Buffer {
        /// Bytes of the largest buffer.
        needed: f64,
        /// Bytes that the device allows.
        largest: f64,
        /// The device's name.
        device: String,
        /// Batches in the window.
        window: usize,
        /// Trajectories in a batch.
        trajectories: usize,
        /// Steps of a trajectory.
        horizon: usize,
    },
    /// A value of the configuration is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Two options that do not go together.
    #[error("{0}")]
    Options(String),
    /// The operating system refused the worker threads.
    #[error("the worker threads could not be started: {0}")]
    Threads(String),
    /// A roll-out failed.
    #[error(transparent)]
    RollOut(#[from] RollOutError),
    /// A number is not finite; the update was not made.
    #[error(
        "iteration {iteration}: {} is {}; the update was not made",
        bad.quantity, bad.value
    )]
    NotFinite {
        /// Iteration, from 1.
        iteration: u32,
        /// The first such number.
        bad: BadNumber,
    },
    /// A number of an evaluation is not finite.
    #[error(
        "the evaluation after iteration {iteration}: {} is {}",
        bad.quantity, bad.value
    )]
    EvaluationNotFinite {
        /// Iteration, from 1.
        iteration: u32,
        /// The first such number.
        bad: BadNumber,
    },
    /// One batch after the other is dropped.
    #[error(
        "iteration {iteration}: {} is {}, and {MOST_DROPPED_IN_A_ROW} batches before it were dropped one after the other",
        bad.quantity, bad.value
    )]
    Dropped {
        /// Iteration, from 1.
        iteration: u32,
        /// The first number of the last batch that is not finite.
        bad: BadNumber,
    },
    /// Code of an environment, a driver or our own panicked.
    #[error("iteration {iteration}: {message}")]
    Panicked {
        /// Iteration, from 1.
        iteration: u32,
        /// What it says.
        message: String,
    },
    /// The run's folder could not be written, and its state is saved in another one.
    #[error("{cause}; everything up to iteration {iteration} is saved in {}, go on with: rtpg train --resume {}", path.display(), quoted(path))]
    Rescued {
        /// What went wrong.
        cause: String,
        /// Iterations done.
        iteration: u32,
        /// The folder.
        path: PathBuf,
    },
    /// Reading from the device failed.
    #[error("iteration {iteration}: the device failed: {reason}")]
    Device {
        /// Iteration, from 1.
        iteration: u32,
        /// What the device says.
        reason: String,
    },
    /// The checkpoint belongs to another configuration.
    #[error("the checkpoint does not fit the configuration: {0}")]
    Mismatch(String),
    /// A checkpoint was not read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A policy was not written.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// Metrics were not read or written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The run folder was refused.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// A figure was not drawn.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The message has the cause, which is no source of its own: it would be told twice.
impl From<UnknownEnvironment> for TrainError {
    fn from(error: UnknownEnvironment) -> Self {
        Self::Environment(error)
    }
}

impl From<rayon::ThreadPoolBuildError> for TrainError {
    fn from(error: rayon::ThreadPoolBuildError) -> Self {
        Self::Threads(error.to_string())
    }
}

impl TrainError {
    /// Whether a number that is not finite ended the run: going on meets it again.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::EvaluationNotFinite { .. } | Self::Dropped { .. })
    }

    /// Whether it ended the iterations of a run, whose folder then has the last good state.
    pub fn ends_iterations(&self) -> bool {
        self.is_divergence() || matches!(self, Self::Panicked { .. } | Self::Device { .. })
    }

    /// Whether a run that did not start was asked for something wrong; else the system refused.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Threads(_) | Self::Device { .. } | Self::Panicked { .. } => false,
            Self::Io(error)
            | Self::Folder(RunFolderError::Io(error) | RunFolderError::Lock(LockError::Io(error)))
            | Self::Metrics(MetricsError::Io(error))
            | Self::Checkpoint(CheckpointError::File(TensorFileError::Io(error)))
            | Self::Policy(PolicyFileError::File(TensorFileError::Io(error)))
            | Self::Figure(FigureError::Write { source: error, .. }) => !is_exhausted(error),
            _ => true,
        }
    }

    /// Whether files of a run are missing, damaged or of another run: going on with it will never work, and making it again
    /// will.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Checkpoint(error) => error.is_damage() || matches!(error, CheckpointError::Foreign { .. }),
            Self::Metrics(MetricsError::Malformed { .. })
            | Self::Mismatch(_)
            | Self::Folder(RunFolderError::NotARun { .. }) => true,
            Self::Metrics(MetricsError::Io(error)) => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// A roll-out's failure, in an iteration counted from 1.
pub(super) fn in_iteration(error: RollOutError, iteration: u32) -> TrainError {
    match error {
        RollOutError::NotFinite { bad, .. } => TrainError::NotFinite { iteration, bad },
        RollOutError::Step {
            trajectory,
            step,
            source: StepError::ActionNotFinite { index, value, .. },
            ..
        } => {
            let quantity = Quantity::Action { trajectory, step, component: index };
            TrainError::NotFinite { iteration, bad: BadNumber { quantity, value } }
        }
        RollOutError::Step { trajectory, step, source, .. } => {
            RollOutError::Step { iteration, trajectory, step, source }.into()
        }
        RollOutError::Panicked { message, .. } => {
            TrainError::Panicked { iteration, message: format!("the environment panicked: {message}") }
        }
        other => other.into(),
    }
}

/// A failure of the evaluation after an iteration, counted from 1.
pub(super) fn in_evaluation(error: RollOutError, iteration: u32) -> TrainError {
    match in_iteration(error, iteration) {
        TrainError::NotFinite { iteration, bad } => TrainError::EvaluationNotFinite { iteration, bad },
        other => other,
    }
}

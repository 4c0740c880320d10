//! Errors of studies.

use std::path::PathBuf;

use crate::config::{ConfigError, suggestion};
use crate::device::DeviceError;
use crate::figures::FigureError;
use crate::folder_lock::LockError;
use crate::memory::format_bytes;
use crate::metrics::MetricsError;
use crate::rollout::RollOutError;
use crate::run_folder::{RunFolderError, is_exhausted};
use crate::statistics::StatisticsError;
use crate::training::TrainError;

/// Why a study was refused or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// No built-in study has this name.
    #[error(
        "unknown study `{name}`{}; studies: {}; or name a file that ends in .toml",
        suggestion(nearest.as_ref()),
        known.join(", ")
    )]
    Unknown {
        /// The name asked for.
        name: String,
        /// The nearest study.
        nearest: Option<String>,
        /// All studies.
        known: Vec<String>,
    },
    /// A key of the study or of a run's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value of the study is outside its range, or does not go with another.
    #[error("{place}: key `{key}` {reason}")]
    Value {
        /// The study.
        place: String,
        /// The dotted key.
        key: String,
        /// What was found and expected.
        reason: String,
    },
    /// The policy that runs start from was changed while the study ran.
    #[error(
        "{run}: {path}, the policy that the runs start from, was changed since the study began; give the study again, which makes them \
         all from the new one, or a copy of the policy that stays"
    )]
    Start {
        /// The run that was to start.
        run: String,
        /// The policy.
        path: String,
    },
    /// Two algorithms have one label.
    #[error("{place}: two algorithms are labelled `{label}`; give each its own `label`")]
    Duplicate {
        /// The study.
        place: String,
        /// The label.
        label: String,
    },
    /// The budget does not pay for one iteration.
    #[error(
        "{place}: a budget of {budget} fresh trajectories does not pay for one iteration of `{label}`, which takes {needed}"
    )]
    Budget {
        /// The study.
        place: String,
        /// The algorithm.
        label: String,
        /// The budget.
        budget: u64,
        /// Trajectories of the first iteration.
        needed: usize,
    },
    /// The estimates of a gradient study do not fit into memory.
    #[error(
        "{place}: {runs} estimates of {parameters} numbers by each algorithm, and the work of all jobs, need about {}, but {} are \
         available; lower runs or --jobs",
        format_bytes(*needed),
        format_bytes(*available)
    )]
    Memory {
        /// The study.
        place: String,
        /// Estimates by each algorithm.
        runs: u32,
        /// Numbers of an estimate.
        parameters: usize,
        /// Bytes that they take.
        needed: f64,
        /// Bytes that are left.
        available: f64,
    },
    /// The folder holds another study.
    #[error(
        "{} holds the results of another study (they differ in {difference}); name another --out",
        path.display()
    )]
    OtherStudy {
        /// The folder.
        path: PathBuf,
        /// The first keys that differ.
        difference: String,
    },
    /// The folder holds something else than a study.
    #[error("{} is not empty and not the folder of a study; name another --out", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes in the folder, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A run failed for a reason that another attempt would meet again.
    #[error("{run}")]
    Run {
        /// The run.
        run: String,
        /// The reason.
        source: Box<TrainError>,
    },
    /// Code of an environment, a driver or our own panicked.
    #[error("{run}: a panic: {message}")]
    Panicked {
        /// The run, or the estimates.
        run: String,
        /// What it says.
        message: String,
    },
    /// A run in a process of its own failed.
    #[error("{run}: {reason}")]
    Isolated {
        /// The run.
        run: String,
        /// What the process says, or how it ended.
        reason: String,
        /// Whether its input was refused.
        input: bool,
    },
    /// No algorithm of the study has this label.
    #[error(
        "no algorithm is labelled `{label}`{}; labels: {}",
        suggestion(nearest.as_ref()),
        known.join("; ")
    )]
    Label {
        /// The label asked for.
        label: String,
        /// The nearest label.
        nearest: Option<String>,
        /// All labels.
        known: Vec<String>,
    },
    /// An estimate of a gradient study has a number that is not finite.
    #[error(
        "repetition {repetition} of {name}: component {component} of the gradient is {value}; those before it are kept"
    )]
    NotFinite {
        /// The algorithm.
        name: String,
        /// Which estimate, from 1.
        repetition: u32,
        /// Which parameter, from 0.
        component: usize,
        /// The number.
        value: f64,
    },
    /// The device was refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A roll-out failed.
    #[error(transparent)]
    RollOut(#[from] RollOutError),
    /// Metrics were not read.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A statistic has no answer.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// A figure was not drawn.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A table was not written.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl StudyError {
    /// Whether the user can mend it by other input.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Run { source, .. } => {
                let is_exhausted_lock = matches!(
                    &**source,
                    TrainError::Folder(RunFolderError::Lock(LockError::Io(error))) if is_exhausted(error)
                );
                !is_exhausted_lock
                    && matches!(
                        **source,
                        TrainError::Environment(_)
                            | TrainError::Config(_)
                            | TrainError::Options(_)
                            | TrainError::Memory { .. }
                            | TrainError::Buffer { .. }
                            | TrainError::RollOut(RollOutError::Make(_))
                            | TrainError::Folder(RunFolderError::Lock(_) | RunFolderError::Link { .. })
                    )
            }
            Self::Isolated { input, .. } => *input,
            Self::Io(error) | Self::Lock(LockError::Io(error)) => !is_exhausted(error),
            Self::Unknown { .. }
            | Self::Config(_)
            | Self::Start { .. }
            | Self::Value { .. }
            | Self::Duplicate { .. }
            | Self::Label { .. }
            | Self::Budget { .. }
            | Self::Memory { .. }
            | Self::OtherStudy { .. }
            | Self::Foreign { .. }
            | Self::Lock(_)
            | Self::Device(_) => true,
            _ => false,
        }
    }
}

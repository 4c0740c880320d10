//! How a run ended, and its final figures.

use std::path::Path;

use policy_nets::files::read_regular;
use serde::{Deserialize, Serialize};

use crate::phases::PhaseSeconds;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every iteration was made.
    Finished,
    /// The user asked for a stop; the run can be resumed.
    Stopped,
    /// A number that is not finite ended the run; the last good state is saved, and leads to the same number again.
    Diverged,
    /// Another error ended the run; the last good state is saved.
    Failed,
}

/// Final figures of a run, `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the program.
    pub version: String,
    /// How the run ended.
    pub ending: Ending,
    /// Environment.
    pub environment: String,
    /// Algorithm.
    pub algorithm: String,
    /// Key of the random streams.
    pub seed: u64,
    /// Device and why it was taken.
    pub device: String,
    /// Iterations made.
    pub iterations: u32,
    /// Fresh trajectories.
    pub trajectories_total: u64,
    /// Environment steps.
    pub env_steps_total: u64,
    /// Mean return of fresh trajectories over the last 50 iterations.
    pub final_return_mean: Option<f64>,
    /// Best score so far.
    pub best_return: Option<f64>,
    /// Seconds of all iterations.
    pub seconds_total: f64,
    /// Fresh trajectories that ended because their simulation turned unstable.
    #[serde(default)]
    pub unstable_total: u64,
    /// Iterations that made no update because their batch was dropped.
    #[serde(default)]
    pub dropped_iterations: u32,
    /// Environment steps for each second of roll-outs in this process.
    pub env_steps_per_second: f64,
    /// Worker threads.
    #[serde(default)]
    pub threads: usize,
    /// Seconds inside the environments' own resets and steps in this process, summed over threads, evaluation included.
    #[serde(default)]
    pub physics_seconds: f64,
    /// `physics_seconds / (threads * wall-clock seconds of this process's iterations)`: 1 when every thread does nothing but
    /// physics all the time; what the policy, the estimator and idle threads take is missing from it.
    #[serde(default)]
    pub physics_share: f64,
    /// Bytes that the run was reckoned to need: window, batches and estimator.
    #[serde(default)]
    pub memory_need: u64,
    /// The most bytes that the process had at one time, the program included; not known where the system does not tell, and
    /// where several runs share a process.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// Seconds of every phase in this process.
    pub phase_seconds: PhaseSeconds,
}

/// The most bytes of a `summary.json`.
const LARGEST: u64 = 1 << 16;

impl Summary {
    /// What a run's `summary.json` says; nothing where there is none, or something else.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&read_regular(path, LARGEST).ok()?).ok()
    }
}

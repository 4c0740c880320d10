//! Where the time of a run goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Parts of an iteration. On a device that works asynchronously, time counts in the phase that waits for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sampling trajectories.
    RollOut,
    /// Copying the batch to the device and preparing its returns.
    Push,
    /// Means of every stored trajectory. The fused kernels compute them within [`Phase::Gradient`].
    LogProbabilities,
    /// Log-ratios, divergences, coefficients and weights; with the fused kernels, coefficients and weights alone.
    Weights,
    /// The surrogate's gradient.
    Gradient,
    /// The optimiser's step.
    Update,
    /// Reading diagnostics, metrics, files.
    Record,
    /// Evaluation episodes.
    Evaluation,
    /// Saving checkpoints.
    Checkpoint,
}

impl Phase {
    const ALL: [Self; 9] = [
        Self::RollOut,
        Self::Push,
        Self::LogProbabilities,
        Self::Weights,
        Self::Gradient,
        Self::Update,
        Self::Record,
        Self::Evaluation,
        Self::Checkpoint,
    ];

    /// The phase's name in summaries and spans.
    pub fn name(self) -> &'static str {
        match self {
            Self::RollOut => "roll_out",
            Self::Push => "push",
            Self::LogProbabilities => "log_probabilities",
            Self::Weights => "weights",
            Self::Gradient => "gradient",
            Self::Update => "update",
            Self::Record => "record",
            Self::Evaluation => "evaluation",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Totals of every phase.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    totals: [Duration; Phase::ALL.len()],
}

/// Seconds of every phase by name, as `summary.json` holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhaseSeconds(pub BTreeMap<String, f64>);

impl Phases {
    /// Runs `work` inside the phase's span and adds its time.
    pub fn time<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        let span = match phase {
            Phase::RollOut => tracing::debug_span!("roll_out"),
            Phase::Push => tracing::debug_span!("push"),
            Phase::LogProbabilities => tracing::debug_span!("log_probabilities"),
            Phase::Weights => tracing::debug_span!("weights"),
            Phase::Gradient => tracing::debug_span!("gradient"),
            Phase::Update => tracing::debug_span!("update"),
            Phase::Record => tracing::debug_span!("record"),
            Phase::Evaluation => tracing::debug_span!("evaluation"),
            Phase::Checkpoint => tracing::debug_span!("checkpoint"),
        };
        let start = Instant::now();
        let result = span.in_scope(work);
        self.totals[phase as usize] += start.elapsed();
        result
    }

    /// Adds time that was measured elsewhere.
    pub fn add(&mut self, phase: Phase, time: Duration) {
        self.totals[phase as usize] += time;
    }

    /// Moves time that was measured within another phase to its own.
    pub fn shift(&mut self, from: Phase, to: Phase, time: Duration) {
        self.totals[from as usize] = self.totals[from as usize].saturating_sub(time);
        self.totals[to as usize] += time;
    }

    /// Total of one phase.
    pub fn total(&self, phase: Phase) -> Duration {
        self.totals[phase as usize]
    }

    /// Totals by name.
    pub fn seconds(&self) -> PhaseSeconds {
        let seconds = |phase: &Phase| (phase.name().to_owned(), self.total(*phase).as_secs_f64());
        PhaseSeconds(Phase::ALL.iter().map(seconds).collect())
    }
}

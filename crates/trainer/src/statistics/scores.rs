//! The scores of one algorithm.

use super::StatisticsError;

/// The scores of one algorithm, one for each run of each task: returns, areas under curves, trajectories to a threshold.
///
/// There is at least one task, and at least one run in each. A score is finite, or `f64::INFINITY` when it is censored
/// (a run that had not reached the threshold when it ended: it would have taken some larger, unknown number).
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(Vec<Vec<f64>>);

impl Scores {
    /// Scores `[tasks][runs]`; tasks may differ in their number of runs.
    ///
    /// # Errors
    /// [`StatisticsError::NoRuns`] without tasks or runs, [`StatisticsError::Score`] for NaN and minus infinity.
    pub fn new(tasks: Vec<Vec<f64>>) -> Result<Self, StatisticsError> {
        if tasks.is_empty() || tasks.iter().any(Vec::is_empty) {
            return Err(StatisticsError::NoRuns);
        }
        for (task, runs) in tasks.iter().enumerate() {
            if let Some(run) = runs.iter().position(|&value| value.is_nan() || value == f64::NEG_INFINITY) {
                return Err(StatisticsError::Score { task, run, value: runs[run] });
            }
        }
        Ok(Self(tasks))
    }

    /// The scores of the runs of a single task.
    ///
    /// # Errors
    /// As [`Scores::new`].
    pub fn single_task(runs: Vec<f64>) -> Result<Self, StatisticsError> {
        Self::new(vec![runs])
    }

    /// The scores of the runs of a single task in trajectories, censored ones as `None`; what
    /// [`trajectories_to_threshold`](super::trajectories_to_threshold) gives.
    ///
    /// # Errors
    /// [`StatisticsError::NoRuns`] without runs.
    pub fn censored(runs: &[Option<u64>]) -> Result<Self, StatisticsError> {
        Self::single_task(runs.iter().map(|run| run.map_or(f64::INFINITY, |count| count as f64)).collect())
    }

    /// The scores, `[tasks][runs]`.
    pub fn tasks(&self) -> &[Vec<f64>] {
        &self.0
    }

    /// The scores of all runs of all tasks.
    pub(super) fn pooled(&self) -> Vec<f64> {
        self.0.concat()
    }

    /// Overwrites every score with the one that `pick` returns for its task's scores; the shape stays.
    pub(super) fn replace(&mut self, source: &Self, mut pick: impl FnMut(&[f64]) -> f64) {
        for (runs, source) in self.0.iter_mut().zip(&source.0) {
            runs.fill_with(|| pick(source));
        }
    }
}

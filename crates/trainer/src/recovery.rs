//! Where a run goes on: its newest checkpoint that is whole, and the rows of metrics that belong to it.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::metrics::{self, MetricsRow};
use crate::run_folder::RunFolder;
use crate::training::TrainError;

/// What a run goes on from.
pub(crate) struct Recovered {
    pub(crate) checkpoint: Checkpoint,
    /// One for each iteration that the checkpoint has made.
    pub(crate) rows: Vec<MetricsRow>,
    /// Iterations that were recorded, those after the checkpoint included.
    pub(crate) recorded: u32,
    /// Why the newest checkpoint was not taken.
    damage: Option<CheckpointError>,
    /// Whether the rows are those that the run wrote.
    rows_unchanged: bool,
}

/// Reads the checkpoint, or the one before it when the newest is missing or damaged. Rows of later iterations are left out:
/// going on makes them again. Nothing is changed.
///
/// # Errors
/// What is wrong with the newest checkpoint when there is no other, or with the metrics.
pub(crate) fn recover(folder: &RunFolder) -> Result<Recovered, TrainError> {
    let (checkpoint, damage) = match Checkpoint::load(&folder.checkpoint()) {
        Ok(checkpoint) => (checkpoint, None),
        Err(error) if error.is_damage() => match Checkpoint::load(&folder.previous_checkpoint()) {
            Ok(checkpoint) => (checkpoint, Some(error)),
            Err(_) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let (rows, digest, recorded) = metrics::read_first(&folder.metrics(), checkpoint.progress.iteration)?;
    let rows_unchanged = checkpoint.progress.metrics.as_ref().is_none_or(|expected| *expected == digest);
    Ok(Recovered { checkpoint, rows, recorded, damage, rows_unchanged })
}

impl Recovered {
    /// Tells what was found, each in one line, and puts the checkpoint that was taken in the place of a damaged one: the
    /// next keeps what stands there as the one before.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(crate) fn accept(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let iteration = self.checkpoint.progress.iteration;
        if let Some(damage) = &self.damage {
            tracing::warn!(
                "{damage}; going on from the checkpoint before it, of iteration {iteration}: the iterations since then are \
                 made again, to the same result"
            );
            fs_err::rename(folder.previous_checkpoint(), folder.checkpoint())?;
        }
        if !self.rows_unchanged {
            tracing::warn!(
                "{}: the rows up to iteration {iteration} are not those that the run wrote (damaged, or edited); they are \
                 kept as they are, and the training itself does not depend on them",
                folder.metrics().display()
            );
        }
        Ok(())
    }
}

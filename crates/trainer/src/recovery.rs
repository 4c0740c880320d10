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
}

/// Reads the checkpoint, or the one before it when the newest is missing or damaged, which is said in one line. Rows of
/// later iterations are left out: going on makes them again.
///
/// # Errors
/// What is wrong with the newest checkpoint when there is no other, or with the metrics.
pub(crate) fn recover(folder: &RunFolder) -> Result<Recovered, TrainError> {
    let checkpoint = match Checkpoint::load(&folder.checkpoint()) {
        Ok(checkpoint) => checkpoint,
        Err(error) => before(folder, error)?,
    };
    let (rows, digest) = metrics::read_first(&folder.metrics(), checkpoint.progress.iteration)?;
    if checkpoint.progress.metrics.as_ref().is_some_and(|expected| *expected != digest) {
        tracing::warn!(
            "{}: the rows up to iteration {} are not those that the run wrote (damaged, or edited); they are kept as they \
             are, and the training itself does not depend on them",
            folder.metrics().display(),
            checkpoint.progress.iteration
        );
    }
    Ok(Recovered { checkpoint, rows })
}

/// The checkpoint before a damaged one, which it replaces.
fn before(folder: &RunFolder, error: CheckpointError) -> Result<Checkpoint, TrainError> {
    let previous = folder.previous_checkpoint();
    if !error.is_damage() || !previous.exists() {
        return Err(error.into());
    }
    let Ok(checkpoint) = Checkpoint::load(&previous) else { return Err(error.into()) };
    tracing::warn!(
        "{error}; going on from the checkpoint before it, of iteration {}: the iterations since then are made again, to the \
         same result",
        checkpoint.progress.iteration
    );
    // The next checkpoint keeps what stands here as the one before: that must not be the damaged one.
    fs_err::rename(previous, folder.checkpoint())?;
    Ok(checkpoint)
}

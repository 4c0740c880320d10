//! A run whose folder cannot be written is saved in another one.

use std::error::Error;
use std::path::{Path, PathBuf};

use policy_nets::files::write_atomically;
use policy_nets::tensor_file::StoredFloat;

use crate::run_folder::RunFolder;
use crate::training::{TrainError, Trainer};

/// The most bytes of the run's name that are kept; file systems take 255 for a name.
const LONGEST_NAME: usize = 200;

/// Saves a run as a folder that it can be resumed from: beside its own folder, or where that cannot be, in the system's
/// folder for temporary files. `metrics` are the bytes of `metrics.csv`, and `digest` their hash.
///
/// # Errors
/// What the last place refuses.
pub(crate) fn save(
    trainer: &Trainer,
    folder: &Path,
    metrics: &[u8],
    digest: String,
) -> Result<PathBuf, TrainError> {
    let name = folder.file_name().unwrap_or("run".as_ref()).to_string_lossy();
    // With what is added to it, it still has to be a name.
    let name = &name[..name.floor_char_boundary(LONGEST_NAME)];
    let beside = folder.with_file_name(format!("{name}-rescued"));
    match save_in(trainer, &beside, metrics, digest.clone()) {
        Ok(path) => Ok(path),
        Err(_) => save_in(trainer, &std::env::temp_dir().join(format!("{name}-rescued")), metrics, digest),
    }
}

/// Saves in the first of the folders `path`, `path-2`, ... that is free; what cannot be whole is removed.
fn save_in(trainer: &Trainer, path: &Path, metrics: &[u8], digest: String) -> Result<PathBuf, TrainError> {
    const MOST: u32 = 100;
    let free = (1..=MOST).map(|number| match number {
        1 => path.to_owned(),
        number => path
            .with_file_name(format!("{}-{number}", path.file_name().unwrap_or_default().to_string_lossy())),
    });
    let free = free.into_iter().find(|path| path.symlink_metadata().is_err());
    let path = free.unwrap_or_else(|| path.to_owned());
    let folder = RunFolder::create(&path, false)?;
    let write = || -> Result<(), TrainError> {
        folder.write_config(trainer.config())?;
        write_atomically(&folder.metrics(), metrics)?;
        let mut checkpoint = trainer.checkpoint();
        checkpoint.progress.metrics = Some(digest);
        checkpoint.save(&folder.checkpoint(), &folder.previous_checkpoint())?;
        trainer.policy().save(&folder.policy(), StoredFloat::F32)?;
        trainer.best_policy().save(&folder.best_policy(), StoredFloat::F32)?;
        Ok(())
    };
    if let Err(error) = write() {
        let _ = fs_err::remove_dir_all(&path);
        return Err(error);
    }
    Ok(path)
}

/// An error with all its causes, on one line.
pub(crate) fn describe(error: &TrainError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

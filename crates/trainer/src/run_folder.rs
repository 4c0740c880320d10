//! The folder of a run (docs/formats.md).

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::PathExt;
use policy_nets::files::{TEMPORARY_PREFIX, write_atomically};
use sha2::{Digest, Sha256};

use crate::config::{Config, recorded};
use crate::folder_lock::{FolderLock, LockError};
use crate::metrics::{self, MetricsError, MetricsRow};

/// Why a folder was not taken for a run.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// There is something in the folder already.
    #[error(
        "{} is not empty; go on with its run by --resume {}, or overwrite the run by --force",
        path.display(),
        quoted(path)
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something else than a run.
    #[error("{} is not the folder of a run: there is no {missing} in it", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
    /// Another process has the folder, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file of the run leads out of its folder.
    #[error("{} is a symbolic link; a run reads and writes in its own folder only", path.display())]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// The folder to be overwritten holds something else than a run.
    #[error("{} is not the folder of a run, so --force leaves it alone; name another --out", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
}

/// The file of a policy that is named by itself or by the folder of its run.
pub fn policy_file(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { RunFolder::open(path).ok() } else { None };
    folder.map_or_else(|| path.to_owned(), |folder| folder.policy_to_take())
}

/// A path as a shell reads it back.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=,:+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether the system refused for want of room, or because nothing can be written there: no other input would help.
pub fn is_exhausted(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem | OutOfMemory)
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held by whoever writes.
    lock: Option<Arc<FolderLock>>,
}

/// The file by which a run locks its folder.
pub(crate) const LOCK: &str = "run.lock";

/// Names of the files that a run writes, in the order in which they are removed: what a killed removal leaves has the
/// configuration still.
const FILES: [&str; 8] = [
    "metrics.csv",
    "policy.safetensors",
    "policy-best.safetensors",
    "learning_curve.svg",
    "learning_curve.png",
    "summary.json",
    "checkpoint",
    "config.toml",
];

impl RunFolder {
    /// Makes an empty folder for a run. `force` removes the files of an earlier run, and nothing else.
    ///
    /// # Errors
    /// A folder that is not empty (without `force`), that holds something else than a run, or that cannot be written.
    pub fn create(path: &Path, force: bool) -> Result<Self, RunFolderError> {
        fs_err::create_dir_all(path)?;
        let mut folder = Self { path: path.to_owned(), lock: None };
        if folder.is_occupied()? && !force {
            return Err(RunFolderError::NotEmpty { path: path.to_owned() });
        }
        folder.lock()?;
        if folder.is_occupied()? {
            if !force {
                return Err(RunFolderError::NotEmpty { path: path.to_owned() });
            }
            if (folder.holds_something_else()? || folder.is_foreign()) && !folder.holds_a_run() {
                return Err(RunFolderError::Foreign { path: path.to_owned() });
            }
            folder.remove_leftovers()?;
            let checkpoints = [folder.checkpoint(), folder.previous_checkpoint()];
            for file in checkpoints.into_iter().chain(FILES.iter().map(|name| path.join(name))) {
                if file.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()) {
                    fs_err::remove_file(&file)?;
                }
            }
        }
        fs_err::create_dir_all(path.join("checkpoint"))?;
        Ok(folder)
    }

    /// Takes the folder for this process, for as long as this value or a copy of it lives.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another process writes in it.
    pub fn lock(&mut self) -> Result<(), RunFolderError> {
        if self.lock.is_none() {
            self.lock = Some(Arc::new(FolderLock::take(&self.path, LOCK)?));
        }
        Ok(())
    }

    /// Whether there is anything but a lock.
    fn is_occupied(&self) -> Result<bool, RunFolderError> {
        for entry in fs_err::read_dir(&self.path)? {
            if entry?.file_name() != LOCK {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a run has been here: its configuration, and rows of metrics or a checkpoint.
    fn holds_a_run(&self) -> bool {
        let is_recorded = || metrics::read(&self.metrics()).is_ok() || self.has_checkpoint().unwrap_or(true);
        recorded(&self.config()).is_ok() && is_recorded()
    }

    /// Whether files with the names of a run's are none: every run begins with its configuration.
    fn is_foreign(&self) -> bool {
        let others = FILES.iter().filter(|name| !["config.toml", "checkpoint"].contains(*name));
        let is_there = |name: &str| self.path.join(name).symlink_metadata().is_ok();
        if is_there("config.toml") {
            recorded(&self.config()).is_err()
        } else {
            others.copied().any(is_there)
        }
    }

    /// Whether there is anything that no run writes. A folder without it is at most what a killed run left.
    fn holds_something_else(&self) -> Result<bool, RunFolderError> {
        for entry in fs_err::read_dir(&self.path)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name != LOCK && !FILES.contains(&name.as_ref()) && !name.starts_with(TEMPORARY_PREFIX) {
                return Ok(true);
            }
        }
        let checkpoints = self.path.join("checkpoint");
        if !checkpoints.is_dir() {
            return Ok(false);
        }
        let own = [self.checkpoint(), self.previous_checkpoint()];
        for entry in fs_err::read_dir(checkpoints)? {
            let entry = entry?;
            let temporary = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
            if !temporary && !own.contains(&entry.path()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether no iteration is recorded.
    ///
    /// # Errors
    /// Metrics that cannot be read.
    pub fn records_nothing(&self) -> Result<bool, MetricsError> {
        Ok(!self.metrics().exists() || metrics::read(&self.metrics())?.is_empty())
    }

    /// Removes temporary files that a killed run left in the middle of a write.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn remove_leftovers(&self) -> Result<(), RunFolderError> {
        for folder in [self.path.clone(), self.path.join("checkpoint")] {
            if !folder.is_dir() {
                continue;
            }
            for entry in fs_err::read_dir(folder)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                    fs_err::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// When there is no run in it, or a file of the run is a symbolic link.
    pub fn open(path: &Path) -> Result<Self, RunFolderError> {
        let folder = Self { path: path.to_owned(), lock: None };
        let files = FILES.iter().map(|name| path.join(name));
        for path in files.chain([folder.checkpoint(), folder.previous_checkpoint()]) {
            if path.is_symlink() {
                return Err(RunFolderError::Link { path });
            }
        }
        if folder.config().is_file() {
            Ok(folder)
        } else {
            Err(RunFolderError::NotARun { path: path.to_owned(), missing: "config.toml" })
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// One row for each iteration.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// The last policy.
    pub fn policy(&self) -> PathBuf {
        self.path.join("policy.safetensors")
    }

    /// The best policy's file, or the last one's where there is no best.
    pub fn policy_to_take(&self) -> PathBuf {
        let best = self.best_policy();
        if best.is_file() { best } else { self.policy() }
    }

    /// The best policy by evaluation.
    pub fn best_policy(&self) -> PathBuf {
        self.path.join("policy-best.safetensors")
    }

    /// Final figures.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// The learning curve, with `extension` `svg` or `png`.
    pub fn learning_curve(&self, extension: &str) -> PathBuf {
        self.path.join("learning_curve").with_extension(extension)
    }

    /// What a run needs to go on.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint").join("state.safetensors")
    }

    /// The checkpoint before that one.
    pub fn previous_checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint").join("previous.safetensors")
    }

    /// Whether there is a checkpoint, the newest or the one before.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn has_checkpoint(&self) -> std::io::Result<bool> {
        Ok(self.checkpoint().fs_err_try_exists()? || self.previous_checkpoint().fs_err_try_exists()?)
    }

    /// Writes the resolved configuration.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write_config(&self, config: &Config) -> Result<(), RunFolderError> {
        Ok(write_atomically(&self.config(), config.to_toml().as_bytes())?)
    }
}

/// Appends rows to `metrics.csv`, each as soon as it is there.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: fs_err::File,
    /// Bytes of the whole lines in the file.
    length: u64,
    /// Rows that the file system refused.
    unwritten: Vec<u8>,
    /// Of the lines in the file and the unwritten rows.
    digest: Sha256,
}

impl MetricsWriter {
    /// Starts a file with the rows that are there already (none for a new run) and the header.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn start(path: &Path, rows: &[MetricsRow]) -> Result<Self, MetricsError> {
        let malformed =
            |error: csv::Error| MetricsError::Malformed { path: path.to_owned(), reason: error.to_string() };
        let mut bytes = metrics::to_csv(rows, true).map_err(malformed)?;
        if rows.is_empty() {
            bytes = metrics::to_csv(&[MetricsRow::default()], true).map_err(malformed)?;
            bytes.truncate(bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        }
        write_atomically(path, &bytes)?;
        let file = fs_err::OpenOptions::new().read(true).append(true).open(path)?;
        let digest = Sha256::new_with_prefix(&bytes);
        Ok(Self { path: path.to_owned(), file, length: bytes.len() as u64, unwritten: vec![], digest })
    }

    /// Appends a row with one write, so that a kill leaves whole lines or one cut last line. A write that fails leaves
    /// whole lines, and the row is kept for the next one.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn append(&mut self, row: &MetricsRow) -> Result<(), MetricsError> {
        let bytes = metrics::to_csv(std::slice::from_ref(row), false).map_err(|error| {
            MetricsError::Malformed { path: self.path.clone(), reason: error.to_string() }
        })?;
        self.digest.update(&bytes);
        self.unwritten.extend(bytes);
        self.write()
    }

    fn write(&mut self) -> Result<(), MetricsError> {
        if let Err(error) = self.file.write_all(&self.unwritten) {
            let _ = self.file.set_len(self.length);
            return Err(error.into());
        }
        self.length += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }

    /// Forces everything appended to the disk.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn sync(&mut self) -> Result<(), MetricsError> {
        self.write()?;
        Ok(self.file.sync_all()?)
    }

    /// SHA-256 of everything appended, in hexadecimal digits.
    pub fn digest(&self) -> String {
        hex::encode(self.digest.clone().finalize())
    }

    /// Everything appended, also when the file has lost its name since, or could not be written.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn contents(&mut self) -> Result<Vec<u8>, MetricsError> {
        let mut bytes = vec![];
        self.file.seek(SeekFrom::Start(0))?;
        (&mut self.file).take(self.length).read_to_end(&mut bytes)?;
        bytes.extend(&self.unwritten);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(iteration: u32) -> MetricsRow {
        MetricsRow { iteration, ..MetricsRow::default() }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_row_that_was_refused_is_kept_and_written_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut writer = MetricsWriter::start(&path, &[]).unwrap();
        writer.append(&row(1)).unwrap();
        // A full disk.
        let full = fs_err::OpenOptions::new().read(true).append(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut writer.file, full);
        writer.append(&row(2)).unwrap_err();
        writer.sync().unwrap_err();
        writer.file = file;
        let expected = metrics::to_csv(&[row(1), row(2)], true).unwrap();
        assert_eq!(writer.contents().unwrap(), expected);
        assert_eq!(writer.digest(), hex::encode(Sha256::digest(&expected)));
        writer.append(&row(3)).unwrap();
        writer.sync().unwrap();
        assert_eq!(metrics::read(&path).unwrap(), [row(1), row(2), row(3)]);
        assert_eq!(writer.contents().unwrap(), std::fs::read(&path).unwrap());
    }

    #[test]
    fn force_removes_the_files_of_a_run_and_no_others() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("project");
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
        let force = || RunFolder::create(&path, true).map(drop);
        RunFolder::create(&path, false).unwrap();
        // Somebody's own project.
        write("config.toml", "color = \"red\"\n");
        write("main.py", "");
        assert!(matches!(force(), Err(RunFolderError::Foreign { .. })));
        write("config.toml", "preset = \"lqr\"\n");
        assert!(matches!(force(), Err(RunFolderError::Foreign { .. })), "no run has been here");
        std::fs::remove_file(path.join("main.py")).unwrap();
        write("checkpoint/weights.pt", "");
        assert!(matches!(force(), Err(RunFolderError::Foreign { .. })));
        // A run, and files of another kind beside it.
        write("notes.md", "");
        write("metrics.csv", &String::from_utf8(metrics::to_csv(&[row(1)], true).unwrap()).unwrap());
        write("checkpoint/state.safetensors", "");
        force().unwrap();
        let names = |folder: &Path| {
            let names = std::fs::read_dir(folder).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&path), ["checkpoint", "notes.md"]);
        assert_eq!(names(&path.join("checkpoint")), ["weights.pt"]);
    }
}

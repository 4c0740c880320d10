//! The folder of a study.
//!
//! | file | content |
//! |---|---|
//! | `study.toml` | the study, with every default |
//! | `manifest.json` | the command, versions, the machine |
//! | `runs/NAME/` | a run folder for each run, and `complete.json` when it is done |
//! | `runs/NAME.csv` | of a gradient study, frozen parameters and estimates |
//! | `results.csv` | every run, every point |
//! | `summary.csv`, `summary.md` | every algorithm, with intervals |
//! | `*.svg`, `*.png` | figures |

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::PathExt;
use policy_nets::files::{TEMPORARY_PREFIX, read_regular, write_atomically};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::plan::sha256;
use super::{Definition, PlannedRun, StudyError};
use crate::config::load::read;
use crate::folder_lock::FolderLock;
use crate::metrics::{self, MetricsRow};
use crate::run_folder::{self, RunFolder, RunFolderError};
use crate::training::TrainError;

/// The folder of a study, which no other process writes in while this value or a copy of it lives.
#[derive(Clone, Debug)]
pub struct StudyFolder {
    path: PathBuf,
    _lock: Arc<FolderLock>,
}

/// The file by which a study locks its folder.
const LOCK: &str = "study.lock";

/// `complete.json` of a run: that it is done, and how its metrics can be told from damaged ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Hash of the resolved configuration.
    pub configuration: String,
    /// SHA-256 of `metrics.csv`.
    pub metrics: String,
    /// Why the run ended before its last iteration, when it did.
    pub failure: Option<String>,
}

/// The most bytes of a `complete.json`.
const LARGEST_COMPLETION: u64 = 1 << 16;

/// What is there of a run.
#[derive(Debug)]
pub(super) enum State {
    /// All of it.
    Done(Vec<MetricsRow>, Completion),
    /// A checkpoint.
    Begun,
    /// Nothing.
    Absent,
    /// Files that do not belong together, and what is wrong with them.
    Damaged(String),
    /// Files that may not be read, or that the run does not follow; they stay as they are.
    Closed(StudyError),
}

impl StudyFolder {
    /// Whether a folder is that of a study: it holds the study and the manifest that says how it was made.
    pub fn is_one(path: &Path) -> bool {
        ["study.toml", "manifest.json"].iter().all(|name| path.join(name).is_file())
    }

    /// Opens the folder of `definition`, or makes it.
    ///
    /// Studies that differ in their number of runs, or in what is shown of them, are the same study.
    ///
    /// # Errors
    /// A folder of another study or of something else, or what the file system refuses.
    pub fn open(path: &Path, definition: &Definition) -> Result<Self, StudyError> {
        fs_err::create_dir_all(path)?;
        let lock = Arc::new(FolderLock::take(path, LOCK)?);
        let folder = Self { path: path.to_owned(), _lock: lock };
        let file = folder.file("study.toml");
        let table = |definition: &Definition| Table::try_from(definition).unwrap_or_default();
        if file.is_file() {
            let found = read(&file)?;
            let differences = differences(&found, &table(definition));
            if !differences.is_empty() {
                let difference = differences.join(", ");
                return Err(StudyError::OtherStudy { path: path.to_owned(), difference });
            }
        } else {
            for entry in fs_err::read_dir(path)? {
                let name = entry?.file_name();
                if name != LOCK && !is_temporary(&name) {
                    return Err(StudyError::Foreign { path: path.to_owned() });
                }
            }
        }
        let text = toml::to_string(&table(definition)).map_err(std::io::Error::other)?;
        write_atomically(&file, text.as_bytes())?;
        fs_err::create_dir_all(folder.file("runs"))?;
        folder.remove_leftovers()?;
        Ok(folder)
    }

    /// Removes what a killed process left half written, and the configurations that it handed to runs.
    fn remove_leftovers(&self) -> Result<(), StudyError> {
        for entry in fs_err::read_dir(&self.path)? {
            let entry = entry?;
            if is_temporary(&entry.file_name()) {
                fs_err::remove_file(entry.path())?;
            }
        }
        for entry in fs_err::read_dir(self.file("runs"))? {
            let path = entry?.path();
            let is_configuration = path.extension().is_some_and(|extension| extension == "toml");
            if path.file_name().is_some_and(is_temporary) || is_configuration && path.is_file() {
                fs_err::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of the study.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder of a run.
    pub fn run(&self, run: &PlannedRun) -> PathBuf {
        self.path.join("runs").join(&run.name)
    }

    /// How many folders of runs are here that are none of `runs`.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn count_others(&self, runs: &[PlannedRun]) -> Result<usize, StudyError> {
        let planned: BTreeSet<&OsStr> = runs.iter().map(|run| OsStr::new(&run.name)).collect();
        let mut others = 0;
        for entry in fs_err::read_dir(self.file("runs"))? {
            let entry = entry?;
            let is_planned = planned.contains(entry.file_name().as_os_str());
            others += usize::from(entry.path().is_dir() && !is_planned);
        }
        Ok(others)
    }

    /// Writes a file whole or not at all.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StudyError> {
        Ok(write_atomically(&self.file(name), bytes)?)
    }

    /// The metrics of a finished run.
    pub fn finished(&self, run: &PlannedRun) -> Option<(Vec<MetricsRow>, Completion)> {
        match self.state(run) {
            State::Done(rows, completion) => Some((rows, completion)),
            _ => None,
        }
    }

    /// What is there of a run.
    pub(super) fn state(&self, run: &PlannedRun) -> State {
        let path = self.run(run);
        if path.is_symlink() {
            return State::Damaged("it is a symbolic link, which is not followed".to_owned());
        }
        let file = path.join("complete.json");
        if file.is_symlink() {
            return State::Damaged("complete.json is a symbolic link, which is not followed".to_owned());
        }
        let completion = match read_regular(&file, LARGEST_COMPLETION) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return unfinished(run, &path),
            Err(error) => return unreadable(error),
        };
        let metrics = path.join("metrics.csv");
        let written = match read_regular(&metrics, u64::MAX) {
            Ok(bytes) => bytes,
            Err(error) => return unreadable(error),
        };
        let compare = || -> Result<State, String> {
            let completion: Completion =
                serde_json::from_slice(&completion).map_err(|error| format!("complete.json: {error}"))?;
            if sha256(&written) != completion.metrics {
                return Err("metrics.csv is not what the run wrote".to_owned());
            }
            if completion.configuration != run.hash {
                return Err("complete.json belongs to another configuration".to_owned());
            }
            let rows = metrics::rows_of(&metrics, &written).map_err(|error| error.to_string())?;
            Ok(State::Done(rows, completion))
        };
        compare().unwrap_or_else(State::Damaged)
    }

    /// Marks a run as done.
    pub(super) fn complete(&self, run: &PlannedRun, failure: Option<String>) -> Result<(), StudyError> {
        let path = self.run(run);
        let metrics = sha256(&fs_err::read(path.join("metrics.csv"))?);
        let completion = Completion { configuration: run.hash.clone(), metrics, failure };
        let json = serde_json::to_vec_pretty(&completion).map_err(std::io::Error::other)?;
        Ok(write_atomically(&path.join("complete.json"), &json)?)
    }

    /// Removes what is there of a run, unless another process is at work there.
    pub(super) fn remove(&self, run: &PlannedRun) -> Result<(), StudyError> {
        let path = self.run(run);
        if path.is_symlink() || path.is_file() {
            return Ok(fs_err::remove_file(path)?);
        }
        if !path.exists() {
            return Ok(());
        }
        let lock = FolderLock::take(&path, run_folder::LOCK)?;
        // Windows does not remove files that are open.
        if cfg!(windows) {
            drop(lock);
            return Ok(fs_err::remove_dir_all(path)?);
        }
        fs_err::remove_dir_all(path)?;
        drop(lock);
        Ok(())
    }
}

/// What is there of a run that is not marked as done.
fn unfinished(run: &PlannedRun, path: &Path) -> State {
    let begun = match RunFolder::open(path) {
        Ok(folder) => folder.has_checkpoint(),
        Err(RunFolderError::NotARun { .. }) => Ok(false),
        Err(error) => {
            let source = Box::new(TrainError::from(error));
            return State::Closed(StudyError::Run { run: run.name.clone(), source });
        }
    };
    match begun.and_then(|begun| Ok((begun, path.fs_err_try_exists()?))) {
        Ok((true, _)) => State::Begun,
        Ok((false, true)) => State::Damaged("there is neither a result nor a checkpoint".to_owned()),
        Ok((false, false)) => State::Absent,
        Err(error) => unreadable(error),
    }
}

/// What a file of a finished run is that cannot be read: damaged when it is missing or no file of its kind; else there may be
/// nothing wrong with it, such as on a disk that does not answer.
fn unreadable(error: std::io::Error) -> State {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput => {
            State::Damaged(error.to_string())
        }
        _ => State::Closed(error.into()),
    }
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(TEMPORARY_PREFIX)
}

/// Keys that may change while the runs stay what they are.
const FREE: [&str; 9] = [
    "runs",
    "title",
    "threshold",
    "smoothing",
    "horizontal",
    "interval",
    "reference",
    "position_label",
    "isolated",
];

/// Keys in which two studies differ, the free ones apart.
fn differences(left: &Table, right: &Table) -> Vec<String> {
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let value = |table: &Table, key: &str| table.get(key).map(Value::to_string);
    let differ = |key: &&String| !FREE.contains(&key.as_str()) && value(left, key) != value(right, key);
    keys.into_iter().filter(differ).cloned().collect()
}

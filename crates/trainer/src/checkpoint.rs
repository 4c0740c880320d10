//! Checkpoints: everything that a run needs to go on exactly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policy_nets::files;
use policy_nets::tensor_file::{self, HostTensor, StoredFloat, TensorFile, TensorFileError};
use serde::{Deserialize, Serialize};

use crate::algorithms::AlgorithmError;

/// What the metadata entry `format` starts with; the version follows.
const FORMAT: &str = "rtpg-checkpoint/";
/// The version that is written. Version 1 has no checksum and no best policy; it is read as well.
const VERSION: u32 = 2;

/// Counters of a run.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Iterations done.
    pub iteration: u32,
    /// Fresh trajectories so far.
    pub trajectories_total: u64,
    /// Environment steps so far.
    pub env_steps_total: u64,
    /// Seconds of all iterations so far.
    pub seconds_total: f64,
    /// Score of the best policy so far.
    pub best_score: Option<f64>,
    /// Iterations that made no update because their batch was dropped.
    #[serde(default)]
    pub dropped_iterations: u32,
    /// Those of them since the last update.
    #[serde(default)]
    pub dropped_in_a_row: u32,
    /// Whether the evaluation after the last iteration failed.
    #[serde(default)]
    pub evaluation_failed: bool,
    /// Whether the algorithm remembers nothing, as at the start.
    #[serde(default)]
    pub memory_empty: bool,
    /// Environment and algorithm.
    #[serde(default)]
    pub subject: Option<[String; 2]>,
    /// The configuration as TOML, without the keys that may change.
    #[serde(default)]
    pub configuration: Option<String>,
    /// SHA-256 of `metrics.csv` up to this iteration, in hexadecimal digits.
    #[serde(default)]
    pub metrics: Option<String>,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Counters.
    pub progress: Progress,
    /// Parameters, optimiser state, window, normaliser, best policy.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Why a checkpoint was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The file is something else.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later version of the program wrote the file.
    #[error(
        "{}: format is `{found}`, and this program reads up to `{FORMAT}{VERSION}`; a newer rtpg wrote it: use that one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
}

impl CheckpointError {
    /// Whether the file is missing or is not what was written, so that the checkpoint before it is worth a look.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::File(TensorFileError::Malformed { .. } | TensorFileError::Checksum { .. }) => true,
            Self::File(TensorFileError::Io(error)) => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

impl Checkpoint {
    /// Writes the checkpoint whole or not at all. The one before is kept at `previous`, and at every moment one of the two
    /// is whole.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(self, path: &Path, previous: &Path) -> Result<(), CheckpointError> {
        let foreign = |reason: String| CheckpointError::Foreign { path: path.to_owned(), reason };
        let progress = serde_json::to_string(&self.progress).map_err(|error| foreign(error.to_string()))?;
        let metadata = BTreeMap::from([
            ("format".to_owned(), format!("{FORMAT}{VERSION}")),
            ("progress".to_owned(), progress),
        ]);
        let bytes = tensor_file::to_sealed_bytes(self.tensors, &metadata, StoredFloat::F64)
            .map_err(|error| foreign(error.to_string()))?;
        files::replace(path, &bytes, Some(previous)).map_err(TensorFileError::Io)?;
        Ok(())
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// A missing, damaged, foreign or newer file.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let file = TensorFile::read(path)?;
        let foreign = |reason: String| CheckpointError::Foreign { path: path.to_owned(), reason };
        let format = file.metadata("format");
        let format = format
            .ok_or_else(|| foreign("not a checkpoint: the metadata has no `format`".to_owned()))?
            .to_owned();
        match format.strip_prefix(FORMAT).and_then(|version| version.parse::<u32>().ok()) {
            Some(1) => {}
            Some(VERSION) if file.is_sealed() => {}
            Some(VERSION) => return Err(TensorFileError::Checksum { path: path.to_owned() }.into()),
            Some(version) if version > VERSION => {
                return Err(CheckpointError::Newer { path: path.to_owned(), found: format });
            }
            _ => return Err(foreign(format!("format is `{format}`, expected `{FORMAT}{VERSION}`"))),
        }
        let progress = file.metadata("progress").unwrap_or_default();
        let progress = serde_json::from_str(progress)
            .map_err(|error| foreign(format!("metadata `progress` is not understood: {error}")))?;
        let tensors = file
            .names()
            .into_iter()
            .map(|name| {
                let tensor = file.floats(&name)?;
                Ok((name, tensor))
            })
            .collect::<Result<_, TensorFileError>>()?;
        Ok(Self { progress, tensors })
    }

    /// Elements of a tensor of the given shape.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or holds a number that is not finite.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>, AlgorithmError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(AlgorithmError(format!("no tensor `{name}`")));
        };
        let refuse = |reason: String| Err(AlgorithmError(format!("tensor `{name}` {reason}")));
        if tensor.shape != shape {
            return refuse(format!("has shape {:?}, expected {shape:?}", tensor.shape));
        }
        if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
            return refuse(format!("holds {value}"));
        }
        Ok(tensor.values.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let tensors = BTreeMap::from([("parameters".to_owned(), HostTensor::new([3], vec![1.0, 2.0, 3.0]))]);
        let progress = Progress { iteration: 7, ..Progress::default() };
        Checkpoint { progress, tensors }.save(&path, &folder.path().join("previous.safetensors")).unwrap();
        (folder, path)
    }

    #[test]
    fn every_flipped_bit_is_found_and_is_damage_or_named_otherwise() {
        let (_folder, path) = saved();
        assert_eq!(Checkpoint::load(&path).unwrap().progress.iteration, 7);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, damaged).unwrap();
            let error = Checkpoint::load(&path).expect_err("a flipped bit");
            let message = error.to_string();
            assert!(error.is_damage() && message.contains("state.safetensors: "), "bit {bit}: {message}");
        }
    }

    #[test]
    fn other_versions_are_named() {
        let (_folder, path) = saved();
        for (format, expected) in [
            ("rtpg-checkpoint/3", "reads up to `rtpg-checkpoint/2`; a newer rtpg wrote it"),
            ("rtpg-checkpoint/0", "expected `rtpg-checkpoint/2`"),
            ("thesis", "format is `thesis`, expected `rtpg-checkpoint/2`"),
        ] {
            let metadata = BTreeMap::from([("format".to_owned(), format.to_owned())]);
            let bytes = tensor_file::to_sealed_bytes(BTreeMap::new(), &metadata, StoredFloat::F64).unwrap();
            std::fs::write(&path, bytes).unwrap();
            let error = Checkpoint::load(&path).unwrap_err();
            assert!(!error.is_damage() && error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn version_1_is_read_without_a_checksum() {
        let (_folder, path) = saved();
        let metadata = BTreeMap::from([
            ("format".to_owned(), "rtpg-checkpoint/1".to_owned()),
            (
                "progress".to_owned(),
                r#"{"iteration":4,"trajectories_total":8,"env_steps_total":9,"seconds_total":0.5,"best_score":null}"#
                    .to_owned(),
            ),
        ]);
        let bytes = tensor_file::to_bytes(&BTreeMap::new(), &metadata, StoredFloat::F64).unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().progress.iteration, 4);
    }

    /// Which of two equally good policies is kept as the best depends on the last bit.
    #[test]
    fn the_best_score_is_kept_to_the_bit() {
        let (folder, path) = saved();
        for score in [-0.013_407_844_582_866_193, 9.545_454_545_454_545, 1.0 / 3.0, -1e-300, 5e-324, f64::MAX]
        {
            let progress = Progress { best_score: Some(score), ..Progress::default() };
            let checkpoint = Checkpoint { progress, tensors: BTreeMap::new() };
            checkpoint.save(&path, &folder.path().join("previous.safetensors")).unwrap();
            assert_eq!(Checkpoint::load(&path).unwrap().progress.best_score, Some(score));
        }
    }
}

//! Checkpoints: everything that a run needs to go on exactly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policy_nets::tensor_file::{self, HostTensor, StoredFloat, TensorFile, TensorFileError};
use serde::{Deserialize, Serialize};

/// Value of the metadata entry `format`.
const FORMAT: &str = "rtpg-checkpoint/1";

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
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Counters.
    pub progress: Progress,
    /// Parameters, optimiser state, window, normaliser.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Why a checkpoint was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The file is something else, or of another version.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Checkpoint {
    /// Writes the checkpoint whole or not at all; the one before stays until then.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn save(&self, path: &Path, float: StoredFloat) -> Result<(), CheckpointError> {
        let foreign = |reason: String| CheckpointError::Foreign { path: path.to_owned(), reason };
        let progress = serde_json::to_string(&self.progress).map_err(|error| foreign(error.to_string()))?;
        let metadata =
            BTreeMap::from([("format".to_owned(), FORMAT.to_owned()), ("progress".to_owned(), progress)]);
        let bytes = tensor_file::to_bytes(&self.tensors, &metadata, float)
            .map_err(|error| foreign(error.to_string()))?;
        tensor_file::write_atomically(path, &bytes).map_err(TensorFileError::Io)?;
        Ok(())
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// A missing, truncated or foreign file.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let file = TensorFile::read(path)?;
        let foreign = |reason: String| CheckpointError::Foreign { path: path.to_owned(), reason };
        match file.metadata("format") {
            Some(FORMAT) => {}
            Some(other) => return Err(foreign(format!("format is `{other}`, expected `{FORMAT}`"))),
            None => return Err(foreign("not a checkpoint: the metadata has no `format`".to_owned())),
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
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>, anyhow::Error> {
        let tensor = self.tensors.get(name).ok_or_else(|| anyhow::anyhow!("no tensor `{name}`"))?;
        anyhow::ensure!(
            tensor.shape == shape,
            "tensor `{name}` has shape {:?}, expected {shape:?}",
            tensor.shape
        );
        if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
            anyhow::bail!("tensor `{name}` holds {value}");
        }
        Ok(tensor.values.clone())
    }
}

//! Why a MuJoCo environment could not be made.

use std::path::PathBuf;

use super::versions;

/// Why a MuJoCo environment could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MujocoError {
    /// No library in any of the places.
    #[error(
        "the MuJoCo library was not found; run `rtpg mujoco install` to fetch it, activate a Python environment with the package mujoco, or \
         set {variable} to its file (searched: {})",
        list(searched),
        variable = super::search::VARIABLE
    )]
    NotFound {
        /// The places, in order.
        searched: Vec<PathBuf>,
    },
    /// The environment variable names something that is not there.
    #[error(
        "{variable} is set to {path:?}, where there is no file or folder with a MuJoCo library; correct it, or unset \
         it and run `rtpg mujoco install`",
        variable = super::search::VARIABLE
    )]
    NotAtVariable {
        /// The variable's value.
        path: PathBuf,
    },
    /// The operating system refused to load the library.
    #[error("the MuJoCo library {path:?} cannot be loaded: {reason}")]
    Load {
        /// The file.
        path: PathBuf,
        /// The dynamic linker's message.
        reason: String,
    },
    /// A symbol that every tested version has is missing.
    #[error("{path:?} is not a MuJoCo library: it does not have `{symbol}`")]
    NotMujoco {
        /// The file.
        path: PathBuf,
        /// The C name.
        symbol: String,
    },
    /// A version whose interface is not known.
    #[error(
        "the MuJoCo library {path:?} has version {version}, which was not tested; the tested versions are {}; run \
         `rtpg mujoco install` to fetch {}",
        versions::names(),
        versions::RECOMMENDED_VERSION
    )]
    UntestedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// A built-in model was refused.
    #[error("{name}: the model is refused: {reason}")]
    Model {
        /// Name of the environment.
        name: &'static str,
        /// MuJoCo's message, or in what it differs from its definition.
        reason: String,
    },
    /// A simulation could not be allocated.
    #[error("not enough memory for a MuJoCo simulation")]
    Memory,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

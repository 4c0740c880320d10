//! The one library of the process, and the models compiled by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::definition::Definition;
use super::error::MujocoError;
use super::ffi::{Library, Model};
use super::search;
use super::skeleton::Skeleton;

/// Which library is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryInfo {
    /// Its file.
    pub path: PathBuf,
    /// Its version.
    pub version: &'static str,
}

struct Loaded {
    library: Library,
    info: LibraryInfo,
}

/// Loads the library on the first call. The outcome is final: two versions in one process would share symbols.
fn loaded() -> Result<&'static Loaded, MujocoError> {
    static LOADED: OnceLock<Result<Loaded, MujocoError>> = OnceLock::new();
    let outcome = LOADED.get_or_init(|| {
        let path = search::locate(search::variable)?;
        let library = Library::load(&path)?;
        let version = library.version().name;
        tracing::debug!(target: "mujoco", version, path = %path.display(), "loaded");
        Ok(Loaded { library, info: LibraryInfo { path, version } })
    });
    outcome.as_ref().map_err(Clone::clone)
}

/// Loads the library, if that was not done yet, and says which it is.
///
/// # Errors
/// When there is none, or not a tested one.
pub fn library_info() -> Result<&'static LibraryInfo, MujocoError> {
    loaded().map(|loaded| &loaded.info)
}

/// What the environments of one definition share.
pub(super) struct Shared {
    pub(super) definition: &'static Definition,
    pub(super) model: Arc<Model>,
    pub(super) skeleton: Skeleton,
}

/// The shared part of a definition, made on the first call.
///
/// # Errors
/// When the library is missing, or refuses the model.
pub(super) fn shared(definition: &'static Definition) -> Result<Arc<Shared>, MujocoError> {
    static SHARED: Mutex<BTreeMap<&str, Arc<Shared>>> = Mutex::new(BTreeMap::new());
    let library = &loaded()?.library;
    // A panic under the lock leaves a map without the new entry, which is still a valid one.
    let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = all.get(definition.name) {
        return Ok(Arc::clone(shared));
    }
    let model = library.compile(definition.name, definition.xml)?;
    definition.check(model.sizes())?;
    let skeleton = Skeleton::parse(definition)?;
    let shared = Arc::new(Shared { definition, model: Arc::new(model), skeleton });
    all.insert(definition.name, Arc::clone(&shared));
    Ok(shared)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::mujoco::versions;

    #[test]
    fn a_file_that_is_no_library_is_refused_by_its_path() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(search::file_name("3.17.0"));
        fs_err::write(&path, "not a library").unwrap();
        let error = Library::load(&path).err().unwrap();
        assert!(matches!(&error, MujocoError::Load { path: refused, .. } if *refused == path), "{error}");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
    fn a_library_that_is_cut_off_is_not_loaded() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(search::file_name("3.17.0"));
        let whole = fs_err::read(std::env::current_exe().unwrap()).unwrap();
        fs_err::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = Library::load(&path).err().unwrap().to_string();
        assert!(error.contains("the file is cut off"), "{error}");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn a_library_that_is_not_mujoco_is_refused_by_the_missing_function() {
        let error = Library::load(Path::new("libm.so.6")).err().unwrap();
        assert!(matches!(&error, MujocoError::NotMujoco { symbol, .. } if symbol == "mj_version"), "{error}");
    }

    #[test]
    fn an_untested_version_is_refused_by_name_with_the_tested_ones() {
        assert!(versions::tested(337).is_none());
        let error = MujocoError::UntestedVersion {
            path: PathBuf::from("libmujoco.so.3.3.7"),
            version: "3.3.7".to_owned(),
        };
        let message = error.to_string();
        assert!(message.contains("version 3.3.7") && message.contains(&versions::names()), "{message}");
    }
}

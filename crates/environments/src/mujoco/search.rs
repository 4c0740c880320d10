//! Where the library is looked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::MujocoError;
use super::versions;

/// Environment variable with the path of the library, or of the folder that contains it.
pub const VARIABLE: &str = "RTPG_MUJOCO_LIBRARY";

/// Reads an environment variable; an empty one counts as not set.
pub(super) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The cache folder of all versions: `$XDG_CACHE_HOME/rtpg/mujoco`, by default under `~/.cache`.
pub(super) fn cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let base = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .and_then(absolute)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("rtpg").join("mujoco"))
}

/// File name of the library of a version.
pub(super) fn file_name(version: &str) -> String {
    if cfg!(target_os = "macos") {
        format!("libmujoco.{version}.dylib")
    } else {
        format!("libmujoco.so.{version}")
    }
}

/// Finds the library: what [`VARIABLE`] names, then our cache, then the active virtual environment, then conda's. In all but the
/// first the versions are tried in the order of the table of tested ones.
///
/// # Errors
/// [`MujocoError::NotAtVariable`], or [`MujocoError::NotFound`] with the places searched.
pub(super) fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, MujocoError> {
    if let Some(path) = variable(VARIABLE).map(PathBuf::from) {
        return match library_at(&path) {
            Some(found) => Ok(found),
            None => Err(MujocoError::NotAtVariable { path }),
        };
    }
    let mut searched = Vec::new();
    if let Some(cache) = cache(&variable) {
        let found = versions::TESTED.iter().find_map(|version| library_in(&cache.join(version.name)));
        if let Some(found) = found {
            return Ok(found);
        }
        searched.push(cache);
    }
    for root in ENVIRONMENTS.iter().filter_map(|name| variable(name)).map(PathBuf::from) {
        let packages = site_packages(&root);
        if let Some(found) = packages.iter().find_map(|folder| library_in(&folder.join("mujoco"))) {
            return Ok(found);
        }
        searched.push(root);
    }
    Err(MujocoError::NotFound { searched })
}

/// The variables that name active environments of Python: virtual ones, and conda's.
const ENVIRONMENTS: [&str; 2] = ["VIRTUAL_ENV", "CONDA_PREFIX"];

/// `path` itself when it is a file, the library in it when it is a folder.
fn library_at(path: &Path) -> Option<PathBuf> {
    if path.is_dir() { library_in(path) } else { path.is_file().then(|| path.to_owned()) }
}

/// The library in `folder`: that of a tested version, else any, which is then refused by its version.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let tested = versions::TESTED.iter().map(|version| folder.join(file_name(version.name)));
    tested.into_iter().find(|path| path.is_file()).or_else(|| {
        let mut others: Vec<PathBuf> = entries(folder);
        others.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libmujoco.") && path.is_file()
        });
        others.pop()
    })
}

/// The `site-packages` folders of the virtual environment at `root`.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    entries(&root.join("lib")).into_iter().map(|python| python.join("site-packages")).collect()
}

/// What `folder` contains, sorted; nothing when it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs_err::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, "").unwrap();
    }

    #[test]
    fn places_are_searched_in_order() {
        let root = tempfile::tempdir().unwrap();
        let named = root.path().join("named/libmujoco.so");
        let cached = root.path().join("cache/rtpg/mujoco/3.17.0").join(file_name("3.17.0"));
        let installed =
            root.path().join("venv/lib/python3.12/site-packages/mujoco").join(file_name("3.16.0"));
        let variables = |name: &str| match name {
            "XDG_CACHE_HOME" => Some(root.path().join("cache").into_os_string()),
            "VIRTUAL_ENV" => Some(root.path().join("venv").into_os_string()),
            "CONDA_PREFIX" => Some(root.path().join("conda").into_os_string()),
            _ => None,
        };
        let with_name = |name: &str| {
            if name == VARIABLE { Some(named.clone().into_os_string()) } else { variables(name) }
        };

        let searched = ["cache/rtpg/mujoco", "venv", "conda"].map(|place| root.path().join(place)).to_vec();
        assert_eq!(locate(variables), Err(MujocoError::NotFound { searched }));
        let of_conda =
            root.path().join("conda/lib/python3.11/site-packages/mujoco").join(file_name("3.17.0"));
        touch(&of_conda);
        assert_eq!(locate(variables).unwrap(), of_conda);
        touch(&installed);
        assert_eq!(locate(variables).unwrap(), installed);
        touch(&cached);
        assert_eq!(locate(variables).unwrap(), cached);
        assert_eq!(locate(with_name), Err(MujocoError::NotAtVariable { path: named.clone() }));
        touch(&named);
        assert_eq!(locate(with_name).unwrap(), named);
    }

    #[test]
    fn a_folder_with_an_unknown_version_is_found_and_left_to_the_version_check() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join(file_name("9.9.9"));
        touch(&library);
        let found = locate(|name| (name == VARIABLE).then(|| root.path().as_os_str().to_owned())).unwrap();
        assert_eq!(found, library);
    }

    #[test]
    fn the_message_of_a_missing_library_contains_the_command() {
        let message = locate(|_| None).unwrap_err().to_string();
        assert!(message.contains("`rtpg mujoco install`") && message.contains(VARIABLE), "{message}");
    }
}

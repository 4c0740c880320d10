//! Writing safetensors files, and files whole or not at all.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;

use safetensors::SafeTensorError;
use serde_json::{Map, Value, json};

use crate::checksum;
use crate::tensor_file::HostTensor;

/// How floating-point tensors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredFloat {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

impl StoredFloat {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// The largest header that readers accept.
const LARGEST_HEADER: usize = 100_000_000;

/// Serialises tensors; equal input gives equal bytes.
///
/// # Errors
/// When the header outgrows the format's limit.
pub fn to_bytes(
    tensors: &BTreeMap<String, HostTensor>,
    metadata: &BTreeMap<String, String>,
    float: StoredFloat,
) -> std::result::Result<Vec<u8>, SafeTensorError> {
    let header = header(tensors, metadata, float)?;
    Ok(append(header, tensors.values(), float))
}

/// Serialises tensors with a checksum in the metadata, which [`TensorFile`](crate::tensor_file::TensorFile) compares.
/// Each tensor's memory is given back as soon as it is written.
///
/// # Errors
/// When the header outgrows the format's limit.
pub fn to_sealed_bytes(
    tensors: BTreeMap<String, HostTensor>,
    metadata: &BTreeMap<String, String>,
    float: StoredFloat,
) -> std::result::Result<Vec<u8>, SafeTensorError> {
    let mut metadata = metadata.clone();
    metadata.insert(checksum::KEY.to_owned(), checksum::placeholder());
    let header = header(&tensors, &metadata, float)?;
    let data = header.len();
    let mut bytes = append(header, tensors.into_values(), float);
    checksum::seal(&mut bytes, data);
    Ok(bytes)
}

/// Length and JSON of the header, filled up with spaces to a multiple of 8 bytes, in memory that has room for the data.
fn header(
    tensors: &BTreeMap<String, HostTensor>,
    metadata: &BTreeMap<String, String>,
    float: StoredFloat,
) -> std::result::Result<Vec<u8>, SafeTensorError> {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += tensor.values.len() * float.size();
        let entry = json!({"data_offsets": [start, end], "dtype": float.name(), "shape": tensor.shape});
        entries.insert(name.clone(), entry);
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    if text.len() > LARGEST_HEADER {
        return Err(SafeTensorError::HeaderTooLarge);
    }
    let mut bytes = Vec::with_capacity(8 + text.len() + end);
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text);
    Ok(bytes)
}

fn append(
    mut bytes: Vec<u8>,
    tensors: impl Iterator<Item = impl Borrow<HostTensor>>,
    float: StoredFloat,
) -> Vec<u8> {
    for tensor in tensors {
        let values = tensor.borrow().values.iter();
        match float {
            StoredFloat::F32 => values.for_each(|value| bytes.extend((*value as f32).to_le_bytes())),
            StoredFloat::F64 => values.for_each(|value| bytes.extend(value.to_le_bytes())),
        }
    }
    bytes
}

/// How the names of temporary files start that [`write_atomically`] leaves behind when the process is killed.
pub const TEMPORARY_PREFIX: &str = ".rtpg-";

/// Writes a file so that it is there whole or not at all: temporary file in the same folder, sync, rename, and sync of the
/// folder.
///
/// # Errors
/// What the file system refuses, with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, None)
}

/// As [`write_atomically`]; what stood at `path` before is kept at `previous` in the same folder. At every moment one of
/// the two is whole.
///
/// # Errors
/// What the file system refuses, with the path.
pub fn replace(path: &Path, bytes: &[u8], previous: Option<&Path>) -> Result<()> {
    let named =
        |error: Error| Error::new(error.kind(), format!("failed to write {}: {error}", path.display()));
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A name that a rename would take away from a device or a pipe, or from a link to one.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(named(Error::new(ErrorKind::InvalidInput, "there is something that is no regular file")));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    // As any new file, less what the process's mask takes away; temporary files would be private.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(named)?;
    file.write_all(bytes).map_err(named)?;
    file.as_file().sync_all().map_err(named)?;
    if let Some(previous) = previous.filter(|_| path.exists()) {
        keep(path, previous, folder).map_err(named)?;
    }
    file.persist(path).map_err(|error| named(error.error))?;
    // A rename is on the disk when its folder is.
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(named)?;
    Ok(())
}

/// Gives the file at `path` a second name, in the place of what had it; where file systems know no second names, it loses
/// its first one.
fn keep(path: &Path, previous: &Path, folder: &Path) -> Result<()> {
    let link = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .make_in(folder, |temporary| std::fs::hard_link(path, temporary));
    let Ok(link) = link else { return std::fs::rename(path, previous) };
    let temporary = link.into_temp_path();
    let place = temporary.to_path_buf();
    temporary.persist(previous).map_err(|error| error.error)?;
    // After a kill between the two renames, `previous` is a name of the file already, and renaming does nothing.
    match std::fs::remove_file(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_writes_replace_whole_files_and_leave_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let error = write_atomically(&folder.path().join("folder"), b"").unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("/dev/null", &link).unwrap();
            let error = write_atomically(&link, b"").unwrap_err().to_string();
            assert!(error.contains("no regular file") && link.is_symlink(), "{error}");
        }
        let error = write_atomically(&folder.path().join("absent/file"), b"").unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }

    #[test]
    fn the_previous_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("file"), folder.path().join("previous"));
        for text in ["one", "two", "three"] {
            replace(&path, text.as_bytes(), Some(&previous)).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read(&previous).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // As a kill leaves it after the first of the two renames.
        std::fs::remove_file(&previous).unwrap();
        std::fs::hard_link(&path, &previous).unwrap();
        replace(&path, b"four", Some(&previous)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"four");
        assert_eq!(std::fs::read(&previous).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

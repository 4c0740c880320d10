//! Reading and writing safetensors files with errors that name the file.
//!
//! Reading gives every floating-point or integer tensor as `f64`, whatever it is stored as. Sizes in the header are
//! checked against the length of the file before anything is allocated from them.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Why a safetensors file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The bytes are not a complete safetensors file.
    #[error("{}: not a complete safetensors file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// A tensor that must be there is not.
    #[error("{}: no tensor `{name}`; the file has {}", path.display(), list(found))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor looked for.
        name: String,
        /// Tensors in the file.
        found: Vec<String>,
    },
    /// A tensor has another shape than its role demands.
    #[error("{}: tensor `{name}` has shape {found:?}, expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The expected shape, in words.
        expected: String,
    },
    /// A tensor has an element type that is not understood here.
    #[error("{}: tensor `{name}` has element type {found}, expected {expected}", path.display())]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its element type.
        found: String,
        /// The expected types.
        expected: &'static str,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// One tensor on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f64>,
}

impl HostTensor {
    /// A tensor from its parts.
    ///
    /// # Panics
    /// When the product of `shape` is not the number of `values`.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f64>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), values.len(), "elements of shape {shape:?}");
        Self { shape, values }
    }
}

/// A safetensors file in memory.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl TensorFile {
    /// Reads and checks a whole file.
    ///
    /// # Errors
    /// [`TensorFileError::Io`] or [`TensorFileError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, TensorFileError> {
        let bytes = fs_err::read(path)?;
        Self::from_bytes(path, bytes)
    }

    /// Checks the bytes of a file that stood at `path` (which only messages use).
    ///
    /// # Errors
    /// [`TensorFileError::Malformed`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, TensorFileError> {
        let malformed = |error: safetensors::SafeTensorError| TensorFileError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
        SafeTensors::deserialize(&bytes).map_err(malformed)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), bytes, metadata })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An entry of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tensors()
            .map(|file| file.names().into_iter().map(str::to_owned).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    /// Whether a tensor is there.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors().is_ok_and(|file| file.tensor(name).is_ok())
    }

    /// A floating-point tensor.
    ///
    /// # Errors
    /// [`TensorFileError::Missing`] or [`TensorFileError::ElementType`].
    pub fn floats(&self, name: &str) -> Result<HostTensor, TensorFileError> {
        let file = self.tensors()?;
        let view = self.view(&file, name)?;
        let values = match view.dtype() {
            Dtype::F32 => elements(view.data(), |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::F64 => elements(view.data(), f64::from_le_bytes),
            other => return Err(self.element_type(name, other, "F32 or F64")),
        };
        Ok(HostTensor { shape: view.shape().to_vec(), values })
    }

    /// An integer tensor.
    ///
    /// # Errors
    /// [`TensorFileError::Missing`] or [`TensorFileError::ElementType`].
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), TensorFileError> {
        let file = self.tensors()?;
        let view = self.view(&file, name)?;
        let values = match view.dtype() {
            Dtype::I32 => elements(view.data(), |bytes| i64::from(i32::from_le_bytes(bytes))),
            Dtype::I64 => elements(view.data(), i64::from_le_bytes),
            Dtype::U32 => elements(view.data(), |bytes| i64::from(u32::from_le_bytes(bytes))),
            other => return Err(self.element_type(name, other, "I32, I64 or U32")),
        };
        Ok((view.shape().to_vec(), values))
    }

    /// The error for a tensor of the wrong shape.
    pub fn shape_error(&self, name: &str, found: &[usize], expected: impl Into<String>) -> TensorFileError {
        TensorFileError::Shape {
            path: self.path.clone(),
            name: name.to_owned(),
            found: found.to_vec(),
            expected: expected.into(),
        }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, TensorFileError> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| TensorFileError::Malformed {
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }

    fn view<'data>(
        &self,
        file: &SafeTensors<'data>,
        name: &str,
    ) -> Result<TensorView<'data>, TensorFileError> {
        file.tensor(name).map_err(|_| TensorFileError::Missing {
            path: self.path.clone(),
            name: name.to_owned(),
            found: self.names(),
        })
    }

    fn element_type(&self, name: &str, found: Dtype, expected: &'static str) -> TensorFileError {
        TensorFileError::ElementType {
            path: self.path.clone(),
            name: name.to_owned(),
            found: found.to_string(),
            expected,
        }
    }
}

fn elements<const SIZE: usize, T>(bytes: &[u8], convert: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes.as_chunks::<SIZE>().0.iter().map(|chunk| convert(*chunk)).collect()
}

/// How floating-point tensors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredFloat {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

/// Serialises tensors; equal input gives equal bytes.
///
/// # Errors
/// When the header outgrows the format's limit.
pub fn to_bytes(
    tensors: &BTreeMap<String, HostTensor>,
    metadata: &BTreeMap<String, String>,
    float: StoredFloat,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let encoded: Vec<(&String, &HostTensor, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.values.iter();
            let bytes = match float {
                StoredFloat::F32 => values.flat_map(|value| (*value as f32).to_le_bytes()).collect(),
                StoredFloat::F64 => values.flat_map(|value| value.to_le_bytes()).collect(),
            };
            (name, tensor, bytes)
        })
        .collect();
    let dtype = match float {
        StoredFloat::F32 => Dtype::F32,
        StoredFloat::F64 => Dtype::F64,
    };
    let views = encoded
        .iter()
        .map(|(name, tensor, bytes)| Ok((*name, TensorView::new(dtype, tensor.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let mut bytes =
        safetensors::serialize(views, Some(metadata.clone().into_iter().collect::<HashMap<_, _>>()))?;
    sort_header(&mut bytes);
    Ok(bytes)
}

/// Puts the header's entries into sorted order: the format leaves the order free, and the library writes metadata in
/// that of a hash map, which differs from process to process.
fn sort_header(bytes: &mut [u8]) {
    let Some((length, rest)) = bytes.split_first_chunk_mut::<8>() else { return };
    let header = &mut rest[..u64::from_le_bytes(*length) as usize];
    let Ok(parsed) = serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(header) else { return };
    let Ok(sorted) = serde_json::to_vec(&parsed) else { return };
    if sorted.len() <= header.len() {
        header.fill(b' ');
        header[..sorted.len()].copy_from_slice(&sorted);
    }
}

/// How the names of temporary files start that [`write_atomically`] leaves behind when the process is killed.
pub const TEMPORARY_PREFIX: &str = ".rtpg-";

/// Writes a file so that it is there whole or not at all: temporary file in the same folder, sync, rename.
///
/// # Errors
/// What the file system refuses, with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let named = |error: std::io::Error| {
        std::io::Error::new(error.kind(), format!("failed to write {}: {error}", path.display()))
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(folder).map_err(named)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(permissions).map_err(named)?;
    }
    file.write_all(bytes).map_err(named)?;
    file.as_file().sync_all().map_err(named)?;
    file.persist(path).map_err(|error| named(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (BTreeMap<String, HostTensor>, BTreeMap<String, String>) {
        let tensors = [
            ("b".to_owned(), HostTensor::new([2, 2], vec![1.0, 2.0, 3.0, 4.5])),
            ("a".to_owned(), HostTensor::new([1], vec![-0.25])),
        ];
        let metadata = (0..8).map(|key| (format!("key{key}"), format!("value \"{key}\"")));
        (tensors.into(), metadata.collect())
    }

    #[test]
    fn what_is_written_is_read() {
        for float in [StoredFloat::F32, StoredFloat::F64] {
            let (tensors, metadata) = example();
            let bytes = to_bytes(&tensors, &metadata, float).unwrap();
            assert_eq!(bytes, to_bytes(&tensors, &metadata, float).unwrap());
            let file = TensorFile::from_bytes(Path::new("x"), bytes).unwrap();
            assert_eq!(file.names(), ["a", "b"]);
            assert_eq!(file.floats("b").unwrap(), tensors["b"]);
            assert_eq!(file.metadata("key3"), Some("value \"3\""));
        }
    }

    #[test]
    fn every_truncation_is_refused_by_name() {
        let (tensors, metadata) = example();
        let bytes = to_bytes(&tensors, &metadata, StoredFloat::F32).unwrap();
        for length in 0..bytes.len() {
            let error = TensorFile::from_bytes(Path::new("cut.safetensors"), bytes[..length].to_vec())
                .expect_err("a truncated file");
            assert!(error.to_string().starts_with("cut.safetensors: not a complete safetensors file"));
        }
    }

    #[test]
    fn missing_and_mistyped_tensors_are_named() {
        let (tensors, metadata) = example();
        let bytes = to_bytes(&tensors, &metadata, StoredFloat::F32).unwrap();
        let file = TensorFile::from_bytes(Path::new("x"), bytes).unwrap();
        assert_eq!(file.floats("c").unwrap_err().to_string(), "x: no tensor `c`; the file has a, b");
        let error = file.integers("a").unwrap_err().to_string();
        assert_eq!(error, "x: tensor `a` has element type F32, expected I32, I64 or U32");
    }

    #[test]
    fn atomic_writes_replace_whole_files_and_leave_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_atomically(&folder.path().join("absent/file"), b"").unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }
}

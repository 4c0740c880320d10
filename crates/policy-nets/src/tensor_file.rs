//! Reading and writing safetensors files with errors that name the file.
//!
//! Reading gives every floating-point or integer tensor as `f64`, whatever it is stored as. Sizes in the header are
//! checked against the length of the file before anything is allocated from them, and a checksum that the file states is
//! compared with its bytes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use crate::checksum;
use crate::files::read_regular;
pub use crate::tensor_writer::{StoredFloat, to_bytes, to_sealed_bytes};

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
    /// The bytes are not those that were written.
    #[error("{}: the file is damaged: its bytes do not have the checksum that it states", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
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
    tensors: BTreeMap<String, Stored>,
    sealed: bool,
}

/// Where a tensor stands in the file.
#[derive(Debug)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl TensorFile {
    /// Reads and checks a whole file.
    ///
    /// # Errors
    /// [`TensorFileError::Io`], [`TensorFileError::Malformed`] or [`TensorFileError::Checksum`].
    pub fn read(path: &Path) -> Result<Self, TensorFileError> {
        Self::from_bytes(path, read_regular(path, u64::MAX)?)
    }

    /// Checks the bytes of a file that stood at `path` (which only messages use).
    ///
    /// # Errors
    /// [`TensorFileError::Malformed`] or [`TensorFileError::Checksum`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, TensorFileError> {
        let malformed = |error: safetensors::SafeTensorError| TensorFileError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let (header_length, header) = SafeTensors::read_metadata(&bytes).map_err(malformed)?;
        let data = 8 + header_length;
        let metadata = header.metadata().clone().unwrap_or_default();
        let stated = metadata.get(checksum::KEY).map(String::as_str);
        let sealed = stated.is_some_and(|stated| stated.starts_with(checksum::LABEL));
        if sealed && !checksum::holds(&bytes, data) {
            return Err(TensorFileError::Checksum { path: path.to_owned() });
        }
        let stored = header.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let bytes = data + start..data + end;
            (name, Stored { dtype: info.dtype, shape: info.shape.clone(), bytes })
        });
        let tensors = stored.collect();
        Ok(Self { path: path.to_owned(), bytes, metadata, tensors, sealed })
    }

    /// Whether the file states a checksum, which then is that of its bytes.
    pub fn is_sealed(&self) -> bool {
        self.sealed
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
        self.tensors.keys().cloned().collect()
    }

    /// Whether a tensor is there.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A floating-point tensor.
    ///
    /// # Errors
    /// [`TensorFileError::Missing`] or [`TensorFileError::ElementType`].
    pub fn floats(&self, name: &str) -> Result<HostTensor, TensorFileError> {
        let (tensor, bytes) = self.stored(name)?;
        let values = match tensor.dtype {
            Dtype::F32 => elements(bytes, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::F64 => elements(bytes, f64::from_le_bytes),
            other => return Err(self.element_type(name, other, "F32 or F64")),
        };
        Ok(HostTensor { shape: tensor.shape.clone(), values })
    }

    /// An integer tensor.
    ///
    /// # Errors
    /// [`TensorFileError::Missing`] or [`TensorFileError::ElementType`].
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), TensorFileError> {
        let (tensor, bytes) = self.stored(name)?;
        let values = match tensor.dtype {
            Dtype::I32 => elements(bytes, |bytes| i64::from(i32::from_le_bytes(bytes))),
            Dtype::I64 => elements(bytes, i64::from_le_bytes),
            Dtype::U32 => elements(bytes, |bytes| i64::from(u32::from_le_bytes(bytes))),
            other => return Err(self.element_type(name, other, "I32, I64 or U32")),
        };
        Ok((tensor.shape.clone(), values))
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

    fn stored(&self, name: &str) -> Result<(&Stored, &[u8]), TensorFileError> {
        let missing = || TensorFileError::Missing {
            path: self.path.clone(),
            name: name.to_owned(),
            found: self.names(),
        };
        let tensor = self.tensors.get(name).ok_or_else(missing)?;
        Ok((tensor, self.bytes.get(tensor.bytes.clone()).ok_or_else(missing)?))
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
    fn every_flipped_bit_of_a_sealed_file_is_found() {
        let (tensors, metadata) = example();
        let bytes = to_sealed_bytes(tensors, &metadata, StoredFloat::F64).unwrap();
        let path = Path::new("flipped.safetensors");
        assert!(TensorFile::from_bytes(path, bytes.clone()).unwrap().is_sealed());
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match TensorFile::from_bytes(path, damaged) {
                Err(error) => assert!(error.to_string().starts_with("flipped.safetensors: "), "{error}"),
                // The flip made the checksum unknown as such; whoever asks for a seal sees that there is none.
                Ok(file) => assert!(!file.is_sealed(), "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_checksum_of_another_kind_is_no_seal() {
        let (tensors, _) = example();
        let metadata = BTreeMap::from([("checksum".to_owned(), "crc32:12345678".to_owned())]);
        let bytes = to_bytes(&tensors, &metadata, StoredFloat::F32).unwrap();
        assert!(!TensorFile::from_bytes(Path::new("x"), bytes).unwrap().is_sealed());
    }

    #[test]
    fn the_library_reads_what_is_written() {
        let (tensors, metadata) = example();
        let bytes = to_sealed_bytes(tensors.clone(), &metadata, StoredFloat::F64).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor("b").unwrap().data().to_vec();
        assert_eq!(elements(&data, f64::from_le_bytes), tensors["b"].values);
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
}

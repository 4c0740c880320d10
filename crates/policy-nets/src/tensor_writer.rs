//! Writing safetensors files.

use std::borrow::Borrow;
use std::collections::BTreeMap;

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
) -> Result<Vec<u8>, SafeTensorError> {
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
) -> Result<Vec<u8>, SafeTensorError> {
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
) -> Result<Vec<u8>, SafeTensorError> {
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

//! Safetensors files as another program would write them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use integration_tests::oracle::{Activation, Policy, Problem};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// A tensor with its bytes.
#[derive(Clone)]
pub(crate) struct Encoded {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, Encoded>;

pub(crate) fn f64s(shape: &[usize], values: &[f64]) -> Encoded {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Encoded { dtype: Dtype::F64, shape: shape.to_vec(), bytes }
}

pub(crate) fn f32s(shape: &[usize], values: &[f64]) -> Encoded {
    let bytes = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
    Encoded { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

pub(crate) fn i64s(shape: &[usize], values: &[i64]) -> Encoded {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Encoded { dtype: Dtype::I64, shape: shape.to_vec(), bytes }
}

/// The bytes of a file.
pub(crate) fn file(tensors: &Tensors, metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        (name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata)).unwrap()
}

/// A tensor of a file of 64-bit numbers.
pub(crate) fn read(path: &Path, name: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}; {:?}", file.names()));
    assert_eq!(tensor.dtype(), Dtype::F64, "{name}");
    tensor.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

/// A policy's file.
pub(crate) fn policy_file(policy: &Policy) -> Vec<u8> {
    let mut tensors = Tensors::new();
    for (index, layer) in policy.layers.iter().enumerate() {
        let shape = [layer.weight.len(), layer.weight[0].len()];
        tensors.insert(format!("mean.{index}.weight"), f64s(&shape, &layer.weight.concat()));
        if let Some(bias) = &layer.bias {
            tensors.insert(format!("mean.{index}.bias"), f64s(&[bias.len()], bias));
        }
    }
    tensors.insert("log_std".to_owned(), f64s(&[policy.log_std.len()], &policy.log_std));
    let hidden: Vec<usize> = policy.layers[1..].iter().map(|layer| layer.weight[0].len()).collect();
    let activation = if policy.activation == Activation::Tanh { "tanh" } else { "relu" };
    let deviation = if policy.learned { r#"{"learned":{"min":-5.0,"max":2.0}}"# } else { r#""fixed""# };
    let bias = policy.layers[0].bias.is_some();
    let description = format!(
        r#"{{"hidden":{hidden:?},"activation":"{activation}","bias":{bias},"deviation":{deviation}}}"#
    );
    file(&tensors, &[("format", "rtpg-policy/1"), ("policy", &description)])
}

/// A problem's trajectories, with NaN in the padding.
pub(crate) fn trajectories(problem: &Problem) -> Tensors {
    let padded = problem.padded(f64::NAN);
    let steps = [problem.window(), problem.batch(), problem.horizon];
    let [window, batch, time] = steps;
    let (observation, action) = (problem.observation_size(), problem.action_size());
    let lengths: Vec<i64> = padded.lengths.iter().map(|length| i64::from(*length)).collect();
    Tensors::from([
        ("observations".to_owned(), f32s(&[window, batch, time, observation], &padded.observations)),
        ("actions".to_owned(), f64s(&[window, batch, time, action], &padded.actions)),
        ("rewards".to_owned(), f32s(&steps, &padded.rewards)),
        ("lengths".to_owned(), i64s(&[window, batch], &lengths)),
        ("behaviour_mean".to_owned(), f32s(&[window, batch, time, action], &padded.behaviour_mean)),
        ("behaviour_log_std".to_owned(), f64s(&[window, action], &padded.behaviour_log_std)),
    ])
}

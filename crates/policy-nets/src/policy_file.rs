//! Policy files: safetensors with PyTorch's names and layout (docs/formats.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::tensor_file::{self, HostTensor, StoredFloat, TensorFile, TensorFileError};
use crate::{Activation, Architecture, Deviation, Normalizer, PolicyState, PolicyStateError};

/// Value of the metadata entry `format`.
const FORMAT: &str = "rtpg-policy/1";

/// Accepted values: `pt` and `np` name the library that wrote the file.
const FORMATS: [&str; 3] = [FORMAT, "pt", "np"];

/// Why a policy file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The file says it is something else.
    #[error("{}: format is `{found}`, expected `{FORMAT}`{}", path.display(), newer(found))]
    Format {
        /// The file.
        path: PathBuf,
        /// What its metadata says.
        found: String,
    },
    /// The metadata does not describe a policy.
    #[error("{}: metadata `policy` is not understood: {reason}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The tensors do not form the policy that the metadata or the first layer promise.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The JSON under the metadata entry `policy`.
#[derive(Serialize, Deserialize)]
struct Description {
    hidden: Vec<usize>,
    #[serde(default)]
    activation: Activation,
    bias: bool,
    #[serde(default)]
    deviation: Option<Deviation>,
    #[serde(default)]
    normalizer_count: Option<f64>,
}

impl PolicyState {
    /// Writes the policy, whole or not at all. Equal policies give equal bytes.
    ///
    /// # Errors
    /// [`PolicyFileError::Invalid`] when [`check`](Self::check) refuses the policy or `float` does not hold a number of it; what
    /// the file system refuses.
    pub fn save(&self, path: &Path, float: StoredFloat) -> Result<(), PolicyFileError> {
        let bytes = self.to_bytes(float).map_err(|reason| invalid(path, reason))?;
        write_atomically(path, &bytes).map_err(TensorFileError::Io)?;
        Ok(())
    }

    /// The bytes of the policy's file.
    fn to_bytes(&self, float: StoredFloat) -> Result<Vec<u8>, String> {
        self.check().map_err(|error| error.to_string())?;
        if float == StoredFloat::F32 {
            let statistics = self.normalizer.as_ref().map(|normalizer| (normalizer.mean(), normalizer.std()));
            let (mean, std) = statistics.unwrap_or_default();
            let mut numbers =
                self.mean_parameters.iter().chain(&self.log_std).chain(mean).chain(std).copied();
            let beyond = numbers.find(|value| !(*value as f32).is_finite());
            if let Some(value) = beyond.or_else(|| std.iter().copied().find(|value| *value as f32 == 0.0)) {
                return Err(format!("{value:e} is beyond single precision"));
            }
        }
        let mut tensors = BTreeMap::new();
        for (name, tensor) in named_parameters(&self.architecture, &self.mean_parameters) {
            tensors.insert(name, tensor);
        }
        let vector = |values: &[f64]| HostTensor::new([values.len()], values.to_vec());
        tensors.insert("log_std".to_owned(), vector(&self.log_std));
        if let Some(normalizer) = &self.normalizer {
            tensors.insert("normalizer.mean".to_owned(), vector(normalizer.mean()));
            tensors.insert("normalizer.std".to_owned(), vector(normalizer.std()));
        }
        let description = Description {
            hidden: self.architecture.hidden.clone(),
            activation: self.architecture.activation,
            bias: self.architecture.bias,
            deviation: Some(self.deviation),
            normalizer_count: self.normalizer.as_ref().map(Normalizer::count),
        };
        let description = serde_json::to_string(&description).map_err(|error| error.to_string())?;
        let metadata =
            BTreeMap::from([("format".to_owned(), FORMAT.to_owned()), ("policy".to_owned(), description)]);
        tensor_file::to_sealed_bytes(tensors, &metadata, float).map_err(|error| error.to_string())
    }

    /// Reads a policy file. A file without metadata, or with those that safetensors' own Python functions ask for, is accepted:
    /// sizes come from the shapes, the activation is tanh, which a warning says. A checksum is compared where there is one.
    ///
    /// # Errors
    /// A missing, truncated or foreign file, shapes that do not fit together, numbers that are not finite.
    pub fn load(path: &Path) -> Result<Self, PolicyFileError> {
        Self::from_file(&TensorFile::read(path)?)
    }

    /// The policy in an open file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_file(file: &TensorFile) -> Result<Self, PolicyFileError> {
        let path = file.path();
        if let Some(found) = file.metadata("format").filter(|format| !FORMATS.contains(format)) {
            return Err(PolicyFileError::Format { path: path.to_owned(), found: found.to_owned() });
        }
        let description: Option<Description> =
            file.metadata("policy").map(serde_json::from_str).transpose().map_err(|error| {
                PolicyFileError::Metadata { path: path.to_owned(), reason: error.to_string() }
            })?;
        let (architecture, mean_parameters) = read_layers(file, description.as_ref())?;
        if description.is_none() && !architecture.hidden.is_empty() {
            tracing::warn!(
                "{}: no metadata `policy` says the activation of the hidden layers, and tanh is taken",
                path.display()
            );
        }
        let log_std = file.floats("log_std")?;
        if log_std.shape != [architecture.action_size] {
            return Err(file
                .shape_error(
                    "log_std",
                    &log_std.shape,
                    format!("[{}] (one per action)", architecture.action_size),
                )
                .into());
        }
        let count = description.as_ref().and_then(|description| description.normalizer_count);
        let state = Self {
            normalizer: read_normalizer(file, architecture.observation_size, count)?,
            architecture,
            deviation: description.and_then(|description| description.deviation).unwrap_or(Deviation::Fixed),
            mean_parameters,
            log_std: log_std.values,
        };
        state.check().map_err(|error: PolicyStateError| invalid(path, error.to_string()))?;
        Ok(state)
    }
}

/// What to say of a later version of the format.
fn newer(found: &str) -> &'static str {
    match found.strip_prefix("rtpg-policy/").and_then(|version| version.parse::<u32>().ok()) {
        Some(2..) => "; a newer rtpg wrote it: use that one",
        _ => "",
    }
}

/// The mean network's parameters by their names in files: `mean.{l}.weight` `[out, in]` and `mean.{l}.bias` `[out]`.
pub fn named_parameters(architecture: &Architecture, flat: &[f64]) -> Vec<(String, HostTensor)> {
    let mut named = Vec::new();
    let mut rest = flat;
    for (layer, (inputs, outputs)) in architecture.layers().into_iter().enumerate() {
        let (weight, tail) = rest.split_at(inputs * outputs);
        named.push((format!("mean.{layer}.weight"), HostTensor::new([outputs, inputs], weight.to_vec())));
        rest = tail;
        if architecture.bias {
            let (bias, tail) = rest.split_at(outputs);
            named.push((format!("mean.{layer}.bias"), HostTensor::new([outputs], bias.to_vec())));
            rest = tail;
        }
    }
    named
}

fn read_layers(
    file: &TensorFile,
    description: Option<&Description>,
) -> Result<(Architecture, Vec<f64>), PolicyFileError> {
    let bias = description.map_or_else(|| file.contains("mean.0.bias"), |description| description.bias);
    let mut flat = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    let mut layer = 0;
    while layer == 0 || file.contains(&format!("mean.{layer}.weight")) {
        let name = format!("mean.{layer}.weight");
        let weight = file.floats(&name)?;
        let [outputs, inputs] = weight.shape[..] else {
            return Err(file.shape_error(&name, &weight.shape, "[out, in]").into());
        };
        match sizes.last() {
            Some(previous) if *previous != inputs => {
                let expected = format!("[out, {previous}], as layer {} has {previous} outputs", layer - 1);
                return Err(file.shape_error(&name, &weight.shape, expected).into());
            }
            Some(_) => {}
            None => sizes.push(inputs),
        }
        sizes.push(outputs);
        flat.extend(weight.values);
        if bias {
            let name = format!("mean.{layer}.bias");
            let bias = file.floats(&name)?;
            if bias.shape != [outputs] {
                return Err(file.shape_error(&name, &bias.shape, format!("[{outputs}]")).into());
            }
            flat.extend(bias.values);
        }
        layer += 1;
    }
    let is_read = |name: &str| match name.strip_prefix("mean.").and_then(|rest| rest.split_once('.')) {
        Some((number, part)) => {
            number.parse::<usize>().is_ok_and(|number| number < layer)
                && (part == "weight" || bias && part == "bias")
        }
        None => !name.starts_with("mean."),
    };
    if let Some(name) = file.names().into_iter().find(|name| !is_read(name)) {
        let biases = if bias { "biases" } else { "no biases" };
        let reason =
            format!("there is a tensor `{name}`, but the mean network has {layer} layers and {biases}");
        return Err(invalid(file.path(), reason));
    }
    let hidden = sizes[1..sizes.len() - 1].to_vec();
    if let Some(description) = description.filter(|description| description.hidden != hidden) {
        return Err(invalid(
            file.path(),
            format!(
                "metadata promises hidden layers {:?}, but the tensors have {hidden:?}",
                description.hidden
            ),
        ));
    }
    let architecture = Architecture {
        observation_size: sizes[0],
        action_size: sizes[sizes.len() - 1],
        hidden,
        activation: description.map_or(Activation::Tanh, |description| description.activation),
        bias,
    };
    Ok((architecture, flat))
}

fn read_normalizer(
    file: &TensorFile,
    observation_size: usize,
    count: Option<f64>,
) -> Result<Option<Normalizer>, PolicyFileError> {
    if !file.contains("normalizer.mean") && !file.contains("normalizer.std") {
        return Ok(None);
    }
    let read = |name: &str| {
        let tensor = file.floats(name)?;
        if tensor.shape == [observation_size] {
            Ok(tensor.values)
        } else {
            Err(file.shape_error(name, &tensor.shape, format!("[{observation_size}] (one per observation)")))
        }
    };
    let (mean, std) = (read("normalizer.mean")?, read("normalizer.std")?);
    if let Some(index) = std.iter().position(|std| *std <= 0.0 || std.is_nan()) {
        let reason = format!("normalizer.std[{index}] is {}, expected a positive number", std[index]);
        return Err(invalid(file.path(), reason));
    }
    Ok(Some(Normalizer::from_statistics(count.unwrap_or(1.0), mean, std)))
}

fn invalid(path: &Path, reason: String) -> PolicyFileError {
    PolicyFileError::Invalid { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{Initialization, LogStdBounds};

    fn policy(hidden: &[usize], bias: bool) -> PolicyState {
        let architecture = Architecture {
            observation_size: 3,
            action_size: 2,
            hidden: hidden.to_vec(),
            activation: Activation::Relu,
            bias,
        };
        let mut random = StdRng::seed_from_u64(5);
        let deviation = Deviation::Learned(LogStdBounds::default());
        PolicyState::start(architecture, Initialization::XavierUniform, -0.5, deviation, &mut random)
    }

    #[test]
    fn saved_policies_load_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.safetensors");
        for mut state in [policy(&[], false), policy(&[7], true), policy(&[4, 5], false)] {
            state.save(&path, StoredFloat::F32).unwrap();
            assert_eq!(PolicyState::load(&path).unwrap(), state);
            let normalizer = Normalizer::from_statistics(9.0, vec![0.5; 3], vec![2.0, 1.0, 0.25]);
            state.normalizer = Some(normalizer);
            state.save(&path, StoredFloat::F64).unwrap();
            assert_eq!(PolicyState::load(&path).unwrap(), state);
        }
    }

    #[test]
    fn a_file_without_metadata_is_read_by_its_shapes() {
        let tensors = BTreeMap::from([
            ("mean.0.weight".to_owned(), HostTensor::new([4, 3], vec![0.5; 12])),
            ("mean.1.weight".to_owned(), HostTensor::new([1, 4], vec![0.5; 4])),
            ("log_std".to_owned(), HostTensor::new([1], vec![0.0])),
        ]);
        for metadata in [BTreeMap::new(), BTreeMap::from([("format".to_owned(), "pt".to_owned())])] {
            let bytes = tensor_file::to_bytes(&tensors, &metadata, StoredFloat::F32).unwrap();
            let file = TensorFile::from_bytes(Path::new("x"), bytes).unwrap();
            let state = PolicyState::from_file(&file).unwrap();
            assert_eq!(state.architecture.hidden, [4]);
            assert_eq!(state.architecture.activation, Activation::Tanh);
            assert_eq!(state.deviation, Deviation::Fixed);
        }
    }

    fn refusal(change: impl Fn(&mut BTreeMap<String, HostTensor>, &mut BTreeMap<String, String>)) -> String {
        let state = policy(&[4], true);
        let mut tensors: BTreeMap<String, HostTensor> =
            named_parameters(&state.architecture, &state.mean_parameters).into_iter().collect();
        tensors.insert("log_std".to_owned(), HostTensor::new([2], vec![0.0; 2]));
        let mut metadata = BTreeMap::from([("format".to_owned(), FORMAT.to_owned())]);
        change(&mut tensors, &mut metadata);
        let bytes = tensor_file::to_bytes(&tensors, &metadata, StoredFloat::F32).unwrap();
        let file = TensorFile::from_bytes(Path::new("p"), bytes).unwrap();
        PolicyState::from_file(&file).expect_err("refused").to_string()
    }

    #[test]
    fn foreign_and_inconsistent_files_are_refused_with_the_reason() {
        let message =
            refusal(|_, metadata| _ = metadata.insert("format".to_owned(), "rtpg-policy/9".to_owned()));
        assert_eq!(
            message,
            "p: format is `rtpg-policy/9`, expected `rtpg-policy/1`; a newer rtpg wrote it: use that one"
        );
        let message = refusal(|tensors, _| _ = tensors.remove("mean.0.weight"));
        assert!(message.starts_with("p: no tensor `mean.0.weight`"), "{message}");
        let message = refusal(|tensors, _| {
            tensors.insert("mean.1.weight".to_owned(), HostTensor::new([2, 5], vec![0.0; 10]));
        });
        assert!(message.contains("expected [out, 4], as layer 0 has 4 outputs"), "{message}");
        let message = refusal(|tensors, _| {
            tensors.insert("log_std".to_owned(), HostTensor::new([3], vec![0.0; 3]));
        });
        assert!(message.contains("expected [2]"), "{message}");
        let message = refusal(|tensors, _| {
            tensors.insert("log_std".to_owned(), HostTensor::new([2], vec![0.0, f64::NAN]));
        });
        assert_eq!(message, "p: log_std 1 is NaN, expected a finite number");
        let message = refusal(|_, metadata| _ = metadata.insert("policy".to_owned(), "{}".to_owned()));
        assert!(message.starts_with("p: metadata `policy` is not understood"), "{message}");
        let message = refusal(|_, metadata| {
            let description = r#"{"hidden": [4], "activation": "tanh", "bias": false}"#;
            metadata.insert("policy".to_owned(), description.to_owned());
        });
        assert!(
            message.contains("`mean.0.bias`, but the mean network has 2 layers and no biases"),
            "{message}"
        );
        let message = refusal(|tensors, _| {
            _ = tensors.insert("mean.1.scale".to_owned(), HostTensor::new([2], vec![1.0; 2]));
        });
        assert!(message.contains("there is a tensor `mean.1.scale`"), "{message}");
        let message = refusal(|_, metadata| {
            let description = r#"{"hidden": [4], "activation": "tanh", "bias": true, "deviation": {"learned": {"min": 1.0, "max": 0.5}}}"#;
            metadata.insert("policy".to_owned(), description.to_owned());
        });
        assert_eq!(message, "p: the bounds of log_std are 1 and 0.5, expected a smaller and a larger number");
    }

    #[test]
    fn what_could_not_be_read_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.safetensors");
        let refusal = |state: PolicyState| state.save(&path, StoredFloat::F32).unwrap_err().to_string();
        let learned = |log_std: f64, min: f64, max: f64| PolicyState {
            deviation: Deviation::Learned(LogStdBounds { min, max }),
            log_std: vec![log_std; 2],
            ..policy(&[4], true)
        };
        let with_std = |std: Vec<f64>| {
            let size = 3;
            PolicyState {
                normalizer: Some(Normalizer::from_statistics(9.0, vec![0.0; size], std)),
                ..policy(&[4], true)
            }
        };
        let size = 3;
        let parameters = |change: &dyn Fn(&mut Vec<f64>)| {
            let mut state = policy(&[4], true);
            change(&mut state.mean_parameters);
            state
        };
        for (state, expected) in [
            (parameters(&|values| _ = values.pop()), "mean parameters, got"),
            (parameters(&|values| values.push(0.0)), "mean parameters, got"),
            (parameters(&|values| values[0] = f64::NAN), "mean parameter 0 is NaN"),
            (parameters(&|values| values[0] = 1e300), "beyond single precision"),
            (learned(10.0, -5.0, 2.0), "log_std 0 is 10, expected a number from -5 to 2"),
            (learned(0.0, f64::NEG_INFINITY, 2.0), "the bounds of log_std"),
            (with_std(vec![1.0; size + 1]), "the normalizer has"),
            (with_std(vec![0.0; size]), "normalizer std 0 is 0"),
            (with_std(vec![1e-50; size]), "1e-50 is beyond single precision"),
        ] {
            let error = refusal(state);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(!path.exists());
        learned(f64::from(0.1_f32), -5.0, 0.1).save(&path, StoredFloat::F32).unwrap();
        PolicyState::load(&path).unwrap();
    }
}

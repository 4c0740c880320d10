//! What is decided and checked before a run's first iteration.

use std::path::PathBuf;

use environments::registry::Entry;
use policy_nets::{Architecture, GaussianPolicy, PolicyState};

use super::{TrainError, Trainer};
use crate::algorithms::{self, Algorithm};
use crate::config::{AlgorithmConfig, Config, KernelChoice};
use crate::device::SelectedDevice;
use crate::device_roll_out::DeviceRollOut;
use crate::memory::{MemoryNeed, available};
use crate::run_folder::policy_file;
use crate::trajectories::BatchShape;

/// Refuses options that do not go together, before an algorithm is made from them.
///
/// # Errors
/// [`TrainError::Options`].
pub(crate) fn check_options(config: &Config) -> Result<(), TrainError> {
    if config.policy.normalize_observations && config.algorithm.evaluates_earlier_policies() {
        return Err(TrainError::Options(format!(
            "policy.normalize_observations = true does not go with algorithm `{}`, which evaluates earlier policies \
             whose normalizers are gone; set it to false",
            config.algorithm.name()
        )));
    }
    Ok(())
}

/// The kernel that rolls out the run's batches; one log line says why when there is none on a device that could run it.
pub(super) fn device_roll_out(
    config: &Config,
    entry: &Entry,
    shape: BatchShape,
    state: &PolicyState,
    algorithm: &dyn Algorithm,
    device: &SelectedDevice,
) -> Option<DeviceRollOut> {
    if device.is_host() || config.kernels != KernelChoice::Auto {
        return None;
    }
    if !algorithm.accepts_device_batches() {
        tracing::info!(
            "trajectories are rolled out on the host: `{}` takes them from there",
            config.algorithm.name()
        );
        return None;
    }
    let normalized = state.normalizer.is_some();
    let roll_out = DeviceRollOut::new(entry, shape, &state.architecture, normalized, &device.device);
    roll_out.inspect_err(|reason| tracing::info!("trajectories are rolled out on the host: {reason}")).ok()
}

/// Refuses an environment without observations, actions or steps.
pub(super) fn check_entry(entry: &Entry) -> Result<(), TrainError> {
    let Entry { name, observation_size, action_size, horizon, .. } = *entry;
    if observation_size == 0 || action_size == 0 || horizon == 0 {
        return Err(TrainError::Options(format!(
            "environment `{name}` has {observation_size} observation and {action_size} action components and a horizon of {horizon}, \
             expected at least 1 of each"
        )));
    }
    Ok(())
}

/// Sizes of a run's largest batch.
pub(crate) fn batch_shape(config: &Config, entry: &Entry) -> BatchShape {
    BatchShape {
        trajectories: config.algorithm.batch_size(),
        horizon: config.environment.horizon.unwrap_or(entry.horizon),
        observation_size: entry.observation_size,
        action_size: entry.action_size,
    }
}

/// What a run needs of memory.
pub(crate) fn memory_need(
    config: &Config,
    entry: &Entry,
    device: &SelectedDevice,
    threads: usize,
) -> MemoryNeed {
    let fused = algorithms::may_use_kernels(config, device);
    let (shape, window) = (batch_shape(config, entry), config.algorithm.window());
    let architecture = &config.policy.architecture(entry.observation_size, entry.action_size);
    let episodes = if config.evaluation.interval > 0 { config.evaluation.episodes } else { 0 };
    let all = [shape.trajectories, episodes, window.saturating_mul(shape.trajectories)];
    let mut need = MemoryNeed::new(shape, window, episodes, architecture, fused, entry.name).with_threads(
        threads,
        all,
        architecture,
    );
    if config.algorithm.evaluates_earlier_policies() {
        need = need.with_earlier_policies(window, shape.trajectories, architecture.parameter_count());
    }
    if let Some(reduction) = config.algorithm.variance_reduction() {
        need = need.with_two_policies(reduction.batch_size, shape.trajectories).without_window();
    }
    if fused && !device.is_host() {
        need = need.with_device_kernels(shape, window, architecture.parameter_count());
    }
    // A driver that computes on the processor has this machine's memory.
    if !device.is_host() && !device.is_software {
        need = need.on_device();
    }
    need
}

/// What a run needs; one that the host's memory cannot hold is refused. A GPU's own memory is not looked at.
pub(crate) fn check_memory(
    config: &Config,
    entry: &Entry,
    device: &SelectedDevice,
    threads: usize,
) -> Result<MemoryNeed, TrainError> {
    let need = memory_need(config, entry, device, threads);
    let (shape, window) = (batch_shape(config, entry), config.algorithm.window());
    check_buffers(shape, window, device)?;
    match available() {
        Some(available) if need.total() > available => Err(TrainError::Memory {
            need,
            available,
            advice: need.largest(size_keys(&config.algorithm)),
            window,
            trajectories: shape.trajectories,
            horizon: shape.horizon,
        }),
        _ => Ok(need),
    }
}

/// The keys that say how many trajectories an algorithm holds.
fn size_keys(algorithm: &AlgorithmConfig) -> &'static str {
    match algorithm {
        AlgorithmConfig::RtPg(_) | AlgorithmConfig::Miw(_) | AlgorithmConfig::Bh(_) => {
            "algorithm.window, algorithm.batch_size"
        }
        AlgorithmConfig::Gpomdp(_) | AlgorithmConfig::Reinforce(_) => "algorithm.batch_size",
        _ => "algorithm.snapshot_size, algorithm.batch_size",
    }
}

/// Checks that the device has room for the window's observations, or actions, in one buffer.
#[cfg(all(feature = "kernels", not(feature = "fusion")))]
fn check_buffers(shape: BatchShape, window: usize, device: &SelectedDevice) -> Result<(), TrainError> {
    let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
    let Some(kernels) = kernels::KernelDevice::of(&device.device) else { return Ok(()) };
    let steps = window as f64 * trajectories as f64 * horizon as f64;
    let needed = 4.0 * steps * observation_size.max(action_size) as f64;
    let largest = kernels.largest_buffer() as f64;
    if needed <= largest {
        return Ok(());
    }
    let device = device.name.clone();
    Err(TrainError::Buffer { needed, largest, device, window, trajectories, horizon })
}

#[cfg(not(all(feature = "kernels", not(feature = "fusion"))))]
#[expect(clippy::unnecessary_wraps, reason = "builds with kernels know a limit")]
fn check_buffers(_: BatchShape, _: usize, _: &SelectedDevice) -> Result<(), TrainError> {
    Ok(())
}

impl Trainer {
    /// The file of the policy that `policy.start` names, where it names one.
    pub fn start_file(&self) -> Option<PathBuf> {
        self.config.policy.start.as_deref().map(policy_file)
    }

    /// Puts the mean network of the file that `policy.start` names, or of the best policy of the run that it names, in the place of
    /// the drawn one, where it names one; and its normaliser, where it has one. For a run that begins: one that goes on has its policy in the checkpoint.
    ///
    /// # Errors
    /// A file that is not a policy's, or whose network or standardisation is not that of the configuration.
    pub fn load_start(&mut self) -> Result<(), TrainError> {
        let Some(path) = self.start_file() else { return Ok(()) };
        let start = PolicyState::load(&path)
            .map_err(|error| TrainError::Options(format!("policy.start: {error}")))?;
        let refuse =
            |reason: String| Err(TrainError::Options(format!("policy.start: {} {reason}", path.display())));
        let (found, expected) = (&start.architecture, &self.state.architecture);
        let sizes = |architecture: &Architecture| (architecture.observation_size, architecture.action_size);
        if sizes(found) != sizes(expected) {
            let (observation, action) = sizes(found);
            return refuse(format!(
                "has {observation} observation and {action} action components, but {} has {} and {}",
                self.entry.name, expected.observation_size, expected.action_size
            ));
        }
        // Without hidden layers there is no nonlinearity.
        let same_activation = found.activation == expected.activation || found.hidden.is_empty();
        if found.hidden != expected.hidden || found.bias != expected.bias || !same_activation {
            let describe = |architecture: &Architecture| {
                let biases = if architecture.bias { "biases" } else { "no biases" };
                format!("{architecture} with {:?} and {biases}", architecture.activation).to_lowercase()
            };
            return refuse(format!(
                "is {}, but the configuration asks for {}; set policy.hidden, policy.activation and policy.bias",
                describe(found),
                describe(expected)
            ));
        }
        match (start.normalizer, &mut self.state.normalizer) {
            (Some(_), None) => {
                return refuse(
                    "standardizes observations; set policy.normalize_observations = true".to_owned(),
                );
            }
            (Some(of_start), Some(normalizer)) => *normalizer = of_start,
            (None, _) => {}
        }
        // In the precision in which it is trained.
        self.state.mean_parameters =
            start.mean_parameters.iter().map(|value| f64::from(*value as f32)).collect();
        // The recorded configuration repeats the run from any folder.
        let absolute = std::path::absolute(&path)?;
        if absolute.to_str().is_none() {
            return refuse("lies at a path that is not UTF-8, which config.toml cannot record".to_owned());
        }
        self.config.policy.start = Some(absolute);
        self.policy = GaussianPolicy::from_state(&self.state, &self.policy.parameters().device());
        Ok(())
    }
}

/// The policy that a preset starts from.
#[cfg(test)]
pub(crate) fn preset_policy(name: &str) -> PolicyState {
    use crate::config::{Source, load};
    let config = load(&Source::Preset(name.to_owned()), &[]).unwrap();
    let device = crate::device::select(&config.device).unwrap();
    Trainer::new(&config, &device).unwrap().policy().clone()
}

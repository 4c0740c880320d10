//! Whether this machine computes what it should: the fused kernels, and what kernels rely on, against plain float64.

mod estimates;
mod reference;
mod roll_outs;

use burn::tensor::Tensor;
use environments::registry::{ENTRIES, Entry};
use policy_nets::{Activation, Architecture, Deviation, GaussianPolicy, Initialization, PolicyState};
use serde::Serialize;

pub use roll_outs::{Key, RollOutErrors, errors as roll_out_errors};

use self::estimates::Subject;
use crate::algorithms;
use crate::config::{ConfigError, KernelChoice, Source, load};
use crate::device::{Backend, SelectedDevice};
use crate::device_roll_out::{DeviceRollOut, DeviceSampling, number_errors};
use crate::random::{Purpose, Streams};
use crate::rollout::{Mode, RollOut, RollOutError, Sampling};
use crate::threads::Threads;
use crate::trajectories::Trajectories;

/// Why an examination was not made.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The built-in configuration was not read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system refused the worker threads.
    #[error("the worker threads could not be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A roll-out on the host failed.
    #[error(transparent)]
    RollOut(#[from] RollOutError),
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "lowercase")]
pub enum Verdict {
    /// The error is allowed.
    Ok,
    /// The error is larger.
    Failed,
    /// There is nothing to check, and why.
    Skipped(String),
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was computed.
    pub name: String,
    /// Largest error that was found; none when the check was skipped. JSON writes an infinite one as `null`.
    pub error: Option<f64>,
    /// Largest error allowed.
    pub allowed: f64,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Check {
    fn new(name: impl Into<String>, error: f64, allowed: f64) -> Self {
        let verdict = if error <= allowed { Verdict::Ok } else { Verdict::Failed };
        Self { name: name.into(), error: Some(error), allowed, verdict }
    }

    fn skipped(name: impl Into<String>, allowed: f64, reason: impl ToString) -> Self {
        Self { name: name.into(), error: None, allowed, verdict: Verdict::Skipped(reason.to_string()) }
    }
}

/// Relative error of single precision that one step of a roll-out may make.
const ROLL_OUT: f64 = 1e-5;
/// Relative error of single precision that a gradient may have.
const GRADIENT: f64 = 1e-4;
/// The same where matrix products round their factors to the eleven bits of TF32, as Burn's do on CUDA's tensor cores.
const GRADIENT_TF32: f64 = 5e-3;

/// Makes every check on `device`; the fused kernels of the host are always among them.
///
/// # Errors
/// [`DoctorError`] when the examination itself cannot be made.
pub fn examine(device: &SelectedDevice) -> Result<Vec<Check>, DoctorError> {
    let threads = Threads::new(0)?;
    let config = load(&Source::Preset("cartpole".to_owned()), &[])?;
    let mut checks = vec![loop_of_many_iterations(device)];
    for (name, allowed, error) in number_errors(&device.device) {
        checks.push(match error {
            Ok(error) => Check::new(name, error, allowed),
            Err(reason) => Check::skipped(name, allowed, reason),
        });
    }
    for entry in ENTRIES {
        checks.extend(roll_outs_of(entry, device, &threads)?);
    }
    let has_kernels = algorithms::may_use_kernels(&config, device);
    for (kernels, by) in [(KernelChoice::Generic, "tensor operations"), (KernelChoice::Auto, "fused kernels")]
    {
        let is_tf32 = kernels == KernelChoice::Generic && device.backend == Backend::Cuda;
        let (by, allowed) =
            if is_tf32 { ("tensor operations in TF32", GRADIENT_TF32) } else { (by, GRADIENT) };
        let gradient = |subject| estimates::gradient_error(subject, &config, kernels, device, &threads);
        let steps = || estimates::steps_error(&config, kernels, device, &threads);
        let errors: [(&str, &dyn Fn() -> f64); 3] = [
            ("gradient", &|| gradient(Subject::Fixed)),
            ("gradient, ReLU and learned deviation", &|| gradient(Subject::Learned)),
            ("three steps of Adam", &steps),
        ];
        for (what, error) in errors {
            let name = format!("{what}, {by}");
            checks.push(if kernels == KernelChoice::Generic || has_kernels {
                Check::new(name, error(), allowed)
            } else {
                Check::skipped(name, allowed, "no fused kernel computes the estimate on this device")
            });
        }
    }
    let entry = &ENTRIES[0];
    let name = "gradient of a batch from the device";
    let error = estimates::error_of_device_batch(entry, &policy(entry), &config, device, &threads);
    checks.push(match error {
        Ok(error) => Check::new(name, error, GRADIENT),
        Err(reason) => Check::skipped(name, GRADIENT, reason),
    });
    Ok(checks)
}

/// A running sum of ones: a loop in a shader, where the device is a GPU. Some drivers end loops early.
fn loop_of_many_iterations(device: &SelectedDevice) -> Check {
    const LENGTH: usize = 100_000;
    let sums = Tensor::<1>::ones([LENGTH], &device.device).cumsum(0);
    let last = sums.slice(LENGTH - 1..LENGTH).into_data().iter::<f64>().next();
    let error = last.map_or(f64::INFINITY, |last| (last - LENGTH as f64).abs());
    Check::new("loop of 100000 iterations", error, 0.0)
}

/// The roll-out of one environment on the host and on the device; nothing for one that is not computed here.
fn roll_outs_of(
    entry: &Entry,
    device: &SelectedDevice,
    threads: &Threads,
) -> Result<Vec<Check>, DoctorError> {
    const TRAJECTORIES: usize = 48;
    const HORIZON: usize = 80;
    let Ok(environment) = entry.make() else { return Ok(vec![]) };
    if environment.built_in().is_none() {
        return Ok(vec![]);
    }
    let policy = policy(entry);
    let key = Key { streams: Streams::new(1 << 40), iteration: 3, first_trajectory: 7, mode: Mode::Training };
    let Key { streams, iteration, first_trajectory, mode } = key;
    let error = |batch: &Trajectories| {
        roll_out_errors(entry, &policy, key, batch).map_or(f64::INFINITY, RollOutErrors::largest)
    };

    let mut roll_out = RollOut::new(entry, TRAJECTORIES, HORIZON, threads)?;
    let shape = roll_out.shape();
    let mut batch = Trajectories::zeros(shape);
    let sampling = Sampling { policy: &policy, streams, iteration, first_trajectory, mode };
    roll_out.run(sampling, &mut batch)?;
    let on_host = Check::new(format!("roll-out of {} on the host", entry.name), error(&batch), ROLL_OUT);

    let name = format!("roll-out of {} on the device", entry.name);
    let kernel = DeviceRollOut::new(entry, shape, &policy.architecture, false, &device.device);
    let on_device = match kernel {
        Err(reason) => Check::skipped(name, ROLL_OUT, reason),
        Ok(kernel) => {
            let policy = GaussianPolicy::from_state(&policy, &device.device);
            let batch = kernel.run(DeviceSampling {
                parameters: policy.parameters(),
                log_std: policy.log_std(),
                streams,
                iteration,
                first_trajectory,
                mode,
            });
            Check::new(name, error(&batch.trajectories.to_host()), ROLL_OUT)
        }
    };
    Ok(vec![on_host, on_device])
}

/// A policy of two hidden layers of odd widths.
fn policy(entry: &Entry) -> PolicyState {
    let architecture = Architecture {
        observation_size: entry.observation_size,
        action_size: entry.action_size,
        hidden: vec![31, 17],
        activation: Activation::Tanh,
        bias: true,
    };
    let mut random = Streams::new(2).stream(Purpose::Initialization, 0, 0, 0);
    let mut policy =
        PolicyState::start(architecture, Initialization::XavierUniform, -0.6, Deviation::Fixed, &mut random);
    for (index, parameter) in policy.mean_parameters.iter_mut().enumerate() {
        // Biases start at zero, which would hide a wrong one.
        *parameter = f64::from((*parameter + 0.01 * (index % 5) as f64) as f32);
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, select};

    #[test]
    fn the_host_is_healthy() {
        let device = select(&DeviceChoice::Cpu).unwrap();
        let checks = examine(&device).unwrap();
        for check in &checks {
            assert_ne!(check.verdict, Verdict::Failed, "{check:?}");
        }
        let checked = checks.iter().filter(|check| check.verdict == Verdict::Ok).count();
        assert_eq!(checked, 1 + 4 + 6, "the loop, four roll-outs, gradients and steps: {checks:?}");
    }

    #[test]
    fn a_wrong_number_is_found() {
        let entry = &ENTRIES[0];
        let policy = policy(entry);
        let key = Key { streams: Streams::new(0), iteration: 0, first_trajectory: 0, mode: Mode::Training };
        let mut roll_out = RollOut::new(entry, 8, 150, &Threads::new(1).unwrap()).unwrap();
        let mut batch = Trajectories::zeros(roll_out.shape());
        let Key { streams, iteration, first_trajectory, mode } = key;
        let sampling = Sampling { policy: &policy, streams, iteration, first_trajectory, mode };
        roll_out.run(sampling, &mut batch).unwrap();
        let errors = |change: &dyn Fn(&mut Trajectories)| {
            let mut changed = batch.clone();
            change(&mut changed);
            roll_out_errors(entry, &policy, key, &changed).unwrap()
        };
        assert!(errors(&|_| ()).largest() < ROLL_OUT);
        assert!(errors(&|batch| batch.means[3] += 1e-3).means > 5e-4);
        assert!(errors(&|batch| batch.actions[3] += 1e-3).actions > 5e-4);
        assert!(errors(&|batch| batch.observations[8] += 1e-3).observations > 5e-4);
        assert!(errors(&|batch| batch.rewards[2] += 1e-3).rewards > 5e-4);
        assert!(errors(&|batch| batch.lengths[1] -= 1).lengths.is_infinite());
        let short = batch.lengths.iter().position(|length| *length < 150).expect("one that ends early");
        let end = short * 150 + batch.lengths[short] as usize;
        assert!(errors(&|batch| batch.rewards[end] = 1.0).lengths.is_infinite());
        assert!(errors(&|batch| batch.means[0] = f32::NAN).means.is_infinite());
    }
}

//! Devices of every compiled backend, and problems in the forms that the crates take.

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{
    Baseline, CoefficientRule, DivergenceEstimator, LoggedActions, MixtureRule, StepReturn, step_mask,
};
use integration_tests::oracle::{self, Coefficients, Policy, Problem, Settings, Weighting};
use integration_tests::problems::Recipe;
use policy_nets::{Activation, Architecture, Deviation, LogStdBounds, PolicyState};
use trainer::config::PolicyConfig;
use trainer::device::{self, Backend, DeviceChoice, SelectedDevice};
use trainer::logged::{Behaviour, LoggedOptions, LoggedTrajectories, LoggedWeights};
use trainer::trajectories::{BatchShape, Trajectories};

/// A device of every compiled backend that answers and whose tensor operations compute in single precision: those of CUDA
/// multiply matrices in TF32. Others are named on standard error with the reason.
///
/// # Panics
/// As [`kernel_devices`].
pub(crate) fn devices() -> Vec<SelectedDevice> {
    kernel_devices().into_iter().filter(|device| device.backend != Backend::Cuda).collect()
}

/// A device of every compiled backend that answers, for our own kernels. Others are named on standard error with the reason.
///
/// # Panics
/// When `RTPG_REQUIRE_WGPU=1` and the compiled wgpu backend finds no adapter, or when no device is left.
pub(crate) fn kernel_devices() -> Vec<SelectedDevice> {
    let required = std::env::var_os("RTPG_REQUIRE_WGPU").is_some_and(|value| value == "1");
    let mut devices = vec![];
    for backend in [Backend::NdArray, Backend::Flex, Backend::Wgpu, Backend::Cuda] {
        match device::select(&DeviceChoice::Backend(backend)) {
            Ok(selected) => devices.push(selected),
            Err(error) => {
                let missing = required && backend == Backend::Wgpu && backend.is_compiled();
                assert!(!missing, "RTPG_REQUIRE_WGPU=1, but {error}");
                eprintln!("skipped {}: {error}", backend.name());
            }
        }
    }
    assert!(!devices.is_empty(), "no backend is compiled in");
    devices
}

/// One of so many cases runs on a software driver.
const SOFTWARE_SHARE: u64 = 16;

/// The devices for one of many cases. A GPU's driver that computes on the processor compiles seconds for each new shape:
/// it gets one case in [`SOFTWARE_SHARE`], or all with `RTPG_CONFORMANCE=full`.
pub(crate) fn devices_for(case: u64) -> Vec<SelectedDevice> {
    share_of(devices(), case)
}

/// As [`devices_for`], for our own kernels.
pub(crate) fn kernel_devices_for(case: u64) -> Vec<SelectedDevice> {
    share_of(kernel_devices(), case)
}

fn share_of(mut devices: Vec<SelectedDevice>, case: u64) -> Vec<SelectedDevice> {
    devices.retain(|device| is_thorough(device) || case.is_multiple_of(SOFTWARE_SHARE));
    devices
}

/// Whether every case runs on `device`: not on a GPU's software driver, unless `RTPG_CONFORMANCE=full`.
pub(crate) fn is_thorough(device: &SelectedDevice) -> bool {
    !device.is_software || std::env::var_os("RTPG_CONFORMANCE").is_some_and(|value| value == "full")
}

/// A number for [`devices_for`] from random log-ratios.
pub(crate) fn case(ratios: &[f64]) -> u64 {
    ratios.first().map_or(0, |ratio| ratio.to_bits())
}

/// The oracle's policy as the crates' own.
pub(crate) fn policy_state(policy: &Policy) -> PolicyState {
    let widths = policy.layers.iter().map(|layer| layer.weight.len());
    let flat = policy.flat();
    let mean_parameters = if policy.learned { flat.len() - policy.log_std.len() } else { flat.len() };
    PolicyState {
        architecture: Architecture {
            observation_size: policy.layers[0].weight[0].len(),
            action_size: policy.log_std.len(),
            hidden: widths.take(policy.layers.len() - 1).collect(),
            activation: match policy.activation {
                oracle::Activation::Tanh => Activation::Tanh,
                oracle::Activation::Relu => Activation::Relu,
            },
            bias: policy.layers[0].bias.is_some(),
        },
        deviation: if policy.learned {
            Deviation::Learned(LogStdBounds::default())
        } else {
            Deviation::Fixed
        },
        mean_parameters: flat[..mean_parameters].to_vec(),
        log_std: policy.log_std.clone(),
        normalizer: None,
    }
}

/// The policy of a recipe as a run is configured with it.
pub(crate) fn policy_config(recipe: &Recipe) -> PolicyConfig {
    PolicyConfig {
        hidden: recipe.hidden.clone(),
        activation: match recipe.activation {
            oracle::Activation::Tanh => Activation::Tanh,
            oracle::Activation::Relu => Activation::Relu,
        },
        bias: recipe.bias,
        learn_variance: recipe.learned,
        ..PolicyConfig::default()
    }
}

/// One of the problem's batches as roll-outs give it.
pub(crate) fn fresh_batch(problem: &Problem, index: usize) -> Trajectories {
    let batch = problem.batches[index].clone();
    let log_std = batch.behaviour.log_std.iter().map(|value| *value as f32).collect();
    let only = Problem { batches: vec![batch], ..problem.clone() };
    let padded = only.padded(0.0);
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    Trajectories {
        shape: batch_shape(problem),
        observations: single(&padded.observations),
        actions: single(&padded.actions),
        means: single(&padded.behaviour_mean),
        rewards: padded.rewards,
        lengths: padded.lengths,
        log_std,
    }
}

/// Sizes of the problem's batches.
pub(crate) fn batch_shape(problem: &Problem) -> BatchShape {
    BatchShape {
        trajectories: problem.batch(),
        horizon: problem.horizon,
        observation_size: problem.observation_size(),
        action_size: problem.action_size(),
    }
}

/// The problem's trajectories as a trajectory file would hold them.
pub(crate) fn logged_trajectories(problem: &Problem) -> LoggedTrajectories {
    let padded = problem.padded(0.0);
    LoggedTrajectories {
        window: problem.window(),
        batch: problem.batch(),
        horizon: problem.horizon,
        observation_size: problem.observation_size(),
        action_size: problem.action_size(),
        observations: padded.observations,
        actions: padded.actions,
        rewards: padded.rewards,
        lengths: padded.lengths,
        behaviour: Behaviour::Gaussian { mean: padded.behaviour_mean, log_std: padded.behaviour_log_std },
    }
}

/// What the estimator needs to know of a problem, on a device, with finite rubbish in the padding.
pub(crate) struct OnDevice {
    /// Actions, behaviour means, mask.
    pub(crate) logged: LoggedActions,
    /// Means of the target policy, from the oracle.
    pub(crate) target_mean: Tensor<4>,
    /// `ln sigma` of the target policy.
    pub(crate) target_log_std: Tensor<1>,
    /// Rewards, `[window, batch, time]`.
    pub(crate) rewards: Tensor<3>,
}

impl OnDevice {
    pub(crate) fn new(problem: &Problem, device: &Device) -> Self {
        const RUBBISH: f64 = 77.5;
        let shape = [problem.window(), problem.batch(), problem.horizon];
        let [window, batch, time] = shape;
        let action = problem.action_size();
        let steps = [window, batch, time, action];
        let padded = problem.padded(RUBBISH);
        let mut means = problem.clone();
        for step in means.batches.iter_mut().flat_map(|batch| batch.trajectories.iter_mut().flatten()) {
            step.behaviour_mean = problem.target.mean(&step.observation);
        }
        let target_mean = means.padded(-RUBBISH).behaviour_mean;
        Self {
            logged: LoggedActions {
                actions: tensor(&padded.actions, steps, device),
                behaviour_mean: tensor(&padded.behaviour_mean, steps, device),
                behaviour_log_std: tensor(&padded.behaviour_log_std, [window, action], device),
                mask: step_mask(&padded.lengths, shape, device),
            },
            target_mean: tensor(&target_mean, steps, device),
            target_log_std: tensor(&problem.target.log_std, [action], device),
            rewards: tensor(&padded.rewards, shape, device),
        }
    }
}

/// A tensor on a device, in its float type.
pub(crate) fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// A tensor's elements.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The oracle's settings as options of an estimate. Uniform weights are no option of it.
pub(crate) fn options(problem: &Problem, settings: &Settings) -> LoggedOptions {
    LoggedOptions {
        weights: match settings.weighting {
            Weighting::PowerMean { rule, closed_form, exponent } => LoggedWeights::PowerMean {
                rule: coefficient_rule(rule, problem.target.flat().len()),
                divergence: if closed_form {
                    DivergenceEstimator::ClosedForm
                } else {
                    DivergenceEstimator::Sample
                },
                exponent,
            },
            Weighting::MultipleImportance { clip } => LoggedWeights::MultipleImportance { clip },
            Weighting::BalanceHeuristic => LoggedWeights::BalanceHeuristic(
                problem.batches.iter().map(|batch| policy_state(&batch.behaviour)).collect(),
            ),
            Weighting::Uniform => unreachable!("no option of an estimate"),
        },
        discount: settings.discount,
        returns: if settings.total { StepReturn::Total } else { StepReturn::ToGo },
        baseline: baseline(settings.baseline),
    }
}

pub(crate) fn baseline(baseline: oracle::Baseline) -> Baseline {
    match baseline {
        oracle::Baseline::None => Baseline::None,
        oracle::Baseline::Average => Baseline::Average,
        oracle::Baseline::LeaveOneOut => Baseline::LeaveOneOut,
    }
}

pub(crate) fn coefficient_rule(rule: Coefficients, parameter_count: usize) -> CoefficientRule {
    match rule {
        Coefficients::Adaptive { scale } => CoefficientRule::Adaptive { scale },
        Coefficients::Theoretical { second_moment, delta } => {
            CoefficientRule::Theoretical { second_moment, delta, parameter_count }
        }
        Coefficients::Fixed { lambda, adaptive } => CoefficientRule::Fixed {
            lambda,
            mixture: if adaptive { MixtureRule::Adaptive } else { MixtureRule::Uniform },
        },
    }
}

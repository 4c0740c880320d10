//! The estimate.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{
    Baseline, CoefficientRule, Diagnostics, DiagnosticsReport, DivergenceEstimator, LoggedActions,
    StepReturn, balance_heuristic_weights, closed_form_log_second_moment, log_ratio,
    multiple_importance_weights, power_mean_weights, sample_log_second_moment, step_coefficients, step_mask,
    step_returns, surrogate,
};
use policy_nets::tensor_file::HostTensor;
use policy_nets::{GaussianPolicy, PolicyState, gaussian};

use super::file::{Behaviour, LoggedTrajectories, TrajectoryFileError};

/// How logged trajectories are weighted.
#[derive(Clone, Debug, PartialEq)]
pub enum LoggedWeights {
    /// Power-mean-corrected weights.
    PowerMean {
        /// How coefficients are chosen.
        rule: CoefficientRule,
        /// How second moments are estimated.
        divergence: DivergenceEstimator,
        /// Exponent of the power mean.
        exponent: f64,
    },
    /// Uniform multiple importance weights.
    MultipleImportance {
        /// The largest importance ratio; infinite for none.
        clip: f64,
    },
    /// The balance heuristic over the policies that sampled the batches, one for each.
    BalanceHeuristic(Vec<PolicyState>),
}

/// Options of an estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedOptions {
    /// How trajectories are weighted.
    pub weights: LoggedWeights,
    /// Discount `gamma`.
    pub discount: f64,
    /// GPOMDP or REINFORCE.
    pub returns: StepReturn,
    /// What is subtracted from returns.
    pub baseline: Baseline,
}

/// Why no estimate was made.
#[derive(Debug, thiserror::Error)]
pub enum LoggedError {
    /// The trajectory file.
    #[error(transparent)]
    File(#[from] TrajectoryFileError),
    /// Policy and trajectories have different sizes.
    #[error("{what} has {policy} {component} components, but the trajectories have {trajectories}")]
    Sizes {
        /// Which policy.
        what: String,
        /// `observation` or `action`.
        component: &'static str,
        /// Of the policy.
        policy: usize,
        /// Of the trajectories.
        trajectories: usize,
    },
    /// The method needs the behaviour means.
    #[error(
        "{what} needs behaviour_mean and behaviour_log_std, but the trajectories have only behaviour_log_prob"
    )]
    NeedsMeans {
        /// Which method.
        what: &'static str,
    },
    /// The balance heuristic needs one policy for each batch.
    #[error("the balance heuristic needs one policy for each of the {batches} batches, got {found}")]
    PolicyCount {
        /// Number of batches.
        batches: usize,
        /// Number of policies.
        found: usize,
    },
    /// A number of the estimate is beyond the range of its type.
    #[error(
        "the estimate is not finite: {tensor} has {value}; rewards or weights leave the range of the numbers"
    )]
    NotFinite {
        /// The tensor of the result.
        tensor: String,
        /// The first such number in it.
        value: f64,
    },
}

/// A gradient estimate with everything behind it, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEstimate {
    /// Every tensor of the result by the name that docs/formats.md gives it.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Euclidean norm of the gradient.
    pub gradient_norm: f64,
    /// What the estimate says about itself.
    pub diagnostics: DiagnosticsReport,
}

impl LoggedEstimate {
    /// Refuses an estimate with a number that is not finite.
    ///
    /// # Errors
    /// [`LoggedError::NotFinite`].
    pub fn check(&self) -> Result<(), LoggedError> {
        for (tensor, HostTensor { values, .. }) in &self.tensors {
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(LoggedError::NotFinite { tensor: tensor.clone(), value });
            }
        }
        Ok(())
    }
}

/// Estimates the gradient at `policy` from `logged` on `device`, in the device's float type.
///
/// # Errors
/// [`LoggedError`] when policy, trajectories and options do not go together. An estimate that is not finite is none here:
/// [`LoggedEstimate::check`].
pub fn estimate(
    policy: &PolicyState,
    logged: &LoggedTrajectories,
    options: &LoggedOptions,
    device: &Device,
) -> Result<LoggedEstimate, LoggedError> {
    check_sizes("the policy", policy, logged)?;
    let data = Data::new(logged, device);
    let on_device = GaussianPolicy::from_state(policy, device);
    let parameters = on_device.parameters().autodiff().require_grad();
    let tracked_mean = on_device.mean_at(&parameters, data.observations.clone());
    let mean = tracked_mean.clone().without_autodiff().reshape(data.steps_shape);
    let log_prob_target = data.log_prob(mean.clone(), on_device.log_std().unsqueeze::<2>());
    let (ratios, log_prob_behaviour) = data.ratios(mean.clone(), on_device.log_std(), &log_prob_target);

    let (weights, log_second_moment, diagnostics) = match &options.weights {
        LoggedWeights::PowerMean { rule, divergence, exponent } => {
            let log_second_moment = match (divergence, &data.behaviour) {
                (DivergenceEstimator::Sample, _) => sample_log_second_moment(ratios.clone()),
                (DivergenceEstimator::ClosedForm, DeviceBehaviour::Gaussian(actions)) => {
                    closed_form_log_second_moment(mean, on_device.log_std(), actions)
                }
                (DivergenceEstimator::ClosedForm, DeviceBehaviour::LogProb(_)) => {
                    let what = "the closed-form divergence (or choose --divergence sample)";
                    return Err(LoggedError::NeedsMeans { what });
                }
            };
            let coefficients = rule.coefficients(log_second_moment.clone(), logged.batch);
            let weights = power_mean_weights(ratios, &coefficients, *exponent);
            let diagnostics = Diagnostics::new(&weights, Some((&log_second_moment, &coefficients)));
            (weights, log_second_moment, diagnostics)
        }
        LoggedWeights::MultipleImportance { clip } => {
            let log_second_moment = sample_log_second_moment(ratios.clone());
            let weights = multiple_importance_weights(ratios, *clip);
            let diagnostics = Diagnostics::new(&weights, None);
            (weights, log_second_moment, diagnostics)
        }
        LoggedWeights::BalanceHeuristic(policies) => {
            let log_second_moment = sample_log_second_moment(ratios.clone());
            let weights = balance_heuristic_weights(data.density_ratios(policies, logged, ratios, device)?);
            let diagnostics = Diagnostics::new(&weights, None);
            (weights, log_second_moment, diagnostics)
        }
    };

    let returns =
        step_returns(data.rewards, data.mask.clone(), options.discount, options.returns, options.baseline);
    let log_std = on_device.log_std_at(&parameters).autodiff();
    let log_prob = gaussian::log_prob(tracked_mean, log_std, data.flat_actions.autodiff());
    let gradients = surrogate(log_prob, step_coefficients(weights.clone(), returns)).backward();
    let gradient = parameters.grad(&gradients).unwrap_or_else(|| on_device.parameters().zeros_like());

    let diagnostics = diagnostics.report();
    let vector = |values: Vec<f64>| HostTensor::new([values.len()], values);
    let mut tensors = named_gradient(policy, host(gradient));
    // The squares may leave the range of double precision.
    let components = tensors.values().flat_map(|tensor| &tensor.values);
    let gradient_norm = components.fold(0.0, |norm: f64, component| norm.hypot(*component));
    let per_trajectory = [logged.window, logged.batch];
    tensors.insert("log_second_moment".to_owned(), vector(host(log_second_moment)));
    tensors.insert("alpha".to_owned(), vector(diagnostics.alpha.clone()));
    tensors.insert("lambda".to_owned(), vector(diagnostics.lambda.clone()));
    tensors.insert("weights".to_owned(), HostTensor::new(per_trajectory, host(weights)));
    tensors.insert("log_prob_target".to_owned(), HostTensor::new(per_trajectory, host(log_prob_target)));
    tensors
        .insert("log_prob_behaviour".to_owned(), HostTensor::new(per_trajectory, host(log_prob_behaviour)));
    Ok(LoggedEstimate { tensors, gradient_norm, diagnostics })
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn named_gradient(policy: &PolicyState, flat: Vec<f64>) -> BTreeMap<String, HostTensor> {
    let (mean, log_std) = flat.split_at(policy.architecture.parameter_count());
    let named = policy_nets::named_parameters(&policy.architecture, mean);
    let mut tensors: BTreeMap<String, HostTensor> =
        named.into_iter().map(|(name, tensor)| (format!("gradient.{name}"), tensor)).collect();
    if !log_std.is_empty() {
        let log_std = HostTensor::new([log_std.len()], log_std.to_vec());
        tensors.insert("gradient.log_std".to_owned(), log_std);
    }
    tensors
}

fn check_sizes(what: &str, policy: &PolicyState, logged: &LoggedTrajectories) -> Result<(), LoggedError> {
    let architecture = &policy.architecture;
    for (component, policy, trajectories) in [
        ("observation", architecture.observation_size, logged.observation_size),
        ("action", architecture.action_size, logged.action_size),
    ] {
        if policy != trajectories {
            return Err(LoggedError::Sizes { what: what.to_owned(), component, policy, trajectories });
        }
    }
    Ok(())
}

/// The trajectories on the device.
struct Data {
    steps_shape: [usize; 4],
    observations: Tensor<2>,
    actions: Tensor<4>,
    flat_actions: Tensor<2>,
    rewards: Tensor<3>,
    mask: Tensor<3>,
    behaviour: DeviceBehaviour,
}

/// What is known of the policies that acted, as [`Behaviour`], on the device.
enum DeviceBehaviour {
    Gaussian(Box<LoggedActions>),
    /// `[window, batch]`.
    LogProb(Box<Tensor<2>>),
}

impl Data {
    fn new(logged: &LoggedTrajectories, device: &Device) -> Self {
        let LoggedTrajectories { window, batch, horizon, observation_size, action_size, .. } = *logged;
        let steps_shape = [window, batch, horizon, action_size];
        let rows = window * batch * horizon;
        let data = |values: &[f64], shape: &[usize]| TensorData::new(values.to_vec(), shape.to_vec());
        let actions = Tensor::<4>::from_data(data(&logged.actions, &steps_shape), device);
        let mask = step_mask(&logged.lengths, [window, batch, horizon], device);
        let behaviour = match &logged.behaviour {
            Behaviour::Gaussian { mean, log_std } => DeviceBehaviour::Gaussian(Box::new(LoggedActions {
                actions: actions.clone(),
                behaviour_mean: Tensor::from_data(data(mean, &steps_shape), device),
                behaviour_log_std: Tensor::from_data(data(log_std, &[window, action_size]), device),
                mask: mask.clone(),
            })),
            Behaviour::LogProb(values) => {
                DeviceBehaviour::LogProb(Box::new(Tensor::from_data(data(values, &[window, batch]), device)))
            }
        };
        Self {
            steps_shape,
            observations: Tensor::from_data(data(&logged.observations, &[rows, observation_size]), device),
            flat_actions: actions.clone().reshape([rows, action_size]),
            actions,
            rewards: Tensor::from_data(data(&logged.rewards, &[window, batch, horizon]), device),
            mask,
            behaviour,
        }
    }

    /// Log-density of every trajectory, `[window, batch]`; `log_std` is `[window or 1, action]`.
    fn log_prob(&self, mean: Tensor<4>, log_std: Tensor<2>) -> Tensor<2> {
        let [window, batch, time, action] = self.steps_shape;
        let log_std = log_std.clone().reshape([log_std.dims()[0], 1, 1, action]);
        let scaled = (self.actions.clone() - mean) * log_std.clone().neg().exp();
        let terms = scaled.square().mul_scalar(-0.5) - log_std.add_scalar(gaussian::HALF_LN_TWO_PI);
        let steps = terms.sum_dim(3).reshape([window, batch, time]) * self.mask.clone();
        steps.sum_dim(2).reshape([window, batch])
    }

    /// Log-ratios of behaviour to target density, and the behaviour's log-densities.
    fn ratios(
        &self,
        mean: Tensor<4>,
        log_std: Tensor<1>,
        log_prob_target: &Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        match &self.behaviour {
            DeviceBehaviour::Gaussian(logged) => (
                log_ratio(mean, log_std, logged),
                self.log_prob(logged.behaviour_mean.clone(), logged.behaviour_log_std.clone()),
            ),
            DeviceBehaviour::LogProb(log_prob) => {
                ((**log_prob).clone() - log_prob_target.clone(), (**log_prob).clone())
            }
        }
    }

    /// `ln p_l - ln p_k` of every policy `l` and trajectory, `[policy, window, batch]`.
    fn density_ratios(
        &self,
        policies: &[PolicyState],
        logged: &LoggedTrajectories,
        ratios: Tensor<2>,
        device: &Device,
    ) -> Result<Tensor<3>, LoggedError> {
        let DeviceBehaviour::Gaussian(behaviour) = &self.behaviour else {
            return Err(LoggedError::NeedsMeans { what: "the balance heuristic" });
        };
        if policies.len() != logged.window {
            return Err(LoggedError::PolicyCount { batches: logged.window, found: policies.len() });
        }
        let mut rows = vec![];
        for (index, policy) in policies.iter().enumerate() {
            check_sizes(&format!("policy {index} of the balance heuristic"), policy, logged)?;
            let policy = GaussianPolicy::from_state(policy, device);
            let mean = policy.mean(self.observations.clone()).reshape(self.steps_shape);
            // ln p_i - ln p_l, subtracted from ln p_i - ln p_k.
            rows.push(ratios.clone() - log_ratio(mean, policy.log_std(), behaviour));
        }
        Ok(Tensor::stack(rows, 0))
    }
}

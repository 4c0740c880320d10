//! Estimators over a window of batches: RT-PG, MIW, BH; and over the fresh batch alone: GPOMDP, REINFORCE.

use burn::tensor::{Device, Tensor};
use estimator::{
    CoefficientRule, Diagnostics, DivergenceEstimator, LoggedActions, StepReturn,
    closed_form_log_second_moment, log_ratio, multiple_importance_weights, power_mean_weights,
    sample_log_second_moment, step_coefficients, surrogate,
};
use policy_nets::{GaussianPolicy, gaussian};

use super::balance_heuristic::BalanceHeuristic;
use super::{Algorithm, Draw, Estimate, Restore, Saved};
use crate::config::AlgorithmConfig;
use crate::phases::{Phase, Phases};
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::{ReturnRule, Window};

/// `sum_ij w_ij g(tau_ij)` over the window, by one backward pass of its surrogate.
#[derive(Debug)]
pub struct TrajectoryReuse {
    window: Window,
    returns: ReturnRule,
    weighting: Weighting,
}

#[derive(Debug)]
enum Weighting {
    /// `1/N` for each trajectory of the only batch.
    Uniform,
    PowerMean {
        rule: CoefficientRule,
        divergence: DivergenceEstimator,
        exponent: f64,
    },
    MultipleImportance,
    BalanceHeuristic(BalanceHeuristic),
}

impl TrajectoryReuse {
    /// The estimator that `config` names, with an empty window.
    pub fn new(config: &AlgorithmConfig, shape: BatchShape, parameter_count: usize, device: &Device) -> Self {
        let (discount, baseline, kind, weighting) = match config {
            AlgorithmConfig::RtPg(options) => (
                options.discount,
                options.baseline,
                StepReturn::ToGo,
                Weighting::PowerMean {
                    rule: options.rule(parameter_count),
                    divergence: options.divergence,
                    exponent: options.exponent,
                },
            ),
            AlgorithmConfig::Gpomdp(options) => {
                (options.discount, options.baseline, StepReturn::ToGo, Weighting::Uniform)
            }
            AlgorithmConfig::Reinforce(options) => {
                (options.discount, options.baseline, StepReturn::Total, Weighting::Uniform)
            }
            AlgorithmConfig::Miw(options) => {
                (options.discount, options.baseline, StepReturn::ToGo, Weighting::MultipleImportance)
            }
            AlgorithmConfig::Bh(options) => {
                let memory = BalanceHeuristic::new(options.window, shape.trajectories, parameter_count, device);
                (options.discount, options.baseline, StepReturn::ToGo, Weighting::BalanceHeuristic(memory))
            }
        };
        Self {
            window: Window::new(config.window(), shape, device),
            returns: ReturnRule { discount, kind, baseline },
            weighting,
        }
    }

    /// Weights of every trajectory held, and their diagnostics. `mean` are the means of `policy`.
    fn weights(
        &mut self,
        policy: &GaussianPolicy,
        mean: Tensor<4>,
        logged: &LoggedActions,
    ) -> (Tensor<2>, Diagnostics) {
        let batch = self.window.shape().trajectories;
        let log_std = policy.log_std();
        match &mut self.weighting {
            Weighting::Uniform => {
                let device = mean.device();
                let weights = Tensor::full([self.window.len(), batch], 1.0 / batch as f64, &device);
                let diagnostics = Diagnostics::new(&weights, None);
                (weights, diagnostics)
            }
            Weighting::PowerMean { rule, divergence, exponent } => {
                let ratios = log_ratio(mean.clone(), log_std.clone(), logged);
                let log_second_moment = match divergence {
                    DivergenceEstimator::ClosedForm => closed_form_log_second_moment(mean, log_std, logged),
                    DivergenceEstimator::Sample => sample_log_second_moment(ratios.clone()),
                };
                let coefficients = rule.coefficients(log_second_moment.clone(), batch);
                let weights = power_mean_weights(ratios, &coefficients, *exponent);
                let diagnostics = Diagnostics::new(&weights, Some((&log_second_moment, &coefficients)));
                (weights, diagnostics)
            }
            Weighting::MultipleImportance => {
                let weights = multiple_importance_weights(log_ratio(mean, log_std, logged));
                let diagnostics = Diagnostics::new(&weights, None);
                (weights, diagnostics)
            }
            Weighting::BalanceHeuristic(memory) => {
                let ratios = log_ratio(mean, log_std, logged);
                let weights = memory.weights(policy, &self.window, ratios);
                let diagnostics = Diagnostics::new(&weights, None);
                (weights, diagnostics)
            }
        }
    }
}

impl Algorithm for TrajectoryReuse {
    fn plan(&mut self, _iteration: u32) -> Vec<Draw> {
        vec![Draw { trajectories: self.window.shape().trajectories, parameters: None }]
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        phases.time(Phase::Push, || fresh.iter().for_each(|batch| self.window.push(batch, self.returns)));

        let parameters = policy.parameters().autodiff().require_grad();
        let logged = self.window.logged();
        let [window, batch, time, action] = logged.actions.dims();
        let rows = window * batch * time;
        let mean = phases
            .time(Phase::LogProbabilities, || policy.mean_at(&parameters, self.window.observations()));

        let (weights, diagnostics) = phases.time(Phase::Weights, || {
            let detached = mean.clone().without_autodiff().reshape([window, batch, time, action]);
            self.weights(policy, detached, &logged)
        });

        let gradient = phases.time(Phase::Gradient, || {
            let actions = logged.actions.reshape([rows, action]).autodiff();
            let log_std = policy.log_std_at(&parameters).autodiff();
            let log_prob = gaussian::log_prob(mean, log_std, actions);
            let coefficients = step_coefficients(weights, self.window.returns());
            let gradients = surrogate(log_prob, coefficients).backward();
            parameters.grad(&gradients).unwrap_or_else(|| policy.parameters().zeros_like())
        });
        Estimate {
            gradient: gradient.without_autodiff(),
            diagnostics,
            batches: window,
            newest: self.window.newest(),
        }
    }

    fn save(&self, saved: &mut Saved) {
        self.window.save(saved);
        if let Weighting::BalanceHeuristic(memory) = &self.weighting {
            memory.save(saved);
        }
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), anyhow::Error> {
        self.window.restore(&mut *read)?;
        match &mut self.weighting {
            Weighting::BalanceHeuristic(memory) => memory.restore(read),
            _ => Ok(()),
        }
    }
}

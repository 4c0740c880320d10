//! Trajectory reuse by tensor operations, on every device: RT-PG, MIW, BH; and GPOMDP, REINFORCE as a window of one.

use burn::tensor::{Device, Tensor};
use estimator::{LoggedActions, closed_form_log_second_moment, log_ratio, step_coefficients, surrogate};
use policy_nets::{GaussianPolicy, PolicyState, gaussian};

use super::balance_heuristic::BalanceHeuristic;
use super::weighting::{Weighting, with_diagnostics};
use super::{Algorithm, AlgorithmError, Draw, Estimate, Restore, Saved};
use crate::config::AlgorithmConfig;
use crate::phases::{Phase, Phases};
use crate::random::Streams;
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::{ReturnRule, Window};

/// `sum_ij w_ij g(tau_ij)` over the window, by one forward and one backward pass of its surrogate.
#[derive(Debug)]
pub struct TrajectoryReuse {
    window: Window,
    returns: ReturnRule,
    weights: Weights,
}

/// Where weights come from.
#[derive(Debug)]
enum Weights {
    /// The log-ratios.
    Ratios(Weighting),
    /// Densities under all policies of the window.
    BalanceHeuristic(Box<BalanceHeuristic>),
}

impl TrajectoryReuse {
    /// The estimator that `config` names, for policies of as many parameters as `policy`, with an empty window.
    ///
    /// # Errors
    /// For variance-reduced algorithms, which are [`VarianceReduced`](super::VarianceReduced).
    pub fn new(
        config: &AlgorithmConfig,
        policy: &PolicyState,
        shape: BatchShape,
        device: &Device,
    ) -> Result<Self, String> {
        let parameter_count = policy.parameter_count();
        let weights = match (Weighting::new(config, parameter_count), config) {
            (Some(weighting), _) => Weights::Ratios(weighting),
            (None, AlgorithmConfig::Bh(_)) => Weights::BalanceHeuristic(Box::new(BalanceHeuristic::new(
                config.window(),
                shape.trajectories,
                parameter_count,
                device,
            ))),
            _ => {
                return Err(format!(
                    "`{}` corrects estimates instead of reusing trajectories",
                    config.name()
                ));
            }
        };
        let window = Window::new(config.window(), shape, device);
        Ok(Self { window, returns: ReturnRule::new(config), weights })
    }

    /// The estimator with the random streams of a run, for the noise that its configuration may ask for.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        if let Weights::Ratios(weighting) = &mut self.weights {
            weighting.set_streams(streams);
        }
        self
    }

    /// Weights of every trajectory held, and their diagnostics. `mean` are the means of `policy`.
    fn weights(
        &mut self,
        policy: &GaussianPolicy,
        mean: Tensor<4>,
        logged: &LoggedActions,
    ) -> (Tensor<2>, estimator::Diagnostics) {
        let log_std = policy.log_std();
        let ratios = || log_ratio(mean.clone(), log_std.clone(), logged);
        match &mut self.weights {
            Weights::Ratios(Weighting::Uniform) => {
                let [window, batch, ..] = mean.dims();
                let weights = Tensor::full([window, batch], 1.0 / (window * batch) as f64, &mean.device());
                with_diagnostics(weights)
            }
            Weights::Ratios(weighting) => {
                let closed_form = || closed_form_log_second_moment(mean.clone(), log_std.clone(), logged);
                weighting.weigh(ratios(), closed_form)
            }
            Weights::BalanceHeuristic(memory) => {
                let ratios = ratios();
                let weights = memory.weights(policy, &self.window, ratios.clone());
                let (weights, diagnostics) = with_diagnostics(weights);
                (weights, diagnostics.with_log_ratio(ratios))
            }
        }
    }
}

impl Algorithm for TrajectoryReuse {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        if let Weights::Ratios(weighting) = &mut self.weights {
            weighting.begin(iteration);
        }
        vec![Draw { trajectories: self.window.shape().trajectories, parameters: None }]
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        phases.time(Phase::Push, || fresh.iter().for_each(|batch| self.window.push(batch, self.returns)));

        let parameters = policy.parameters().autodiff().require_grad();
        let logged = self.window.logged();
        let [window, batch, time, action] = logged.actions.dims();
        let rows = window * batch * time;
        let mean =
            phases.time(Phase::LogProbabilities, || policy.mean_at(&parameters, self.window.observations()));

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
        if let Weights::BalanceHeuristic(memory) = &self.weights {
            memory.save(saved);
        }
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        self.window.restore(&mut *read)?;
        match &mut self.weights {
            Weights::BalanceHeuristic(memory) => memory.restore(read),
            Weights::Ratios(_) => Ok(()),
        }
    }
}

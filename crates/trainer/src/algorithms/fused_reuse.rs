//! Trajectory reuse by the fused CPU kernels: the same estimators as [`super::TrajectoryReuse`], in one sweep over the
//! window in host memory.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use estimator::Diagnostics;
use policy_nets::fused::{self, FusedNetwork, TrajectoryStatistics, Workspace};
use policy_nets::{Architecture, Deviation, GaussianPolicy, PolicyState};

use super::weighting::{Weighting, kernel_weighting};
use super::{Algorithm, AlgorithmError, Draw, Estimate, Packed, Restore, Saved, Update};
use crate::config::AlgorithmConfig;
use crate::finite::Layout;
use crate::host_window::HostWindow;
use crate::optimizer::Optimizer;
use crate::phases::{Phase, Phases};
use crate::random::Streams;
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::ReturnRule;

/// `sum_ij w_ij g(tau_ij)` over the window, by the fused kernels. Weights are the estimator's functions on the host.
#[derive(Debug)]
pub struct FusedReuse {
    window: HostWindow,
    returns: ReturnRule,
    weighting: Weighting,
    architecture: Architecture,
    network: FusedNetwork,
    workspace: Workspace,
    device: Device,
}

impl FusedReuse {
    /// The estimator that `config` names, for policies like `policy`, with an empty window.
    ///
    /// # Errors
    /// What no fused kernel covers: algorithms that evaluate earlier policies, and standardised observations.
    pub fn new(
        config: &AlgorithmConfig,
        policy: &PolicyState,
        shape: BatchShape,
        device: &Device,
        threads: &Threads,
    ) -> Result<Self, String> {
        let weighting = kernel_weighting(config, policy)?;
        Ok(Self {
            window: HostWindow::new(config.window(), shape),
            returns: ReturnRule::new(config),
            weighting,
            architecture: policy.architecture.clone(),
            network: FusedNetwork::new(&policy.architecture),
            workspace: Workspace::new(threads),
            device: device.clone(),
        })
    }

    /// The estimator with the random streams of a run, for the noise that its configuration may ask for.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.weighting.set_streams(streams);
        self
    }
}

/// An estimate in host memory.
#[derive(Clone, Debug)]
pub struct HostEstimate {
    /// Estimated gradient of the expected return, `[P]`, in the order of the flat parameters.
    pub gradient: Vec<f64>,
    /// Weights, `[window, batch]`.
    pub weights: Vec<f64>,
    /// The log-ratios that they come from, `[window, batch]`, where they do.
    pub log_ratio: Option<Vec<f64>>,
    /// What [`DiagnosticsReport::unpack`](estimator::DiagnosticsReport::unpack) reads.
    pub diagnostics: Vec<f64>,
    /// Number of batches behind the diagnostics, `omega_k`.
    pub batches: usize,
    /// Slot of the newest batch in the diagnostics' order.
    pub newest: usize,
}

impl FusedReuse {
    /// The estimate at `policy`, whose flat parameters are given in single precision ([`GaussianPolicy::parameters_on_host`]), in host
    /// memory; no tensor is made.
    ///
    /// # Panics
    /// When the policy has another architecture than the one that the estimator was made for, or a batch other sizes.
    pub fn estimate_on_host(
        &mut self,
        policy: &GaussianPolicy,
        parameters: &[f32],
        fresh: &[Trajectories],
        phases: &mut Phases,
    ) -> HostEstimate {
        phases.time(Phase::Push, || fresh.iter().for_each(|batch| self.window.push(batch, self.returns)));

        assert_eq!(policy.architecture(), &self.architecture, "architecture of the policy");
        let network = &mut self.network;
        network.load(parameters);
        let log_std: Vec<f32> = match policy.deviation() {
            Deviation::Learned(_) => parameters[network.parameter_count()..].to_vec(),
            Deviation::Fixed => policy.fixed_log_std().iter().map(|value| *value as f32).collect(),
        };

        let (weighting, workspace) = (&self.weighting, &mut self.workspace);
        let (mut log_ratio, mut weights, mut diagnostics) = (vec![], vec![], vec![]);
        let mut weighing = Duration::ZERO;
        let window = &self.window;
        let mut weigh = |statistics: &[TrajectoryStatistics]| {
            let start = Instant::now();
            // Infinite log-ratios become the estimator's sentinel; NaN stays, for the trainer to name.
            let bounded =
                |value: f64| if value > -estimator::LOG_ZERO { -estimator::LOG_ZERO } else { value };
            log_ratio = statistics.iter().map(|row| bounded(row.log_ratio)).collect();
            let exponents: Vec<f64> = statistics.iter().map(|row| row.divergence).collect();
            (weights, diagnostics) = weighting.weigh_on_host(&log_ratio, &exponents, window.len());
            weighing = start.elapsed();
            Ok::<_, std::convert::Infallible>(weights.clone())
        };
        let trajectories: fused::Trajectories<'_> = window.trajectories();
        let network = &self.network;
        let gradient = phases.time(Phase::Gradient, || {
            if *weighting == Weighting::Uniform && !network.sweeps_once(trajectories.count()) {
                // No pass for statistics that would not be read.
                let unread = vec![TrajectoryStatistics::default(); trajectories.count()];
                let Ok(weights) = weigh(&unread);
                return network.surrogate_gradient(
                    &trajectories,
                    &log_std,
                    &weights,
                    window.returns(),
                    workspace,
                );
            }
            let Ok(gradient) =
                network.window_gradient(&trajectories, &log_std, window.returns(), weigh, workspace);
            gradient
        });
        let fused::SurrogateGradient { mean: mut gradient, log_std: mut log_std_gradient } = gradient;
        phases.shift(Phase::Gradient, Phase::Weights, weighing);
        if matches!(policy.deviation(), Deviation::Learned(_)) {
            gradient.append(&mut log_std_gradient);
        }
        let log_ratio = (self.weighting != Weighting::Uniform).then_some(log_ratio);
        let newest = self.window.newest();
        HostEstimate { gradient, weights, log_ratio, diagnostics, batches: self.window.len(), newest }
    }
}

impl Algorithm for FusedReuse {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        self.weighting.begin(iteration);
        vec![Draw { trajectories: self.window.shape().trajectories, parameters: None }]
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        let HostEstimate { gradient, weights, log_ratio, diagnostics, batches, newest } =
            self.estimate_on_host(policy, &policy.parameters_on_host(), fresh, phases);
        let vector = |values: Vec<f64>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &self.device)
        };
        let shape = [batches, self.window.shape().trajectories];
        let matrix = |values: Vec<f64>| Tensor::<2>::from_data(TensorData::new(values, shape), &self.device);
        let mut diagnostics = Diagnostics::from_packed(vector(diagnostics), matrix(weights));
        if let Some(log_ratio) = log_ratio {
            diagnostics = diagnostics.with_log_ratio(matrix(log_ratio));
        }
        Estimate { gradient: vector(gradient), diagnostics, batches, newest }
    }

    /// All on the host; the new parameters are the one tensor that is made.
    fn update(
        &mut self,
        policy: &mut GaussianPolicy,
        optimizer: &mut Optimizer,
        fresh: &[Trajectories],
        phases: &mut Phases,
    ) -> Update {
        let mut parameters = policy.parameters_on_host();
        let estimate = self.estimate_on_host(policy, &parameters, fresh, phases);
        let HostEstimate { gradient, weights, log_ratio, diagnostics, batches, newest } = estimate;
        phases.time(Phase::Update, || {
            let single: Vec<f32> = gradient.iter().map(|value| *value as f32).collect();
            optimizer.step_on_host(&mut parameters, &single);
            policy.set_parameters_on_host(&mut parameters);
        });
        let squared_norm = gradient.iter().map(|value| value * value).sum();
        let (packed, layout) = Layout::pack_on_host(
            diagnostics,
            (batches, newest),
            squared_norm,
            &parameters,
            log_ratio.as_deref(),
            &weights,
        );
        Update { packed: Packed::Host(packed), layout, gradient: Some(Packed::Host(gradient)) }
    }

    fn save(&self, saved: &mut Saved) {
        self.window.save(saved);
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        self.window.restore(read)
    }
}

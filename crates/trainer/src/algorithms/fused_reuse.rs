//! Trajectory reuse by the fused CPU kernels: the same estimators as [`super::TrajectoryReuse`], in one sweep over the
//! window in host memory.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use estimator::Diagnostics;
use policy_nets::fused::{self, FusedNetwork, TrajectoryStatistics, Workspace};
use policy_nets::{Deviation, GaussianPolicy};

use super::weighting::Weighting;
use super::{Algorithm, Draw, Estimate, Restore, Saved};
use crate::config::AlgorithmConfig;
use crate::host_window::HostWindow;
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
    network: Option<FusedNetwork>,
    workspace: Workspace,
    device: Device,
}

impl FusedReuse {
    /// Whether the kernels cover the algorithm and the policy: all but algorithms that evaluate earlier policies, and
    /// standardised observations.
    pub fn covers(config: &AlgorithmConfig, normalized: bool) -> bool {
        !config.evaluates_earlier_policies() && !normalized
    }

    /// The estimator that `config` names, with an empty window.
    pub fn new(
        config: &AlgorithmConfig,
        shape: BatchShape,
        parameter_count: usize,
        device: &Device,
        threads: &Threads,
    ) -> Self {
        Self {
            window: HostWindow::new(config.window(), shape),
            returns: ReturnRule::new(config),
            weighting: Weighting::new(config, parameter_count),
            network: None,
            workspace: Workspace::new(threads),
            device: device.clone(),
        }
    }

    /// The estimator with the random streams of a run, for the noise that its configuration may ask for.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.weighting.set_streams(streams);
        self
    }
}

impl Algorithm for FusedReuse {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        self.weighting.begin(iteration);
        vec![Draw { trajectories: self.window.shape().trajectories, parameters: None }]
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        phases.time(Phase::Push, || fresh.iter().for_each(|batch| self.window.push(batch, self.returns)));

        let shape = [self.window.len(), self.window.shape().trajectories];
        let network = self.network.get_or_insert_with(|| FusedNetwork::new(policy.architecture()));
        // A product is a tensor of its own, whose numbers are handed over; those of a shared one are copied one by one.
        let parameters = policy.parameters().mul_scalar(1.0).into_data().convert::<f32>();
        let parameters = parameters.as_slice().unwrap_or_default();
        network.load(parameters);
        let log_std: Vec<f32> = match policy.deviation() {
            Deviation::Learned(_) => parameters[network.parameter_count()..].to_vec(),
            Deviation::Fixed => policy.fixed_log_std().iter().map(|value| *value as f32).collect(),
        };

        let (weighting, workspace) = (&self.weighting, &mut self.workspace);
        let (mut log_ratio, mut weights, mut packed) = (vec![], vec![], vec![]);
        let mut weighing = Duration::ZERO;
        let window = &self.window;
        let weigh = |statistics: &[TrajectoryStatistics]| {
            let start = Instant::now();
            // Infinite divergences become the estimator's sentinel; NaN stays, for the trainer to name.
            let bounded =
                |value: f64| if value > -estimator::LOG_ZERO { -estimator::LOG_ZERO } else { value };
            log_ratio = statistics.iter().map(|row| bounded(row.log_ratio)).collect();
            let exponents: Vec<f64> = statistics.iter().map(|row| bounded(row.divergence)).collect();
            (weights, packed) = weighting.weigh_on_host(&log_ratio, &exponents, shape[0]);
            weighing = start.elapsed();
            Ok::<_, std::convert::Infallible>(weights.clone())
        };
        let trajectories: fused::Trajectories<'_> = window.trajectories();
        let network = &*network;
        let gradient = phases.time(Phase::Gradient, || {
            network.window_gradient(&trajectories, &log_std, window.returns(), weigh, workspace)
        });
        let Ok(mut gradient) = gradient;
        phases.shift(Phase::Gradient, Phase::Weights, weighing);
        if matches!(policy.deviation(), Deviation::Learned(_)) {
            gradient.mean.append(&mut gradient.log_std);
        }
        let length = gradient.mean.len();
        let gradient = Tensor::from_data(TensorData::new(gradient.mean, [length]), &self.device);
        let packed_length = packed.len();
        let packed = Tensor::from_data(TensorData::new(packed, [packed_length]), &self.device);
        let matrix = |values: Vec<f64>| Tensor::<2>::from_data(TensorData::new(values, shape), &self.device);
        let mut diagnostics = Diagnostics::from_packed(packed, matrix(weights));
        if self.weighting != Weighting::Uniform {
            diagnostics = diagnostics.with_log_ratio(matrix(log_ratio));
        }
        Estimate { gradient, diagnostics, batches: shape[0], newest: self.window.newest() }
    }

    fn save(&self, saved: &mut Saved) {
        self.window.save(saved);
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), anyhow::Error> {
        self.window.restore(read)
    }
}

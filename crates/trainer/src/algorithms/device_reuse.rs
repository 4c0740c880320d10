//! Trajectory reuse by the fused GPU kernels: the same estimators as [`super::TrajectoryReuse`], in a handful of launches
//! and one transfer to the host.

use burn::tensor::{Device, Tensor};
use estimator::{Diagnostics, DiagnosticsReport, log_second_moment};
use kernels::reduce::{Projection, square_count};
use kernels::{
    Buffer, Gradient, KernelDevice, PartialGradients, Statistics, TrajectoryStatistics, Weights, reduce,
};
use policy_nets::{Deviation, GaussianPolicy};

use super::weighting::Weighting;
use super::{Algorithm, Draw, Estimate, Restore, Saved, Update};
use crate::config::Config;
use crate::device_trajectories::DeviceTrajectories;
use crate::device_window::DeviceWindow;
use crate::optimizer::Optimizer;
use crate::phases::{Phase, Phases};
use crate::random::Streams;
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::ReturnRule;

/// `sum_ij w_ij g(tau_ij)` over the window, by the kernels of the crate [`kernels`].
///
/// An update is four launches: statistics (none for uniform weights), weights, gradient, reduction with the optimiser's
/// step. Where no kernel computes the weights, the estimator's tensor operations over `[window, batch]` do.
#[derive(Debug)]
pub struct DeviceReuse {
    window: DeviceWindow,
    weighting: Weighting,
    statistics: Statistics,
    gradient: Gradient,
    weights: Option<Weights>,
    /// `ln sigma` on the device while it is constant.
    log_std: Option<Buffer>,
    device: KernelDevice,
}

/// Weights and partial gradients, with the diagnostics at the beginning of `packed`.
struct Pass {
    partial: PartialGradients,
    parameters: Buffer,
    packed: Packed,
}

/// Where an estimate's diagnostics are.
enum Packed {
    /// At the beginning of a buffer with room for `squares` and parameters behind them.
    Buffer(Buffer),
    /// In tensors.
    Tensor(Diagnostics),
}

impl DeviceReuse {
    /// The estimator that `config` names, with an empty window on `device`.
    ///
    /// # Errors
    /// What the kernels do not cover: algorithms that evaluate earlier policies, standardised observations, networks that
    /// do not fit into a cube's memory, devices without a compute client.
    pub fn new(
        config: &Config,
        shape: BatchShape,
        parameter_count: usize,
        device: &Device,
    ) -> Result<Self, String> {
        let algorithm = &config.algorithm;
        if algorithm.evaluates_earlier_policies() {
            return Err(format!("no kernel evaluates the earlier policies of `{}`", algorithm.name()));
        }
        if config.policy.normalize_observations {
            return Err("no kernel standardizes observations".to_owned());
        }
        let device = KernelDevice::of(device).ok_or("the kernels do not run on this backend")?;
        let architecture = config.policy.architecture(shape.observation_size, shape.action_size);
        let learned = matches!(config.policy.deviation(), Deviation::Learned(_));
        let reason = |error: kernels::NotCovered| error.to_string();
        let weighting = Weighting::new(algorithm, parameter_count);
        let weights =
            weighting.kernel_rule().and_then(|rule| Weights::new(rule, algorithm.window(), device.limits()));
        Ok(Self {
            window: DeviceWindow::new(algorithm.window(), shape, ReturnRule::new(algorithm), &device),
            statistics: Statistics::new(&architecture, shape.horizon, learned, &device).map_err(reason)?,
            gradient: Gradient::new(&architecture, shape.horizon, learned, &device).map_err(reason)?,
            weighting,
            weights,
            log_std: None,
            device,
        })
    }

    /// The estimator with the random streams of a run, for the noise that its configuration may ask for.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.weighting.set_streams(streams);
        self
    }

    /// The window, for batches that are on the device already.
    pub fn window_mut(&mut self) -> &mut DeviceWindow {
        &mut self.window
    }

    /// Everything but the last sum, on the window as it is.
    fn pass(&mut self, policy: &GaussianPolicy, phases: &mut Phases) -> Pass {
        let device = &self.device;
        let on_device = |tensor: Tensor<1>| {
            device.buffer_of(tensor).unwrap_or_else(|| panic!("the policy is not on the window's device"))
        };
        let parameters = on_device(policy.parameters());
        let log_std = &*self.log_std.get_or_insert_with(|| match policy.deviation() {
            Deviation::Fixed => on_device(policy.log_std()),
            // Not read: it stands at the end of the parameters.
            Deviation::Learned(_) => device.upload(vec![0.0; self.window.shape().action_size]),
        });
        let buffers = self.window.buffers();
        let shape = [self.window.len(), self.window.shape().trajectories];

        let (weights, packed) = phases.time(Phase::Weights, || {
            let statistics = if self.weighting == Weighting::Uniform {
                // Not read.
                TrajectoryStatistics { log_ratio: device.empty(1), exponent: device.empty(1) }
            } else {
                self.statistics.launch(&parameters, log_std, buffers, device)
            };
            match &self.weights {
                Some(weights) => {
                    let count = policy.parameters().dims()[0];
                    let room = DiagnosticsReport::packed_len(shape[0]) + square_count(count) + count;
                    let packed = device.empty(room);
                    (weights.launch(&statistics, shape, &packed, device), Packed::Buffer(packed))
                }
                None => {
                    let exponents = device.tensor(&statistics.exponent, shape);
                    let (weights, diagnostics) = self
                        .weighting
                        .weigh(device.tensor(&statistics.log_ratio, shape), || log_second_moment(exponents));
                    let weights = device.buffer_of(weights);
                    let weights = weights.unwrap_or_else(|| panic!("the weights left the window's device"));
                    (weights, Packed::Tensor(diagnostics))
                }
            }
        });
        let partial = phases
            .time(Phase::Gradient, || self.gradient.launch(&parameters, log_std, &weights, buffers, device));
        Pass { partial, parameters, packed }
    }

    fn push(&mut self, fresh: &[Trajectories], phases: &mut Phases) {
        phases.time(Phase::Push, || fresh.iter().for_each(|batch| self.window.push(batch)));
    }
}

impl Algorithm for DeviceReuse {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        self.weighting.begin(iteration);
        vec![Draw { trajectories: self.window.shape().trajectories, parameters: None }]
    }

    fn accepts_device_batches(&self) -> bool {
        true
    }

    fn push_on_device(
        &mut self,
        fresh: &DeviceTrajectories,
        phases: &mut Phases,
    ) -> Result<(), anyhow::Error> {
        phases.time(Phase::Push, || self.window.push_device(fresh))
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        self.push(fresh, phases);
        let Pass { partial, packed, .. } = self.pass(policy, phases);
        let gradient = phases.time(Phase::Gradient, || reduce::sum(&partial, &self.device));
        let batches = self.window.len();
        let diagnostics = match packed {
            Packed::Tensor(diagnostics) => diagnostics,
            Packed::Buffer(buffer) => {
                let room = buffer.meta.shape().num_elements();
                let packed = self.device.tensor(&buffer, [room]);
                let count = DiagnosticsReport::packed_len(batches);
                Diagnostics::from_packed(batches, packed.slice(0..count))
            }
        };
        Estimate {
            gradient: self.device.tensor(&gradient, [partial.parameters]),
            diagnostics,
            batches,
            newest: self.window.newest(),
        }
    }

    fn update(
        &mut self,
        policy: &mut GaussianPolicy,
        optimizer: &mut Optimizer,
        fresh: &[Trajectories],
        phases: &mut Phases,
    ) -> Update {
        if self.weights.is_none() {
            let estimate = self.estimate(policy, fresh, phases);
            return phases.time(Phase::Update, || estimate.apply(policy, optimizer));
        }
        self.push(fresh, phases);
        let Pass { partial, parameters, packed } = self.pass(policy, phases);
        let Packed::Buffer(packed) = packed else { unreachable!("a kernel computes the weights") };
        let batches = self.window.len();
        phases.time(Phase::Update, || {
            let device = &self.device;
            let (rule, moments) = optimizer.begin_step(&policy.parameters());
            let moments = moments.map(|moment| {
                device
                    .buffer_of(moment)
                    .unwrap_or_else(|| panic!("the optimizer is not on the window's device"))
            });
            let first = policy.architecture().parameter_count();
            let projection = match policy.deviation() {
                Deviation::Fixed => Projection { first: partial.parameters, min: 0.0, max: 0.0 },
                Deviation::Learned(bounds) => {
                    Projection { first, min: bounds.min as f32, max: bounds.max as f32 }
                }
            };
            let place = (&packed, DiagnosticsReport::packed_len(batches));
            let moments = [&moments[0], &moments[1]];
            let stepped = reduce::step(&partial, &parameters, moments, rule, projection, place, device);
            let count = [partial.parameters];
            policy.set_projected_parameters(device.tensor(&stepped.parameters, count));
            optimizer.finish_step(stepped.moments.each_ref().map(|moment| device.tensor(moment, count)));
        });
        let room = packed.meta.shape().num_elements();
        Update {
            packed: self.device.tensor(&packed, [room]),
            squares: square_count(partial.parameters),
            batches,
            newest: self.window.newest(),
        }
    }

    fn save(&self, saved: &mut Saved) {
        self.window.save(saved);
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), anyhow::Error> {
        self.window.restore(read)
    }
}

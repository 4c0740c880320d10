//! Trajectory reuse by the fused GPU kernels: the same estimators as [`super::TrajectoryReuse`], in a handful of launches
//! and one transfer to the host.

use burn::tensor::{Device, Tensor};
use estimator::{Diagnostics, log_second_moment};
use kernels::reduce::{Projection, square_count};
use kernels::{
    Buffer, Gradient, KernelDevice, MOST_NUMBERS, PartialGradients, Statistics, Sweep, TrajectoryStatistics,
    Weights, reduce,
};
use policy_nets::{Architecture, Deviation, GaussianPolicy, PolicyState};

use super::weighting::{Weighting, kernel_weighting};
use super::{Algorithm, AlgorithmError, Draw, Estimate, Restore, Saved, Update};
use crate::config::AlgorithmConfig;
use crate::device_trajectories::DeviceTrajectories;
use crate::device_window::DeviceWindow;
use crate::finite::Layout;
use crate::optimizer::Optimizer;
use crate::phases::{Phase, Phases};
use crate::random::Streams;
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::ReturnRule;

/// `sum_ij w_ij g(tau_ij)` over the window, by the kernels of the crate [`kernels`].
///
/// An update is three or four launches: with [`Passes::One`] a sweep, weights, and the weighted sum of the trajectories' gradients
/// with the optimiser's step; with [`Passes::Two`] statistics, weights, gradient, and that sum. Uniform weights need no
/// statistics: weights, gradient and sum. Where no kernel computes the weights, the estimator's tensor operations over
/// `[window, batch]` do, between two passes.
#[derive(Debug)]
pub struct DeviceReuse {
    window: DeviceWindow,
    weighting: Weighting,
    passes: Option<Passes>,
    statistics: Statistics,
    gradient: Gradient,
    /// Where the device runs it.
    sweep: Option<Sweep>,
    weights: Option<Weights>,
    architecture: Architecture,
    /// `ln sigma` on the device; where it is learned, it stands at the end of the parameters, and these are not read.
    log_std: Buffer,
    device: KernelDevice,
}

/// How often the kernels of an estimate go through the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Statistics and the gradient of every trajectory together. Takes memory for that.
    One,
    /// Statistics first, then the gradient with the weights that follow from them.
    Two,
}

/// Weights and partial gradients. Where a kernel computes the weights, there is a buffer for all that the host reads,
/// complete but for what an update gives.
struct Pass {
    partial: PartialGradients,
    weights: Buffer,
    parameters: Buffer,
    readings: Option<(Buffer, Layout)>,
    diagnostics: Diagnostics,
}

impl DeviceReuse {
    /// The estimator that `config` names, for policies like `policy`, with an empty window on `device`.
    ///
    /// # Errors
    /// What the kernels do not cover: algorithms that evaluate earlier policies, standardised observations, networks that
    /// do not fit into a cube's memory, devices without a compute client.
    pub fn new(
        config: &AlgorithmConfig,
        policy: &PolicyState,
        shape: BatchShape,
        device: &Device,
    ) -> Result<Self, String> {
        let weighting = kernel_weighting(config, policy)?;
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let numbers =
            config.window() as u64 * (trajectories * horizon * observation_size.max(action_size)) as u64;
        if numbers > MOST_NUMBERS as u64 {
            return Err(format!("a window of {numbers} numbers is more than a kernel counts"));
        }
        let device = KernelDevice::of(device).ok_or("the kernels do not run on this backend")?;
        let architecture = &policy.architecture;
        let learned = matches!(policy.deviation, Deviation::Learned(_));
        let reason = |error: kernels::NotCovered| error.to_string();
        // The window is made last: for a network that is not covered there is to be none.
        let statistics = Statistics::new(architecture, shape.horizon, learned, &device).map_err(reason)?;
        let gradient = Gradient::new(architecture, learned, &device).map_err(reason)?;
        let sizes = [config.window() * shape.trajectories, shape.horizon];
        let sweep = Sweep::new(architecture, sizes, learned, &device).ok();
        let weights = weighting
            .kernel_rule()
            .and_then(|rule| Weights::new(rule, [config.window(), shape.trajectories], device.limits()));
        if weights.is_none() {
            tracing::info!(
                "the weights use tensor operations: no kernel adds noise, or weighs more batches than its shared memory \
                 has room for"
            );
        }
        Ok(Self {
            window: DeviceWindow::new(config.window(), shape, ReturnRule::new(config), &device),
            passes: None,
            statistics,
            gradient,
            sweep,
            weighting,
            weights,
            architecture: architecture.clone(),
            log_std: device.upload(policy.log_std.iter().map(|value| *value as f32).collect()),
            device,
        })
    }

    /// The estimator with the random streams of a run, for the noise that its configuration may ask for.
    #[must_use]
    pub fn with_streams(mut self, streams: Streams) -> Self {
        self.weighting.set_streams(streams);
        self
    }

    /// The estimator with so many passes over the window, instead of those that are less work; with two all the same where one is
    /// not possible ([`passes`](Self::passes)).
    #[must_use]
    pub fn with_passes(mut self, passes: Passes) -> Self {
        self.passes = Some(passes);
        self
    }

    /// The passes that an estimate takes with the window as it is. One needs log-ratios, a kernel that computes the weights, a device
    /// that gives a kernel enough buffers and runs a cube for every trajectory, and memory for their gradients.
    pub fn passes(&self) -> Passes {
        if self.sweep().is_some() { Passes::One } else { Passes::Two }
    }

    /// The sweep, where an estimate with the window as it is takes one.
    fn sweep(&self) -> Option<&Sweep> {
        let possible = self.weights.is_some() && self.weighting != Weighting::Uniform;
        let trajectories = self.window.buffers().trajectories();
        let sweep = self.sweep.as_ref().filter(|sweep| possible && sweep.has_room(trajectories))?;
        let one = self.passes.map_or_else(|| sweep.is_less_work(), |passes| passes == Passes::One);
        one.then_some(sweep)
    }

    /// The window, for batches that are on the device already.
    pub fn window_mut(&mut self) -> &mut DeviceWindow {
        &mut self.window
    }

    /// Everything but the last sum, on the window as it is.
    fn pass(&self, policy: &GaussianPolicy, phases: &mut Phases) -> Pass {
        let device = &self.device;
        let on_device = |tensor: Tensor<1>| {
            device.buffer_of(tensor).unwrap_or_else(|| panic!("the policy is not on the window's device"))
        };
        assert_eq!(policy.architecture(), &self.architecture, "architecture of the policy");
        let parameters = on_device(policy.parameters());
        let log_std = &self.log_std;
        let buffers = self.window.buffers();
        if let Some(sweep) = self.sweep() {
            let (mut statistics, partial) =
                phases.time(Phase::Gradient, || sweep.launch(&parameters, log_std, buffers, device));
            let (weights, diagnostics, readings) =
                phases.time(Phase::Weights, || self.weigh(&mut statistics, partial.parameters));
            return Pass { partial, weights, parameters, readings, diagnostics };
        }
        let (weights, diagnostics, readings) = phases.time(Phase::Weights, || {
            let mut statistics = if self.weighting == Weighting::Uniform {
                // Not read.
                TrajectoryStatistics {
                    log_ratio: device.empty(1),
                    moment_exponent: device.empty(1),
                    parts: 1,
                }
            } else {
                self.statistics.launch(&parameters, log_std, buffers, device)
            };
            self.weigh(&mut statistics, policy.parameters().dims()[0])
        });
        let partial = phases
            .time(Phase::Gradient, || self.gradient.launch(&parameters, log_std, &weights, buffers, device));
        Pass { partial, weights, parameters, readings, diagnostics }
    }

    /// Weights, diagnostics and, where a kernel computes them, what the host reads, for a policy of so many `parameters`.
    fn weigh(
        &self,
        statistics: &mut TrajectoryStatistics,
        parameters: usize,
    ) -> (Buffer, Diagnostics, Option<(Buffer, Layout)>) {
        let device = &self.device;
        let shape = [self.window.len(), self.window.shape().trajectories];
        let count = shape[0] * shape[1];
        let Some(kernel) = &self.weights else {
            let exponents = device.tensor(&statistics.moment_exponent, shape);
            let log_ratio = device.tensor(&statistics.log_ratio, shape);
            let (weights, diagnostics) = self.weighting.weigh(log_ratio, || log_second_moment(exponents));
            let weights = device.buffer_of(weights);
            let weights = weights.unwrap_or_else(|| panic!("the weights left the window's device"));
            return (weights, diagnostics, None);
        };
        let uniform = self.weighting == Weighting::Uniform;
        let layout = Layout {
            batches: shape[0],
            newest: self.window.newest(),
            squares: square_count(parameters),
            parameters,
            log_ratios: if uniform { 0 } else { count },
            weights: count,
        };
        let packed = device.empty(layout.count());
        let weights = kernel.launch(statistics, shape, (&packed, layout.trajectories_place()), device);
        let front = device.part(&packed, layout.norm_place());
        let mut diagnostics = Diagnostics::from_packed(front, device.tensor(&weights, shape));
        if !uniform {
            let log_ratio = device.part(&statistics.log_ratio, count).reshape(shape);
            diagnostics = diagnostics.with_log_ratio(log_ratio);
        }
        (weights, diagnostics, Some((packed, layout)))
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
    ) -> Result<(), AlgorithmError> {
        phases.time(Phase::Push, || self.window.push_device(fresh))
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        self.push(fresh, phases);
        let Pass { partial, weights, diagnostics, .. } = self.pass(policy, phases);
        let gradient = phases.time(Phase::Gradient, || reduce::sum(&partial, &weights, &self.device));
        Estimate {
            gradient: self.device.tensor(&gradient, [partial.parameters]),
            diagnostics,
            batches: self.window.len(),
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
        let Pass { partial, weights, parameters, readings, .. } = self.pass(policy, phases);
        let Some((packed, layout)) = readings else { unreachable!("a kernel computes the weights") };
        let gradient = phases.time(Phase::Update, || {
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
            let place = (&packed, layout.norm_place());
            let moments = [&moments[0], &moments[1]];
            let stepped =
                reduce::step((&partial, &weights), &parameters, moments, rule, projection, place, device);
            let count = [partial.parameters];
            policy.set_projected_parameters(device.tensor(&stepped.parameters, count));
            optimizer.finish_step(stepped.moments.each_ref().map(|moment| device.tensor(moment, count)));
            device.tensor(&stepped.gradient, count)
        });
        let packed = self.device.tensor(&packed, [layout.count()]);
        Update { packed: packed.into(), layout, gradient: Some(gradient.into()) }
    }

    fn save(&self, saved: &mut Saved) {
        self.window.save(saved);
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        self.window.restore(read)
    }
}

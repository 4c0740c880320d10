//! Starting the kernel.

#![expect(
    unsafe_code,
    reason = "kernels run without bounds checks; every launch says why its indices stay inside"
)]

use burn::tensor::{Device, Tensor};
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use environments::registry::Entry;
use environments::{BuiltIn, cart_pole, linear_quadratic, mountain_car, pendulum};
use kernels::{KernelDevice, Limits};
use policy_nets::Architecture;

use super::network::Network;
use super::simulation::{Simulated, Simulation};
use super::{DeviceSampling, NotCovered, kernel, summary};
use crate::device_trajectories::{BatchSummary, DeviceBatch, DeviceTrajectories};
use crate::rollout::Mode;
use crate::trajectories::BatchShape;

/// Units of a cube: few, so that a small batch still spreads over the whole device.
const UNITS: usize = 32;

/// Roll-outs of one environment, batch shape and mean network on one device.
pub struct DeviceRollOut {
    device: KernelDevice,
    shape: BatchShape,
    network: Network,
    built_in: BuiltIn,
}

impl std::fmt::Debug for DeviceRollOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shape, network, built_in, .. } = self;
        let mut text = formatter.debug_struct("DeviceRollOut");
        text.field("shape", shape)
            .field("network", network)
            .field("built_in", built_in)
            .finish_non_exhaustive()
    }
}

impl DeviceRollOut {
    /// Prepares roll-outs by kernels.
    ///
    /// # Errors
    /// [`NotCovered`] when there is no kernel for what is asked.
    pub fn new(
        entry: &Entry,
        shape: BatchShape,
        architecture: &Architecture,
        normalized: bool,
        device: &Device,
    ) -> Result<Self, NotCovered> {
        let device = KernelDevice::of(device).ok_or(NotCovered::Device)?;
        let environment = entry.make().ok().and_then(|environment| environment.built_in());
        let built_in = environment.ok_or(NotCovered::Environment(entry.name))?;
        if normalized {
            return Err(NotCovered::Normalizer);
        }
        let network =
            Network::new(architecture).ok_or_else(|| NotCovered::Width(architecture.to_string()))?;
        let Limits { shared_bytes: bytes, units, .. } = device.limits();
        if units < summary::UNITS {
            return Err(NotCovered::Units(units));
        }
        let parameters = network.parameter_count();
        if network.shared_bytes() > bytes {
            return Err(NotCovered::SharedMemory { parameters, bytes });
        }
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let numbers = trajectories * horizon * observation_size.max(action_size);
        let cubes = device.client().properties().hardware.max_cube_count.0 as usize;
        if numbers > u32::MAX as usize || trajectories.div_ceil(UNITS) > cubes {
            return Err(NotCovered::Size(numbers));
        }
        Ok(Self { device, shape, network, built_in })
    }

    /// Sizes of the batches.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Rolls out a batch: one launch, and a small one for what metrics need. Nothing is waited for.
    ///
    /// # Panics
    /// When the tensors of `sampling` are not on this device, or have other sizes.
    pub fn run(&self, sampling: DeviceSampling) -> DeviceBatch {
        match self.built_in {
            BuiltIn::CartPole => self.launch::<Simulated<
                cart_pole::Equations,
                { cart_pole::OBSERVATION_SIZE },
                { cart_pole::OBSERVATION_SIZE },
                { cart_pole::ACTION_SIZE },
            >>(sampling),
            BuiltIn::Pendulum => self.launch::<Simulated<
                pendulum::Equations,
                2,
                { pendulum::OBSERVATION_SIZE },
                { pendulum::ACTION_SIZE },
            >>(sampling),
            BuiltIn::MountainCar => self.launch::<Simulated<
                mountain_car::Equations,
                { mountain_car::OBSERVATION_SIZE },
                { mountain_car::OBSERVATION_SIZE },
                { mountain_car::ACTION_SIZE },
            >>(sampling),
            BuiltIn::LinearQuadratic => self.launch::<Simulated<
                linear_quadratic::Equations,
                { linear_quadratic::OBSERVATION_SIZE },
                { linear_quadratic::OBSERVATION_SIZE },
                { linear_quadratic::ACTION_SIZE },
            >>(sampling),
        }
    }

    fn launch<E: Simulation>(&self, sampling: DeviceSampling) -> DeviceBatch {
        let DeviceSampling { parameters, log_std, streams, iteration, first_trajectory, mode } = sampling;
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        assert_eq!((E::OBSERVATION, E::ACTION), (observation_size, action_size), "sizes of the environment");
        assert!(parameters.dims()[0] >= self.network.parameter_count(), "parameters of the mean network");
        assert_eq!(log_std.dims(), [action_size], "components of log_std");
        let on_device = |tensor: Tensor<1>| {
            let buffer = self.device.buffer_of(tensor);
            buffer.unwrap_or_else(|| panic!("the policy is not on the device that rolls out"))
        };
        let rows = trajectories * horizon;
        let observations = self.device.empty(rows * observation_size);
        let actions = self.device.empty(rows * action_size);
        let means = self.device.empty(rows * action_size);
        let rewards = self.device.empty(rows);
        let lengths = self.device.empty_integers(trajectories);
        let summaries = self.device.empty(trajectories * 2);
        let [key_low, key_high] = streams.key();
        let [reset, action, _] = mode.purposes().map(|purpose| purpose as u32);
        // SAFETY: no index leaves its buffer: units with a trajectory of the batch write its rows alone, all outputs are made
        // above with the batch's sizes, and parameters and deviations were just counted.
        unsafe {
            kernel::roll_out::launch_unchecked::<E>(
                self.device.client(),
                CubeCount::Static(trajectories.div_ceil(UNITS) as u32, 1, 1),
                CubeDim::new_1d(UNITS as u32),
                on_device(parameters).into_buffer_arg(),
                on_device(log_std.clone()).into_buffer_arg(),
                observations.clone().into_buffer_arg(),
                actions.clone().into_buffer_arg(),
                means.clone().into_buffer_arg(),
                rewards.clone().into_buffer_arg(),
                lengths.clone().into_buffer_arg(),
                summaries.clone().into_buffer_arg(),
                key_low,
                key_high,
                reset,
                action,
                iteration,
                first_trajectory,
                horizon as u32,
                if mode == Mode::DeterministicEvaluation { 0.0 } else { 1.0 },
                self.network.clone(),
            );
        }
        let summary = self.device.empty(BatchSummary::PACKED);
        // SAFETY: no index leaves its buffer: the kernel reads as many summaries as lengths, which were made above.
        unsafe {
            summary::summarize::launch_unchecked(
                self.device.client(),
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(summary::UNITS as u32),
                summaries.into_buffer_arg(),
                lengths.clone().into_buffer_arg(),
                summary.clone().into_buffer_arg(),
            );
        }
        let steps = |buffer, size| self.device.tensor(buffer, [trajectories, horizon, size]);
        let batch = DeviceTrajectories {
            shape: self.shape,
            observations: steps(&observations, observation_size),
            actions: steps(&actions, action_size),
            means: steps(&means, action_size),
            log_std,
            rewards: self.device.tensor(&rewards, [trajectories, horizon]),
            lengths: self.device.integers(&lengths, [trajectories]),
        };
        DeviceBatch { trajectories: batch, summary: self.device.tensor(&summary, [BatchSummary::PACKED]) }
    }
}

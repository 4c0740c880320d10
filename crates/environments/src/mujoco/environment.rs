//! The environment of any [`Definition`].

use std::f64::consts::TAU;
use std::sync::Arc;

use rand::{Rng, RngExt};

use super::definition::{Definition, VelocityNoise};
use super::error::MujocoError;
use super::ffi::Data;
use super::library::{self, Shared};
use crate::drawing::Scene;
use crate::{Environment, StepError, Transition};

/// A body simulated by MuJoCo.
///
/// Environments of one definition share the compiled model; each has its own simulation (100 to 200 KiB).
pub struct MujocoEnvironment {
    shared: Arc<Shared>,
    data: Data,
    /// Positions, then velocities, after the last step.
    state: Vec<f64>,
    /// The action in the precision in which it acts.
    controls: Vec<f64>,
    running: bool,
    /// Why the trajectory cannot go on from the state in which it started; the first step tells.
    unstable_start: Option<String>,
}

impl MujocoEnvironment {
    /// An environment that waits for its first reset.
    ///
    /// # Errors
    /// When the library is missing or was not tested.
    pub fn new(definition: &'static Definition) -> Result<Self, MujocoError> {
        let shared = library::shared(definition)?;
        let data = Data::new(Arc::clone(&shared.model))?;
        let sizes = definition.sizes;
        let state = vec![0.0; sizes.positions + sizes.velocities];
        let controls = vec![0.0; sizes.controls];
        Ok(Self { shared, data, state, controls, running: false, unstable_start: None })
    }

    /// What this body is.
    pub fn definition(&self) -> &'static Definition {
        self.shared.definition
    }

    /// Generalised positions after the last step.
    pub fn positions(&self) -> &[f64] {
        self.halves().0
    }

    /// Generalised velocities after the last step.
    pub fn velocities(&self) -> &[f64] {
        self.halves().1
    }

    /// Starts a trajectory in the given state, with nothing left of the simulation before.
    ///
    /// # Panics
    /// When a slice does not have the length that the definition states.
    pub fn reset_to(&mut self, positions: &[f64], velocities: &[f64], observation: &mut [f64]) {
        let count = self.definition().sizes.positions;
        self.state[..count].copy_from_slice(positions);
        self.state[count..].copy_from_slice(velocities);
        self.data.reset();
        self.begin(observation);
    }

    /// Enters `state` into a simulation that was reset.
    fn begin(&mut self, observation: &mut [f64]) {
        self.data.write_state(&self.state);
        // Gymnasium does the same here; it also sets the starting point of the constraint solver.
        self.unstable_start = self.data.forward().err();
        self.running = self.unstable_start.is_none();
        self.observe(observation);
    }

    fn halves(&self) -> (&[f64], &[f64]) {
        self.state.split_at(self.definition().sizes.positions)
    }

    fn observe(&self, observation: &mut [f64]) {
        let Definition { name, hidden_positions, velocity_bound, .. } = *self.definition();
        let expected = self.observation_size();
        let length = observation.len();
        assert!(
            length == expected,
            "{name}: the observation slice has {length} components, expected {expected}"
        );
        let (positions, velocities) = self.halves();
        let (seen, moving) = observation.split_at_mut(positions.len() - hidden_positions);
        seen.copy_from_slice(&positions[hidden_positions..]);
        for (component, velocity) in moving.iter_mut().zip(velocities) {
            *component = velocity.clamp(-velocity_bound, velocity_bound);
        }
    }

    /// Takes the action as the controls, and returns the sum of its squares, both in single precision.
    fn control(&mut self, action: &[f64]) -> Result<f32, StepError> {
        let environment = self.definition().name;
        let expected = self.controls.len();
        let length = action.len();
        assert!(length == expected, "{environment}: the action has {length} components, expected {expected}");
        if let Some(reason) = self.unstable_start.take() {
            return Err(StepError::Unstable { environment, reason });
        }
        if !self.running {
            return Err(StepError::NotRunning { environment });
        }
        let mut squares = 0.0_f32;
        for (index, (control, &value)) in self.controls.iter_mut().zip(action).enumerate() {
            if !value.is_finite() {
                return Err(StepError::ActionNotFinite { environment, index, value });
            }
            let single = value as f32;
            squares += single * single;
            *control = f64::from(single);
        }
        Ok(squares)
    }

    /// Simulates one step of the environment and reads the state.
    fn simulate(&mut self) -> Result<(), String> {
        self.data.write_controls(&self.controls);
        self.data.step(self.definition().frame_skip)?;
        self.data.read_state(&mut self.state);
        match self.state.iter().position(|component| !component.is_finite()) {
            None => Ok(()),
            Some(index) => Err(format!("component {index} of the state is {}", self.state[index])),
        }
    }
}

impl Environment for MujocoEnvironment {
    fn name(&self) -> &'static str {
        self.definition().name
    }

    fn observation_size(&self) -> usize {
        self.definition().observation_size()
    }

    fn action_size(&self) -> usize {
        self.definition().action_size()
    }

    fn reset(&mut self, random: &mut dyn Rng, observation: &mut [f64]) {
        let Definition { sizes, position_noise, velocity_noise, .. } = *self.definition();
        self.data.reset();
        self.data.read_state(&mut self.state);
        let (positions, velocities) = self.state.split_at_mut(sizes.positions);
        for position in positions {
            *position += random.random_range(-position_noise..position_noise);
        }
        for velocity in velocities {
            *velocity += match velocity_noise {
                VelocityNoise::Uniform(bound) => random.random_range(-bound..bound),
                VelocityNoise::Normal(deviation) => deviation * standard_normal(random),
            };
        }
        self.begin(observation);
    }

    fn step(
        &mut self,
        action: &[f64],
        _random: &mut dyn Rng,
        observation: &mut [f64],
    ) -> Result<Transition, StepError> {
        let squares = self.control(action)?;
        let definition = self.definition();
        let unstable = |reason| StepError::Unstable { environment: definition.name, reason };
        let before = self.state[0];
        // Until everything is known to be sound the trajectory counts as ended.
        self.running = false;
        self.simulate().map_err(unstable)?;

        let forward = definition.forward_weight * ((self.state[0] - before) / definition.step_duration());
        let cost = f64::from(definition.control_cost * squares);
        let reward = forward + definition.alive_reward - cost;
        if !reward.is_finite() {
            return Err(unstable(format!("the reward is {reward}")));
        }
        let (positions, velocities) = self.halves();
        let terminated = !(definition.is_alive)(positions, velocities);
        self.running = !terminated;
        self.observe(observation);
        Ok(Transition { reward, terminated })
    }

    fn draw(&self, scene: &mut Scene) {
        self.shared.skeleton.draw(self.positions(), scene);
    }
}

/// A draw from `N(0, 1)` by the method of Box and Muller (1958).
fn standard_normal(random: &mut dyn Rng) -> f64 {
    // From (0, 1], for the logarithm.
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (TAU * random.random::<f64>()).cos()
}

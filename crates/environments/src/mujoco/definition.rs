//! What distinguishes one MuJoCo environment from another.

use super::error::MujocoError;
use super::ffi::Sizes;
use super::skeleton::Plane;

/// Distribution of the initial velocities around zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum VelocityNoise {
    /// `U(-bound, bound)`.
    Uniform(f64),
    /// `N(0, deviation²)`.
    Normal(f64),
}

/// One of the built-in bodies; [`DEFINITIONS`](super::DEFINITIONS) has them all.
///
/// With the positions `q`, the velocities `v`, the raw action `a` and the duration `Δ = frame_skip · time_step`:
///
/// ```text
/// observation = q[hidden_positions..], clip(v, ±velocity_bound)
/// reward      = forward_weight (q₀' - q₀) / Δ + alive_reward - control_cost Σ a²
/// terminated  = not is_alive(q', v')
/// ```
///
/// MuJoCo clips the controls to their range in the dynamics; the cost is that of the raw action.
#[derive(Debug)]
pub struct Definition {
    pub(super) name: &'static str,
    /// MJCF text of the model.
    pub(super) xml: &'static str,
    pub(super) sizes: Sizes,
    /// Time step of the model, s.
    pub(super) time_step: f64,
    /// Steps of the model in a step of the environment.
    pub(super) frame_skip: usize,
    /// How many of the first positions are not observed: those on which the dynamics do not depend.
    pub(super) hidden_positions: usize,
    pub(super) velocity_bound: f64,
    pub(super) forward_weight: f64,
    pub(super) alive_reward: f64,
    /// In single precision like the sum it multiplies, as Gymnasium computes it.
    pub(super) control_cost: f32,
    /// Initial positions are the model's plus `U(-position_noise, position_noise)`.
    pub(super) position_noise: f64,
    pub(super) velocity_noise: VelocityNoise,
    /// Whether the trajectory goes on in a state (positions, velocities).
    pub(super) is_alive: fn(&[f64], &[f64]) -> bool,
    /// The plane in which the body moves.
    pub(super) plane: Plane,
    /// Height of the drawn part of the plane, m.
    pub(super) view_height: f64,
}

impl Definition {
    /// Name in the registry.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Number of components of an observation.
    pub const fn observation_size(&self) -> usize {
        self.sizes.positions - self.hidden_positions + self.sizes.velocities
    }

    /// Number of components of an action.
    pub const fn action_size(&self) -> usize {
        self.sizes.controls
    }

    /// Steps of a trajectory unless the caller says otherwise; the same for all bodies.
    pub const fn horizon(&self) -> usize {
        1000
    }

    /// Simulated duration of a step of the environment, s.
    pub const fn step_duration(&self) -> f64 {
        self.time_step * self.frame_skip as f64
    }

    /// Checks that the compiled model has the sizes that the definition states.
    pub(super) fn check(&self, compiled: Sizes) -> Result<(), MujocoError> {
        if compiled == self.sizes {
            return Ok(());
        }
        let reason = format!("it compiled to {compiled:?}, expected {:?}", self.sizes);
        Err(MujocoError::Model { name: self.name, reason })
    }
}

/// For bodies whose trajectories never end early.
pub(super) fn always(_positions: &[f64], _velocities: &[f64]) -> bool {
    true
}

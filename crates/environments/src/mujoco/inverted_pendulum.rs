//! The definition of InvertedPendulum.

use super::definition::{Definition, VelocityNoise};
use super::ffi::Sizes;
use super::skeleton::Plane;

/// InvertedPendulum: balance a pole on a cart.
///
/// | | components |
/// |---|---|
/// | positions (2) | of the cart, m; angle of the pole from upright, rad |
/// | observation (4) | the positions; the 2 velocities |
/// | action (1) | force on the cart, clipped to ±3 in the dynamics |
///
/// `reward = 1`, the failing step included. Ends when `|angle| > 0.2`. Reset: positions and velocities `U(±0.01)`.
/// Source: Gymnasium's `InvertedPendulum-v4`, in which a state that is not finite ends the trajectory; here it is
/// [`Unstable`](crate::StepError::Unstable), as for every body.
pub static INVERTED_PENDULUM: Definition = Definition {
    name: "inverted-pendulum",
    xml: include_str!("../../../../assets/mujoco/inverted_pendulum.xml"),
    sizes: Sizes { positions: 2, velocities: 2, controls: 1 },
    time_step: 0.02,
    frame_skip: 2,
    hidden_positions: 0,
    velocity_bound: f64::INFINITY,
    forward_weight: 0.0,
    alive_reward: 1.0,
    control_cost: 0.0,
    position_noise: 0.01,
    velocity_noise: VelocityNoise::Uniform(0.01),
    is_alive,
    plane: Plane::Side,
    view_height: 1.5,
};

fn is_alive(positions: &[f64], _velocities: &[f64]) -> bool {
    positions[1].abs() <= 0.2
}

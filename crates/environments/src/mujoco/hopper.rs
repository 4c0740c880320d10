//! The definition of Hopper.

use super::definition::{Definition, VelocityNoise};
use super::ffi::Sizes;
use super::skeleton::Plane;

/// Hopper: jump forward on one leg.
///
/// | | components |
/// |---|---|
/// | positions (6) | x, z, pitch of the trunk; thigh, leg, foot |
/// | observation (11) | the positions but x; the 6 velocities clipped to ±10 |
/// | action (3) | torques of the three hinges, clipped to ±1 in the dynamics |
///
/// `reward = dx/dt + 1 - 1e-3 |a|²`. Ends unless `z > 0.7`, `|pitch| < 0.2` and every other component of the state, x
/// and z excepted, is within ±100. Reset: positions and velocities `U(±0.005)` around the standing body.
/// Source: Gymnasium's `Hopper-v4` (Erez, Tassa and Todorov 2011).
pub static HOPPER: Definition = Definition {
    name: "hopper",
    xml: include_str!("../../../../assets/mujoco/hopper.xml"),
    sizes: Sizes { positions: 6, velocities: 6, controls: 3 },
    time_step: 0.002,
    frame_skip: 4,
    hidden_positions: 1,
    velocity_bound: 10.0,
    forward_weight: 1.0,
    alive_reward: 1.0,
    control_cost: 1e-3,
    position_noise: 0.005,
    velocity_noise: VelocityNoise::Uniform(0.005),
    is_alive,
    plane: Plane::Side,
    view_height: 2.4,
};

fn is_alive(positions: &[f64], velocities: &[f64]) -> bool {
    let bounded = positions[2..].iter().chain(velocities).all(|component| component.abs() < 100.0);
    positions[1] > 0.7 && positions[2].abs() < 0.2 && bounded
}

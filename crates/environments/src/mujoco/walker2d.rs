//! The definition of Walker2d.

use super::definition::{Definition, VelocityNoise};
use super::ffi::Sizes;
use super::skeleton::Plane;

/// Walker2d: walk forward on two legs.
///
/// | | components |
/// |---|---|
/// | positions (9) | x, z, pitch of the trunk; right thigh, leg, foot; left thigh, leg, foot |
/// | observation (17) | the positions but x; the 9 velocities clipped to ±10 |
/// | action (6) | torques of the six hinges, clipped to ±1 in the dynamics |
///
/// `reward = dx/dt + 1 - 1e-3 |a|²`. Ends unless `0.8 < z < 2` and `|pitch| < 1`. Reset: positions and velocities
/// `U(±0.005)` around the standing body. Source: Gymnasium's `Walker2d-v4` (Erez, Tassa and Todorov 2011).
pub static WALKER2D: Definition = Definition {
    name: "walker2d",
    xml: include_str!("../../../../assets/mujoco/walker2d.xml"),
    sizes: Sizes { positions: 9, velocities: 9, controls: 6 },
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

fn is_alive(positions: &[f64], _velocities: &[f64]) -> bool {
    positions[1] > 0.8 && positions[1] < 2.0 && positions[2].abs() < 1.0
}

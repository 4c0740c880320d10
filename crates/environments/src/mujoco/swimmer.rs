//! The definition of Swimmer.

use super::definition::{Definition, VelocityNoise, always};
use super::ffi::Sizes;
use super::skeleton::Plane;

/// Swimmer: three links that swim in a viscous plane.
///
/// | | components |
/// |---|---|
/// | positions (5) | x, y, angle of the first link; the two hinges |
/// | observation (8) | the positions but x and y; the 5 velocities |
/// | action (2) | torques of the two hinges, clipped to ±1 in the dynamics |
///
/// `reward = dx/dt - 1e-4 |a|²`; never ends early. Reset: positions and velocities `U(±0.1)`.
/// Source: Gymnasium's `Swimmer-v4` (Coulom 2002).
pub static SWIMMER: Definition = Definition {
    name: "swimmer",
    xml: include_str!("../../../../assets/mujoco/swimmer.xml"),
    sizes: Sizes { positions: 5, velocities: 5, controls: 2 },
    time_step: 0.01,
    frame_skip: 4,
    hidden_positions: 2,
    velocity_bound: f64::INFINITY,
    forward_weight: 1.0,
    alive_reward: 0.0,
    control_cost: 1e-4,
    position_noise: 0.1,
    velocity_noise: VelocityNoise::Uniform(0.1),
    is_alive: always,
    plane: Plane::Top,
    view_height: 4.0,
};

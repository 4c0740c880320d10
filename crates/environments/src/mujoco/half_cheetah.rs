//! The definition of HalfCheetah.

use super::definition::{Definition, VelocityNoise, always};
use super::ffi::Sizes;
use super::skeleton::Plane;

/// HalfCheetah: run forward on two legs.
///
/// | | components |
/// |---|---|
/// | positions (9) | x, z, pitch of the trunk; back thigh, shin, foot; front thigh, shin, foot |
/// | observation (17) | the positions but x; the 9 velocities |
/// | action (6) | torques of the six hinges, clipped to ±1 in the dynamics |
///
/// `reward = dx/dt - 0.1 |a|²`; never ends early. Reset: positions `U(±0.1)`, velocities `0.1 N(0, 1)`.
/// Source: Gymnasium's `HalfCheetah-v4` (Wawrzyński 2009).
pub static HALF_CHEETAH: Definition = Definition {
    name: "half-cheetah",
    xml: include_str!("../../../../assets/mujoco/half_cheetah.xml"),
    sizes: Sizes { positions: 9, velocities: 9, controls: 6 },
    time_step: 0.01,
    frame_skip: 5,
    hidden_positions: 1,
    velocity_bound: f64::INFINITY,
    forward_weight: 1.0,
    alive_reward: 0.0,
    control_cost: 0.1,
    position_noise: 0.1,
    velocity_noise: VelocityNoise::Normal(0.1),
    is_alive: always,
    plane: Plane::Side,
    view_height: 2.2,
};

//! Continuous-control environments.
//!
//! [`Environment`] is the one trait that the trainer knows; [`batch::EnvironmentBatch`] steps many of them together,
//! and [`registry`] makes the built-in ones by name.
//!
//! Each environment computed here is a module of the same shape: its task, units, dynamics, reset, reward, end, source;
//! its constants; the dynamics as a pure function `dynamics(state, action)`; and [`Dynamics`] made of them, from which
//! [`Computed`] makes the environment. These functions are generic over the number type [`Real`]: a GPU kernel computes what
//! they say, without a second text.
//!
//! All randomness enters through the generator that the caller passes to [`Environment::reset`] and
//! [`Environment::step`]: an environment owns no generator, so a trajectory is a function of the caller's stream
//! and of the actions alone.

pub mod batch;
pub mod cart_pole;
mod contract;
pub mod drawing;
mod dynamics;
mod environment;
pub mod linear_quadratic;
pub mod mountain_car;
#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod pendulum;
mod real;
pub mod registry;
#[cfg(test)]
mod testing;

pub use dynamics::{BuiltIn, Computed, Dynamics, Outcome};
pub use environment::{Environment, StepError, Transition};
pub use real::Real;

/// The code in the README, as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

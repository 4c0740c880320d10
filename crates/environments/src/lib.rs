//! Continuous-control environments.
//!
//! [`Environment`] is the one trait that the trainer knows; [`batch::EnvironmentBatch`] steps many of them together,
//! and [`registry`] makes the built-in ones by name.
//!
//! Each environment computed here is a module of the same shape: its task, units, dynamics, reset, reward, end, source;
//! its constants; the dynamics as a pure function `dynamics(state, action)`; and the type that implements the trait.
//!
//! All randomness enters through the generator that the caller passes to [`Environment::reset`] and
//! [`Environment::step`]: an environment owns no generator, so a trajectory is a function of the caller's stream
//! and of the actions alone.

pub mod batch;
pub mod cart_pole;
mod contract;
pub mod drawing;
mod environment;
pub mod linear_quadratic;
pub mod mountain_car;
#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod pendulum;
pub mod registry;
#[cfg(test)]
mod testing;

pub use environment::{Environment, StepError, Transition};

/// The code in the README, as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

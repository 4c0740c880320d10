//! Gradient estimates from logged trajectories, whoever sampled them.

mod estimate;
mod file;

pub use estimate::{LoggedError, LoggedEstimate, LoggedOptions, LoggedWeights, estimate};
pub use file::{Behaviour, LoggedTrajectories, TrajectoryFileError};

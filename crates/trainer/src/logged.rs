//! Gradient estimates from logged trajectories, whoever sampled them.

mod estimate;
mod file;
mod recording;

pub use estimate::{LoggedError, LoggedEstimate, LoggedOptions, LoggedWeights, estimate};
pub use file::{Behaviour, LoggedTrajectories, TrajectoryFileError};
pub use recording::Recording;

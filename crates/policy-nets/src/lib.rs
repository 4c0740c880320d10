//! Neural Gaussian policies in Burn.
//!
//! A policy draws `a ~ N(mu(s), diag(sigma^2))`: [`GaussianPolicy`] is its differentiable form on a Burn device,
//! [`PolicyState`] the same policy as plain numbers on the host (what files hold), and [`fused`] evaluates the mean
//! network over slices on the CPU, for roll-outs.
//!
//! All trainable numbers are one flat vector whose order [`Architecture`] documents.

mod architecture;
mod checksum;
pub mod files;
pub mod fused;
pub mod gaussian;
mod initialization;
mod network;
mod normalizer;
mod policy;
mod policy_file;
mod state;
pub mod tensor_file;
mod tensor_writer;
pub mod threads;

pub use architecture::{Activation, Architecture};
pub use initialization::Initialization;
pub use normalizer::Normalizer;
pub use policy::GaussianPolicy;
pub use policy_file::{PolicyFileError, named_parameters};
pub use state::{Deviation, LogStdBounds, PolicyState, PolicyStateError};

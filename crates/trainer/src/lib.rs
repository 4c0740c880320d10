//! Training of neural Gaussian policies with trajectory reuse.
//!
//! [`training::Trainer`] is one run in memory: it samples with [`rollout`], estimates with an
//! [`algorithms::Algorithm`], and steps an [`optimizer::Optimizer`]. [`run::Run`] adds the folder with metrics, policies,
//! checkpoints and figures. The command `rtpg` is a thin layer over it.

// Only here so that one build of Burn serves every command; see the workspace manifest.
use {ciborium as _, either as _, regex as _, regex_syntax as _};

pub mod algorithms;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod device_roll_out;
pub mod device_trajectories;
#[cfg(all(feature = "kernels", not(feature = "fusion")))]
pub mod device_window;
pub mod doctor;
pub mod evaluation;
pub mod figures;
pub mod finite;
pub mod folder_lock;
pub mod host_window;
pub mod logged;
pub mod memory;
pub mod metrics;
pub mod optimizer;
pub mod panics;
pub mod phases;
pub mod random;
mod recovery;
mod rescue;
mod ring;
pub mod rollout;
pub mod run;
pub mod run_folder;
pub mod sampler;
pub mod statistics;
pub mod studies;
pub mod training;
pub mod trajectories;
pub mod warnings;
pub mod window;

pub use policy_nets::threads;

/// The code in docs/library.md, as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Library;

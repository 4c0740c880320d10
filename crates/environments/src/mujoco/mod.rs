//! Bodies simulated by MuJoCo: half-cheetah, swimmer, hopper, walker2d, inverted-pendulum.
//!
//! Every environment is a [`Definition`]: a model in `assets/mujoco/`, compiled in, and the numbers of Gymnasium's
//! environment of the same name (version 4). [`MujocoEnvironment`] runs any of them. With the same MuJoCo a step is
//! equal to Gymnasium's to the bit; the tests replay recorded transitions.
//!
//! The library is loaded at run time, once per process, from the first of these places: the file or folder in the
//! environment variable [`VARIABLE`], the cache folder that [`install`] fills, the active virtual or conda environment.
//! Nothing of MuJoCo is needed to build.
//!
//! MuJoCo resets a simulation that turned unstable and goes on. Here a step during which it raised any warning, or
//! after which the state is not finite, is a [`StepError::Unstable`](crate::StepError::Unstable); the warning is also
//! traced and counted in [`warning_count`]. Nothing is printed or written to `MUJOCO_LOG.TXT`.

mod definition;
mod environment;
mod error;
mod ffi;
mod half_cheetah;
mod hopper;
mod install;
mod inverted_pendulum;
mod library;
mod search;
mod skeleton;
mod swimmer;
mod versions;
mod walker2d;
mod warnings;

pub use definition::Definition;
pub use environment::MujocoEnvironment;
pub use error::MujocoError;
pub use half_cheetah::HALF_CHEETAH;
pub use hopper::HOPPER;
pub use install::{InstallError, install};
pub use inverted_pendulum::INVERTED_PENDULUM;
pub use library::{LibraryInfo, library_info};
pub use search::VARIABLE;
pub use swimmer::SWIMMER;
pub use versions::RECOMMENDED_VERSION;
pub use walker2d::WALKER2D;
pub use warnings::warning_count;

/// All definitions.
pub const DEFINITIONS: [&Definition; 5] = [&HALF_CHEETAH, &HOPPER, &INVERTED_PENDULUM, &SWIMMER, &WALKER2D];

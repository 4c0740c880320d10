//! Studies: many algorithms, many seeds, one command.
//!
//! A study is a TOML file ([`Definition`]): environments, algorithms with their options, a number of runs and a budget
//! of fresh trajectories. [`Plan`] resolves it to one configuration for each run; [`execute`] makes the runs in
//! worker threads, each in a run folder of its own and bit-equal to the same run alone; [`report`] writes tables and
//! figures. A finished run is known by the hash of its configuration, and is never made again.
//!
//! Studies of the kind `gradient` train nothing: they freeze a sequence of parameters and measure bias, variance and
//! mean squared error of gradient estimates ([`gradient`]).

mod definition;
mod error;
mod execution;
mod folder;
pub mod gradient;
mod isolated;
pub mod manifest;
mod plan;
pub mod report;
mod workers;

pub use definition::{
    BuiltIn, Definition, Entry, Frozen, Horizontal, Interval, Kind, MOST_RUNS, built_in, load,
};
pub use error::StudyError;
pub use execution::{Event, Execution, Workers, execute};
pub use folder::{Completion, StudyFolder};
pub use isolated::{end_with_study, interrupt_runs, is_run_of_study};
pub use plan::{Plan, PlannedRun};

#[cfg(test)]
mod tests;

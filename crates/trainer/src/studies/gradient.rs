//! Studies of gradient estimates at frozen parameters.
//!
//! A training run of the environment's own configuration gives a sequence of parameters. Nothing is learned from then on:
//! each repetition samples one batch from each of the last `omega` parameters, as training would have, and every
//! algorithm estimates the gradient at the last. Over repetitions, with `g` the true gradient,
//!
//! `E|g_hat - g|^2 = |E g_hat - g|^2 + tr Var(g_hat)`: mean squared error, squared bias, total variance.
//!
//! The true gradient is an on-policy estimate from many more trajectories, whose own variance is subtracted from the squared
//! bias, so that the latter is unbiased and may come out below zero.

mod measurement;
mod path;
mod repetitions;
mod rows;
mod samples;

use std::sync::atomic::AtomicBool;

pub use measurement::{Measurement, report};

use super::plan::configuration;
use super::{Definition, Event, StudyError, StudyFolder};
use crate::device::DeviceChoice;
use samples::Frozen;

/// Gradient estimates of one algorithm at one environment's frozen parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Index of the algorithm in the study.
    pub entry: usize,
    /// Index of the environment in the study.
    pub environment: usize,
    /// Fresh trajectories of the last iteration.
    pub fresh: usize,
    /// Trajectories behind the estimate, those of earlier parameters included.
    pub used: usize,
    /// Estimates, `[repetition][parameter]`.
    pub estimates: Vec<Vec<f64>>,
    /// The gradient that stands for the true one, and the variance of each of its components.
    pub truth: Truth,
}

/// The gradient that stands for the true one.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Truth {
    /// Components.
    pub gradient: Vec<f64>,
    /// Variance of every component.
    pub variance: Vec<f64>,
}

/// Takes the estimates of the true gradient and of every algorithm, `jobs` at a time; those that are there already are read.
/// How many threads take them, and in how many calls, changes none.
///
/// Returns `None` when `stop` turned true before the end; what was taken by then is kept, as it is at an error.
///
/// # Errors
/// Unknown algorithms and options, failing roll-outs, what the file system refuses.
pub fn measure(
    name: &str,
    definition: &Definition,
    folder: &StudyFolder,
    jobs: usize,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Option<Vec<Samples>>, StudyError> {
    let mut all = vec![];
    for environment in 0..definition.environments.len() {
        let frozen = Frozen::new(name, definition, environment, folder, jobs, stop, observe)?;
        let Some(frozen) = frozen else { return Ok(None) };
        let Some(samples) = frozen.samples(jobs, stop, observe)? else { return Ok(None) };
        all.extend(samples);
    }
    Ok(Some(all))
}

/// The device that the study's first environment asks for.
///
/// # Errors
/// Unknown environments and options.
pub fn device(name: &str, definition: &Definition) -> Result<DeviceChoice, StudyError> {
    Ok(configuration(&format!("study {name}"), definition, 0, None, definition.seed, 1)?.device)
}

/// Trajectories that [`measure`] samples, for a progress bar.
///
/// # Errors
/// Unknown algorithms and options.
pub fn trajectories(name: &str, definition: &Definition) -> Result<u64, StudyError> {
    let mut total = 0;
    for environment in 0..definition.environments.len() {
        total += samples::cost(name, definition, environment)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests;

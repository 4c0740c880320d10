//! How many trajectories a run needs to reach a return.

use super::{StatisticsError, mean};

/// The mean of the last `width` values at every position; NaN before the first full window, and everywhere if `width` is
/// zero.
pub fn running_mean(values: &[f64], width: usize) -> Vec<f64> {
    let window = |end: usize| match end.checked_sub(width) {
        Some(start) if width > 0 => mean(&values[start..end]),
        _ => f64::NAN,
    };
    (1..=values.len()).map(window).collect()
}

/// The cumulative number of trajectories after which the mean return of the last `width` iterations first reaches
/// `threshold`; `None` when it never does: the run is censored, and would have needed more than it was given.
///
/// | argument | shape | description |
/// |---|---|---|
/// | `trajectories` | `[iterations]` | cumulative fresh trajectories after each iteration |
/// | `returns` | `[iterations]` | mean return of the fresh trajectories of each iteration |
///
/// Only full windows count, so that one lucky iteration at the start is no success. The medians and interquartile means
/// of several runs accept censored ones through [`Scores::censored`](super::Scores::censored).
///
/// # Errors
/// [`StatisticsError::Length`], [`StatisticsError::EmptyWindow`].
pub fn trajectories_to_threshold(
    trajectories: &[u64],
    returns: &[f64],
    width: usize,
    threshold: f64,
) -> Result<Option<u64>, StatisticsError> {
    if trajectories.len() != returns.len() {
        return Err(StatisticsError::Length { found: returns.len(), expected: trajectories.len() });
    }
    if width == 0 {
        return Err(StatisticsError::EmptyWindow);
    }
    let reached = running_mean(returns, width).iter().position(|&mean| mean >= threshold);
    Ok(reached.map(|iteration| trajectories[iteration]))
}

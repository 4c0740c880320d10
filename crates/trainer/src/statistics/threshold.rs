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

/// The mean return of the last `window` trajectories after every iteration; NaN before there are as many, and everywhere if
/// `window` is zero.
///
/// An iteration's trajectories are known by their mean, which stands for each of them: of the oldest iteration, as many count
/// as the window still has room for. `trajectories` are cumulative, as in [`trajectories_to_threshold`].
pub fn mean_of_last_trajectories(trajectories: &[u64], returns: &[f64], window: u64) -> Vec<f64> {
    let before = |iteration: usize| iteration.checked_sub(1).map_or(0, |before| trajectories[before]);
    let mean = |end: usize| {
        if window == 0 || trajectories[end] < window {
            return f64::NAN;
        }
        let (mut left, mut sum) = (window, 0.0);
        for iteration in (0..=end).rev() {
            let count = trajectories[iteration].saturating_sub(before(iteration)).min(left);
            sum += count as f64 * returns[iteration];
            left -= count;
            if left == 0 {
                break;
            }
        }
        sum / window as f64
    };
    (0..trajectories.len().min(returns.len())).map(mean).collect()
}

/// The cumulative number of trajectories after which the mean return of the last `window` of them first reaches
/// `threshold`; `None` when it never does: the run is censored, and would have needed more than it was given.
///
/// | argument | shape | description |
/// |---|---|---|
/// | `trajectories` | `[iterations]` | cumulative fresh trajectories after each iteration |
/// | `returns` | `[iterations]` | mean return of the fresh trajectories of each iteration |
///
/// Windows are those of [`mean_of_last_trajectories`]. Only full ones count, so that one lucky iteration at the start is no
/// success, and trajectories are counted, not iterations, so that algorithms with small batches meet the same test. The medians and interquartile means
/// of several runs accept censored ones through [`Scores::censored`](super::Scores::censored).
///
/// # Errors
/// [`StatisticsError::Length`], [`StatisticsError::EmptyWindow`].
pub fn trajectories_to_threshold(
    trajectories: &[u64],
    returns: &[f64],
    window: u64,
    threshold: f64,
) -> Result<Option<u64>, StatisticsError> {
    if trajectories.len() != returns.len() {
        return Err(StatisticsError::Length { found: returns.len(), expected: trajectories.len() });
    }
    if window == 0 {
        return Err(StatisticsError::EmptyWindow);
    }
    let means = mean_of_last_trajectories(trajectories, returns, window);
    let reached = means.iter().position(|&mean| mean >= threshold);
    Ok(reached.map(|iteration| trajectories[iteration]))
}

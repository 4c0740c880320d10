//! Whether one algorithm is better than another.

use rand::Rng;

use super::bootstrap::resample;
use super::{Bootstrap, Estimate, Scores, StatisticsError};

/// The probability that a run of `x` scores higher than a run of `y` on the same task, averaged over tasks:
/// `(1/M) sum_m P(X_m > Y_m)`, where ties count half.
///
/// 0.5 is no difference. Where a lower score is the better one (trajectories to a threshold), exchange the arguments.
/// Agarwal et al. (2021), section 4.3; rliable's `probability_of_improvement`, the Mann-Whitney statistic over the number
/// of pairs.
///
/// # Errors
/// [`StatisticsError::Tasks`] when the two were run on different numbers of tasks.
pub fn probability_of_improvement(x: &Scores, y: &Scores) -> Result<f64, StatisticsError> {
    let (tasks_x, tasks_y) = (x.tasks().len(), y.tasks().len());
    if tasks_x != tasks_y {
        return Err(StatisticsError::Tasks(tasks_x, tasks_y));
    }
    Ok(average_over_tasks(x, y))
}

/// [`probability_of_improvement`] with its stratified bootstrap interval, for which the runs of both are resampled.
///
/// # Errors
/// As [`probability_of_improvement`].
pub fn bootstrap_improvement(
    x: &Scores,
    y: &Scores,
    bootstrap: Bootstrap,
    generator: &mut impl Rng,
) -> Result<Estimate, StatisticsError> {
    let value = probability_of_improvement(x, y)?;
    let (mut drawn_x, mut drawn_y) = (x.clone(), y.clone());
    Ok(bootstrap.estimate(value, || {
        resample(&mut drawn_x, x, generator);
        resample(&mut drawn_y, y, generator);
        average_over_tasks(&drawn_x, &drawn_y)
    }))
}

fn average_over_tasks(x: &Scores, y: &Scores) -> f64 {
    let tasks = x.tasks().iter().zip(y.tasks());
    tasks.map(|(x, y)| share_of_wins(x, y)).sum::<f64>() / x.tasks().len() as f64
}

/// The share of pairs in which `x` is higher, ties counted half.
fn share_of_wins(x: &[f64], y: &[f64]) -> f64 {
    let mut sorted = y.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Counted in halves, so that the sum is exact.
    let halves = |x: &f64| sorted.partition_point(|y| y < x) + sorted.partition_point(|y| y <= x);
    x.iter().map(halves).sum::<usize>() as f64 / (2.0 * (x.len() * y.len()) as f64)
}

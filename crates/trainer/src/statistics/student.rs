//! Student's t intervals.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::aggregate::mean;
use super::bootstrap::{check_confidence, transposed};
use super::{Estimate, StatisticsError};

/// The mean of `runs` with Student's t interval `mean +- t s / sqrt(n)`: `s` is the sample deviation (n - 1), `t` the
/// `(1 + confidence)/2` quantile of Student's distribution with n - 1 degrees of freedom.
///
/// Exact for normal scores, whatever their number; a skewed distribution or an outlier misleads it.
/// Student, "The Probable Error of a Mean" (1908).
///
/// # Errors
/// [`StatisticsError::TooFewRuns`] below two runs, [`StatisticsError::Confidence`].
pub fn student_t_interval(runs: &[f64], confidence: f64) -> Result<Estimate, StatisticsError> {
    let quantile = quantile(runs.len(), confidence)?;
    Ok(interval(runs, quantile))
}

/// The mean of several runs at every point of a common grid, with pointwise Student's t intervals.
///
/// | argument | shape | description |
/// |---|---|---|
/// | `curves` | `[runs][points]` | the runs on one grid, from [`interpolate`](super::interpolate) |
/// | result | `[points]` | mean and interval; NaN where a run has no value |
///
/// # Errors
/// As [`student_t_interval`], and [`StatisticsError::Length`] when the runs differ in length.
pub fn student_t_curve(curves: &[Vec<f64>], confidence: f64) -> Result<Vec<Estimate>, StatisticsError> {
    let quantile = quantile(curves.len(), confidence)?;
    Ok(transposed(curves)?.iter().map(|runs| interval(runs, quantile)).collect())
}

fn interval(runs: &[f64], quantile: f64) -> Estimate {
    let count = runs.len() as f64;
    let value = mean(runs);
    let variance = runs.iter().map(|run| (run - value).powi(2)).sum::<f64>() / (count - 1.0);
    let half = quantile * (variance / count).sqrt();
    Estimate { value, lower: value - half, upper: value + half }
}

/// The `(1 + confidence)/2` quantile of Student's distribution for a mean of `runs` values.
fn quantile(runs: usize, confidence: f64) -> Result<f64, StatisticsError> {
    check_confidence(confidence)?;
    if runs < 2 {
        return Err(StatisticsError::TooFewRuns(runs));
    }
    let freedom = (runs - 1) as f64;
    let distribution = StudentsT::new(0.0, 1.0, freedom).map_err(|_| StatisticsError::TooFewRuns(runs))?;
    Ok(distribution.inverse_cdf(0.5 + 0.5 * confidence))
}

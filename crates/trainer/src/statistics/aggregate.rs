//! One number for many runs.

use super::Scores;

/// How the scores of many runs become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// [`interquartile_mean`] of the runs of all tasks together; rliable's `aggregate_iqm`. It ignores outliers as the
    /// median does and varies less between studies.
    #[default]
    InterquartileMean,
    /// [`mean`] over tasks of the mean over runs; rliable's `aggregate_mean`. One outlier moves it at will.
    Mean,
    /// [`median`] of the runs of all tasks together.
    Median,
    /// Median over tasks of the mean over runs; rliable's `aggregate_median`. Of a single task it is the mean.
    MedianOfTasks,
}

impl Aggregate {
    /// The aggregate of `scores`. It is infinite when it depends on a censored score.
    pub fn of(self, scores: &Scores) -> f64 {
        let task_means = || -> Vec<f64> { scores.tasks().iter().map(|runs| mean(runs)).collect() };
        match self {
            Self::InterquartileMean => interquartile_mean(&scores.pooled()),
            Self::Mean => mean(&task_means()),
            Self::Median => median(&scores.pooled()),
            Self::MedianOfTasks => median(&task_means()),
        }
    }
}

/// The mean, `(1/n) sum_i x_i`; NaN of no values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean of what is left when the lowest and the highest quarter of the values, each rounded down to whole values,
/// are left out: `mean(x_(k+1), ..., x_(n-k))` of the sorted values with `k = floor(n/4)`.
///
/// NaN of no values. Agarwal et al. (2021), section 4.3; equal to `scipy.stats.trim_mean(values, 0.25)`.
pub fn interquartile_mean(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let cut = values.len() / 4;
    mean(&sorted[cut..values.len() - cut])
}

/// The middle one of the sorted values, or the mean of the middle two; NaN of no values.
pub fn median(values: &[f64]) -> f64 {
    percentile(&sorted(values), 0.5)
}

pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The value below which the share `fraction` of the sorted values lies, linearly interpolated between neighbours as by
/// numpy's `percentile`; NaN of no values.
pub(super) fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = fraction * last as f64;
    let below = position.floor();
    let (low, high) = (sorted[below as usize], sorted[position.ceil() as usize]);
    // Between equal neighbours there is nothing to interpolate, and between infinite ones the difference is NaN.
    if low == high { low } else { low + (position - below) * (high - low) }
}

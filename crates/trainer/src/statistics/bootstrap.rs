//! Percentile bootstrap intervals.
//!
//! Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13: the statistic is computed again for many
//! resamples of the runs, drawn with replacement, and the interval lies between two percentiles of these replicates.
//! With several tasks the resamples are stratified: every task keeps its number of runs, so that the interval speaks of
//! other seeds on the same tasks (Agarwal et al. 2021, section 4.1).

use rand::{Rng, RngExt};

use super::aggregate::percentile;
use super::{Aggregate, Scores, StatisticsError};

/// A statistic with an interval around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The statistic of the runs.
    pub value: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
}

/// How intervals are bootstrapped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    replicates: usize,
    confidence: f64,
}

impl Default for Bootstrap {
    /// Intervals of 95% from 10 000 replicates: chance moves their ends by about a hundredth of their width.
    fn default() -> Self {
        Self { replicates: 10_000, confidence: 0.95 }
    }
}

impl Bootstrap {
    /// Intervals of the given confidence from as many replicates.
    ///
    /// # Errors
    /// [`StatisticsError::NoReplicates`], [`StatisticsError::Confidence`].
    pub fn new(replicates: usize, confidence: f64) -> Result<Self, StatisticsError> {
        if replicates == 0 {
            return Err(StatisticsError::NoReplicates);
        }
        check_confidence(confidence)?;
        Ok(Self { replicates, confidence })
    }

    /// The interval of a statistic from its replicates, of which `replicate` makes one.
    pub(super) fn estimate(self, value: f64, replicate: impl FnMut() -> f64) -> Estimate {
        let mut replicates: Vec<f64> = std::iter::repeat_with(replicate).take(self.replicates).collect();
        replicates.sort_unstable_by(f64::total_cmp);
        let tail = 0.5 * (1.0 - self.confidence);
        Estimate { value, lower: percentile(&replicates, tail), upper: percentile(&replicates, 1.0 - tail) }
    }
}

pub(super) fn check_confidence(confidence: f64) -> Result<(), StatisticsError> {
    if confidence > 0.0 && confidence < 1.0 { Ok(()) } else { Err(StatisticsError::Confidence(confidence)) }
}

/// One of `runs`, each as likely as the others.
fn draw(runs: &[f64], generator: &mut impl Rng) -> f64 {
    runs[generator.random_range(0..runs.len())]
}

/// Overwrites `resample` with runs of `scores`, drawn with replacement within each task.
pub(super) fn resample(resample: &mut Scores, scores: &Scores, generator: &mut impl Rng) {
    resample.replace(scores, |runs| draw(runs, generator));
}

/// The aggregate of `scores` with its stratified percentile bootstrap interval; rliable's `get_interval_estimates`.
///
/// With few runs the interval is too narrow: at 95% confidence it covers the mean of normal scores in 84 of 100 studies
/// with 5 runs, in 90 with 10. [`student_t_interval`](super::student_t_interval) has no such error for normal scores.
pub fn bootstrap_interval(
    scores: &Scores,
    aggregate: Aggregate,
    bootstrap: Bootstrap,
    generator: &mut impl Rng,
) -> Estimate {
    let mut drawn = scores.clone();
    bootstrap.estimate(aggregate.of(scores), || {
        resample(&mut drawn, scores, generator);
        aggregate.of(&drawn)
    })
}

/// The aggregate of several runs at every point of a common grid, with pointwise bootstrap intervals.
///
/// | argument | shape | description |
/// |---|---|---|
/// | `curves` | `[runs][points]` | the runs on one grid, from [`interpolate`](super::interpolate) |
/// | result | `[points]` | aggregate and interval |
///
/// A resample draws whole runs, the same at all points, as rliable does; so the ends of the band follow the curves
/// instead of jumping from point to point. Where a run has no value (NaN), the result has none.
///
/// # Errors
/// [`StatisticsError::NoRuns`] without runs, [`StatisticsError::Length`] when they differ in length.
pub fn bootstrap_curve(
    curves: &[Vec<f64>],
    aggregate: Aggregate,
    bootstrap: Bootstrap,
    generator: &mut impl Rng,
) -> Result<Vec<Estimate>, StatisticsError> {
    let points = transposed(curves)?;
    let runs = curves.len();
    let draws: Vec<u32> =
        (0..bootstrap.replicates * runs).map(|_| generator.random_range(0..runs) as u32).collect();
    let estimates = points.into_iter().map(|point| {
        let Ok(mut drawn) = Scores::single_task(point.clone()) else {
            return Estimate { value: f64::NAN, lower: f64::NAN, upper: f64::NAN };
        };
        let mut draws = draws.iter();
        let value = aggregate.of(&drawn);
        let source = drawn.clone();
        bootstrap.estimate(value, || {
            drawn.replace(&source, |runs| draws.next().map_or(f64::NAN, |&run| runs[run as usize]));
            aggregate.of(&drawn)
        })
    });
    Ok(estimates.collect())
}

/// `[runs][points]` as `[points][runs]`.
pub(super) fn transposed(curves: &[Vec<f64>]) -> Result<Vec<Vec<f64>>, StatisticsError> {
    let expected = curves.first().ok_or(StatisticsError::NoRuns)?.len();
    if let Some(curve) = curves.iter().find(|curve| curve.len() != expected) {
        return Err(StatisticsError::Length { found: curve.len(), expected });
    }
    Ok((0..expected).map(|point| curves.iter().map(|curve| curve[point]).collect()).collect())
}

//! The runs of a study as curves and scores.

use std::path::Path;

use crate::metrics::MetricsRow;
use crate::run::Summary;
use crate::statistics::{area_under_curve, mean, mean_of_last_trajectories, trajectories_to_threshold};
use crate::studies::{Horizontal, Plan, PlannedRun, StudyError, StudyFolder};

/// One finished run.
#[derive(Clone, Debug)]
pub struct Curve<'a> {
    /// The run.
    pub run: &'a PlannedRun,
    /// Its metrics.
    pub rows: Vec<MetricsRow>,
    /// Why it ended before its last iteration, when it did.
    pub failure: Option<String>,
    /// Trajectories whose returns are averaged: as many as the study says, or a whole run where that is shorter.
    pub smoothing: u64,
    /// Bytes that the run was reckoned to need, and the most that its process had; what is not known is `None`.
    pub memory: (Option<u64>, Option<u64>),
}

/// All finished runs of a plan that made at least one update, and the number of those that made none.
///
/// # Errors
/// What the file system refuses.
pub fn curves<'a>(plan: &'a Plan, folder: &StudyFolder) -> Result<(Vec<Curve<'a>>, usize), StudyError> {
    let mut without = 0;
    let finished = plan.runs.iter().filter_map(|run| Some((run, folder.finished(run)?)));
    let curves = finished.filter_map(|(run, (mut rows, completion))| {
        // Batches that were dropped before the first good one have no return.
        rows.drain(..rows.iter().take_while(|row| row.is_unknown()).count());
        if rows.is_empty() {
            without += 1;
            return None;
        }
        let total = rows.last().map_or(0, |row| row.trajectories_total);
        // A failed run ended before its budget.
        let whole = if completion.failure.is_some() { run.trajectories() } else { total };
        let smoothing = plan.definition.smoothing.min(whole);
        let memory = memory(&folder.run(run));
        Some(Curve { run, smoothing, rows, failure: completion.failure, memory })
    });
    let curves = curves.collect();
    Ok((curves, without))
}

/// What a run's summary says of its memory.
fn memory(run: &Path) -> (Option<u64>, Option<u64>) {
    let summary = Summary::read(&run.join("summary.json"));
    let need = summary.as_ref().map(|summary| summary.memory_need).filter(|need| *need > 0);
    (need, summary.and_then(|summary| summary.memory_peak))
}

impl Curve<'_> {
    /// Mean return of every iteration's fresh trajectories.
    pub fn returns(&self) -> Vec<f64> {
        self.rows.iter().map(|row| row.return_mean).collect()
    }

    /// Cumulative fresh trajectories after every iteration.
    pub fn trajectories(&self) -> Vec<u64> {
        self.rows.iter().map(|row| row.trajectories_total).collect()
    }

    /// Mean return over the last tenth of the iterations, or over those of the last [`smoothing`](Self::smoothing)
    /// trajectories where they are more.
    pub fn final_return(&self) -> f64 {
        let totals = self.trajectories();
        let start = totals.last().map_or(0, |total| total.saturating_sub(self.smoothing));
        let smoothed = totals.iter().filter(|total| **total > start).count();
        let count = (self.rows.len() / 10).max(smoothed);
        mean(&self.returns()[self.rows.len() - count..])
    }

    /// Mean height of the curve over fresh trajectories. A failed run keeps its last mean return up to its budget, as in
    /// [`Self::points`].
    ///
    /// # Errors
    /// Metrics whose trajectories do not increase.
    pub fn area(&self) -> Result<f64, StudyError> {
        let (totals, returns) = (self.trajectories(), self.returns());
        let x: Vec<f64> = totals.iter().map(|total| *total as f64).collect();
        let area = area_under_curve(&x, &returns)?;
        let (Some(&first), Some(&made)) = (totals.first(), totals.last()) else { return Ok(area) };
        let budget = self.run.trajectories();
        if self.failure.is_none() || budget <= made {
            return Ok(area);
        }
        let last = mean_of_last_trajectories(&totals, &returns, self.smoothing.min(made));
        let share = (made - first) as f64 / (budget - first) as f64;
        Ok(share * area + (1.0 - share) * last.last().copied().unwrap_or(area))
    }

    /// Fresh trajectories until the running mean reaches `threshold`.
    ///
    /// # Errors
    /// Never for the rows of a run; the statistic's own contract.
    pub fn to_threshold(&self, threshold: f64) -> Result<Option<u64>, StudyError> {
        Ok(trajectories_to_threshold(&self.trajectories(), &self.returns(), self.smoothing, threshold)?)
    }

    /// Seconds of all iterations.
    pub fn seconds(&self) -> f64 {
        self.rows.last().map_or(0.0, |row| row.seconds_total)
    }

    /// Horizontal values and running means, from the first full window on. A failed run keeps its last policy, and so its
    /// last return, up to its budget.
    pub fn points(&self, horizontal: Horizontal) -> (Vec<f64>, Vec<f64>) {
        let position = |row: &MetricsRow| match horizontal {
            Horizontal::Trajectories => row.trajectories_total as f64,
            Horizontal::Seconds => row.seconds_total,
        };
        let totals = self.trajectories();
        // A failed run may be shorter than a window.
        let window = totals.last().map_or(self.smoothing, |total| self.smoothing.min(*total));
        let first = totals.iter().position(|total| *total >= window).unwrap_or_default();
        let mut x: Vec<f64> = self.rows[first..].iter().map(position).collect();
        let mut y = mean_of_last_trajectories(&totals, &self.returns(), window).split_off(first);
        if self.failure.is_some()
            && let (Some(&last), Some(&end)) = (y.last(), x.last())
        {
            let made = totals.last().copied().unwrap_or_default();
            let share = self.run.trajectories() as f64 / made.max(1) as f64;
            if share > 1.0 {
                x.push(end * share);
                y.push(last);
            }
        }
        (x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studies::load;

    /// The first batch of a variance-reduced algorithm is larger than the others.
    #[test]
    fn the_curve_of_a_failed_run_ends_at_its_budget() {
        let (name, definition) = load("cartpole-baselines", &["runs=1".to_owned()]).unwrap();
        let plan = Plan::new(&name, &definition).unwrap();
        let run = plan.runs.iter().find(|run| run.config.algorithm.name() == "svrpg").unwrap();
        let row = MetricsRow {
            trajectories_total: 55,
            return_mean: 3.0,
            seconds_total: 1.0,
            ..MetricsRow::default()
        };
        let failure = Some("it failed".to_owned());
        let curve = Curve { run, rows: vec![row], failure, smoothing: 10, memory: (None, None) };
        let budget = run.trajectories() as f64;
        assert_eq!(curve.points(Horizontal::Trajectories), (vec![55.0, budget], vec![3.0, 3.0]));
        assert_eq!(curve.points(Horizontal::Seconds).0, [1.0, budget / 55.0]);
        assert_eq!(curve.area().unwrap(), 3.0);
        // A third of the way from 3 to 9, and the rest at the mean of both.
        let rows = [(1.0, 3.0), (1.0 + (budget - 1.0) / 3.0, 9.0)].map(|(total, return_mean)| MetricsRow {
            trajectories_total: total as u64,
            return_mean,
            ..MetricsRow::default()
        });
        let smoothing = rows[1].trajectories_total;
        let mut curve = Curve { rows: rows.to_vec(), smoothing, ..curve };
        let last = *curve.points(Horizontal::Trajectories).1.last().unwrap();
        let share = (smoothing - 1) as f64 / (budget - 1.0);
        assert!((curve.area().unwrap() - (share * 6.0 + (1.0 - share) * last)).abs() < 1e-12);
        curve.failure = None;
        assert_eq!(curve.area().unwrap(), 6.0);
    }
}

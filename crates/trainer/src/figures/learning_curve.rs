//! The learning curve of one run.

use super::{Figure, Series};
use crate::statistics::running_mean;

/// The learning curve of one run: the return of every iteration as a faint line, and its mean over the last `window`
/// iterations.
///
/// | argument | shape | description |
/// |---|---|---|
/// | `trajectories` | `[iterations]` | cumulative fresh trajectories after each iteration |
/// | `returns` | `[iterations]` | mean return of the fresh trajectories of each iteration |
///
/// The mean starts at the first full window; a run shorter than `window` shows its raw returns only.
pub fn learning_curve(title: &str, trajectories: &[f64], returns: &[f64], window: usize) -> Figure {
    let raw = Series::raw("each iteration", trajectories.to_vec(), returns.to_vec());
    let mut series = vec![raw];
    if (1..=returns.len()).contains(&window) {
        let label = format!("mean of the last {window}");
        series.push(Series::line(label, trajectories.to_vec(), running_mean(returns, window)));
    }
    Figure {
        title: title.to_owned(),
        x_label: "fresh trajectories".to_owned(),
        y_label: "return".to_owned(),
        series,
        ..Figure::default()
    }
}

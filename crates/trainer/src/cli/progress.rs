//! Progress on a terminal as a bar, elsewhere as plain lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use trainer::metrics::MetricsRow;

use super::print_message;

/// Seconds between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows how a run goes, on standard error.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { total: u32, started: Instant, first: u32, last: Option<Instant> },
}

impl Progress {
    /// Progress over `total` iterations, of which `done` are made.
    pub(crate) fn new(total: u32, done: u32) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { total, started: Instant::now(), first: done, last: None };
        }
        let bar = ProgressBar::new(u64::from(total)).with_position(u64::from(done));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.reset_eta();
        Self::Bar(bar)
    }

    /// Takes in a row.
    pub(crate) fn update(&mut self, row: &MetricsRow) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(u64::from(row.iteration));
                bar.set_message(describe(row));
            }
            Self::Lines { total, started, first, last } => {
                if last.is_some_and(|last| last.elapsed() < LINE_INTERVAL) && row.iteration < *total {
                    return;
                }
                let done = f64::from(row.iteration - *first);
                let left = started.elapsed().as_secs_f64() / done * f64::from(*total - row.iteration);
                print_message(format_args!(
                    "iteration {}/{total}  {}  {left:.0} s left",
                    row.iteration,
                    describe(row)
                ));
                *last = Some(Instant::now());
            }
        }
    }

    /// Clears the bar.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn describe(row: &MetricsRow) -> String {
    format!(
        "return {:.1}  trajectories {}  ESS {:.1}/{}",
        row.return_mean,
        row.trajectories_total,
        row.ess,
        row.window as u64 * row.trajectories
    )
}

//! Signs that a run does not go as it should, from its metrics alone (docs/metrics.md, "Flags").

use std::collections::{BTreeSet, VecDeque};

use crate::config::{AlgorithmConfig, CoefficientKind, Config};
use crate::metrics::MetricsRow;

/// A sign of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// One trajectory weighs more than half of what all together weigh in plain averaging.
    Weights,
    /// The window counts for little more than a batch, over [`ESS_ITERATIONS`] iterations.
    EffectiveSampleSize,
    /// Weights are near uniform and the return is where it began, over a twentieth of the run, at least 100 iterations.
    Stagnation,
    /// Every correction is at its cap of 1, over [`LAMBDA_ITERATIONS`] iterations.
    Lambda,
}

/// Iterations over which the window must count for little before that is a sign.
pub const ESS_ITERATIONS: u32 = 50;
/// Iterations over which every correction must be 1 before that is a sign.
pub const LAMBDA_ITERATIONS: u32 = 10;
/// A weight beyond this share of the sum of plain averaging is an explosion.
const WEIGHT_SHARE: f64 = 0.5;
/// Below this multiple of one batch's share, the effective sample size is that of a batch.
const ESS_OF_A_BATCH: f64 = 1.25;
/// From this share on, weights are near uniform.
const ESS_UNIFORM: f64 = 0.95;
/// A correction of at least this is at its cap.
const LAMBDA_CAP: f64 = 0.999;
/// Fewest trajectories in a window of which one can be said to outweigh the others.
const FEWEST_TRAJECTORIES: f64 = 20.0;
/// Fewest iterations over which a run that stands still stagnates.
const SHORTEST_SPAN: u32 = 100;

impl Flag {
    /// The word in the column `flags`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::EffectiveSampleSize => "ess",
            Self::Stagnation => "stagnation",
            Self::Lambda => "lambda",
        }
    }

    /// The flag of a word in the column `flags`.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Weights, Self::EffectiveSampleSize, Self::Stagnation, Self::Lambda];
        all.into_iter().find(|flag| flag.name() == name)
    }

    /// What is seen, and what helps.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Weights => {
                "weight explosion: one trajectory has more than half of the weight of plain averaging over the window; take \
                 a correction (algorithm rt-pg, exponent -1), a larger lambda or correction_scale, or a smaller window"
            }
            Self::EffectiveSampleSize => {
                "the effective sample size is that of a single batch: the window is paid for and not used; take a smaller \
                 window or a smaller learning rate"
            }
            Self::Stagnation => {
                "stagnation: the weights are near uniform and the return is where it began, so the policy hardly moves; \
                 raise the learning rate, the batch size or the policy's variance"
            }
            Self::Lambda => {
                "every lambda is at its cap of 1: the ratios are ignored, and the gradient is that of old policies; take \
                 larger batches, a larger window or a smaller correction_scale (or a larger second_moment_bound)"
            }
        }
    }
}

/// Watches the rows of a run. Its memory does not grow with the number of rows.
#[derive(Clone, Debug)]
pub struct Watch {
    span: u32,
    full_window: usize,
    chosen_lambda: bool,
    collapsed: u32,
    capped: u32,
    uniform: u32,
    rows: u32,
    first: Moments,
    recent: VecDeque<f64>,
    seen: BTreeSet<Flag>,
}

/// Count, sum and sum of squares.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(self) -> f64 {
        self.sum / self.count
    }

    /// Variance of the mean.
    fn variance(self) -> f64 {
        let variance = (self.squares / self.count - self.mean().powi(2)).max(0.0);
        variance / (self.count - 1.0).max(1.0)
    }
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(config: &Config) -> Self {
        let chosen_lambda = match &config.algorithm {
            AlgorithmConfig::RtPg(options) => options.coefficients == CoefficientKind::Fixed,
            _ => true,
        };
        Self {
            span: SHORTEST_SPAN.max(config.iterations / 20),
            full_window: config.algorithm.window(),
            chosen_lambda,
            collapsed: 0,
            capped: 0,
            uniform: 0,
            rows: 0,
            first: Moments::default(),
            recent: VecDeque::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Takes in the next row and returns its flags.
    pub fn take(&mut self, row: &MetricsRow) -> Vec<Flag> {
        // A dropped batch has no return of its own.
        if row.dropped == 0 {
            self.rows += 1;
            if self.rows <= self.span {
                self.first.add(row.return_mean);
            }
            self.recent.push_back(row.return_mean);
            if self.recent.len() > self.span as usize {
                self.recent.pop_front();
            }
        }
        let count = |holds: bool, so_far: u32| if holds { so_far.saturating_add(1) } else { 0 };
        let reuses = row.window > 1 && row.window == self.full_window && row.dropped == 0;
        let of_a_batch = ESS_OF_A_BATCH / row.window.max(1) as f64;
        self.collapsed = count(reuses && row.ess_fraction < of_a_batch.min(0.75), self.collapsed);
        self.uniform = count(reuses && row.ess_fraction >= ESS_UNIFORM, self.uniform);
        // A window of one batch has no old policies.
        let capped =
            !self.chosen_lambda && row.window > 1 && row.lambda_mean >= LAMBDA_CAP && row.dropped == 0;
        self.capped = count(capped, self.capped);

        let held = row.trajectories as f64 * row.window as f64;
        let explodes = row.window > 1 && held >= FEWEST_TRAJECTORIES && row.weight_max > WEIGHT_SHARE * held;
        let flags = [
            (Flag::Weights, explodes && row.dropped == 0),
            (Flag::EffectiveSampleSize, self.collapsed >= ESS_ITERATIONS),
            (Flag::Stagnation, self.uniform >= self.span && self.stands_still()),
            (Flag::Lambda, self.capped >= LAMBDA_ITERATIONS),
        ];
        flags.into_iter().filter(|(_, holds)| *holds).map(|(flag, _)| flag).collect()
    }

    /// Those of the flags that this watch meets for the first time.
    pub fn unseen(&mut self, flags: &[Flag]) -> Vec<Flag> {
        flags.iter().copied().filter(|flag| self.seen.insert(*flag)).collect()
    }

    /// Whether the mean return of the last span is not above that of the first by two standard errors. Asked from the
    /// fourth span on.
    fn stands_still(&self) -> bool {
        if self.rows < 4 * self.span {
            return false;
        }
        let mut last = Moments::default();
        self.recent.iter().for_each(|value| last.add(*value));
        let error = (self.first.variance() + last.variance()).sqrt();
        last.mean() - self.first.mean() <= 2.0 * error
    }
}

/// The column `flags`: the flags' words, separated by spaces.
pub fn column(flags: &[Flag]) -> String {
    flags.iter().map(|flag| flag.name()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load};

    fn watch(overrides: &[&str]) -> Watch {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        Watch::new(&load(&Source::Preset("cartpole".to_owned()), &overrides).unwrap())
    }

    /// A healthy row of a full window.
    fn healthy(return_mean: f64) -> MetricsRow {
        MetricsRow {
            trajectories: 10,
            window: 8,
            return_mean,
            ess_fraction: 0.8,
            weight_max: 3.0,
            lambda_mean: 0.1,
            ..MetricsRow::default()
        }
    }

    /// The rows (from 1) at which each flag first stands.
    fn first(watch: &mut Watch, rows: impl Iterator<Item = MetricsRow>) -> Vec<(Flag, usize)> {
        let mut found = vec![];
        for (index, row) in rows.enumerate() {
            let flags = watch.take(&row);
            found.extend(watch.unseen(&flags).into_iter().map(|flag| (flag, index + 1)));
        }
        found
    }

    #[test]
    fn healthy_and_converged_runs_have_no_flag() {
        let rows = (0..1000).map(|index| healthy(f64::from(index).min(200.0)));
        assert_eq!(first(&mut watch(&[]), rows), []);
        let converged = (0..1000)
            .map(|index| MetricsRow { ess_fraction: 0.99, ..healthy(if index < 50 { 20.0 } else { 200.0 }) });
        assert_eq!(first(&mut watch(&[]), converged), []);
    }

    #[test]
    fn every_sign_is_seen_when_it_has_lasted() {
        let explosion = (0..3)
            .map(|index| MetricsRow { weight_max: if index == 1 { 41.0 } else { 39.0 }, ..healthy(1.0) });
        assert_eq!(first(&mut watch(&[]), explosion), [(Flag::Weights, 2)]);
        let collapse = (0..200)
            .map(|index| MetricsRow { ess_fraction: if index == 20 { 0.2 } else { 0.15 }, ..healthy(1.0) });
        assert_eq!(first(&mut watch(&[]), collapse), [(Flag::EffectiveSampleSize, 71)]);
        let still =
            (0..500).map(|index: u32| MetricsRow { ess_fraction: 0.97, ..healthy(f64::from(index % 7)) });
        assert_eq!(first(&mut watch(&[]), still.clone()), [(Flag::Stagnation, 400)]);
        // Batches that were dropped before the first good one have no return.
        let unknown = (0..3).map(|_| MetricsRow { dropped: 10, ..MetricsRow::unknown() });
        assert_eq!(first(&mut watch(&[]), unknown.chain(still)), [(Flag::Stagnation, 403)]);
        let capped = || (0..20).map(|_| MetricsRow { lambda_mean: 1.0, ..healthy(1.0) });
        assert_eq!(first(&mut watch(&[]), capped()), [(Flag::Lambda, 10)]);
        // There are no old policies.
        let alone = capped().map(|row| MetricsRow { window: 1, ..row });
        assert_eq!(first(&mut watch(&[]), alone), []);
        // Whoever fixes lambda at 1 has asked for it.
        assert_eq!(first(&mut watch(&["algorithm.coefficients=fixed"]), capped()), []);
    }

    #[test]
    fn flags_are_words_in_a_column() {
        assert_eq!(column(&[]), "");
        assert_eq!(column(&[Flag::Weights, Flag::Lambda]), "weights lambda");
    }
}

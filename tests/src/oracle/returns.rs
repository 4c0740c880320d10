//! Step returns of one batch.

use super::Batch;

/// What is subtracted from the step returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Nothing.
    None,
    /// Mean over all trajectories of the batch.
    Average,
    /// Mean over the other trajectories of the batch; nothing when there is no other.
    LeaveOneOut,
}

/// Step returns of every trajectory less their baseline, and the same with absolute values added instead: what their
/// round-off is proportional to.
///
/// To go: `G_u = sum_{t >= u} gamma^t r_t`, which is 0 after the end; total: `G_0` at every step.
pub fn step_returns(
    batch: &Batch,
    discount: f64,
    total: bool,
    baseline: Baseline,
) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let longest = batch.trajectories.iter().map(Vec::len).max().unwrap_or(0);
    let table = |size: fn(f64) -> f64| -> Vec<Vec<f64>> {
        let row = |steps: &Vec<_>| to_go(steps, longest, discount, total, size);
        batch.trajectories.iter().map(row).collect()
    };
    let (values, sizes) = (table(|reward| reward), table(f64::abs));
    let count = values.len();
    let less = |table: &[Vec<f64>], sign: f64| -> Vec<Vec<f64>> {
        let mean = |trajectory: usize, step: usize| {
            let sum_without = |left_out: Option<usize>| {
                let others = (0..count).filter(|other| Some(*other) != left_out);
                others.map(|other| table[other][step]).sum::<f64>()
            };
            match baseline {
                Baseline::None => 0.0,
                Baseline::Average => sum_without(None) / count as f64,
                Baseline::LeaveOneOut if count == 1 => 0.0,
                Baseline::LeaveOneOut => sum_without(Some(trajectory)) / (count - 1) as f64,
            }
        };
        let lengths = batch.trajectories.iter().map(Vec::len).enumerate();
        let row = |(trajectory, length): (usize, usize)| {
            (0..length).map(|step| table[trajectory][step] + sign * mean(trajectory, step)).collect()
        };
        lengths.map(row).collect()
    };
    (less(&values, -1.0), less(&sizes, 1.0))
}

/// One trajectory's returns at the steps `0..longest`, with `size` applied to every reward.
fn to_go(
    steps: &[super::Step],
    longest: usize,
    discount: f64,
    total: bool,
    size: fn(f64) -> f64,
) -> Vec<f64> {
    let mut returns = vec![0.0; longest];
    let mut sum = 0.0;
    for (t, step) in steps.iter().enumerate().rev() {
        sum += discount.powi(t as i32) * size(step.reward);
        returns[t] = sum;
    }
    if total { vec![sum; longest] } else { returns }
}

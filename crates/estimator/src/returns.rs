//! Returns, baselines, and the surrogate whose gradient is the estimate.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The factor of each step's score in the single-trajectory gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepReturn {
    /// Discounted rewards from the step on (GPOMDP; Baxter and Bartlett 2001).
    #[default]
    ToGo,
    /// The whole trajectory's discounted return at every step (REINFORCE; Williams 1992).
    Total,
}

/// What is subtracted from the step returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// Nothing.
    #[default]
    None,
    /// Mean over the batch's trajectories at the same step.
    Average,
    /// Mean over the batch's *other* trajectories at the same step; unbiased. Needs two trajectories.
    LeaveOneOut,
}

/// Step returns less their baseline (docs/method.md, equations 2 to 4).
///
/// To go: `G_u = sum_{t >= u} gamma^t r_t`; total: `G_0` at every step. After its end a trajectory's return to go is 0,
/// and it enters the baseline with that. Padded steps of the result are 0.
///
/// # Shapes
/// `rewards`, `mask` and the result: `[window, batch, time]`.
///
/// # Panics
/// When the shapes differ.
pub fn step_returns(
    rewards: Tensor<3>,
    mask: Tensor<3>,
    discount: f64,
    kind: StepReturn,
    baseline: Baseline,
) -> Tensor<3> {
    let [_, batch, time] = rewards.dims();
    assert_eq!(rewards.dims(), mask.dims(), "a step in the mask for each reward");
    let discounted = if discount == 1.0 {
        rewards * mask.clone()
    } else {
        let powers: Vec<f64> = powers(discount).take(time).collect();
        let powers = Tensor::<1>::from_data(powers.as_slice(), &rewards.device());
        rewards * mask.clone() * powers.reshape([1, 1, time])
    };
    let returns = match kind {
        StepReturn::ToGo => discounted.flip([2]).cumsum(2).flip([2]),
        StepReturn::Total => discounted.sum_dim(2).repeat_dim(2, time),
    };
    if baseline == Baseline::None || (baseline == Baseline::LeaveOneOut && batch == 1) {
        return returns * mask;
    }
    // Less those of one trajectory, so that equal returns leave no rounding errors behind.
    let returns = returns.clone() - returns.narrow(1, 0, 1);
    let others = if baseline == Baseline::Average {
        returns.clone().mean_dim(1)
    } else {
        (returns.clone().sum_dim(1) - returns.clone()).div_scalar((batch - 1) as f64)
    };
    (returns - others) * mask
}

/// [`step_returns`] of one batch in host memory, in double precision: replaces `rewards` (`[batch, time]`, 0 at padded
/// steps) by the step returns less their baseline.
///
/// # Panics
/// When the number of rewards is not a multiple of the number of `lengths`, or one of these is more than the quotient.
pub fn step_returns_in_place(
    rewards: &mut [f64],
    lengths: &[u32],
    discount: f64,
    kind: StepReturn,
    baseline: Baseline,
) {
    let batch = lengths.len();
    if rewards.is_empty() {
        return;
    }
    assert!(batch > 0 && rewards.len().is_multiple_of(batch), "rewards of {batch} trajectories");
    let time = rewards.len() / batch;
    let powers: Vec<f64> = powers(discount).take(time).collect();
    for (row, length) in rewards.chunks_exact_mut(time).zip(lengths) {
        let length = *length as usize;
        row[length..].fill(0.0);
        row.iter_mut().zip(&powers).for_each(|(reward, power)| *reward *= power);
        for step in (1..length).rev() {
            row[step - 1] += row[step];
        }
        if kind == StepReturn::Total {
            let total = row[0];
            row.fill(total);
        }
    }
    let others = match baseline {
        Baseline::None => None,
        Baseline::Average => Some((batch as f64, 0.0)),
        Baseline::LeaveOneOut => (batch > 1).then_some(((batch - 1) as f64, 1.0)),
    };
    let mut sums = vec![0.0; if others.is_some() { time } else { 0 }];
    for row in rewards.chunks_exact(time) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    for (row, length) in rewards.chunks_exact_mut(time).zip(lengths) {
        let (row, padding) = row.split_at_mut(*length as usize);
        if let Some((count, own)) = others {
            row.iter_mut().zip(&sums).for_each(|(value, sum)| *value -= (sum - own * *value) / count);
        }
        padding.fill(0.0);
    }
}

/// `1, gamma, gamma^2, ...`
fn powers(discount: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(1.0), move |power| Some(power * discount))
}

/// Step coefficients `c_iju = w_ij G_iju`: the constants of the surrogate.
///
/// # Shapes
/// `weights`: `[window, batch]`; `step_returns` and the result: `[window, batch, time]`.
///
/// # Panics
/// When the numbers of trajectories differ.
pub fn step_coefficients(weights: Tensor<2>, step_returns: Tensor<3>) -> Tensor<3> {
    let [window, batch] = weights.dims();
    assert_eq!(step_returns.dims()[..2], [window, batch], "a weight for each trajectory");
    step_returns * weights.reshape([window, batch, 1])
}

/// The surrogate `sum_{iju} c_iju ln pi(a_iju | s_iju)`, whose gradient with the coefficients held constant is the
/// gradient estimate (docs/method.md, equation 13).
///
/// # Shapes
/// `log_prob`: `[window * batch * time]`; `step_coefficients`: `[window, batch, time]`, 0 at padded steps; result: `[1]`.
pub fn surrogate(log_prob: Tensor<1>, step_coefficients: Tensor<3>) -> Tensor<1> {
    let rows = log_prob.dims()[0];
    let coefficients = step_coefficients.reshape([rows]);
    let coefficients = if log_prob.is_autodiff() { coefficients.autodiff() } else { coefficients };
    (log_prob * coefficients).sum()
}

//! Off-policy corrections of variance-reduced policy gradients: the gradient at a reference policy from trajectories of
//! the current one.
//!
//! With `rho_{0:t}` the ratio of the reference's density of the first steps of a trajectory to the current policy's,
//!
//! `g^IS(tau) = sum_t rho_{0:t} gamma^t r_t sum_{u<=t} score(u) = sum_u score(u) sum_{t>=u} rho_{0:t} gamma^t r_t`,
//!
//! so that it is one surrogate whose step coefficients are [`weighted_step_returns`].

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::numeric::{log_add_exp, saturating_exp};
use crate::returns::{Baseline, StepReturn, step_returns};

/// Which part of a trajectory the ratio of a reward covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RatioScope {
    /// The steps up to the reward, `rho_{0:t}`: what comes later changes no expectation, and would only add variance.
    #[default]
    PerStep,
    /// The whole trajectory, `rho_{0:T}`.
    Trajectory,
}

/// Log-ratio that belongs to the reward of every step: the running sum of the steps' log-ratios, or their total.
///
/// # Shapes
/// `step_log_ratios` (0 at padded steps, from [`step_log_ratios`](crate::step_log_ratios)) and the result:
/// `[window, batch, time]`.
pub fn cumulative_log_ratios(step_log_ratios: Tensor<3>, scope: RatioScope) -> Tensor<3> {
    match scope {
        RatioScope::PerStep => step_log_ratios.cumsum(2),
        RatioScope::Trajectory => {
            let [_, _, time] = step_log_ratios.dims();
            step_log_ratios.sum_dim(2).repeat_dim(2, time)
        }
    }
}

/// Weights `rho = exp(-L)` of rewards that were sampled by the behaviour policy, for the target of the log-ratio
/// `L = ln p_b - ln p_t`: unbiased, and without a bound. Exponents saturate just below overflow.
///
/// # Shapes
/// `cumulative_log_ratios` and the result: `[window, batch, time]`.
pub fn correction_weights(cumulative_log_ratios: Tensor<3>) -> Tensor<3> {
    saturating_exp(cumulative_log_ratios.neg())
}

/// Weights `[p_t / q, p_r / q]` of rewards that were sampled by the mixture `q = (1 - beta) p_t + beta p_r` of the
/// current policy `t` and the reference `r` (defensive importance sampling; Hesterberg 1995, Paczolay et al. 2024).
///
/// With `L = ln p_r - ln p_t` they are `exp(-logaddexp(ln(1 - beta), ln beta + L))` and
/// `exp(-logaddexp(ln(1 - beta) - L, ln beta))`, at most `1 / (1 - beta)` and `1 / beta`.
///
/// # Shapes
/// `cumulative_log_ratios` (`L`) and both results: `[window, batch, time]`.
///
/// # Panics
/// When `beta` is not between 0 and 1, both excluded.
pub fn defensive_weights(cumulative_log_ratios: Tensor<3>, beta: f64) -> [Tensor<3>; 2] {
    assert!(beta > 0.0 && beta < 1.0, "the reference's share must be between 0 and 1, got {beta}");
    let current_share = cumulative_log_ratios.full_like((-beta).ln_1p());
    let reference_share = cumulative_log_ratios.full_like(beta.ln());
    let of_current =
        log_add_exp(current_share.clone(), reference_share.clone() + cumulative_log_ratios.clone());
    let of_reference = log_add_exp(current_share - cumulative_log_ratios, reference_share);
    [saturating_exp(of_current.neg()), saturating_exp(of_reference.neg())]
}

/// Step returns of weighted rewards, `sum_{t>=u} w_t gamma^t r_t`; 0 at padded steps.
///
/// # Shapes
/// `rewards`, `weights`, `mask` and the result: `[window, batch, time]`.
///
/// # Panics
/// When the shapes differ.
pub fn weighted_step_returns(
    rewards: Tensor<3>,
    weights: Tensor<3>,
    mask: Tensor<3>,
    discount: f64,
) -> Tensor<3> {
    assert_eq!(rewards.dims(), weights.dims(), "a weight for each reward");
    step_returns(rewards * weights, mask, discount, StepReturn::ToGo, Baseline::None)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;
    use crate::{LoggedActions, step_log_ratios, step_mask};

    const SHAPE: [usize; 3] = [1, 2, 4];

    fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
        tensor.to_data().iter::<f64>().collect()
    }

    fn log_density(action: f64, mean: f64, deviation: f64) -> f64 {
        -0.5 * ((action - mean) / deviation).powi(2) - deviation.ln() - 0.5 * std::f64::consts::TAU.ln()
    }

    /// Plain loops over the definition, one trajectory with all four steps and one of any length.
    fn oracle(
        numbers: &[[f64; 4]],
        lengths: [usize; 2],
        deviations: [f64; 2],
        scope: RatioScope,
    ) -> Vec<f64> {
        const DISCOUNT: f64 = 0.9;
        let mut result = vec![0.0; 8];
        for (trajectory, length) in lengths.into_iter().enumerate() {
            let step = |t: usize| numbers[trajectory * 4 + t];
            let ratio_of = |range: std::ops::RangeInclusive<usize>| {
                range
                    .map(|t| {
                        let [action, behaviour, target, _] = step(t);
                        log_density(action, target, deviations[1])
                            - log_density(action, behaviour, deviations[0])
                    })
                    .sum::<f64>()
                    .exp()
            };
            for u in 0..length {
                for t in u..length {
                    let last = if scope == RatioScope::PerStep { t } else { length - 1 };
                    result[trajectory * 4 + u] += ratio_of(0..=last) * DISCOUNT.powi(t as i32) * step(t)[3];
                }
            }
        }
        result
    }

    proptest! {
        #[test]
        fn weighted_step_returns_are_those_of_the_definition(
            numbers in proptest::collection::vec([-1.5..1.5, -1.0..1.0, -1.0..1.0, -2.0..2.0], 8),
            deviations in [0.4..1.0, 0.4..1.0],
            last in 1_usize..=4,
        ) {
            let numbers: Vec<[f64; 4]> = numbers;
            let deviations: [f64; 2] = deviations;
            let column = |index: usize| numbers.iter().map(|step| step[index]).collect::<Vec<_>>();
            let lengths = [4, last];
            let mask = step_mask(&lengths.map(|length| length as u32), SHAPE, &Device::default());
            let logged = LoggedActions {
                actions: tensor(column(0), [1, 2, 4, 1]),
                behaviour_mean: tensor(column(1), [1, 2, 4, 1]),
                behaviour_log_std: tensor(vec![deviations[0].ln()], [1, 1]),
                mask: mask.clone(),
            };
            let log_std = tensor(vec![deviations[1].ln()], [1]);
            let steps = step_log_ratios(tensor(column(2), [1, 2, 4, 1]), log_std, &logged);
            for scope in [RatioScope::PerStep, RatioScope::Trajectory] {
                let weights = correction_weights(cumulative_log_ratios(steps.clone(), scope));
                let found = weighted_step_returns(tensor(column(3), SHAPE), weights.clone(), mask.clone(), 0.9);
                let largest = values(&weights).into_iter().fold(1.0, f64::max);
                let expected = oracle(&numbers, lengths, deviations, scope);
                for (found, expected) in values(&found).iter().zip(&expected) {
                    prop_assert!((found - expected).abs() < 2e-4 * largest, "{found} {expected} {scope:?}");
                }
            }
        }

        #[test]
        fn defensive_weights_are_bounded_and_mix_to_one(
            log_ratios in proptest::collection::vec(-200.0..200.0, 8), beta in 0.05..0.95,
        ) {
            let log_ratios: Vec<f64> = log_ratios;
            let weights = defensive_weights(tensor(log_ratios, SHAPE), beta);
            let [current, reference] = weights.map(|weights| values(&weights));
            for (current, reference) in current.into_iter().zip(reference) {
                prop_assert!((0.0..=1.00001 / (1.0 - beta)).contains(&current), "{current}");
                prop_assert!((0.0..=1.00001 / beta).contains(&reference), "{reference}");
                prop_assert!(((1.0 - beta) * current + beta * reference - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn equal_policies_weigh_everything_one() {
        let zeros = Tensor::<3>::zeros(SHAPE, &Device::default());
        for scope in [RatioScope::PerStep, RatioScope::Trajectory] {
            let cumulative = cumulative_log_ratios(zeros.clone(), scope);
            assert_eq!(values(&correction_weights(cumulative.clone())), vec![1.0; 8]);
            for weights in defensive_weights(cumulative, 0.5) {
                assert_eq!(values(&weights), vec![1.0; 8]);
            }
        }
    }
}

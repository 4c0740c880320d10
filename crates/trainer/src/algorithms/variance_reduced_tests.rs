//! The variance-reduced algorithms against mathematics: identities at the reference, exact gradients of the LQR.

use environments::linear_quadratic::optimum::expected_return;
use environments::registry;
use estimator::RatioScope;
use policy_nets::{Activation, Architecture, Deviation, PolicyState};

use super::*;
use crate::sampler::Sampler;
use crate::threads::Threads;

const HORIZON: usize = 3;
const VARIANCE: f64 = 0.3;
const REFERENCE: [f64; 4] = [-0.5, 0.1, 0.05, -0.3];
const CURRENT: [f64; 4] = [-0.55, 0.125, 0.075, -0.3375];

fn policy_state(gain: [f64; 4]) -> PolicyState {
    PolicyState {
        architecture: Architecture {
            observation_size: 2,
            action_size: 2,
            hidden: vec![],
            activation: Activation::Tanh,
            bias: false,
        },
        deviation: Deviation::Fixed,
        mean_parameters: gain.to_vec(),
        log_std: vec![0.5 * VARIANCE.ln(); 2],
        normalizer: None,
    }
}

fn policy(gain: [f64; 4]) -> GaussianPolicy {
    GaussianPolicy::from_state(&policy_state(gain), &Device::default())
}

/// The gradient of the exact expected return, by central differences.
fn exact_gradient(gain: [f64; 4]) -> [f64; 4] {
    const STEP: f64 = 1e-5;
    let value = |index: usize, change: f64| {
        let mut gain = gain;
        gain[index] += change;
        expected_return(&[[gain[0], gain[1]], [gain[2], gain[3]]], VARIANCE, HORIZON)
    };
    std::array::from_fn(|index| (value(index, STEP) - value(index, -STEP)) / (2.0 * STEP))
}

fn rules(ratio: RatioScope, batch_size: usize) -> Vec<VarianceReduction> {
    let kinds = [
        (SnapshotSchedule::Every(10), CorrectionRule::Snapshot),
        (SnapshotSchedule::Every(10), CorrectionRule::Recursive),
        (SnapshotSchedule::First, CorrectionRule::Momentum(0.3)),
        (SnapshotSchedule::Random(0.1), CorrectionRule::Recursive),
        (SnapshotSchedule::Random(0.1), CorrectionRule::Defensive(0.5)),
    ];
    let rule = |(schedule, correction)| VarianceReduction {
        snapshot_size: 40,
        batch_size,
        schedule,
        correction,
        discount: 1.0,
        ratio,
    };
    kinds.into_iter().map(rule).collect()
}

/// Samples plans on the LQR.
struct Plans(Sampler);

impl Plans {
    fn new() -> Self {
        Self(Sampler::new(*registry::find("lqr").unwrap(), HORIZON, &Threads::new(1).unwrap()))
    }

    fn sample(&mut self, plan: &[Draw], current: [f64; 4], iteration: u32) -> Vec<Trajectories> {
        let mut fresh = vec![];
        let key = (Streams::new(5), iteration);
        self.0.sample(plan, &policy(current), &policy_state(current), key, &mut fresh).unwrap();
        fresh
    }
}

fn host(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn algorithm(rule: VarianceReduction) -> VarianceReduced {
    VarianceReduced::new(rule, 4, Streams::new(3), &Device::default())
}

/// An iteration after `first` that takes a small batch.
fn small_iteration(algorithm: &mut VarianceReduced, first: u32) -> (u32, Vec<Draw>) {
    let mut iteration = first + 1;
    loop {
        let plan = algorithm.plan(iteration);
        if !algorithm.anew {
            return (iteration, plan);
        }
        iteration += 1;
    }
}

/// Without a step, the large batch's estimate stands; STORM-PG moves by `a` times the difference of the two batches.
#[test]
fn at_the_reference_every_correction_is_exactly_zero() {
    let mut sampler = Plans::new();
    for ratio in [RatioScope::PerStep, RatioScope::Trajectory] {
        for rule in rules(ratio, 8) {
            let mut algorithm = algorithm(rule);
            let mut phases = Phases::default();
            let policy = policy(REFERENCE);
            let plan = algorithm.plan(0);
            let large = sampler.sample(&plan, REFERENCE, 0);
            let snapshot = host(&algorithm.estimate(&policy, &large, &mut phases).gradient);
            let (iteration, plan) = small_iteration(&mut algorithm, 0);
            let small = sampler.sample(&plan, REFERENCE, iteration);
            let estimate = algorithm.estimate(&policy, &small, &mut phases);
            let report = estimate.diagnostics.report();
            assert!((report.largest_weight - 1.0).abs() < 1e-6, "{rule:?}: {report:?}");
            let expected = if let CorrectionRule::Momentum(momentum) = rule.correction {
                let sample = Sample::new(&small, &Device::default());
                let fresh = host(&sample.gradient(sample.forward(&policy, policy.parameters()), None, 1.0));
                let mix = |(fresh, old): (f64, f64)| momentum * fresh + (1.0 - momentum) * old;
                fresh.into_iter().zip(snapshot).map(mix).collect()
            } else {
                snapshot
            };
            for (found, expected) in host(&estimate.gradient).into_iter().zip(expected) {
                let tolerance =
                    if matches!(rule.correction, CorrectionRule::Momentum(_)) { 1e-4 } else { 0.0 };
                assert!((found - expected).abs() <= tolerance, "{rule:?}: {found} {expected}");
            }
        }
    }
}

/// Mean and standard error of every component over independent repetitions.
fn moments(estimates: &[Vec<f64>]) -> [(f64, f64); 4] {
    let count = estimates.len() as f64;
    std::array::from_fn(|index| {
        let mean = estimates.iter().map(|estimate| estimate[index]).sum::<f64>() / count;
        let squares: f64 = estimates.iter().map(|estimate| (estimate[index] - mean).powi(2)).sum();
        (mean, (squares / (count - 1.0) / count).sqrt())
    })
}

/// From the reference's exact gradient, the expectation of every correction is the current policy's exact gradient.
///
/// 25 repetitions of 4000 trajectories for each algorithm and scope. The bound is 4.5 standard errors in 40 comparisons: a
/// correct algorithm fails with three of 10 000 seeds, were the errors normal. The gradients differ by more than 7 standard
/// errors (asserted), so leaving out the correction, its sign, the ratios or the order of the policies is seen with 99 of
/// 100 seeds. The policies are near each other because the errors of larger steps have heavy tails.
#[test]
fn corrections_are_unbiased_on_the_lqr() {
    let (at_reference, at_current) = (exact_gradient(REFERENCE), exact_gradient(CURRENT));
    let mut sampler = Plans::new();
    for ratio in [RatioScope::PerStep, RatioScope::Trajectory] {
        for rule in rules(ratio, 4000) {
            let mut algorithm = algorithm(rule);
            let mut iteration = 0;
            let reference = || Reference {
                parameters: policy(REFERENCE).parameters(),
                estimate: Tensor::from_data(at_reference.as_slice(), &Device::default()),
            };
            let estimates: Vec<Vec<f64>> = (0..25)
                .map(|_| {
                    algorithm.reference = reference();
                    let (next, plan) = small_iteration(&mut algorithm, iteration);
                    iteration = next;
                    let fresh = sampler.sample(&plan, CURRENT, iteration);
                    host(&algorithm.estimate(&policy(CURRENT), &fresh, &mut Phases::default()).gradient)
                })
                .collect();
            let mut largest_difference: f64 = 0.0;
            for (index, (mean, error)) in moments(&estimates).into_iter().enumerate() {
                let difference = at_current[index] - at_reference[index];
                largest_difference = largest_difference.max(difference.abs() / error);
                let deviation = (mean - at_current[index]).abs() / error;
                assert!(
                    deviation < 4.5,
                    "{rule:?}, {index}: {mean} +- {error}, expected {}",
                    at_current[index]
                );
            }
            assert!(largest_difference > 7.0, "{rule:?}: {largest_difference}");
        }
    }
}

/// `(1/B) sum_j sum_t w_jt gamma^t r_t sum_(u <= t) grad ln pi(a_u|s_u)` at the linear policy `gain`, in plain float64; the
/// weights are a function of `ln (p_of / p_by)` of the steps up to `t`, or of the whole trajectory.
fn weighted_gradient(
    batches: &[Trajectories],
    gain: [f64; 4],
    [of, by]: [[f64; 4]; 2],
    rule: &VarianceReduction,
    weight: impl Fn(f64) -> f64,
) -> [f64; 4] {
    let mean = |gain: [f64; 4], s: [f64; 2]| [0, 2].map(|row| gain[row] * s[0] + gain[row + 1] * s[1]);
    let numbers = |values: &[f32], place: usize| [0, 1].map(|d| f64::from(values[2 * place + d]));
    let mut total = [0.0; 4];
    let mut count = 0.0;
    for batch in batches {
        for (trajectory, length) in batch.lengths.iter().enumerate() {
            count += 1.0;
            let steps = (0..*length as usize).map(|step| trajectory * HORIZON + step);
            let log_ratio = |place: usize| {
                let (s, a) = (numbers(&batch.observations, place), numbers(&batch.actions, place));
                let [of, by] = [of, by].map(|gain| mean(gain, s));
                (0..2)
                    .map(|d| ((a[d] - by[d]).powi(2) - (a[d] - of[d]).powi(2)) / (2.0 * VARIANCE))
                    .sum::<f64>()
            };
            let whole: f64 = steps.clone().map(log_ratio).sum();
            let (mut up_to, mut scores, mut discount) = (0.0, [0.0; 4], 1.0);
            for place in steps {
                let (s, a) = (numbers(&batch.observations, place), numbers(&batch.actions, place));
                let mu = mean(gain, s);
                for (index, score) in scores.iter_mut().enumerate() {
                    *score += (a[index / 2] - mu[index / 2]) / VARIANCE * s[index % 2];
                }
                up_to += log_ratio(place);
                let ratio = if rule.ratio == RatioScope::PerStep { up_to } else { whole };
                for (sum, score) in total.iter_mut().zip(scores) {
                    *sum += weight(ratio) * discount * batch.rewards[place] * score;
                }
                discount *= rule.discount;
            }
        }
    }
    total.map(|sum| sum / count)
}

/// A large batch and two small ones at three policies, against equations (19) to (22): the second small batch tells whose
/// reference is the snapshot and whose the previous iteration.
#[test]
fn two_small_batches_follow_the_equations() {
    const NEXT: [f64; 4] = [-0.5, 0.15, 0.1, -0.375];
    let mut sampler = Plans::new();
    for ratio in [RatioScope::PerStep, RatioScope::Trajectory] {
        for rule in rules(ratio, 6).into_iter().map(|rule| VarianceReduction { discount: 0.9, ..rule }) {
            let mut algorithm = algorithm(rule);
            let compare =
                |algorithm: &mut VarianceReduced, at, fresh: &[Trajectories], expected: [f64; 4]| {
                    let found =
                        host(&algorithm.estimate(&policy(at), fresh, &mut Phases::default()).gradient);
                    let scale = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
                    for (found, expected) in found.iter().zip(expected) {
                        assert!((found - expected).abs() < 1e-5 * scale, "{rule:?}: {found} {expected}");
                    }
                };
            let plan = algorithm.plan(0);
            let large = sampler.sample(&plan, REFERENCE, 0);
            let mut kept = weighted_gradient(&large, REFERENCE, [REFERENCE; 2], &rule, |_| 1.0);
            compare(&mut algorithm, REFERENCE, &large, kept);
            let (mut reference, mut iteration) = (REFERENCE, 0);
            for current in [CURRENT, NEXT] {
                let (next, plan) = small_iteration(&mut algorithm, iteration);
                iteration = next;
                let fresh = sampler.sample(&plan, current, iteration);
                let pair = [reference, current];
                let gradient =
                    |gain, weight: &dyn Fn(f64) -> f64| weighted_gradient(&fresh, gain, pair, &rule, weight);
                let share = |beta: f64, ratio: f64| 1.0 / (1.0 - beta + beta * ratio.exp());
                let (scale, [of_current, of_reference]) = match rule.correction {
                    CorrectionRule::Defensive(beta) => (
                        1.0,
                        [
                            gradient(current, &|ratio| share(beta, ratio)),
                            gradient(reference, &|ratio| ratio.exp() * share(beta, ratio)),
                        ],
                    ),
                    correction => {
                        let scale = match correction {
                            CorrectionRule::Momentum(momentum) => 1.0 - momentum,
                            _ => 1.0,
                        };
                        (scale, [gradient(current, &|_| 1.0), gradient(reference, &f64::exp)])
                    }
                };
                let expected = std::array::from_fn(|index| {
                    of_current[index] + scale * (kept[index] - of_reference[index])
                });
                compare(&mut algorithm, current, &fresh, expected);
                if rule.correction != CorrectionRule::Snapshot {
                    (reference, kept) = (current, expected);
                }
            }
        }
    }
}

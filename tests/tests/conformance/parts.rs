//! Single steps of an estimate, on input that whole estimates do not reach.

use burn::tensor::{Tensor, TensorData};
use estimator::{
    closed_form_log_second_moment, log_ratio, multiple_importance_weights, power_mean_weights,
    sample_log_second_moment, step_returns,
};
use integration_tests::oracle::{self, Baseline, Coefficients, answer};
use integration_tests::problems::{DeviationShift, Recipe};
use policy_nets::{GaussianPolicy, Normalizer};

use crate::bounds::{Bounds, EPSILON, LARGEST_WEIGHT, SMALLEST_WEIGHT, assert_bounded};
use crate::estimates::PLAIN;
use crate::support::{self, OnDevice, devices, devices_for, host, tensor};

#[test]
fn rubbish_in_padding_reaches_nothing() {
    for seed in 0..8 {
        let recipe = Recipe { deviation_shift: DeviationShift::Slight, ..Recipe::default() };
        let problem = recipe.problem(seed);
        let [window, batch, time] = [problem.window(), problem.batch(), problem.horizon];
        for device in devices_for(seed) {
            let on_device = OnDevice::new(&problem, &device.device);
            let bounds = Bounds::new(&problem, &PLAIN);
            let target = || (on_device.target_mean.clone(), on_device.target_log_std.clone());
            let ratios = log_ratio(target().0, target().1, &on_device.logged);
            let moments = host(closed_form_log_second_moment(target().0, target().1, &on_device.logged));
            let sampled = host(sample_log_second_moment(ratios.clone()));
            let expected = answer(&problem, &PLAIN);
            for (i, found) in host(ratios).chunks(batch).enumerate() {
                let largest = bounds.log_ratio[i].iter().copied().fold(0.0, f64::max);
                for (j, found) in found.iter().enumerate() {
                    let what = format_args!("ratio");
                    assert_bounded(*found, expected.log_ratio[i][j], bounds.log_ratio[i][j], what);
                }
                let what = format_args!("closed form {i}");
                assert_bounded(moments[i], expected.log_second_moment[i], bounds.log_second_moment[i], what);
                let sample = oracle::log_second_moment_sample(&expected.log_ratio[i]);
                assert_bounded(sampled[i], sample, 2.0 * largest, format_args!("sample {i}"));
            }
            for (total, baseline) in [(false, Baseline::LeaveOneOut), (true, Baseline::Average)] {
                let kind = if total { estimator::StepReturn::Total } else { estimator::StepReturn::ToGo };
                let (rewards, mask) = (on_device.rewards.clone(), on_device.logged.mask.clone());
                let found = host(step_returns(rewards, mask, 0.95, kind, support::baseline(baseline)));
                assert_eq!(found.len(), window * batch * time);
                for (trajectory, found) in found.chunks(time).enumerate() {
                    let (i, j) = (trajectory / batch, trajectory % batch);
                    let (values, sizes) = oracle::step_returns(&problem.batches[i], 0.95, total, baseline);
                    for (step, found) in found.iter().enumerate() {
                        let value = values[j].get(step).copied().unwrap_or(0.0);
                        let size = sizes[j].get(step).copied().unwrap_or(0.0);
                        let what = format_args!("return {i}, {j}, {step}");
                        assert_bounded(*found, value, 16.0 * EPSILON * size, what);
                    }
                }
            }
        }
    }
}

/// What no trajectory did better than another teaches nothing: not even rounding errors, which Adam would make full steps of.
#[test]
fn equal_returns_less_a_baseline_are_nothing() {
    let (batch, time) = (10, 7);
    let rewards: Vec<f64> = (0..batch * time).map(|index| 1.0 + 0.1 * (index % time) as f64).collect();
    for device in devices() {
        let rewards = tensor::<3>(&rewards, [1, batch, time], &device.device);
        let mask = rewards.ones_like();
        for kind in [estimator::StepReturn::ToGo, estimator::StepReturn::Total] {
            for baseline in [estimator::Baseline::Average, estimator::Baseline::LeaveOneOut] {
                let found = host(step_returns(rewards.clone(), mask.clone(), 0.97, kind, baseline));
                assert!(found.iter().all(|value| *value == 0.0), "{}, {baseline:?}: {found:?}", device.name);
            }
        }
    }
}

#[test]
fn clipped_weights_and_given_coefficients() {
    let ratios = [-300.0, -90.0, -5.0, -0.1, 0.0, 0.1, 5.0, 90.0, 300.0];
    for device in devices() {
        let row = || tensor::<2>(&ratios, [1, ratios.len()], &device.device);
        let clipped = host(multiple_importance_weights(row(), 10.0));
        for (ratio, found) in ratios.iter().zip(clipped) {
            let expected = oracle::multiple_importance_weight(*ratio, 10.0, 1, ratios.len());
            assert_bounded(found, expected, 1e-6 * expected + 1e-36, format_args!("clipped at {ratio}"));
        }
        for lambda in [0.0, 1e-12, 1e-3, 0.5, 0.999, 1.0] {
            for exponent in [-2.0, -1.0, -0.5, -0.1, 0.0] {
                let rule = support::coefficient_rule(Coefficients::Fixed { lambda, adaptive: false }, 1);
                let coefficients = rule.coefficients(Tensor::zeros([1], &device.device), ratios.len());
                let found = host(power_mean_weights(row(), &coefficients, exponent));
                for (ratio, found) in ratios.iter().zip(found) {
                    let expected = oracle::power_mean_weight(*ratio, 1.0, lambda, exponent, ratios.len());
                    let expected = expected.min(LARGEST_WEIGHT);
                    let sensitivity =
                        if exponent == 0.0 { ratio.abs() } else { ratio.abs() + 30.0 / -exponent };
                    let bound = (4.0 * EPSILON * (4.0 + sensitivity)).exp_m1() * expected + SMALLEST_WEIGHT;
                    let what = format_args!("lambda {lambda}, s {exponent}, l {ratio} on {}", device.name);
                    assert_bounded(found, expected, bound, what);
                }
            }
        }
    }
}

/// Where means are large beside deviations, single precision holds neither well: both subtract in the same two steps.
#[test]
fn observations_are_standardized_as_on_the_host() {
    let recipe =
        Recipe { hidden: vec![], observation_size: 2, action_size: 1, bias: false, ..Recipe::default() };
    let mut state = support::policy_state(&recipe.problem(1).target);
    let normalizer = Normalizer::from_statistics(9.0, vec![1e6 + 0.3, -2.7e5 - 0.017], vec![0.5, 0.02]);
    let rows = [1e6 + 1.0, -2.7e5, 1e6 - 0.5, -2.7e5 + 0.06_f32];
    let mut standardized = rows;
    normalizer.apply(&mut standardized);
    let expected: Vec<[f64; 2]> = standardized
        .chunks(2)
        .map(|row| {
            let terms = row.iter().zip(&state.mean_parameters).map(|(x, weight)| f64::from(*x) * weight);
            terms.fold([0.0, 0.0], |[sum, size], term: f64| [sum + term, size + term.abs()])
        })
        .collect();
    state.normalizer = Some(normalizer);
    for device in devices() {
        let policy = GaussianPolicy::from_state(&state, &device.device);
        let found =
            host(policy.mean(Tensor::from_data(TensorData::new(rows.to_vec(), [2, 2]), &device.device)));
        for (found, [expected, size]) in found.iter().zip(&expected) {
            assert_bounded(*found, *expected, 4.0 * EPSILON * size, format_args!("mean on {}", device.name));
        }
    }
}

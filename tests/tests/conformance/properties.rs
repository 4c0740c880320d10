//! What must hold for every input.

use burn::tensor::Device;
use estimator::{
    Coefficients, Diagnostics, balance_heuristic_weights, multiple_importance_weights, power_mean_weights,
    sample_log_second_moment,
};
use integration_tests::oracle::{self, Baseline, Settings, Weighting};
use integration_tests::problems::{DeviationShift, Recipe};
use proptest::prelude::*;
use trainer::logged::estimate;

use crate::estimates::MIW;
use crate::support::{
    case, coefficient_rule, devices_for, host, logged_trajectories, options, policy_state, tensor,
};

/// Log-ratios `[window, batch]` of ordinary and of absurd size.
fn log_ratios() -> impl Strategy<Value = (usize, usize, Vec<f64>)> {
    (1_usize..6, 1_usize..9, prop_oneof![Just(0.01), Just(1.0), Just(30.0), Just(300.0), Just(1e4)])
        .prop_flat_map(|(window, batch, size)| {
            let ratio = (-1.0..1.0).prop_map(move |unit: f64| size * unit);
            (Just(window), Just(batch), prop::collection::vec(ratio, window * batch))
        })
}

fn exponents() -> impl Strategy<Value = f64> {
    prop_oneof![Just(-1.0), Just(0.0), -3.0..-0.25]
}

/// Coefficients by `rule` from the sample's second moments.
fn coefficients(
    ratios: &[f64],
    [window, batch]: [usize; 2],
    rule: oracle::Coefficients,
    device: &Device,
) -> Coefficients {
    let moments = sample_log_second_moment(tensor::<2>(ratios, [window, batch], device));
    coefficient_rule(rule, 10).coefficients(moments, batch)
}

fn mpm(
    ratios: &[f64],
    shape: [usize; 2],
    rule: oracle::Coefficients,
    exponent: f64,
    device: &Device,
) -> Vec<f64> {
    let coefficients = coefficients(ratios, shape, rule, device);
    host(power_mean_weights(tensor(ratios, shape, device), &coefficients, exponent))
}

fn fixed(lambda: f64) -> oracle::Coefficients {
    oracle::Coefficients::Fixed { lambda, adaptive: false }
}

const ADAPTIVE: oracle::Coefficients = oracle::Coefficients::Adaptive { scale: 1.0 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// `w_ij <= alpha_i / (N lambda_i^(-1/s))`; the geometric mean has no such bound.
    #[test]
    fn weights_stay_below_their_bound((window, batch, ratios) in log_ratios(), exponent in -3.0..-0.25) {
        for device in devices_for(case(&ratios)) {
            let coefficients = coefficients(&ratios, [window, batch], ADAPTIVE, &device.device);
            let weights =
                host(power_mean_weights(tensor(&ratios, [window, batch], &device.device), &coefficients, exponent));
            let (alpha, lambda) = (host(coefficients.log_alpha), host(coefficients.log_lambda));
            for (index, weight) in weights.iter().enumerate() {
                let i = index / batch;
                let log_bound = alpha[i] - (batch as f64).ln() + lambda[i] / exponent;
                // The bound is a difference of logarithms, each rounded to the device's float type.
                let slack = 1e-4 + 1e-6 * (alpha[i].abs() + (lambda[i] / exponent).abs());
                prop_assert!(*weight <= log_bound.exp() * (1.0 + slack) + 1e-37, "{} above {}", weight, log_bound.exp());
            }
        }
    }

    /// Never NaN, never negative, never infinite.
    #[test]
    fn every_weight_and_diagnostic_is_a_number((window, batch, ratios) in log_ratios(), exponent in exponents()) {
        for device in devices_for(case(&ratios)) {
            let device = &device.device;
            let shape = [window, batch];
            let row = || tensor::<2>(&ratios, shape, device);
            let densities = tensor::<3>(&ratios.repeat(2), [2, window, batch], device);
            let coefficients = coefficients(&ratios, shape, ADAPTIVE, device);
            for weights in [
                power_mean_weights(row(), &coefficients, exponent),
                multiple_importance_weights(row(), f64::INFINITY),
                multiple_importance_weights(row(), 5.0),
                balance_heuristic_weights(densities),
            ] {
                let report = Diagnostics::new(&weights, None).report();
                let weights = host(weights);
                prop_assert!(weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0), "{:?}", weights);
                let count = (window * batch) as f64;
                prop_assert!(report.effective_sample_size <= count * (1.0 + 1e-5));
                prop_assert!(report.largest_weight.is_finite());
                prop_assert!(report.batch_share.iter().all(|share| (0.0..=1.0 + 1e-5).contains(share)));
                if weights.iter().any(|weight| *weight > 1e-30) {
                    prop_assert!(report.effective_sample_size >= 1.0 - 1e-5);
                    prop_assert!((report.batch_share.iter().sum::<f64>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }

    /// The power mean grows with its exponent.
    #[test]
    fn weights_grow_with_the_exponent((window, batch, ratios) in log_ratios(), lambda in 0.01..0.99) {
        for device in devices_for(case(&ratios)) {
            let by_exponent = [-2.0, -1.0, -0.5, 0.0]
                .map(|exponent| mpm(&ratios, [window, batch], fixed(lambda), exponent, &device.device));
            for pair in by_exponent.windows(2) {
                for (smaller, larger) in pair[0].iter().zip(&pair[1]) {
                    prop_assert!(*smaller <= larger * (1.0 + 1e-3) + 1e-37, "{} above {}", smaller, larger);
                }
            }
        }
    }

    #[test]
    fn without_correction_it_is_multiple_importance_weighting(
        (window, batch, ratios) in log_ratios(), exponent in exponents(),
    ) {
        for device in devices_for(case(&ratios)) {
            let shape = [window, batch];
            let plain = host(multiple_importance_weights(tensor::<2>(&ratios, shape, &device.device), f64::INFINITY));
            for (mpm, miw) in mpm(&ratios, shape, fixed(0.0), exponent, &device.device).iter().zip(plain) {
                prop_assert!((mpm - miw).abs() <= 1e-4 * miw + 1e-36, "{} is not {}", mpm, miw);
            }
        }
    }

    #[test]
    fn with_full_correction_the_ratio_does_not_matter(
        (window, batch, ratios) in log_ratios(), exponent in exponents(),
    ) {
        for device in devices_for(case(&ratios)) {
            let expected = 1.0 / (window * batch) as f64;
            for weight in mpm(&ratios, [window, batch], fixed(1.0), exponent, &device.device) {
                prop_assert!((weight - expected).abs() <= 1e-6 * expected, "{} is not {}", weight, expected);
            }
        }
    }

    /// Equal policies: every weight is `1 / (N omega)`.
    #[test]
    fn equal_policies_average(window in 1_usize..9, batch in 1_usize..9, exponent in exponents()) {
        for device in devices_for((8 * window + batch) as u64) {
            let (shape, ratios) = ([window, batch], vec![0.0; window * batch]);
            let expected = 1.0 / (window * batch) as f64;
            let mut all = mpm(&ratios, shape, ADAPTIVE, exponent, &device.device);
            all.extend(host(multiple_importance_weights(tensor::<2>(&ratios, shape, &device.device), f64::INFINITY)));
            let densities = tensor::<3>(&vec![0.0; window * window * batch], [window, window, batch], &device.device);
            all.extend(host(balance_heuristic_weights(densities)));
            for weight in all {
                prop_assert!((weight - expected).abs() <= 2e-6 * expected, "{} is not {}", weight, expected);
            }
        }
    }

    /// Reversing batches and trajectories reverses the weights.
    #[test]
    fn weights_follow_their_trajectories((window, batch, ratios) in log_ratios(), exponent in exponents()) {
        for device in devices_for(case(&ratios)) {
            let weights = |ratios: &[f64]| mpm(ratios, [window, batch], ADAPTIVE, exponent, &device.device);
            let reversed: Vec<f64> = ratios.iter().rev().copied().collect();
            // Sums are added in another order; exponents of up to 1e4 amplify that.
            for (first, second) in weights(&ratios).iter().zip(weights(&reversed).iter().rev()) {
                prop_assert!((first - second).abs() <= 1e-2 * first.abs() + 1e-36, "{} is not {}", first, second);
            }
        }
    }

    /// One on-policy batch: every estimator is GPOMDP.
    #[test]
    fn one_batch_on_policy_is_gpomdp(seed in 0_u64..1000, exponent in exponents()) {
        let recipe = Recipe { window: 1, shift: 0.0, ..Recipe::random(seed) };
        let recipe = Recipe { deviation_shift: DeviationShift::Equal, ..recipe };
        let problem = recipe.problem(seed);
        let uniform = Settings {
            weighting: Weighting::Uniform, discount: 0.9, total: false, baseline: Baseline::None,
        };
        let expected = oracle::answer(&problem, &uniform);
        for device in devices_for(seed) {
            for weighting in [
                Weighting::PowerMean { rule: ADAPTIVE, closed_form: true, exponent },
                Weighting::PowerMean { rule: ADAPTIVE, closed_form: false, exponent },
                MIW,
                Weighting::MultipleImportance { clip: 1.5 },
                Weighting::BalanceHeuristic,
            ] {
                let options = options(&problem, &Settings { weighting, ..uniform });
                let (policy, logged) = (policy_state(&problem.target), logged_trajectories(&problem));
                let found = estimate(&policy, &logged, &options, &device.device)
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                let weight = 1.0 / problem.batch() as f64;
                for found in &found.tensors["weights"].values {
                    prop_assert!((found - weight).abs() <= 1e-3 * weight, "{} is not {}", found, weight);
                }
                let norm = expected.gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
                let scale = expected.gradient_scale.iter().map(|x| x * x).sum::<f64>().sqrt();
                prop_assert!((found.gradient_norm - norm).abs() <= 1e-3 * scale);
            }
        }
    }
}

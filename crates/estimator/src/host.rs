//! The estimator's functions over `[window, batch]` as plain loops in double precision, for estimates whose statistics are
//! on the host already: there a tensor operation takes longer than all the arithmetic.
//!
//! Every function is the one of the same name over tensors, and is tested against it; slices are row-major, `[window, batch]`
//! or `[window]`. A NaN stays one. Lengths that do not fit together are a panic.

use crate::coefficients::{CoefficientRule, MixtureRule, theoretical_log_lambda};
use crate::numeric::LOG_ZERO;
use crate::weights::{assert_clip, assert_exponent};

/// Weights are at most `exp` of this, which single precision holds.
const LARGEST_EXPONENT: f64 = 80.0;

/// Coefficients of every batch, as logarithms, `[window]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficients {
    /// `ln alpha_i`.
    pub log_alpha: Vec<f64>,
    /// `ln lambda_i`: at most 0.
    pub log_lambda: Vec<f64>,
}

/// `ln D_i = ln( (1/N) sum_j exp(x_ij) )`, `[window]`, from the trajectories' `exponents`, `[window, batch]`
/// ([`log_second_moment`](crate::log_second_moment())). An infinite one, of a target whose variance is at least twice the
/// behaviour's, is `-LOG_ZERO`.
///
/// # Panics
/// When `batch` is 0, or the exponents are no whole number of batches.
pub fn log_second_moment(exponents: &[f64], batch: usize) -> Vec<f64> {
    assert_batches(exponents.len(), batch);
    exponents.chunks_exact(batch).map(|row| log_sum_exp(row) - (batch as f64).ln()).collect()
}

fn assert_batches(count: usize, batch: usize) {
    assert!(batch > 0 && count.is_multiple_of(batch), "{count} trajectories in batches of {batch}");
}

/// The coefficients for `log_second_moment` (`[window]`) and batches of `batch` trajectories
/// ([`CoefficientRule::coefficients`]).
///
/// # Panics
/// When [`CoefficientRule::is_valid`] does not hold, or `batch` is 0.
pub fn coefficients(rule: &CoefficientRule, log_second_moment: &[f64], batch: usize) -> Coefficients {
    rule.assert_valid(batch);
    let window = log_second_moment.len();
    let log_samples = ((window * batch) as f64).ln();
    let uniform = || vec![-(window as f64).ln(); window];
    match *rule {
        CoefficientRule::Adaptive { scale } => {
            let log_lambda =
                |log_moment: &f64| (0.5 * (scale.ln() - log_samples - log_moment)).clamp(LOG_ZERO, 0.0);
            Coefficients {
                log_alpha: adaptive_log_alpha(log_second_moment),
                log_lambda: log_second_moment.iter().map(log_lambda).collect(),
            }
        }
        CoefficientRule::Theoretical { second_moment, delta, parameter_count } => {
            let log_lambda = theoretical_log_lambda(second_moment, delta, parameter_count, log_samples);
            Coefficients { log_alpha: uniform(), log_lambda: vec![log_lambda; window] }
        }
        CoefficientRule::Fixed { lambda, mixture } => Coefficients {
            log_alpha: match mixture {
                MixtureRule::Uniform => uniform(),
                MixtureRule::Adaptive => adaptive_log_alpha(log_second_moment),
            },
            log_lambda: vec![lambda.ln().max(LOG_ZERO); window],
        },
    }
}

/// Power-mean-corrected multiple importance weights, `[window, batch]`, from `log_ratio`, `[window, batch]`
/// ([`power_mean_weights`](crate::power_mean_weights())).
///
/// # Panics
/// When [`is_exponent`](crate::is_exponent) does not hold, or the ratios are not as many for each of the coefficients.
pub fn power_mean_weights(log_ratio: &[f64], coefficients: &Coefficients, exponent: f64) -> Vec<f64> {
    assert_exponent(exponent);
    let window = coefficients.log_alpha.len();
    assert_eq!(window, coefficients.log_lambda.len(), "coefficients of every batch");
    assert_batches(log_ratio.len(), window);
    let batch = log_ratio.len() / window;
    let log_batch = (batch as f64).ln();
    let mut weights = Vec::with_capacity(log_ratio.len());
    for (row, (log_alpha, log_lambda)) in
        log_ratio.chunks_exact(batch).zip(coefficients.log_alpha.iter().zip(&coefficients.log_lambda))
    {
        // ln(1 - lambda) without cancellation near 1.
        let log_complement = (-log_lambda.exp_m1()).ln().max(LOG_ZERO);
        for ratio in row {
            let log_mean = if exponent == 0.0 {
                ratio * log_lambda.exp_m1()
            } else {
                log_add_exp(log_complement - exponent * ratio, *log_lambda) / exponent
            };
            weights.push(saturating_exp(log_mean + log_alpha - log_batch));
        }
    }
    weights
}

/// Uniform multiple importance weights ([`multiple_importance_weights`](crate::multiple_importance_weights())).
///
/// # Panics
/// When `clip` is not above 0.
pub fn multiple_importance_weights(log_ratio: &[f64], clip: f64) -> Vec<f64> {
    assert_clip(clip);
    let (log_samples, log_clip) = ((log_ratio.len() as f64).ln(), clip.ln());
    // Not `min`, which leaves a NaN out.
    let clipped = |log_weight: f64| if log_weight > log_clip { log_clip } else { log_weight };
    log_ratio.iter().map(|ratio| saturating_exp(clipped(-ratio) - log_samples)).collect()
}

/// Diagnostics of `weights` in the order that [`DiagnosticsReport::unpack`](crate::DiagnosticsReport::unpack) reads
/// ([`Diagnostics::new`](crate::Diagnostics::new)); `coefficients` come with `ln D`.
///
/// # Panics
/// When `window` is 0, or the weights are not as many for each of its batches.
pub fn packed_diagnostics(
    weights: &[f64],
    window: usize,
    coefficients: Option<(&[f64], &Coefficients)>,
) -> Vec<f64> {
    assert_batches(weights.len(), window);
    let floor = f64::MIN_POSITIVE;
    let batch = weights.len() / window;
    // `max` leaves a NaN out; the sums below do not.
    let largest = largest(weights).max(floor);
    let (mut effective, mut shares) = (Vec::with_capacity(window), Vec::with_capacity(window));
    let (mut total, mut total_squares) = (0.0, 0.0);
    for row in weights.chunks_exact(batch) {
        // Scaled by the batch's largest weight, and then by that among all.
        let row_largest = self::largest(row).max(floor);
        let sum: f64 = row.iter().map(|weight| weight / row_largest).sum();
        let squares: f64 = row.iter().map(|weight| (weight / row_largest).powi(2)).sum();
        let relative = row_largest / largest;
        effective.push(sum.powi(2) / at_least(squares, floor));
        shares.push(sum * relative);
        total += sum * relative;
        total_squares += squares * relative.powi(2);
    }
    let mut packed =
        vec![total.powi(2) / at_least(total_squares, floor), largest * weights.len() as f64 + 0.0 * total];
    packed.extend(effective);
    packed.extend(shares.iter().map(|share| share / at_least(total, floor)));
    if let Some((log_second_moment, coefficients)) = coefficients {
        packed.extend(log_second_moment);
        packed.extend(coefficients.log_alpha.iter().map(|value| value.exp()));
        packed.extend(coefficients.log_lambda.iter().map(|value| value.exp()));
    } else {
        packed.extend(vec![0.0; window]);
        packed.extend(vec![1.0 / window as f64; window]);
        packed.extend(vec![0.0; window]);
    }
    packed
}

/// `ln softmax(-log D / 2)`.
fn adaptive_log_alpha(log_second_moment: &[f64]) -> Vec<f64> {
    let mut scores: Vec<f64> = log_second_moment.iter().map(|value| -0.5 * value).collect();
    let largest = largest(&scores);
    for score in &mut scores {
        *score -= largest;
    }
    let normalizer = scores.iter().map(|score| score.exp()).sum::<f64>().ln();
    scores.iter().map(|score| at_least(score - normalizer, LOG_ZERO)).collect()
}

/// At most `-LOG_ZERO`.
fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = largest(values).min(-LOG_ZERO);
    let bounded = |value: f64| if value > largest { largest } else { value };
    values.iter().map(|value| (bounded(*value) - largest).exp()).sum::<f64>().ln() + largest
}

/// The largest number that is no NaN.
fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn log_add_exp(left: f64, right: f64) -> f64 {
    let (smaller, larger) = if left > right { (right, left) } else { (left, right) };
    larger + (smaller - larger).exp().ln_1p()
}

fn saturating_exp(exponent: f64) -> f64 {
    exponent.clamp(LOG_ZERO, LARGEST_EXPONENT).exp()
}

/// The larger of two numbers; a NaN stays one.
fn at_least(value: f64, least: f64) -> f64 {
    if value < least { least } else { value }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use proptest::prelude::*;

    use super::*;
    use crate::{Diagnostics, DiagnosticsReport};

    fn tensor<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::default())
    }

    /// The tensors are in single precision, in which neither weights nor their squares vanish at the ranges below.
    fn assert_close<const D: usize>(found: &[f64], expected: Tensor<D>, what: &str) {
        let expected: Vec<f64> = expected.into_data().iter::<f64>().collect();
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(&expected) {
            let close = (found - expected).abs() <= 5e-4 * expected.abs() + 1e-30;
            assert!(close, "{what}: {found:e}, tensors {expected:e}");
        }
    }

    const RULES: [CoefficientRule; 6] = [
        CoefficientRule::Adaptive { scale: 1.0 },
        CoefficientRule::Adaptive { scale: 50.0 },
        CoefficientRule::Theoretical { second_moment: 50.0, delta: 0.2, parameter_count: 9 },
        CoefficientRule::Fixed { lambda: 0.3, mixture: MixtureRule::Uniform },
        CoefficientRule::Fixed { lambda: 1.0, mixture: MixtureRule::Adaptive },
        CoefficientRule::Fixed { lambda: 0.0, mixture: MixtureRule::Uniform },
    ];

    proptest! {
        #[test]
        fn every_function_is_that_over_tensors(
            log_ratio in proptest::collection::vec(-10.0..10.0, 12),
            exponents in proptest::collection::vec(0.0..30.0, 12),
            infinite in 0_usize..4,
            rule in proptest::sample::select(RULES.to_vec()),
            exponent in proptest::sample::select(vec![-1.0, -0.5, -2.0, 0.0]),
        ) {
            let (mut exponents, log_ratio): (Vec<f64>, Vec<f64>) = (exponents, log_ratio);
            if infinite < 3 {
                exponents[infinite * 4] = -LOG_ZERO;
            }
            let moments = log_second_moment(&exponents, 4);
            let expected_moments = crate::log_second_moment(tensor(&exponents, [3, 4]));
            assert_close(&moments, expected_moments.clone(), "second moments");
            let found = coefficients(&rule, &moments, 4);
            let expected = rule.coefficients(expected_moments.clone(), 4);
            let exp = |values: &[f64]| values.iter().map(|value| value.exp()).collect::<Vec<_>>();
            assert_close(&exp(&found.log_alpha), expected.log_alpha.clone().exp(), "alpha");
            assert_close(&exp(&found.log_lambda), expected.log_lambda.clone().exp(), "lambda");
            let weights = power_mean_weights(&log_ratio, &found, exponent);
            let expected_weights = crate::power_mean_weights(tensor(&log_ratio, [3, 4]), &expected, exponent);
            assert_close(&weights, expected_weights.clone(), "weights");
            let report = Diagnostics::new(&expected_weights, Some((&expected_moments, &expected))).packed();
            assert_close(&packed_diagnostics(&weights, 3, Some((&moments, &found))), report, "diagnostics");

            for clip in [f64::INFINITY, 2.0] {
                let weights = multiple_importance_weights(&log_ratio, clip);
                let expected_weights = crate::multiple_importance_weights(tensor(&log_ratio, [3, 4]), clip);
                assert_close(&weights, expected_weights.clone(), "multiple importance");
                let report = Diagnostics::new(&expected_weights, None).packed();
                let found = packed_diagnostics(&weights, 3, None);
                assert_close(&found, report, "diagnostics without coefficients");
            }
        }
    }

    #[test]
    fn large_second_moments_leave_the_sum_of_alpha_at_one() {
        let rule = CoefficientRule::Adaptive { scale: 1.0 };
        for log_second_moment in [1e4, 1e8, -LOG_ZERO] {
            let moments = [log_second_moment; 5];
            let found = coefficients(&rule, &moments, 2).log_alpha;
            assert!(found.iter().all(|value| (value + 5.0_f64.ln()).abs() < 1e-12), "{found:?}");
            let found = rule.coefficients(tensor(&moments, [5]), 2).log_alpha;
            let found: Vec<f64> = found.into_data().iter::<f64>().collect();
            assert!(found.iter().all(|value| (value + 5.0_f64.ln()).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn the_effective_sample_size_of_a_batch_of_tiny_weights() {
        let weights = |tiny: f64| vec![1.0, 0.5, tiny, tiny];
        let found = DiagnosticsReport::unpack(&packed_diagnostics(&weights(1e-250), 2, None), 2);
        assert!((found.batch_effective_sample_size[1] - 2.0).abs() < 1e-12, "{found:?}");
        assert!((found.effective_sample_size - 1.8).abs() < 1e-12, "{found:?}");
        let found = Diagnostics::new(&tensor(&weights(1e-30), [2, 2]), None).report();
        assert!((found.batch_effective_sample_size[1] - 2.0).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn a_nan_reaches_the_weights_and_the_diagnostics() {
        let rule = CoefficientRule::Adaptive { scale: 1.0 };
        let found = coefficients(&rule, &log_second_moment(&[0.0, f64::NAN, 1.0, 2.0], 2), 2);
        assert!(found.log_alpha.iter().all(|value| value.is_nan()));
        let found = coefficients(&rule, &[0.0, 1.0], 2);
        let weights = power_mean_weights(&[0.0, f64::NAN, 1.0, 2.0], &found, -1.0);
        assert_eq!(
            weights.iter().map(|weight| weight.is_nan()).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        for clip in [2.0, f64::INFINITY] {
            let weights = multiple_importance_weights(&[0.0, f64::NAN], clip);
            assert!(weights[0] == 0.5 && weights[1].is_nan(), "{weights:?}");
        }
        let report = DiagnosticsReport::unpack(&packed_diagnostics(&weights, 2, None), 2);
        assert!(report.effective_sample_size.is_nan() && report.largest_weight.is_nan());
    }

    #[test]
    fn batches_of_infinite_second_moment_weigh_nothing() {
        let moments = log_second_moment(&[f64::INFINITY, 1.0, 0.5, 0.5], 2);
        assert_eq!(moments[0], -LOG_ZERO);
        let coefficients = coefficients(&CoefficientRule::Adaptive { scale: 1.0 }, &moments, 2);
        let weights = power_mean_weights(&[0.1, -0.1, 0.2, 0.0], &coefficients, -1.0);
        assert_eq!(weights[..2], [0.0, 0.0]);
        assert!(weights[2..].iter().all(|weight| *weight > 0.0), "{weights:?}");
        assert!(log_second_moment(&[f64::NAN, 1.0], 2)[0].is_nan());
    }

    #[test]
    fn numbers_out_of_range_are_a_panic_on_the_host_and_on_devices() {
        let panics = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
        for rule in [
            CoefficientRule::Fixed { lambda: f64::NAN, mixture: MixtureRule::Uniform },
            CoefficientRule::Fixed { lambda: 2.0, mixture: MixtureRule::Uniform },
            CoefficientRule::Theoretical { second_moment: 0.5, delta: 0.2, parameter_count: 9 },
            CoefficientRule::Theoretical { second_moment: 5.0, delta: 1.0, parameter_count: 9 },
            CoefficientRule::Adaptive { scale: 0.0 },
        ] {
            assert!(!rule.is_valid());
            assert!(panics(&|| _ = coefficients(&rule, &[0.0; 3], 4)), "{rule:?}");
            assert!(panics(&|| _ = rule.coefficients(tensor(&[0.0; 3], [3]), 4)), "{rule:?}");
        }
        assert!(RULES.iter().all(CoefficientRule::is_valid));
        let uniform = || coefficients(&RULES[3], &[0.0; 3], 2);
        for exponent in [1.0, -1e-6, f64::NEG_INFINITY, f64::NAN] {
            assert!(panics(&|| _ = power_mean_weights(&[0.0; 6], &uniform(), exponent)), "{exponent}");
            let on_device = || RULES[3].coefficients(tensor(&[0.0; 3], [3]), 2);
            assert!(
                panics(&|| _ = crate::power_mean_weights(tensor(&[0.0; 6], [3, 2]), &on_device(), exponent)),
                "{exponent}"
            );
        }
        assert!(panics(&|| _ = power_mean_weights(&[0.0; 5], &uniform(), -1.0)));
        assert!(panics(&|| _ = log_second_moment(&[0.0; 4], 3)));
        assert!(panics(&|| _ = packed_diagnostics(&[1.0; 4], 3, None)));
        for clip in [f64::NAN, -1.0, 0.0] {
            assert!(panics(&|| _ = multiple_importance_weights(&[0.0; 4], clip)), "{clip}");
            assert!(
                panics(&|| _ = crate::multiple_importance_weights(tensor(&[0.0; 4], [2, 2]), clip)),
                "{clip}"
            );
        }
    }

    #[test]
    fn shapes_that_would_be_stretched_are_a_panic() {
        use crate::{
            Baseline, LoggedActions, StepReturn, log_ratio, step_coefficients, step_mask, step_returns,
        };
        let panics = |call: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
        let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, &Device::default());
        assert!(panics(&|| {
            _ = step_returns(zeros([1, 1, 3]), zeros([1, 4, 3]), 1.0, StepReturn::ToGo, Baseline::None);
        }));
        assert!(panics(&|| _ = step_coefficients(tensor(&[1.0; 2], [2, 1]), zeros([2, 3, 4]))));
        assert!(panics(&|| _ = step_mask(&[9], [1, 1, 2], &Device::default())));
        let means = || Tensor::<4>::zeros([3, 2, 4, 1], &Device::default());
        let logged = LoggedActions {
            actions: means(),
            behaviour_mean: means(),
            behaviour_log_std: Tensor::zeros([3, 1], &Device::default()),
            mask: zeros([1, 2, 4]),
        };
        assert!(panics(&|| _ = log_ratio(means(), tensor(&[0.0], [1]), &logged)));
    }
}

//! How far results in single precision may be from the oracle's.
//!
//! Errors are bounded by [`MARGIN`] times the machine epsilon times the size of the terms that are added up, which the
//! oracle reports beside each result: a log-ratio near 0 that is the difference of large numbers may be less exact than
//! its own size suggests, and a weight is as exact, relatively, as its logarithm is absolutely. Whatever that allows, no
//! weight may be off by more than a thousandth, and no gradient by more than a thousandth of its terms.

use estimator::DiagnosticsReport;
use integration_tests::oracle::{self, Answer, Problem, Settings, Weighting, answer};
use trainer::device::SelectedDevice;
use trainer::logged::estimate;

use crate::support::{logged_trajectories, options, policy_state};

/// Errors are at most this many times `f32::EPSILON` times the size of the terms.
pub(crate) const MARGIN: f64 = 0.5;
pub(crate) const EPSILON: f64 = f32::EPSILON as f64;
/// Relative error that is too large whatever explains it.
pub(crate) const LIMIT: f64 = 1e-3;
/// Single precision saturates weights at `exp(80)`, and what is below the smallest normal number is zero.
pub(crate) const LARGEST_WEIGHT: f64 = 5.540_622_384_393_51e34;
pub(crate) const SMALLEST_WEIGHT: f64 = 1e-36;
/// A logarithm of this size or more stands for an infinite one.
pub(crate) const INFINITE: f64 = 1e29;

/// Absolute bounds on errors of logarithms.
pub(crate) struct Bounds {
    /// Of log-ratios, by batch.
    pub(crate) log_ratio: Vec<Vec<f64>>,
    /// Of `ln D`.
    pub(crate) log_second_moment: Vec<f64>,
}

impl Bounds {
    pub(crate) fn new(problem: &Problem, settings: &Settings) -> Self {
        let closed_form = matches!(settings.weighting, Weighting::PowerMean { closed_form: true, .. });
        let bound = MARGIN * EPSILON;
        let log_ratio =
            problem.map(|batch, steps| bound * (1.0 + oracle::log_ratio_scale(problem, batch, steps)));
        let log_second_moment = problem
            .batches
            .iter()
            .zip(&log_ratio)
            .map(|(batch, ratios)| {
                let sample = 2.0 * ratios.iter().copied().fold(0.0, f64::max);
                let closed = bound * (1.0 + oracle::log_second_moment_scale(problem, batch));
                if closed_form { closed } else { sample }
            })
            .collect();
        Self { log_ratio, log_second_moment }
    }

    /// Largest error of the coefficients' logarithms.
    pub(crate) fn coefficients(&self) -> f64 {
        self.log_second_moment.iter().copied().fold(0.0, f64::max) + 8.0 * MARGIN * EPSILON
    }

    /// Error of a weight's logarithm. The power mean passes on the whole error of `l`, that of `ln lambda` times up to
    /// `1/|s|`, and for `s = 0` times `|l|`.
    fn log_weight(&self, settings: &Settings, i: usize, j: usize, log_ratio: f64) -> f64 {
        let sensitivity = match settings.weighting {
            Weighting::PowerMean { exponent: 0.0, .. } => 1.0 + log_ratio.abs(),
            Weighting::PowerMean { exponent, .. } => 1.0 + 1.0 / exponent.abs(),
            Weighting::BalanceHeuristic => {
                return 4.0 * self.log_ratio.iter().flatten().copied().fold(0.0, f64::max);
            }
            _ => 1.0,
        };
        self.log_ratio[i][j] + sensitivity * self.coefficients() + MARGIN * EPSILON * log_ratio.abs()
    }
}

pub(crate) fn assert_bounded(found: f64, expected: f64, bound: f64, what: std::fmt::Arguments<'_>) {
    if expected == f64::INFINITY {
        assert!(found >= INFINITE && found.is_finite(), "{what}: {found} is not infinite");
        return;
    }
    let error = (found - expected).abs();
    assert!(error <= bound, "{what}: {found} is not {expected}: off by {error:.3e}, allowed is {bound:.3e}");
}

/// Runs the whole estimate on `device` and compares everything that it returns.
pub(crate) fn assert_conforms(problem: &Problem, settings: &Settings, device: &SelectedDevice, case: &str) {
    let name = format!("{case} on {}", device.name);
    let expected = answer(problem, settings);
    let found = estimate(
        &policy_state(&problem.target),
        &logged_trajectories(problem),
        &options(problem, settings),
        &device.device,
    )
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    let bounds = Bounds::new(problem, settings);
    let (window, batch) = (problem.window(), problem.batch());
    for i in 0..window {
        let log_moment = found.tensors["log_second_moment"].values[i];
        let bound = bounds.log_second_moment[i];
        assert_bounded(log_moment, expected.log_second_moment[i], bound, format_args!("{name}: ln D {i}"));
        for (what, expected) in [("alpha", &expected.alpha), ("lambda", &expected.lambda)] {
            let value = found.tensors[what].values[i];
            let bound = bounds.coefficients().exp_m1() * expected[i] + SMALLEST_WEIGHT;
            assert_bounded(value, expected[i], bound, format_args!("{name}: {what} {i}"));
        }
    }
    let mut weights = vec![];
    for i in 0..window {
        let row: Vec<f64> = expected.weights[i].iter().map(|weight| weight.min(LARGEST_WEIGHT)).collect();
        for (j, weight) in row.iter().enumerate() {
            let value = found.tensors["weights"].values[i * batch + j];
            let relative = bounds.log_weight(settings, i, j, expected.log_ratio[i][j]).exp_m1().min(LIMIT);
            let bound = relative * weight + SMALLEST_WEIGHT;
            assert_bounded(value, *weight, bound, format_args!("{name}: weight {i}, {j}"));
        }
        weights.push(row);
    }
    let gradient: Vec<f64> = parameter_names(problem)
        .iter()
        .flat_map(|parameter| found.tensors[&format!("gradient.{parameter}")].values.clone())
        .collect();
    assert_gradient(&gradient, problem, settings, &expected, &weights, &bounds, &name);
    assert_diagnostics(
        &found.diagnostics,
        &weights,
        gradient_bound(settings, &expected, &weights, &bounds),
        &name,
    );
}

pub(crate) fn parameter_names(problem: &Problem) -> Vec<String> {
    let mut names = vec![];
    for (index, layer) in problem.target.layers.iter().enumerate() {
        names.push(format!("mean.{index}.weight"));
        names.extend(layer.bias.as_ref().map(|_| format!("mean.{index}.bias")));
    }
    names.extend(problem.target.learned.then(|| "log_std".to_owned()));
    names
}

/// Relative error of the weights that matter, and of the network's own arithmetic.
pub(crate) fn gradient_bound(
    settings: &Settings,
    expected: &Answer,
    weights: &[Vec<f64>],
    bounds: &Bounds,
) -> f64 {
    let largest = weights.iter().flatten().copied().fold(0.0, f64::max);
    let count = weights.iter().flatten().count() as f64;
    let mut bound = 0.0_f64;
    for (i, row) in weights.iter().enumerate() {
        for (j, weight) in row.iter().enumerate() {
            let log_weight = bounds.log_weight(settings, i, j, expected.log_ratio[i][j]);
            let relevance = (count * weight / largest.max(f64::MIN_POSITIVE)).min(1.0);
            bound = bound.max(log_weight.exp_m1() * relevance);
        }
    }
    bound + 32.0 * MARGIN * EPSILON
}

pub(crate) fn assert_gradient(
    found: &[f64],
    problem: &Problem,
    settings: &Settings,
    expected: &Answer,
    weights: &[Vec<f64>],
    bounds: &Bounds,
    name: &str,
) {
    let (gradient, scale) = oracle::gradient_for_weights(problem, weights, settings);
    assert_eq!(found.len(), gradient.len(), "{name}: parameters");
    let largest = scale.iter().copied().fold(0.0, f64::max);
    if largest > f64::from(f32::MAX) / 10.0 {
        // Saturated weights times returns leave the range of single precision.
        return;
    }
    let bound = gradient_bound(settings, expected, weights, bounds).min(LIMIT);
    for (parameter, found) in found.iter().enumerate() {
        let bound = bound * scale[parameter] + EPSILON * largest + SMALLEST_WEIGHT;
        assert_bounded(*found, gradient[parameter], bound, format_args!("{name}: gradient {parameter}"));
    }
}

pub(crate) fn assert_diagnostics(
    report: &DiagnosticsReport,
    weights: &[Vec<f64>],
    relative: f64,
    name: &str,
) {
    let all: Vec<f64> = weights.iter().flatten().copied().collect();
    let largest = all.iter().copied().fold(0.0, f64::max);
    if largest < SMALLEST_WEIGHT {
        return;
    }
    let relative = 4.0 * relative + 1e-5;
    let effective = oracle::effective_sample_size(&all);
    let bound = relative * effective;
    assert_bounded(report.effective_sample_size, effective, bound, format_args!("{name}: ESS"));
    let units = largest * all.len() as f64;
    assert_bounded(report.largest_weight, units, relative * units, format_args!("{name}: largest weight"));
    for (i, own) in weights.iter().enumerate() {
        if own.iter().copied().fold(0.0, f64::max) >= SMALLEST_WEIGHT {
            let (found, effective) =
                (report.batch_effective_sample_size[i], oracle::effective_sample_size(own));
            assert_bounded(found, effective, relative * effective, format_args!("{name}: ESS of batch {i}"));
        }
    }
    for (i, share) in oracle::share(weights).into_iter().enumerate() {
        assert_bounded(
            report.batch_share[i],
            share,
            relative * share + 1e-30,
            format_args!("{name}: share {i}"),
        );
    }
}

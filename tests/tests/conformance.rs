//! Every compiled backend against the float64 oracle, in single precision.
//!
//! Errors are bounded by `MARGIN` times the machine epsilon times the size of the terms that are added up, which the
//! oracle reports beside each result: a log-ratio near 0 that is the difference of large numbers may be less exact than
//! its own size suggests, and a weight is as exact, relatively, as its logarithm is absolutely. Whatever that allows, no
//! weight may be off by more than a thousandth, and no gradient by more than a thousandth of its terms.

mod support;

use burn::tensor::Tensor;
use estimator::{
    DiagnosticsReport, clipped_weights, closed_form_log_second_moment, log_ratio, power_mean_weights,
    sample_log_second_moment, step_returns,
};
use integration_tests::oracle::{
    self, Activation, Answer, Baseline, Coefficients, Problem, Settings, Weighting, answer,
};
use integration_tests::problems::{DeviationShift, Recipe};
use support::{OnDevice, devices, host, logged_trajectories, options, policy_state, tensor};
use trainer::algorithms;
use trainer::config::{AlgorithmConfig, OnPolicyConfig, PowerMeanConfig, WindowConfig};
use trainer::device::SelectedDevice;
use trainer::logged::estimate;
use trainer::phases::Phases;
use trainer::trajectories::{BatchShape, Trajectories};

/// Errors are at most this many times `f32::EPSILON` times the size of the terms.
const MARGIN: f64 = 0.5;
const EPSILON: f64 = f32::EPSILON as f64;
/// Relative error that is too large whatever explains it.
const LIMIT: f64 = 1e-3;
/// Single precision saturates weights at `exp(80)`, and what is below the smallest normal number is zero.
const LARGEST_WEIGHT: f64 = 5.540_622_384_393_510e34;
const SMALLEST_WEIGHT: f64 = 1e-36;
/// A logarithm of this size or more stands for an infinite one.
const INFINITE: f64 = 1e29;

const RT_PG: Weighting =
    Weighting::PowerMean { rule: Coefficients::Adaptive { scale: 1.0 }, closed_form: true, exponent: -1.0 };
const PLAIN: Settings = Settings { weighting: RT_PG, discount: 1.0, total: false, baseline: Baseline::None };

/// Absolute bounds on errors of logarithms.
struct Bounds {
    /// Of log-ratios, by batch.
    log_ratio: Vec<Vec<f64>>,
    /// Of `ln D`.
    log_second_moment: Vec<f64>,
}

impl Bounds {
    fn new(problem: &Problem, settings: &Settings) -> Self {
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
    fn coefficients(&self) -> f64 {
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

fn assert_bounded(found: f64, expected: f64, bound: f64, what: std::fmt::Arguments<'_>) {
    if expected == f64::INFINITY {
        assert!(found >= INFINITE && found.is_finite(), "{what}: {found} is not infinite");
        return;
    }
    let error = (found - expected).abs();
    assert!(error <= bound, "{what}: {found} is not {expected}: off by {error:.3e}, allowed is {bound:.3e}");
}

/// Runs the whole estimate on `device` and compares everything that it returns.
fn assert_conforms(problem: &Problem, settings: &Settings, device: &SelectedDevice, case: &str) {
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

fn parameter_names(problem: &Problem) -> Vec<String> {
    let mut names = vec![];
    for (index, layer) in problem.target.layers.iter().enumerate() {
        names.push(format!("mean.{index}.weight"));
        names.extend(layer.bias.as_ref().map(|_| format!("mean.{index}.bias")));
    }
    names.extend(problem.target.learned.then(|| "log_std".to_owned()));
    names
}

/// Relative error of the weights that matter, and of the network's own arithmetic.
fn gradient_bound(settings: &Settings, expected: &Answer, weights: &[Vec<f64>], bounds: &Bounds) -> f64 {
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

fn assert_gradient(
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

fn assert_diagnostics(report: &DiagnosticsReport, weights: &[Vec<f64>], relative: f64, name: &str) {
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
    for (i, share) in oracle::share(weights).into_iter().enumerate() {
        assert_bounded(
            report.batch_share[i],
            share,
            relative * share + 1e-30,
            format_args!("{name}: share {i}"),
        );
    }
}

fn assert_conforms_everywhere(recipe: &Recipe, settings: &Settings, seed: u64) {
    let problem = recipe.problem(seed);
    for device in devices() {
        assert_conforms(&problem, settings, &device, &format!("seed {seed}, {settings:?}, {recipe:?}"));
    }
}

/// Options that take turns with the seed.
fn varied_settings(seed: u64) -> Settings {
    let rules = [
        Coefficients::Adaptive { scale: 1.0 },
        Coefficients::Adaptive { scale: 2.1459 },
        Coefficients::Theoretical { second_moment: 50.0, delta: 0.2 },
        Coefficients::Fixed { lambda: 0.3, adaptive: false },
        Coefficients::Fixed { lambda: 0.7, adaptive: true },
        Coefficients::Fixed { lambda: 0.0, adaptive: false },
        Coefficients::Fixed { lambda: 1.0, adaptive: true },
    ];
    let pick =
        |count: usize, salt: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt) >> 33) as usize % count;
    let power_mean = Weighting::PowerMean {
        rule: rules[pick(rules.len(), 2)],
        closed_form: pick(2, 3) == 0,
        exponent: [-1.0, -0.5, -2.0, 0.0][pick(4, 4)],
    };
    Settings {
        weighting: [
            power_mean,
            power_mean,
            power_mean,
            Weighting::MultipleImportance,
            Weighting::BalanceHeuristic,
        ][pick(5, 5)],
        discount: [1.0, 0.9, 0.99, 0.0][pick(4, 6)],
        total: pick(3, 7) == 0,
        baseline: [Baseline::None, Baseline::Average, Baseline::LeaveOneOut][pick(3, 8)],
    }
}

/// Software Vulkan of Mesa 22 stops every shader loop after 65535 iterations, without an error. A running sum is one
/// such loop on the cubecl backends: each element adds up all before it.
#[test]
fn loops_of_a_hundred_thousand_iterations_come_to_their_end() {
    const LENGTH: usize = 100_000;
    for device in devices() {
        let sums = Tensor::<1>::ones([LENGTH], &device.device).cumsum(0);
        let last = host(sums.slice(LENGTH - 1..LENGTH));
        assert_eq!(last, [LENGTH as f64], "{} ends shader loops early: update its driver", device.name);
    }
}

#[test]
fn random_problems() {
    for seed in 0..60 {
        assert_conforms_everywhere(&Recipe::random(seed), &varied_settings(seed), seed);
    }
}

#[test]
fn extreme_log_ratios() {
    for seed in 0..24 {
        let recipe = Recipe {
            window: 1 + seed as usize % 4,
            horizon: [10, 50][seed as usize % 2],
            early_ends: false,
            shift: 0.3,
            log_ratio: Some([300.0, 90.0, 30.0][seed as usize % 3]),
            ..Recipe::default()
        };
        assert_conforms_everywhere(&recipe, &varied_settings(seed + 1000), seed);
        assert_conforms_everywhere(&recipe, &PLAIN, seed);
    }
}

#[test]
fn horizons_of_a_thousand_steps() {
    for (seed, early_ends) in [(1, false), (2, true)] {
        let recipe =
            Recipe { window: 3, batch: 3, horizon: 1000, early_ends, shift: 0.01, ..Recipe::default() };
        assert_conforms_everywhere(&recipe, &PLAIN, seed);
        let settings = Settings { discount: 0.99, baseline: Baseline::LeaveOneOut, ..PLAIN };
        assert_conforms_everywhere(&recipe, &settings, seed);
    }
}

#[test]
fn single_trajectories_batches_and_steps() {
    let single =
        |window: usize, batch: usize, horizon: usize| Recipe { window, batch, horizon, ..Recipe::default() };
    for (seed, recipe) in
        [single(1, 1, 1), single(1, 1, 30), single(1, 7, 30), single(6, 1, 30), single(8, 9, 1)]
            .into_iter()
            .enumerate()
    {
        for baseline in [Baseline::None, Baseline::Average, Baseline::LeaveOneOut] {
            assert_conforms_everywhere(&recipe, &Settings { baseline, ..PLAIN }, seed as u64);
        }
    }
}

#[test]
fn learned_deviations_biases_and_unequal_behaviour() {
    for (seed, deviation_shift) in
        [DeviationShift::Equal, DeviationShift::Slight, DeviationShift::Infinite].into_iter().enumerate()
    {
        for activation in [Activation::Tanh, Activation::Relu] {
            let recipe = Recipe {
                hidden: vec![8, 4],
                activation,
                learned: true,
                deviation_shift,
                action_size: 6,
                ..Recipe::default()
            };
            assert_conforms_everywhere(&recipe, &PLAIN, seed as u64);
        }
    }
}

/// All second moments infinite: every batch counts alike, uncorrected.
#[test]
fn a_window_of_infinite_second_moments() {
    let recipe = Recipe { window: 1, deviation_shift: DeviationShift::Infinite, ..Recipe::default() };
    assert_conforms_everywhere(&recipe, &PLAIN, 4);
}

#[test]
fn rubbish_in_padding_reaches_nothing() {
    for seed in 0..8 {
        let recipe = Recipe { deviation_shift: DeviationShift::Slight, ..Recipe::default() };
        let problem = recipe.problem(seed);
        let [window, batch, time] = [problem.window(), problem.batch(), problem.horizon];
        for device in devices() {
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

#[test]
fn clipped_weights_and_given_coefficients() {
    let ratios = [-300.0, -90.0, -5.0, -0.1, 0.0, 0.1, 5.0, 90.0, 300.0];
    for device in devices() {
        let row = || tensor::<2>(&ratios, [1, ratios.len()], &device.device);
        let clipped = host(clipped_weights(row(), 10.0));
        for (ratio, found) in ratios.iter().zip(clipped) {
            let expected = oracle::clipped_weight(*ratio, 10.0, 1, ratios.len());
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

/// The ring of batches, eviction and the balance heuristic's matrix: seven iterations of every algorithm.
#[test]
fn algorithms_over_a_run() {
    let recipe = Recipe { batch: 4, horizon: 12, shift: 0.05, ..Recipe::default() };
    let learned = Recipe { learned: true, hidden: vec![], ..recipe.clone() };
    let on_policy = OnPolicyConfig { batch_size: 4, discount: 0.9, ..OnPolicyConfig::default() };
    let window = WindowConfig { batch_size: 4, window: 3, discount: 0.9, ..WindowConfig::default() };
    let rt_pg = PowerMeanConfig { batch_size: 4, window: 3, discount: 0.9, ..PowerMeanConfig::default() };
    let cases = [
        (AlgorithmConfig::RtPg(rt_pg), 3, RT_PG, false),
        (AlgorithmConfig::Gpomdp(on_policy), 1, Weighting::Uniform, false),
        (AlgorithmConfig::Reinforce(on_policy), 1, Weighting::Uniform, true),
        (AlgorithmConfig::Miw(window), 3, Weighting::MultipleImportance, false),
        (AlgorithmConfig::Bh(window), 3, Weighting::BalanceHeuristic, false),
    ];
    for (seed, recipe) in [recipe, learned].into_iter().enumerate() {
        for device in devices() {
            for (config, capacity, weighting, total) in &cases {
                let settings = Settings { weighting: *weighting, discount: 0.9, total: *total, ..PLAIN };
                assert_run_conforms(&recipe, config, *capacity, &settings, &device, seed as u64);
            }
        }
    }
}

fn assert_run_conforms(
    recipe: &Recipe,
    config: &AlgorithmConfig,
    capacity: usize,
    settings: &Settings,
    device: &SelectedDevice,
    seed: u64,
) {
    let batches = recipe.run(7, seed);
    let shape = BatchShape {
        trajectories: recipe.batch,
        horizon: recipe.horizon,
        observation_size: recipe.observation_size,
        action_size: recipe.action_size,
    };
    let parameters = batches[0].behaviour.flat().len();
    let mut algorithm = algorithms::make(config, shape, parameters, &device.device);
    for iteration in 0..batches.len() {
        let name = format!("{} at iteration {iteration} on {}", config.name(), device.name);
        let first = (iteration + 1).saturating_sub(capacity);
        let problem = Problem {
            target: batches[iteration].behaviour.clone(),
            batches: batches[first..=iteration].to_vec(),
            horizon: recipe.horizon,
        };
        let policy = policy_nets::GaussianPolicy::from_state(&policy_state(&problem.target), &device.device);
        let fresh = trajectories(&problem, shape);
        let estimate = algorithm.estimate(&policy, &[fresh], &mut Phases::default());
        assert_eq!(estimate.batches, problem.window(), "{name}");
        let expected = answer(&problem, settings);
        let bounds = Bounds::new(&problem, settings);
        let gradient = host(estimate.gradient);
        assert_gradient(&gradient, &problem, settings, &expected, &expected.weights, &bounds, &name);
        let report = estimate.diagnostics.report();
        let newest = oracle::share(&expected.weights)[problem.window() - 1];
        assert_bounded(report.batch_share[estimate.newest], newest, 1e-3, format_args!("{name}: share"));
    }
}

/// The problem's newest batch as roll-outs give it.
fn trajectories(problem: &Problem, shape: BatchShape) -> Trajectories {
    let newest = problem.batches[problem.window() - 1].clone();
    let log_std = newest.behaviour.log_std.iter().map(|value| *value as f32).collect();
    let only = Problem { batches: vec![newest], ..problem.clone() };
    let padded = only.padded(0.0);
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    Trajectories {
        shape,
        observations: single(&padded.observations),
        actions: single(&padded.actions),
        means: single(&padded.behaviour_mean),
        rewards: padded.rewards,
        lengths: padded.lengths,
        log_std,
    }
}

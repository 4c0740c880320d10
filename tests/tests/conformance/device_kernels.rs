//! The GPU kernels one by one, and how many there are.

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use burn::tensor::Device;
use integration_tests::oracle::{self, Activation, Problem, Settings, answer};
use integration_tests::problems::Recipe;
use kernels::cubecl::logging::{LaunchObservation, LaunchObserver};
use kernels::{KernelDevice, PartialGradients, TrajectoryStatistics, WeightRule, Weights, reduce};
use policy_nets::GaussianPolicy;
use trainer::algorithms::{Algorithm, DeviceReuse, Passes};
use trainer::config::{AdamConfig, Config, OptimizerConfig};
use trainer::device::{SelectedDevice, on_its_thread};
use trainer::device_trajectories::DeviceTrajectories;
use trainer::optimizer::Optimizer;
use trainer::phases::Phases;
use trainer::training::{TrainError, Trainer};

use crate::bounds::{EPSILON, LARGEST_WEIGHT, SMALLEST_WEIGHT, assert_bounded};
use crate::estimates::{MIW, PLAIN};
use crate::fused::{assert_estimate, configuration};
use crate::support::{batch_shape, coefficient_rule, fresh_batch, host, kernel_devices, policy_state};

/// Devices with kernels.
fn gpus() -> Vec<SelectedDevice> {
    kernel_devices().into_iter().filter(|device| !device.is_host()).collect()
}

/// Devices with kernels, each with one pass and with two.
fn ways() -> Vec<(SelectedDevice, Passes)> {
    gpus().into_iter().flat_map(|gpu| [(gpu.clone(), Passes::One), (gpu, Passes::Two)]).collect()
}

/// The problem's estimator on a device, with an empty window.
fn estimator_of(config: &Config, problem: &Problem, device: &Device, passes: Passes) -> DeviceReuse {
    let policy = policy_state(&problem.target);
    let reuse = DeviceReuse::new(&config.algorithm, &policy, batch_shape(problem), device).unwrap();
    reuse.with_passes(passes)
}

/// Weights for ratios of every size and all exponents, with `ln(1 - lambda)` near its ends, and clipped ones.
#[test]
fn weights_for_given_ratios() {
    let ratios = [-300.0, -90.0, -5.0, -0.1, 0.0, 0.1, 5.0, 90.0, 300.0];
    let shape = [1, ratios.len()];
    for selected in gpus() {
        let device = KernelDevice::of(&selected.device).unwrap();
        let row = || device.upload(ratios.iter().map(|ratio| *ratio as f32).collect());
        let mut statistics = TrajectoryStatistics { log_ratio: row(), moment_exponent: row(), parts: 1 };
        let packed = device.empty(7 + 2 * ratios.len());
        let mut weights = |rule| {
            let kernel = Weights::new(rule, [1, 1], device.limits()).unwrap();
            host(device.tensor(&kernel.launch(&mut statistics, shape, (&packed, 7), &device), [ratios.len()]))
        };
        for lambda in [0.0, 1e-12, 1e-3, 0.5, 0.999, 1.0 - 1e-7, 1.0] {
            for exponent in [-2.0, -1.0, -0.5, -0.1, 0.0] {
                let rule = coefficient_rule(oracle::Coefficients::Fixed { lambda, adaptive: false }, 1);
                let divergence = estimator::DivergenceEstimator::Sample;
                let found = weights(WeightRule::PowerMean { rule, divergence, exponent });
                for (ratio, found) in ratios.iter().zip(found) {
                    let expected = oracle::power_mean_weight(*ratio, 1.0, lambda, exponent, ratios.len());
                    let expected = expected.min(LARGEST_WEIGHT);
                    let sensitivity =
                        if exponent == 0.0 { ratio.abs() } else { ratio.abs() + 30.0 / -exponent };
                    let bound = (4.0 * EPSILON * (4.0 + sensitivity)).exp_m1() * expected + SMALLEST_WEIGHT;
                    let what = format_args!("lambda {lambda}, s {exponent}, l {ratio} on {}", selected.name);
                    assert_bounded(found, expected, bound, what);
                }
            }
        }
        let clipped = weights(WeightRule::MultipleImportance { log_clip: 10.0_f64.ln() });
        for (ratio, found) in ratios.iter().zip(clipped) {
            let expected = oracle::multiple_importance_weight(*ratio, 10.0, 1, ratios.len());
            assert_bounded(found, expected, 1e-5 * expected + 1e-36, format_args!("clipped at {ratio}"));
        }
    }
}

/// Statistics on a device: each number as its half, and so on, in so many parts.
fn statistics_in(
    parts: usize,
    log_ratio: &[f32],
    exponent: &[f32],
    device: &KernelDevice,
) -> TrajectoryStatistics {
    let split = |values: &[f32]| {
        let part = |index: usize| {
            let share = 0.5_f32.powi((index + 1).min(parts - 1) as i32);
            let infinite = |value: f32| value.abs() > 1e29;
            values.iter().map(move |value| if infinite(*value) { *value } else { share * value })
        };
        device.upload((0..parts).flat_map(part).collect())
    };
    TrajectoryStatistics { log_ratio: split(log_ratio), moment_exponent: split(exponent), parts }
}

/// So many that larger cubes weigh them.
#[test]
fn many_trajectories_are_weighed_as_few_are() {
    let (shape, count) = ([3, 6000], 18_000);
    let numbers = |f: fn(f64) -> f64| (0..count).map(|index| f(f64::from(index)) as f32).collect::<Vec<_>>();
    let (log_ratio, exponent) = (numbers(|x| 3.0 * x.sin()), numbers(|x| (0.7 * x).cos().abs()));
    for selected in gpus() {
        let device = KernelDevice::of(&selected.device).unwrap();
        let rule = estimator::CoefficientRule::Adaptive { scale: 1.0 };
        let divergence = estimator::DivergenceEstimator::ClosedForm;
        let rule = WeightRule::PowerMean { rule, divergence, exponent: -1.0 };
        let [few, some, many, in_parts] = [(1, 1), (400, 1), (6000, 1), (6000, 3)].map(|(batch, parts)| {
            let mut statistics = statistics_in(parts, &log_ratio, &exponent, &device);
            let packed = device.empty(17 + 2 * count as usize);
            let kernel = Weights::new(rule, [3, batch], device.limits()).unwrap();
            kernel.launch(&mut statistics, shape, (&packed, 17), &device);
            assert_eq!(statistics.parts, 1);
            host(device.tensor(&packed, [17 + 2 * count as usize]))
        });
        for (index, few) in few.into_iter().enumerate() {
            for many in [some[index], many[index], in_parts[index]] {
                let close = (few - many).abs() <= 1e-5 * few.abs();
                assert!(close, "{index}: {few} and {many} on {}", selected.name);
            }
        }
    }
}

/// So many batches that a unit has one of its own, and not all have room at a time: the host's weights and diagnostics.
#[test]
fn many_batches_are_weighed_as_on_the_host() {
    let (window, batch) = (600, 3);
    let count = window * batch;
    let numbers = |f: fn(f64) -> f64| (0..count).map(|index| f64::from(f(index as f64) as f32)).collect();
    let log_ratio: Vec<f64> = numbers(|x| 2.0 * x.sin());
    let mut exponent: Vec<f64> = numbers(|x| 3.0 * (0.7 * x).cos().abs());
    exponent[500] = -estimator::LOG_ZERO;
    let rule = estimator::CoefficientRule::Adaptive { scale: 1.0 };
    let log_second_moment = estimator::host::log_second_moment(&exponent, batch);
    let coefficients = estimator::host::coefficients(&rule, &log_second_moment, batch);
    let weights = estimator::host::power_mean_weights(&log_ratio, &coefficients, -1.0);
    let given = Some((log_second_moment.as_slice(), &coefficients));
    let expected = estimator::host::packed_diagnostics(&weights, window, given);
    for selected in gpus() {
        let device = KernelDevice::of(&selected.device).unwrap();
        let divergence = estimator::DivergenceEstimator::ClosedForm;
        let rule = WeightRule::PowerMean { rule, divergence, exponent: -1.0 };
        let Some(kernel) = Weights::new(rule, [window, batch], device.limits()) else {
            panic!("{window} batches fit into the shared memory of every device");
        };
        for parts in [1, 3] {
            let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
            let mut statistics = statistics_in(parts, &single(&log_ratio), &single(&exponent), &device);
            let packed = device.empty(expected.len() + 2 * count);
            let found = kernel.launch(&mut statistics, [window, batch], (&packed, expected.len()), &device);
            let found = host(device.tensor(&found, [count]));
            let front = host(device.part(&packed, expected.len()));
            let numbers = found.iter().chain(&front).zip(weights.iter().chain(&expected));
            for (index, (found, expected)) in numbers.enumerate() {
                let what = format_args!("number {index} of {parts} parts on {}", selected.name);
                assert_bounded(*found, *expected, 2e-5 * expected.abs() + 1e-6, what);
            }
        }
    }
}

/// A trajectory of weight 0 has no part in the gradient, whatever its own is.
#[test]
fn rows_of_weight_zero_are_left_out() {
    for selected in gpus() {
        let device = KernelDevice::of(&selected.device).unwrap();
        // Three trajectories of two parts each; two parameters, and room up to eight.
        let row = |values: [f32; 2]| values.into_iter().chain([f32::NAN; 6]);
        let rows = [[1.0, 2.0], [3.0, 4.0], [f32::NAN, f32::INFINITY], [1.0, 1.0], [10.0, 0.0], [0.0, 20.0]];
        let partial = PartialGradients {
            values: device.upload(rows.into_iter().flat_map(row).collect()),
            rows: 6,
            parameters: 2,
            of_trajectory: Some(2),
        };
        let sum = |weights: [f32; 3]| {
            host(device.tensor(&reduce::sum(&partial, &device.upload(weights.to_vec()), &device), [2]))
        };
        assert_eq!(sum([0.5, 0.0, 2.0]), [22.0, 43.0], "{}", selected.name);
        assert!(sum([0.5, 1e-30, 2.0]).iter().all(|value| !value.is_finite()), "{}", selected.name);
    }
}

/// Work on the device's thread gives its value and its panic, also from there, and finds the tensors of the caller.
#[test]
fn work_runs_on_the_device_thread() {
    for selected in gpus() {
        let device = KernelDevice::of(&selected.device).unwrap();
        let buffer = device.upload(vec![1.0, 2.0]);
        let caller = thread::current().id();
        let (elsewhere, values) = on_its_thread(&selected.device, || {
            let values = device.on_its_thread(|| host(device.tensor(&buffer, [2])));
            (thread::current().id() != caller, values)
        });
        assert!(elsewhere, "{}", selected.name);
        assert_eq!(values, [1.0, 2.0], "{}", selected.name);
        let panic = std::panic::catch_unwind(|| on_its_thread(&selected.device, || panic!("on purpose")));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"on purpose"), "{}", selected.name);
        assert_eq!(
            on_its_thread(&selected.device, || host(device.tensor(&buffer, [2]))),
            [1.0, 2.0],
            "{}",
            selected.name
        );
    }
}

/// As many rows as a line of units has, one more or less, and so many that larger cubes sum them: the float64 sum, to a few units in
/// the last place of the largest that it goes through.
#[test]
fn rows_are_summed_exactly() {
    const PARAMETERS: usize = 13;
    const STRIDE: usize = 16;
    for selected in gpus() {
        let device = KernelDevice::of(&selected.device).unwrap();
        for rows in [1, 31, 32, 33, 1023, 1024, 1025, 5000] {
            let value = |row: usize, column: usize| {
                ((row * STRIDE + column) as f64 * 0.37).sin() as f32 * (1 << (row % 11)) as f32
            };
            let weight = |row: usize| if row % 7 == 3 { 0.0 } else { (row as f64).cos() as f32 };
            let values = (0..rows * STRIDE).map(|place| value(place / STRIDE, place % STRIDE)).collect();
            let partial = PartialGradients {
                values: device.upload(values),
                rows,
                parameters: PARAMETERS,
                of_trajectory: Some(1),
            };
            let weights = device.upload((0..rows).map(weight).collect());
            let found = host(device.tensor(&reduce::sum(&partial, &weights, &device), [PARAMETERS]));
            for (column, found) in found.into_iter().enumerate() {
                // A product is rounded before it is added.
                let terms = (0..rows).map(|row| f64::from(weight(row) * value(row, column)));
                let (mut expected, mut largest) = (0.0, 0.0_f64);
                for term in terms {
                    expected += term;
                    largest = largest.max(expected.abs()).max(term.abs());
                }
                let bound = 1e-6 * largest;
                assert_bounded(found, expected, bound, format_args!("{rows} rows on {}", selected.name));
            }
        }
    }
}

/// More trajectories than the device runs cubes are estimated in two passes.
#[test]
fn more_trajectories_than_cubes() {
    let (batch, horizon) = (70_000, 40);
    let recipe = Recipe { window: 1, batch: 1, horizon, hidden: vec![], ..Recipe::default() };
    let problem = recipe.problem(3);
    // Of these weights the number of trajectories is no more than a factor.
    let settings = Settings { weighting: MIW, ..PLAIN };
    let config = configuration(&Recipe { batch, ..recipe }, &settings);
    let shape = trainer::trajectories::BatchShape { trajectories: batch, ..batch_shape(&problem) };
    let one = fresh_batch(&problem, 0);
    let many = trainer::trajectories::Trajectories {
        shape,
        observations: one.observations.repeat(batch),
        actions: one.actions.repeat(batch),
        means: one.means.repeat(batch),
        rewards: one.rewards.repeat(batch),
        lengths: one.lengths.repeat(batch),
        log_std: one.log_std.clone(),
    };
    let state = policy_state(&problem.target);
    for selected in gpus() {
        let device = &selected.device;
        let new = |batch: usize| {
            let shape = trainer::trajectories::BatchShape { trajectories: batch, ..shape };
            DeviceReuse::new(&config.algorithm, &state, shape, device).unwrap()
        };
        let policy = GaussianPolicy::from_state(&state, device);
        let (mut few, mut reuse) = (new(1), new(batch));
        let expected =
            host(few.estimate(&policy, std::slice::from_ref(&one), &mut Phases::default()).gradient);
        let found =
            host(reuse.estimate(&policy, std::slice::from_ref(&many), &mut Phases::default()).gradient);
        assert_eq!(few.passes(), Passes::One);
        if selected.is_software {
            assert_eq!(reuse.passes(), Passes::Two);
        }
        for (found, expected) in found.iter().zip(&expected) {
            let close = (found - expected).abs() <= 1e-4 * (1.0 + expected.abs());
            assert!(close, "{found} is not {expected} on {}", selected.name);
        }
    }
}

/// One pass where trajectories fill half a block, two for shorter ones.
#[test]
fn short_trajectories_are_estimated_in_two_passes() {
    for selected in gpus() {
        for (horizon, passes) in [(28, Passes::Two), (32, Passes::One), (1000, Passes::One)] {
            let recipe = Recipe { horizon, window: 1, batch: 1, ..Recipe::default() };
            let (problem, config) = (recipe.problem(1), configuration(&recipe, &PLAIN));
            let (state, shape) = (policy_state(&problem.target), batch_shape(&problem));
            let reuse = DeviceReuse::new(&config.algorithm, &state, shape, &selected.device).unwrap();
            assert_eq!(reuse.passes(), passes, "{horizon} steps on {}", selected.name);
        }
    }
}

/// What lies behind the end of a trajectory reaches nothing.
#[test]
fn rubbish_behind_the_end_is_not_read() {
    let recipe = Recipe { window: 2, batch: 5, horizon: 23, early_ends: true, ..Recipe::default() };
    let problem = recipe.problem(5);
    let config = configuration(&recipe, &PLAIN);
    for (selected, passes) in ways() {
        let device = &selected.device;
        let policy = GaussianPolicy::from_state(&policy_state(&problem.target), device);
        let [clean, spoiled] = [false, true].map(|spoils| {
            let mut algorithm = estimator_of(&config, &problem, device, passes);
            for index in 0..2 {
                let mut batch = fresh_batch(&problem, index);
                let shape = batch.shape;
                for (trajectory, length) in batch.lengths.iter().enumerate().filter(|_| spoils) {
                    let behind =
                        trajectory * shape.horizon + *length as usize..(trajectory + 1) * shape.horizon;
                    let numbers = |size: usize| behind.start * size..behind.end * size;
                    batch.observations[numbers(shape.observation_size)].fill(f32::NAN);
                    batch.actions[numbers(shape.action_size)].fill(f32::NAN);
                    batch.means[numbers(shape.action_size)].fill(f32::NAN);
                }
                algorithm.estimate(&policy, &[batch], &mut Phases::default());
            }
            host(algorithm.estimate(&policy, &[], &mut Phases::default()).gradient)
        });
        assert!(clean.iter().all(|value| value.is_finite()));
        assert_eq!(clean, spoiled, "{passes:?} on {}", selected.name);
    }
}

#[test]
fn a_window_that_no_kernel_counts_is_refused() {
    let config = configuration(&Recipe::default(), &PLAIN);
    let problem = Recipe::default().problem(0);
    for selected in gpus() {
        let shape = trainer::trajectories::BatchShape {
            trajectories: 1 << 20,
            horizon: 1 << 11,
            ..batch_shape(&problem)
        };
        let policy = policy_state(&problem.target);
        let refused = DeviceReuse::new(&config.algorithm, &policy, shape, &selected.device).unwrap_err();
        assert!(refused.contains("more than a kernel counts"), "{refused}");
    }
}

/// A run whose window no buffer of the device holds is refused before it starts.
#[test]
fn a_window_larger_than_a_buffer_is_refused() {
    let source = trainer::config::Source::Preset("cartpole".to_owned());
    for selected in gpus() {
        let config = trainer::config::load(&source, &["algorithm.batch_size=16777216".to_owned()]).unwrap();
        let Err(error) = Trainer::new(&config, &selected) else { panic!("a window of 430 GB") };
        assert!(matches!(error, TrainError::Buffer { .. }) && error.is_input(), "{error}");
        let message = error.to_string();
        assert!(
            message.starts_with("the window (8 batches of 16777216 trajectories of 200 steps)"),
            "{message}"
        );
    }
}

const BASELINES: [oracle::Baseline; 3] =
    [oracle::Baseline::None, oracle::Baseline::Average, oracle::Baseline::LeaveOneOut];

/// Every batch goes into the window from the device, with the returns that a kernel computes.
fn assert_device_batches_conform(recipe: &Recipe, settings: &Settings, seed: u64) {
    let recipe = &Recipe { empty: true, ..recipe.clone() };
    let problem = recipe.problem(seed);
    assert!(problem.batches[0].trajectories.iter().any(|steps| steps.len() < recipe.horizon), "an early end");
    let expected = answer(&problem, settings);
    let config = configuration(recipe, settings);
    for (selected, passes) in ways() {
        let (device, name) = (&selected.device, format!("{settings:?}, {passes:?} on {}", selected.name));
        let policy = GaussianPolicy::from_state(&policy_state(&problem.target), device);
        let mut algorithm = estimator_of(&config, &problem, device, passes);
        for index in 0..recipe.window {
            let batch = DeviceTrajectories::from_host(&fresh_batch(&problem, index), device);
            algorithm.window_mut().push_device(&batch).unwrap();
        }
        let estimate = algorithm.estimate(&policy, &[], &mut Phases::default());
        let (gradient, report) = (host(estimate.gradient), estimate.diagnostics.report());
        assert_estimate(&gradient, &report, &problem, settings, &expected, &name);
    }
}

#[test]
fn batches_on_the_device_give_the_estimates_of_batches_on_the_host() {
    for (seed, baseline) in BASELINES.into_iter().enumerate() {
        let recipe = Recipe { window: 2, batch: 3, horizon: 17, ..Recipe::default() };
        let settings = Settings { baseline, discount: 0.9, ..PLAIN };
        assert_device_batches_conform(&recipe, &settings, seed as u64);
    }
    // More trajectories than units share a step, and more steps than a cube takes at a time.
    let recipe = Recipe { window: 1, batch: 41, horizon: 27, ..Recipe::default() };
    let settings = Settings { baseline: oracle::Baseline::LeaveOneOut, ..PLAIN };
    assert_device_batches_conform(&recipe, &settings, 7);
}

/// Total returns on the device, for one batch: a baseline averages those of trajectories that have ended, too.
#[test]
fn total_returns_on_the_device() {
    for (seed, baseline) in BASELINES.into_iter().enumerate() {
        let recipe = Recipe { window: 1, batch: 3, horizon: 17, ..Recipe::default() };
        let weighting = oracle::Weighting::Uniform;
        let settings = Settings { weighting, total: true, baseline, discount: 0.95 };
        assert_device_batches_conform(&recipe, &settings, 11 + seed as u64);
    }
}

/// Kernels started by one thread.
struct Launches {
    thread: ThreadId,
    names: Mutex<Vec<&'static str>>,
}

impl LaunchObserver for Launches {
    fn launched(&self, kernel: &'static str) {
        if thread::current().id() == self.thread {
            self.names.lock().unwrap().push(kernel);
        }
    }
}

/// An iteration of RT-PG is three launches with one pass and four with two, whatever started them; two more put a batch that is on
/// the device into the window.
#[test]
fn an_update_is_three_or_four_launches() {
    let recipe = Recipe { window: 2, batch: 3, horizon: 9, learned: true, ..Recipe::default() };
    let problem = recipe.problem(5);
    let config = configuration(&recipe, &PLAIN);
    for (selected, passes) in ways() {
        let device = &selected.device;
        let mut algorithm = estimator_of(&config, &problem, device, passes);
        let mut policy = GaussianPolicy::from_state(&policy_state(&problem.target), device);
        let mut optimizer = Optimizer::new(&OptimizerConfig::Adam(AdamConfig::default()));
        let fresh = [fresh_batch(&problem, 0)];
        let on_device = DeviceTrajectories::from_host(&fresh[0], device);
        // Makes the optimiser's state.
        algorithm.update(&mut policy, &mut optimizer, &fresh, &mut Phases::default());

        let observer = Arc::new(Launches { thread: thread::current().id(), names: Mutex::default() });
        let observation = LaunchObservation::new(observer.clone());
        let update = algorithm.update(&mut policy, &mut optimizer, &fresh, &mut Phases::default());
        update.packed.read(None).unwrap();
        let names = std::mem::take(&mut *observer.names.lock().unwrap());
        let name = &selected.name;
        assert_eq!(names.len(), if passes == Passes::One { 3 } else { 4 }, "{name}: {names:?}");
        algorithm.window_mut().push_device(&on_device).unwrap();
        drop(observation);
        let names = std::mem::take(&mut *observer.names.lock().unwrap());
        assert_eq!(names.len(), 2, "{name}: {names:?}");
    }
}

/// A NaN in the data reaches what the host checks.
#[test]
fn a_nan_is_seen_on_the_host() {
    for activation in [Activation::Tanh, Activation::Relu] {
        assert_a_nan_is_seen(activation);
    }
}

fn assert_a_nan_is_seen(activation: Activation) {
    let recipe =
        Recipe { window: 2, batch: 3, horizon: 9, activation, early_ends: false, ..Recipe::default() };
    let problem = recipe.problem(6);
    let config = configuration(&recipe, &PLAIN);
    for (selected, passes) in ways() {
        let device = &selected.device;
        for what in ["observation", "action", "reward", "parameter"] {
            let mut algorithm = estimator_of(&config, &problem, device, passes);
            let mut state = policy_state(&problem.target);
            let mut batch = fresh_batch(&problem, 1);
            match what {
                "observation" => batch.observations[4] = f32::NAN,
                "action" => batch.actions[4] = f32::NAN,
                "reward" => batch.rewards[4] = f64::NAN,
                _ => state.mean_parameters[3] = f64::NAN,
            }
            let mut policy = GaussianPolicy::from_state(&state, device);
            let mut optimizer = Optimizer::new(&OptimizerConfig::Adam(AdamConfig::default()));
            let update = algorithm.update(&mut policy, &mut optimizer, &[batch], &mut Phases::default());
            let readings = update.layout.read(update.packed.read(None).unwrap());
            let name = &selected.name;
            let case = format!("{name}, {passes:?}, {activation:?}, {what}");
            assert!(!readings.gradient_norm().is_finite(), "{case}: {readings:?}");
            let outcome = readings.check(|| update.gradient.unwrap().read(None).unwrap());
            assert!(outcome.is_err(), "{case}");
        }
    }
}

/// The window's state survives a checkpoint.
#[test]
fn the_window_comes_back_from_a_checkpoint() {
    let recipe = Recipe { window: 3, batch: 2, horizon: 8, ..Recipe::default() };
    let problem = recipe.problem(8);
    let config = configuration(&recipe, &PLAIN);
    for (selected, passes) in ways() {
        let device = &selected.device;
        let new = || estimator_of(&config, &problem, device, passes);
        let policy = GaussianPolicy::from_state(&policy_state(&problem.target), device);
        let (mut algorithm, mut saved) = (new(), std::collections::BTreeMap::new());
        for index in [0, 1, 2, 0] {
            algorithm.estimate(&policy, &[fresh_batch(&problem, index)], &mut Phases::default());
        }
        algorithm.save(&mut saved);
        let mut restored = new();
        restored
            .restore(&mut |name, shape| {
                let tensor = &saved[name];
                assert_eq!(tensor.shape, shape);
                Ok(tensor.values.clone())
            })
            .unwrap();
        let fresh = [fresh_batch(&problem, 1)];
        let first = host(algorithm.estimate(&policy, &fresh, &mut Phases::default()).gradient);
        let second = host(restored.estimate(&policy, &fresh, &mut Phases::default()).gradient);
        assert_eq!(first, second);
    }
}

//! Every fused path, that of the CPU and that of the GPU, on one set of problems.

use burn::tensor::Device;
use estimator::DiagnosticsReport;
use integration_tests::oracle::{
    self, Activation, Answer, Baseline, Coefficients, Problem, Settings, Weighting, answer,
};
use integration_tests::problems::{DeviationShift, Recipe};
use policy_nets::GaussianPolicy;
use trainer::algorithms::{Algorithm, FusedReuse, TrajectoryReuse};
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
use trainer::algorithms::{DeviceReuse, Passes};
use trainer::config::{
    AdamConfig, AlgorithmConfig, CoefficientKind, Config, ConstantConfig, ImportanceConfig, OnPolicyConfig,
    OptimizerConfig, PowerMeanConfig, Source, load,
};
use trainer::device::SelectedDevice;
use trainer::optimizer::Optimizer;
use trainer::phases::Phases;
use trainer::threads::Threads;

use crate::bounds::{
    Bounds, LARGEST_WEIGHT, SMALLEST_WEIGHT, assert_bounded, assert_diagnostics, assert_gradient,
    gradient_bound,
};
use crate::estimates::{PLAIN, RT_PG, RULES};
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
use crate::support::is_thorough;
use crate::support::{
    self, batch_shape, devices, fresh_batch, host, kernel_devices, kernel_devices_for, policy_config,
    policy_state,
};

/// The fused algorithms of a device, with empty windows, and what tells them apart: that of the CPU, or those of a GPU with one
/// pass and with two, of which a software driver gets one pass in even cases and two in odd ones. None in builds with fusion, which
/// have no kernels of their own.
pub(crate) fn fused(
    config: &Config,
    problem: &Problem,
    device: &SelectedDevice,
    case: u64,
) -> Vec<(&'static str, Box<dyn Algorithm>)> {
    let (shape, policy) = (batch_shape(problem), policy_state(&problem.target));
    if device.is_host() {
        let threads = Threads::new(2).unwrap();
        let fused = FusedReuse::new(&config.algorithm, &policy, shape, &device.device, &threads);
        return vec![("", Box::new(fused.unwrap()))];
    }
    #[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
    return [(", one pass", Passes::One), (", two passes", Passes::Two)]
        .into_iter()
        .zip(0..)
        .filter(|(_, turn)| is_thorough(device) || case % 2 == *turn)
        .map(|((name, passes), _)| {
            let fused = DeviceReuse::new(&config.algorithm, &policy, shape, &device.device).unwrap();
            let fused = fused.with_passes(passes);
            let has_ratios = matches!(config.algorithm, AlgorithmConfig::RtPg(_) | AlgorithmConfig::Miw(_));
            assert_eq!(fused.passes(), if has_ratios { passes } else { Passes::Two });
            (name, Box::new(fused) as Box<dyn Algorithm>)
        })
        .collect();
    #[allow(unreachable_code, reason = "builds with fusion have no kernels of their own")]
    {
        let _ = case;
        Vec::new()
    }
}

/// A configuration that asks for the settings' estimate.
pub(crate) fn configuration(recipe: &Recipe, settings: &Settings) -> Config {
    let Recipe { window, batch, .. } = *recipe;
    let baseline = support::baseline(settings.baseline);
    let mut config = load(&Source::Preset("cartpole".to_owned()), &[]).unwrap();
    config.policy = policy_config(recipe);
    config.algorithm = match settings.weighting {
        Weighting::PowerMean { rule, closed_form, exponent } => {
            let mut options = PowerMeanConfig {
                batch_size: batch,
                window,
                discount: settings.discount,
                baseline,
                exponent,
                ..PowerMeanConfig::default()
            };
            if !closed_form {
                options.divergence = estimator::DivergenceEstimator::Sample;
            }
            match rule {
                Coefficients::Adaptive { scale } => options.correction_scale = scale,
                Coefficients::Theoretical { second_moment, delta } => {
                    options.coefficients = CoefficientKind::Theoretical;
                    (options.second_moment_bound, options.confidence_delta) = (second_moment, delta);
                }
                Coefficients::Fixed { lambda, adaptive } => {
                    options.coefficients = CoefficientKind::Fixed;
                    options.lambda = lambda;
                    if adaptive {
                        options.mixture = estimator::MixtureRule::Adaptive;
                    }
                }
            }
            AlgorithmConfig::RtPg(options)
        }
        Weighting::MultipleImportance { clip } => AlgorithmConfig::Miw(ImportanceConfig {
            batch_size: batch,
            window,
            discount: settings.discount,
            baseline,
            clip,
        }),
        Weighting::Uniform => {
            assert_eq!(window, 1, "uniform weights are those of on-policy algorithms");
            let options = OnPolicyConfig { batch_size: batch, discount: settings.discount, baseline };
            if settings.total {
                AlgorithmConfig::Reinforce(options)
            } else {
                AlgorithmConfig::Gpomdp(options)
            }
        }
        Weighting::BalanceHeuristic => unreachable!("no fused algorithm"),
    };
    config
}

/// The fused update takes the steps of tensor operations on the CPU, and learned deviations stay within their bounds.
#[test]
fn updates_are_those_of_the_tensor_operations() {
    let adam = |learning_rate| OptimizerConfig::Adam(AdamConfig { learning_rate, ..AdamConfig::default() });
    let constant = OptimizerConfig::Constant(ConstantConfig { learning_rate: 1e-3 });
    for (seed, optimizer, learned) in [(1, adam(0.05), false), (2, constant, true), (3, adam(0.05), true)] {
        let recipe = Recipe { window: 3, batch: 4, horizon: 12, learned, shift: 0.05, ..Recipe::default() };
        let problem = recipe.problem(seed);
        let config = configuration(&recipe, &PLAIN);
        let (shape, parameters) = (batch_shape(&problem), problem.target.flat().len());
        for selected in kernel_devices() {
            let mut state = policy_state(&problem.target);
            if let policy_nets::Deviation::Learned(bounds) = &mut state.deviation {
                bounds.max = state.log_std[0] + 1e-3;
                state.log_std[0] = bounds.max - 5e-4;
                state.log_std[1] = state.log_std[1].min(bounds.max);
            }
            let Some(host_device) = devices().into_iter().find(SelectedDevice::is_host) else { continue };
            let run = |algorithm: &mut dyn Algorithm, device: &Device| {
                let mut policy = GaussianPolicy::from_state(&state, device);
                let mut optimizer = Optimizer::new(&optimizer);
                let mut norms = vec![];
                for index in 0..3 {
                    let fresh = [fresh_batch(&problem, index)];
                    let update =
                        algorithm.update(&mut policy, &mut optimizer, &fresh, &mut Phases::default());
                    let values = update.packed.read(None).unwrap();
                    assert_eq!(values.len(), update.layout.count());
                    let readings = update.layout.read(values);
                    assert_eq!(readings.parameters(), host(policy.parameters()));
                    assert_eq!(readings.check(Vec::new), Ok(()));
                    norms.push(readings.gradient_norm());
                }
                (host(policy.parameters()), norms)
            };
            let host_device = &host_device.device;
            let mut generic = TrajectoryReuse::new(&config.algorithm, &state, shape, host_device).unwrap();
            let generic = run(&mut generic, host_device);
            for (way, mut fused) in fused(&config, &problem, &selected, seed) {
                let name = format!("{}{way}", selected.name);
                let fused = run(fused.as_mut(), &selected.device);
                for (fused, generic) in fused.0.iter().zip(&generic.0).chain(fused.1.iter().zip(&generic.1)) {
                    let close = (fused - generic).abs() <= 2e-4 * (1.0 + generic.abs());
                    assert!(close, "{fused} is not {generic} on {name}");
                }
                if let policy_nets::Deviation::Learned(bounds) = state.deviation {
                    let largest = fused.0[parameters - 2..].iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    assert!(largest <= f64::from(bounds.max as f32), "{largest} on {name}");
                }
            }
        }
    }
}

fn assert_fused_conforms(recipe: &Recipe, settings: &Settings, seed: u64) {
    assert_fused_conforms_on(&kernel_devices(), recipe, settings, seed);
}

fn assert_fused_conforms_on(devices: &[SelectedDevice], recipe: &Recipe, settings: &Settings, seed: u64) {
    let recipe = &Recipe { empty: true, ..recipe.clone() };
    let problem = recipe.problem(seed);
    let expected = answer(&problem, settings);
    let config = configuration(recipe, settings);
    let batches: Vec<_> = (0..problem.window()).map(|index| fresh_batch(&problem, index)).collect();
    for device in devices {
        let policy = GaussianPolicy::from_state(&policy_state(&problem.target), &device.device);
        for (way, mut algorithm) in fused(&config, &problem, device, seed) {
            let name = format!("seed {seed}, {settings:?}, {recipe:?} on {}{way}", device.name);
            let estimate = algorithm.estimate(&policy, &batches, &mut Phases::default());
            let held = (estimate.batches, estimate.newest);
            assert_eq!(held, (problem.window(), problem.window() - 1), "{name}");
            let (gradient, report) = (host(estimate.gradient), estimate.diagnostics.report());
            assert_estimate(&gradient, &report, &problem, settings, &expected, &name);
        }
    }
}

/// Compares a gradient and its diagnostics with the oracle's.
pub(crate) fn assert_estimate(
    gradient: &[f64],
    report: &DiagnosticsReport,
    problem: &Problem,
    settings: &Settings,
    expected: &Answer,
    name: &str,
) {
    let bounds = Bounds::new(problem, settings);
    let saturated = |row: &Vec<f64>| row.iter().map(|weight| weight.min(LARGEST_WEIGHT)).collect();
    let weights: Vec<Vec<f64>> = expected.weights.iter().map(saturated).collect();
    assert_gradient(gradient, problem, settings, expected, &weights, &bounds, name);
    assert_diagnostics(report, &weights, gradient_bound(settings, expected, &weights, &bounds), name);
    if !matches!(settings.weighting, Weighting::PowerMean { .. }) {
        return;
    }
    for i in 0..problem.window() {
        let (found, bound) = (report.log_second_moment[i], bounds.log_second_moment[i]);
        assert_bounded(found, expected.log_second_moment[i], bound, format_args!("{name}: ln D {i}"));
        let pairs = [("alpha", &report.alpha, &expected.alpha), ("lambda", &report.lambda, &expected.lambda)];
        for (what, found, expected) in pairs {
            let bound = bounds.coefficients().exp_m1() * expected[i] + SMALLEST_WEIGHT;
            assert_bounded(found[i], expected[i], bound, format_args!("{name}: {what} {i}"));
        }
    }
}

/// Settings that take turns with the seed.
pub(crate) fn varied_settings(seed: u64) -> Settings {
    let pick =
        |count: usize, salt: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt) >> 33) as usize % count;
    let power_mean = Weighting::PowerMean {
        rule: RULES[seed as usize % RULES.len()],
        closed_form: pick(2, 3) == 0,
        exponent: [-1.0, -0.5, -2.0, 0.0][pick(4, 4)],
    };
    let importance = Weighting::MultipleImportance { clip: [f64::INFINITY, 2.0][pick(2, 9)] };
    Settings {
        weighting: [power_mean, power_mean, importance][pick(3, 5)],
        discount: [1.0, 0.9, 0.99, 0.0][pick(4, 6)],
        total: false,
        baseline: [Baseline::None, Baseline::Average, Baseline::LeaveOneOut][pick(3, 8)],
    }
}

/// Sizes at which blocks, tiles and vectors do not come out even.
#[test]
fn fused_paths_at_odd_sizes() {
    let sizes = |observation_size: usize, hidden: &[usize], action_size: usize| Recipe {
        observation_size,
        hidden: hidden.to_vec(),
        action_size,
        ..Recipe::default()
    };
    let recipes = [
        Recipe { window: 1, batch: 1, horizon: 1, ..sizes(1, &[], 1) },
        Recipe { window: 1, batch: 1, horizon: 1, ..sizes(64, &[3], 1) },
        Recipe { window: 3, batch: 2, horizon: 131, bias: false, ..sizes(4, &[], 1) },
        Recipe { window: 2, batch: 3, horizon: 33, ..sizes(5, &[33, 7, 5], 3) },
        Recipe { window: 2, batch: 2, horizon: 7, learned: true, ..sizes(64, &[64], 64) },
        Recipe { window: 2, batch: 2, horizon: 9, ..sizes(3, &[17, 64, 1, 9], 2) },
        Recipe { window: 5, batch: 3, horizon: 40, bias: false, ..sizes(17, &[32, 32], 6) },
    ];
    for (seed, recipe) in recipes.into_iter().enumerate() {
        for (index, activation) in [Activation::Tanh, Activation::Relu].into_iter().enumerate() {
            let recipe = Recipe { activation, ..recipe.clone() };
            // Software drivers get the activations in turn.
            let devices = kernel_devices_for(16 * seed as u64 + u64::from(index != seed % 2));
            assert_fused_conforms_on(&devices, &recipe, &PLAIN, seed as u64);
        }
    }
}

#[test]
fn fused_paths_on_random_problems() {
    for seed in 0..16 {
        assert_fused_conforms_on(
            &kernel_devices_for(seed),
            &Recipe::random(seed),
            &varied_settings(seed),
            seed,
        );
    }
}

/// Every rule for the weights, on one network.
#[test]
fn fused_paths_with_every_weight_rule() {
    let recipe = Recipe { window: 6, batch: 7, shift: 0.15, ..Recipe::default() };
    for seed in 0..42 {
        let mut settings = varied_settings(seed);
        // Software drivers get every rule for the coefficients once.
        let is_first = seed < RULES.len() as u64;
        if is_first {
            settings.weighting = Weighting::PowerMean {
                rule: RULES[seed as usize],
                closed_form: seed % 2 == 0,
                exponent: -1.0,
            };
        }
        assert_fused_conforms_on(&kernel_devices_for(u64::from(!is_first)), &recipe, &settings, seed);
    }
    for total in [false, true] {
        let settings = Settings { weighting: Weighting::Uniform, total, discount: 0.9, ..PLAIN };
        assert_fused_conforms(&Recipe { window: 1, ..recipe.clone() }, &settings, 7);
    }
}

#[test]
fn fused_paths_with_extreme_log_ratios() {
    for seed in 0..12 {
        let recipe = Recipe {
            window: 1 + seed as usize % 4,
            horizon: [10, 50][seed as usize % 2],
            early_ends: false,
            shift: 0.3,
            log_ratio: Some([300.0, 90.0, 30.0][seed as usize % 3]),
            ..Recipe::default()
        };
        assert_fused_conforms_on(&kernel_devices_for(seed), &recipe, &varied_settings(seed + 1000), seed);
        assert_fused_conforms_on(&kernel_devices_for(seed), &recipe, &PLAIN, seed);
    }
    // Every size of log-ratio on software drivers, too, with one network and horizon.
    for (seed, size) in [300.0, 90.0, 30.0].into_iter().enumerate() {
        let recipe = Recipe { early_ends: false, shift: 0.3, log_ratio: Some(size), ..Recipe::default() };
        assert_fused_conforms(&recipe, &PLAIN, seed as u64);
    }
}

#[test]
fn fused_paths_over_a_thousand_steps() {
    for (seed, early_ends) in [(1, false), (2, true)] {
        let recipe =
            Recipe { window: 3, batch: 3, horizon: 1000, early_ends, shift: 0.01, ..Recipe::default() };
        assert_fused_conforms(&recipe, &PLAIN, seed);
    }
}

/// So many trajectories that a GPU's sweep takes large blocks: one for each, two, one of a layer that units compute in tiles of eight
/// features; and a network too large for them, whose gradients of several blocks are added in memory.
#[test]
fn fused_paths_with_many_trajectories() {
    let recipe = Recipe { window: 2, batch: 150, shift: 0.02, ..Recipe::default() };
    let recipes = [
        Recipe { horizon: 70, ..recipe.clone() },
        Recipe { horizon: 150, learned: true, ..recipe.clone() },
        Recipe { horizon: 100, hidden: vec![32], action_size: 6, bias: false, ..recipe.clone() },
        Recipe { horizon: 100, hidden: vec![64, 64], learned: true, ..recipe },
    ];
    for (index, recipe) in recipes.into_iter().enumerate() {
        // Even: one pass.
        assert_fused_conforms(&recipe, &PLAIN, 2 * index as u64);
    }
}

#[test]
fn fused_paths_with_learned_and_unequal_deviations() {
    let shifts = [DeviationShift::Equal, DeviationShift::Slight, DeviationShift::Infinite];
    for (index, deviation_shift) in shifts.into_iter().enumerate() {
        for (seed, activation) in (2 * index as u64..).zip([Activation::Tanh, Activation::Relu]) {
            let recipe = Recipe {
                hidden: vec![8, 4],
                activation,
                learned: true,
                deviation_shift,
                action_size: 6,
                ..Recipe::default()
            };
            assert_fused_conforms(&recipe, &PLAIN, seed);
        }
    }
    // The longest is swept in parts.
    for (seed, window, horizon) in [(4, 1, 20), (5, 5, 20), (6, 5, 200)] {
        let deviation_shift = DeviationShift::AllInfinite;
        let recipe = Recipe { window, horizon, deviation_shift, ..Recipe::default() };
        assert_fused_conforms(&recipe, &PLAIN, seed);
    }
}

/// What a fused path does not cover gives the same numbers by tensor operations: a network too wide for a GPU's kernels.
#[test]
fn a_network_that_no_kernel_covers() {
    let recipe = Recipe { window: 2, batch: 2, horizon: 6, hidden: vec![20_000], ..Recipe::default() };
    let problem = recipe.problem(3);
    let settings = Settings { weighting: RT_PG, ..PLAIN };
    let expected = answer(&problem, &settings);
    let config = configuration(&recipe, &settings);
    let batches: Vec<_> = (0..2).map(|index| fresh_batch(&problem, index)).collect();
    for device in devices() {
        let name = format!("a wide network on {}", device.name);
        #[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
        if !device.is_host() {
            let refused = DeviceReuse::new(
                &config.algorithm,
                &policy_state(&problem.target),
                batch_shape(&problem),
                &device.device,
            );
            assert!(refused.unwrap_err().contains("shared memory"), "{name}");
        }
        let mut algorithm = trainer::algorithms::make(
            &config,
            &policy_state(&problem.target),
            batch_shape(&problem),
            trainer::random::Streams::new(0),
            &device,
            &Threads::new(2).unwrap(),
        );
        let policy = GaussianPolicy::from_state(&policy_state(&problem.target), &device.device);
        let estimate = algorithm.estimate(&policy, &batches, &mut Phases::default());
        let bounds = Bounds::new(&problem, &settings);
        assert_gradient(
            &host(estimate.gradient),
            &problem,
            &settings,
            &expected,
            &expected.weights,
            &bounds,
            &name,
        );
        let share = estimate.diagnostics.report().batch_share[estimate.newest];
        let newest = oracle::share(&expected.weights)[1];
        assert_bounded(share, newest, 1e-3, format_args!("{name}: share"));
    }
}

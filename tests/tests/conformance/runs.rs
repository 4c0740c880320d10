//! Algorithms over several iterations.

use integration_tests::oracle::{self, Problem, Settings, Weighting, answer};
use integration_tests::problems::Recipe;
use policy_nets::GaussianPolicy;
use trainer::algorithms;
use trainer::config::{
    AlgorithmConfig, Config, ImportanceConfig, KernelChoice, OnPolicyConfig, PowerMeanConfig, Source,
    WindowConfig, load,
};
use trainer::device::SelectedDevice;
use trainer::phases::Phases;
use trainer::random::Streams;
use trainer::threads::Threads;
use trainer::trajectories::BatchShape;

use crate::bounds::{Bounds, assert_bounded, assert_gradient};
use crate::estimates::{MIW, PLAIN, RT_PG};
use crate::support::{devices, fresh_batch, host, policy_config, policy_state};

/// The ring of batches, eviction and the balance heuristic's matrix: seven iterations of every algorithm, with the fused
/// kernels where they cover the device and with tensor operations.
#[test]
fn algorithms_over_a_run() {
    let recipe = Recipe { batch: 4, horizon: 12, shift: 0.05, ..Recipe::default() };
    let learned = Recipe { learned: true, hidden: vec![], ..recipe.clone() };
    // Log-ratios of several tens, up to the hundreds.
    let distant = Recipe { shift: 0.6, horizon: 40, ..recipe.clone() };
    let on_policy = OnPolicyConfig { batch_size: 4, discount: 0.9, ..OnPolicyConfig::default() };
    let window = WindowConfig { batch_size: 4, window: 3, discount: 0.9, ..WindowConfig::default() };
    let importance =
        ImportanceConfig { batch_size: 4, window: 3, discount: 0.9, ..ImportanceConfig::default() };
    let clipped = ImportanceConfig { clip: 1.5, ..importance };
    let rt_pg = PowerMeanConfig { batch_size: 4, window: 3, discount: 0.9, ..PowerMeanConfig::default() };
    let cases = [
        (AlgorithmConfig::RtPg(rt_pg), 3, RT_PG, false),
        (AlgorithmConfig::Gpomdp(on_policy), 1, Weighting::Uniform, false),
        (AlgorithmConfig::Reinforce(on_policy), 1, Weighting::Uniform, true),
        (AlgorithmConfig::Miw(importance), 3, MIW, false),
        (AlgorithmConfig::Miw(clipped), 3, Weighting::MultipleImportance { clip: clipped.clip }, false),
        (AlgorithmConfig::Bh(window), 3, Weighting::BalanceHeuristic, false),
    ];
    for (seed, recipe) in [recipe, learned, distant].into_iter().enumerate() {
        for device in devices() {
            for (config, capacity, weighting, total) in &cases {
                let settings = Settings { weighting: *weighting, discount: 0.9, total: *total, ..PLAIN };
                for kernels in [KernelChoice::Auto, KernelChoice::Generic] {
                    let mut run = load(&Source::Preset("cartpole".to_owned()), &[]).unwrap();
                    (run.algorithm, run.kernels) = (config.clone(), kernels);
                    run.policy = policy_config(&recipe);
                    assert_run_conforms(&recipe, &run, *capacity, &settings, &device, seed as u64);
                }
            }
        }
    }
}

fn assert_run_conforms(
    recipe: &Recipe,
    config: &Config,
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
    let mut algorithm = algorithms::make(
        config,
        &policy_state(&batches[0].behaviour),
        shape,
        Streams::new(config.seed),
        device,
        &Threads::new(2).unwrap(),
    );
    for iteration in 0..batches.len() {
        let name = format!(
            "{} with {:?} kernels at iteration {iteration} on {}",
            config.algorithm.name(),
            config.kernels,
            device.name
        );
        let first = (iteration + 1).saturating_sub(capacity);
        let problem = Problem {
            target: batches[iteration].behaviour.clone(),
            batches: batches[first..=iteration].to_vec(),
            horizon: recipe.horizon,
        };
        let policy = GaussianPolicy::from_state(&policy_state(&problem.target), &device.device);
        let fresh = fresh_batch(&problem, problem.window() - 1);
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

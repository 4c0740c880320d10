//! Learning on the LQR, whose expected return and its gradient are known exactly.

#![allow(clippy::unwrap_used, reason = "a test ends where its own preparation fails")]

use environments::linear_quadratic::optimum::{Gain, expected_return, optimal_return};
use environments::registry;
use policy_nets::{GaussianPolicy, PolicyState};
use trainer::algorithms;
use trainer::config::{AlgorithmConfig, Config, Source, load};
use trainer::device::{self, DeviceChoice, SelectedDevice};
use trainer::phases::Phases;
use trainer::random::Streams;
use trainer::rollout::{Mode, RollOut, Sampling};
use trainer::threads::Threads;
use trainer::training::Trainer;
use trainer::trajectories::Trajectories;

fn configuration(settings: &[&str]) -> Config {
    let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    load(&Source::Preset("lqr".to_owned()), &settings).unwrap()
}

fn cpu() -> SelectedDevice {
    device::select(&DeviceChoice::Cpu).unwrap()
}

fn gain(policy: &PolicyState) -> Gain {
    let [a, b, c, d] = policy.mean_parameters[..] else { panic!("not a linear policy of the LQR") };
    [[a, b], [c, d]]
}

/// From the zero policy's expected return, every algorithm covers at least 98 percent of the way to the optimum, those that correct
/// small batches 96.
#[test]
fn every_algorithm_comes_near_the_optimum() {
    const HORIZON: usize = 20;
    const VARIANCE: f64 = 0.1;
    let best = optimal_return(HORIZON, VARIANCE);
    let start = expected_return(&[[0.0; 2]; 2], VARIANCE, HORIZON);
    for algorithm in AlgorithmConfig::all() {
        let name = algorithm.name();
        let (setting, corrected) =
            (format!("algorithm.name={name}"), algorithm.variance_reduction().is_some());
        // Corrections of small batches are noise where the policy leaves its reference in large steps.
        let (least, [iterations, rate]) = if corrected {
            (0.96, ["iterations=1200", "optimizer.learning_rate=0.005"])
        } else {
            (0.98, ["iterations=300", "optimizer.learning_rate=0.02"])
        };
        let config = configuration(&[
            &setting,
            "algorithm.discount=1.0",
            "environment.horizon=20",
            "evaluation.interval=0",
            iterations,
            rate,
        ]);
        let mut trainer = Trainer::new(&config, &cpu()).unwrap();
        for _ in 0..config.iterations {
            trainer.step().unwrap();
        }
        let reached = expected_return(&gain(trainer.policy()), VARIANCE, HORIZON);
        let covered = (reached - start) / (best - start);
        println!("{name}: {reached:.4} of {best:.4}, {:.2} % of the way from {start:.4}", 100.0 * covered);
        assert!(covered >= least, "{name} reached {reached}, {covered} of the way from {start} to {best}");
    }
}

/// The mean of GPOMDP's estimates is the gradient of the expected return, without and with a leave-one-out baseline.
///
/// Of each component, 500 batches of 1000 trajectories give mean and standard error. A deviation of five standard errors
/// fails: a correct estimator does so with probability below 1e-5 in all (and this seed does not), one whose gradient is
/// off by a tenth of its length in any component surely (the bound asserted on the standard errors).
#[test]
fn the_mean_estimate_is_the_exact_gradient() {
    const BATCHES: u32 = 500;
    const HORIZON: usize = 5;
    const VARIANCE: f64 = 0.25;
    for baseline in ["none", "leave-one-out"] {
        let baseline_setting = format!("algorithm.baseline={baseline}");
        let config = configuration(&[
            "algorithm.name=gpomdp",
            "algorithm.discount=1.0",
            "algorithm.batch_size=1000",
            "environment.horizon=5",
            "policy.variance=0.25",
            &baseline_setting,
        ]);
        let mut state = Trainer::new(&config, &cpu()).unwrap().policy().clone();
        state.mean_parameters = vec![-0.5, 0.25, 0.125, -0.25];
        let gradients = sampled_gradients(&config, &state, HORIZON, BATCHES);

        let exact = exact_gradient(&gain(&state), VARIANCE, HORIZON);
        let length = exact.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (component, exact) in exact.into_iter().enumerate() {
            let values: Vec<f64> = gradients.iter().map(|gradient| gradient[component]).collect();
            let mean = values.iter().sum::<f64>() / f64::from(BATCHES);
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let error = (squares / f64::from(BATCHES - 1) / f64::from(BATCHES)).sqrt();
            println!("{baseline} {component}: {mean:.3} +- {error:.3}, exact {exact:.3}, length {length:.3}");
            assert!((mean - exact).abs() <= 5.0 * error, "component {component}: {mean} is not {exact}");
            assert!(10.0 * error <= 0.1 * length, "component {component}: no power, standard error {error}");
        }
    }
}

/// Gradient estimates at `state`, each from a batch of its own.
fn sampled_gradients(config: &Config, state: &PolicyState, horizon: usize, batches: u32) -> Vec<Vec<f64>> {
    let device = cpu();
    let threads = Threads::new(2).unwrap();
    let entry = registry::find("lqr").unwrap();
    let mut roll_out = RollOut::new(entry, config.algorithm.batch_size(), horizon, &threads).unwrap();
    let policy = GaussianPolicy::from_state(state, &device.device);
    let mut algorithm =
        algorithms::make(config, state, roll_out.shape(), Streams::new(config.seed), &device, &threads);
    let mut fresh = Trajectories::zeros(roll_out.shape());
    let sample = |iteration| {
        let sampling = Sampling {
            policy: state,
            streams: Streams::new(3),
            iteration,
            first_trajectory: 0,
            mode: Mode::Training,
        };
        roll_out.run(sampling, &mut fresh).unwrap();
        let estimate = algorithm.estimate(&policy, std::slice::from_ref(&fresh), &mut Phases::default());
        estimate.gradient.into_data().iter::<f64>().collect()
    };
    (0..batches).map(sample).collect()
}

/// Central differences of the expected return, in the order of the flat parameters.
fn exact_gradient(gain: &Gain, variance: f64, horizon: usize) -> Vec<f64> {
    let places = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let at = |(row, column): (usize, usize), change: f64| {
        let mut moved = *gain;
        moved[row][column] += change;
        expected_return(&moved, variance, horizon)
    };
    places.into_iter().map(|place| (at(place, 1e-5) - at(place, -1e-5)) / 2e-5).collect()
}

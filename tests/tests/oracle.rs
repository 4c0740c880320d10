//! The oracle against definitions that it does not use: finite differences, numbers worked out by hand.

#![allow(clippy::unwrap_used, reason = "a test ends where its own preparation fails")]

use integration_tests::oracle::{
    Activation, Baseline, Batch, Coefficients, Layer, Policy, Problem, Settings, Step, Weighting, answer,
    coefficients, log_density, log_ratio, log_second_moment_closed_form, log_second_moment_sample,
    power_mean_weight, step_returns,
};
use integration_tests::problems::{DeviationShift, Recipe};

fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * (1.0 + expected.abs()), "{found} is not {expected}");
}

/// The surrogate whose gradient the estimate is: weights and returns held constant, log-densities at `policy`.
fn surrogate(problem: &Problem, weights: &[Vec<f64>], settings: &Settings, policy: &Policy) -> f64 {
    let mut sum = 0.0;
    for (batch, weights) in problem.batches.iter().zip(weights) {
        let (returns, _) = step_returns(batch, settings.discount, settings.total, settings.baseline);
        for ((steps, returns), weight) in batch.trajectories.iter().zip(returns).zip(weights) {
            for (step, return_) in steps.iter().zip(returns) {
                sum += weight * return_ * log_density(policy, std::slice::from_ref(step));
            }
        }
    }
    sum
}

#[test]
fn backpropagation_by_hand_agrees_with_central_differences() {
    let settings = |total, baseline| Settings {
        weighting: Weighting::PowerMean {
            rule: Coefficients::Adaptive { scale: 1.0 },
            closed_form: true,
            exponent: -1.0,
        },
        discount: 0.97,
        total,
        baseline,
    };
    let recipes = [
        (Recipe { hidden: vec![], ..Recipe::default() }, settings(false, Baseline::None)),
        (
            Recipe { hidden: vec![7, 5], learned: true, ..Recipe::default() },
            settings(true, Baseline::Average),
        ),
        (
            Recipe { activation: Activation::Relu, bias: false, ..Recipe::default() },
            settings(false, Baseline::LeaveOneOut),
        ),
    ];
    for (seed, (recipe, settings)) in recipes.into_iter().enumerate() {
        let problem = recipe.problem(seed as u64);
        let answer = answer(&problem, &settings);
        let flat = problem.target.flat();
        assert_eq!(answer.gradient.len(), flat.len());
        for parameter in 0..flat.len() {
            let at = |change: f64| {
                let mut flat = flat.clone();
                flat[parameter] += change;
                surrogate(&problem, &answer.weights, &settings, &problem.target.with_flat(&flat))
            };
            let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert_near(answer.gradient[parameter], difference, 1e-7);
            assert!(answer.gradient_scale[parameter] >= answer.gradient[parameter].abs());
        }
    }
}

/// One step with one action: `mu_k = 2 s`, `mu_i = 3`, `s = 0.5`, `a = 2`, `sigma_k = 1`, `sigma_i = 2`.
fn by_hand() -> Problem {
    let policy = |weight: f64, log_std: f64| Policy {
        layers: vec![Layer { weight: vec![vec![weight]], bias: None }],
        activation: Activation::Tanh,
        log_std: vec![log_std],
        learned: false,
    };
    let step = Step { observation: vec![0.5], action: vec![2.0], reward: 4.0, behaviour_mean: vec![3.0] };
    let batch = Batch { trajectories: vec![vec![step]], behaviour: policy(6.0, 2.0_f64.ln()) };
    Problem { target: policy(2.0, 0.0), batches: vec![batch], horizon: 1 }
}

#[test]
fn one_step_is_as_worked_out_by_hand() {
    let problem = by_hand();
    let batch = &problem.batches[0];
    // l = [-ln 2 - (1/2)^2 / 2] - [0 - 1^2 / 2].
    let ratio = -(2.0_f64.ln()) - 0.125 + 0.5;
    assert_near(log_ratio(&problem, batch, &batch.trajectories[0]), ratio, 1e-15);
    // ln D = 2 ln 2 - 0 - ln(8 - 1) / 2 + (1 - 3)^2 / 7.
    let closed = 2.0 * 2.0_f64.ln() - 0.5 * 7.0_f64.ln() + 4.0 / 7.0;
    assert_near(log_second_moment_closed_form(&problem, batch), closed, 1e-15);
    assert_near(log_second_moment_sample(&[ratio]), -2.0 * ratio, 1e-15);
    // g = G (a - mu) / sigma^2 * s = 4 * 1 * 0.5.
    let settings =
        Settings { weighting: Weighting::Uniform, discount: 0.5, total: false, baseline: Baseline::None };
    assert_near(answer(&problem, &settings).gradient[0], 2.0, 1e-15);
}

/// `E_i[(p_k / p_i)^2]` by the trapezoidal rule over one action.
#[test]
fn the_closed_form_is_the_integral_that_it_stands_for() {
    let problem = by_hand();
    let density = |a: f64, mean: f64, std: f64| {
        (-0.5 * ((a - mean) / std).powi(2)).exp() / (std * (2.0 * std::f64::consts::PI).sqrt())
    };
    let points = (-40_000..=40_000).map(|index| f64::from(index) * 1e-3);
    let integral: f64 =
        points.map(|a| density(a, 1.0, 1.0).powi(2) / density(a, 3.0, 2.0).max(1e-300) * 1e-3).sum();
    assert_near(log_second_moment_closed_form(&problem, &problem.batches[0]), integral.ln(), 1e-10);
}

#[test]
fn coefficients_and_weights_are_as_worked_out_by_hand() {
    // D = 1, 4: D^(-1/2) = 1, 1/2; alpha = 2/3, 1/3; lambda = sqrt(1/(1*6)), sqrt(1/(4*6)).
    let (alpha, lambda) = coefficients(Coefficients::Adaptive { scale: 1.0 }, &[0.0, 4.0_f64.ln()], 3, 9);
    assert_near(alpha[0], 2.0 / 3.0, 1e-15);
    assert_near(alpha[1], 1.0 / 3.0, 1e-15);
    assert_near(lambda[0], (1.0_f64 / 6.0).sqrt(), 1e-15);
    assert_near(lambda[1], (1.0_f64 / 24.0).sqrt(), 1e-15);
    // (4 * 2 ln 6 + 4 ln 5) / (3 * 10 * 6) with d = 2, D = 10, N omega = 6.
    let rule = Coefficients::Theoretical { second_moment: 10.0, delta: 0.2 };
    let (alpha, lambda) = coefficients(rule, &[0.0, 1.0], 3, 2);
    assert_eq!(alpha, [0.5, 0.5]);
    assert_near(lambda[1], ((8.0 * 6.0_f64.ln() + 4.0 * 5.0_f64.ln()) / 180.0).sqrt(), 1e-15);
    // Ratio 4, lambda 1/4, alpha/N = 1/2: harmonic 1 / (3/4 / 4 + 1/4) = 16/7, geometric 4^(3/4), s = -1/2 gives
    // (3/4 / 2 + 1/4)^(-2) = 64/25.
    let weight = |exponent: f64| power_mean_weight(-(4.0_f64.ln()), 1.0, 0.25, exponent, 2);
    assert_near(weight(-1.0), 8.0 / 7.0, 1e-15);
    assert_near(weight(0.0), 2.0_f64.sqrt(), 1e-15);
    assert_near(weight(-0.5), 32.0 / 25.0, 1e-15);
}

#[test]
fn returns_and_baselines_are_as_worked_out_by_hand() {
    let step = |reward: f64| Step { observation: vec![], action: vec![], reward, behaviour_mean: vec![] };
    let rewards = [vec![1.0, 2.0, 4.0], vec![8.0]];
    let trajectories = rewards.iter().map(|rewards| rewards.iter().map(|r| step(*r)).collect()).collect();
    let batch = Batch { trajectories, behaviour: by_hand().target };
    // With gamma = 1/2: discounted rewards 1, 1, 1 and 8.
    let returns = |total, baseline| step_returns(&batch, 0.5, total, baseline).0;
    assert_eq!(returns(false, Baseline::None), [vec![3.0, 2.0, 1.0], vec![8.0]]);
    assert_eq!(returns(false, Baseline::Average), [vec![-2.5, 1.0, 0.5], vec![2.5]]);
    assert_eq!(returns(false, Baseline::LeaveOneOut), [vec![-5.0, 2.0, 1.0], vec![5.0]]);
    assert_eq!(returns(true, Baseline::LeaveOneOut), [vec![-5.0, -5.0, -5.0], vec![5.0]]);
}

#[test]
fn problems_have_what_their_recipe_asks_for() {
    let recipe = Recipe { log_ratio: Some(300.0), horizon: 30, ..Recipe::default() };
    let problem = recipe.problem(5);
    let ratios = problem.map(|batch, steps| log_ratio(&problem, batch, steps));
    let (old, newest) = ratios.split_at(3);
    assert!(old.iter().flatten().all(|ratio| (ratio.abs() - 300.0).abs() < 0.01), "{old:?}");
    assert!(old.iter().flatten().any(|ratio| *ratio > 0.0) && old.iter().flatten().any(|ratio| *ratio < 0.0));
    assert!(newest[0].iter().all(|ratio| ratio.abs() < 1e-4), "{newest:?}");

    let infinite = Recipe { deviation_shift: DeviationShift::Infinite, ..Recipe::default() }.problem(6);
    let moments: Vec<f64> =
        infinite.batches.iter().map(|batch| log_second_moment_closed_form(&infinite, batch)).collect();
    assert_eq!(
        moments.iter().map(|moment| moment.is_finite()).collect::<Vec<_>>(),
        [false, true, false, true]
    );
}

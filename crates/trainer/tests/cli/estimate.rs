//! `rtpg estimate` against the float64 oracle.
//!
//! Asked for are relative errors of 1e-5 in weights and 1e-4 in the gradient; the float64 computation on the CPU stays
//! below [`WEIGHTS`] and [`GRADIENT`].

use integration_tests::oracle::{
    Answer, Baseline, Coefficients, Problem, Settings, Weighting, answer, effective_sample_size, log_density,
    log_ratio,
};
use integration_tests::problems::{DeviationShift, Recipe};

use crate::session::Session;
use crate::tensors::{self, f64s};

/// Largest relative error of a weight, and absolute error of logarithms relative to 1.
const WEIGHTS: f64 = 1e-10;
/// Largest relative error of the gradient, in the Euclidean norm.
const GRADIENT: f64 = 1e-10;

const RT_PG: Settings = Settings {
    weighting: Weighting::PowerMean {
        rule: Coefficients::Adaptive { scale: 1.0 },
        closed_form: true,
        exponent: -1.0,
    },
    discount: 1.0,
    total: false,
    baseline: Baseline::None,
};
const MIW: Settings = Settings { weighting: Weighting::MultipleImportance { clip: f64::INFINITY }, ..RT_PG };
const CLIPPED: Settings = Settings { weighting: Weighting::MultipleImportance { clip: 1.2 }, ..RT_PG };
const BH: Settings = Settings { weighting: Weighting::BalanceHeuristic, ..RT_PG };
const SAMPLE: Settings = Settings {
    weighting: Weighting::PowerMean {
        rule: Coefficients::Adaptive { scale: 2.1459 },
        closed_form: false,
        exponent: -1.0,
    },
    ..RT_PG
};

/// The command's options for the settings.
fn options(settings: &Settings) -> String {
    let weights = match settings.weighting {
        Weighting::PowerMean { rule, closed_form, exponent } => {
            let rule = match rule {
                Coefficients::Adaptive { scale } => format!("adaptive --correction-scale {scale}"),
                Coefficients::Theoretical { second_moment, delta } => {
                    format!("theoretical --second-moment-bound {second_moment} --confidence-delta {delta}")
                }
                Coefficients::Fixed { lambda, adaptive } => {
                    format!(
                        "fixed --lambda {lambda} --mixture {}",
                        if adaptive { "adaptive" } else { "uniform" }
                    )
                }
            };
            let divergence = if closed_form { "closed-form" } else { "sample" };
            format!("mpm --coefficients {rule} --divergence {divergence} --exponent {exponent}")
        }
        Weighting::MultipleImportance { clip: f64::INFINITY } => "miw".to_owned(),
        Weighting::MultipleImportance { clip } => format!("miw --clip {clip}"),
        Weighting::BalanceHeuristic => "bh".to_owned(),
        Weighting::Uniform => panic!("no option of the command"),
    };
    let baseline = match settings.baseline {
        Baseline::None => "none",
        Baseline::Average => "average",
        Baseline::LeaveOneOut => "leave-one-out",
    };
    let returns = if settings.total { "total" } else { "to-go" };
    format!("--weights {weights} --discount {} --returns {returns} --baseline {baseline}", settings.discount)
}

/// Relative distance in the Euclidean norm.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    difference / norm(&mut expected.iter().copied())
}

fn assert_relative(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance * expected.abs() + 1e-300,
            "{what} {index}: {found:e} is not {expected:e}"
        );
    }
}

/// Runs the command on the problem's files and compares everything that it writes.
fn assert_agrees(problem: &Problem, settings: &Settings, only_log_prob: bool) {
    let session = Session::new();
    session.write("policy.safetensors", tensors::policy_file(&problem.target));
    let mut logged = tensors::trajectories(problem);
    let log_prob =
        problem.map(|batch, steps| log_ratio(problem, batch, steps) + log_density(&problem.target, steps));
    if only_log_prob {
        logged.remove("behaviour_mean");
        logged.remove("behaviour_log_std");
        let shape = [problem.window(), problem.batch()];
        logged.insert("behaviour_log_prob".to_owned(), f64s(&shape, &log_prob.concat()));
    }
    session.write("logged.safetensors", tensors::file(&logged, &[]));
    let mut options = options(settings);
    if settings.weighting == Weighting::BalanceHeuristic {
        options.push_str(" --policies");
        for (index, batch) in problem.batches.iter().enumerate() {
            let name = format!("behaviour-{index}.safetensors");
            session.write(&name, tensors::policy_file(&batch.behaviour));
            options = format!("{options} {name}");
        }
    }
    let files = "--policy policy.safetensors --trajectories logged.safetensors --out estimate.safetensors";
    let printed = session.succeed(&format!("estimate {files} {options}"));
    let read = |name: &str| tensors::read(&session.path("estimate.safetensors"), name);
    let expected = answer(problem, settings);
    assert_tensors(problem, settings, &expected, &read);
    assert_relative(&read("log_prob_behaviour"), &log_prob.concat(), WEIGHTS, "log_prob_behaviour");
    let effective = effective_sample_size(&expected.weights.concat());
    assert!(printed.contains(&format!("effective sample size      {effective:.2} of")), "{printed}");
}

fn assert_tensors(
    problem: &Problem,
    settings: &Settings,
    expected: &Answer,
    read: &dyn Fn(&str) -> Vec<f64>,
) {
    let logarithms = |found: Vec<f64>, expected: &[f64], what: &str| {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            let infinite = *expected == f64::INFINITY && *found >= 1e29;
            let error = (found - expected).abs();
            assert!(
                infinite || error <= WEIGHTS * (1.0 + expected.abs()),
                "{what}: {found} is not {expected}"
            );
        }
    };
    logarithms(read("log_second_moment"), &expected.log_second_moment, "ln D");
    assert_relative(&read("alpha"), &expected.alpha, WEIGHTS, "alpha");
    assert_relative(&read("lambda"), &expected.lambda, WEIGHTS, "lambda");
    assert_relative(&read("weights"), &expected.weights.concat(), WEIGHTS, "weight");
    assert_relative(&read("log_prob_target"), &expected.log_prob_target.concat(), WEIGHTS, "log_prob_target");
    let mut gradient = vec![];
    for (index, layer) in problem.target.layers.iter().enumerate() {
        gradient.extend(read(&format!("gradient.mean.{index}.weight")));
        gradient.extend(layer.bias.iter().flat_map(|_| read(&format!("gradient.mean.{index}.bias"))));
    }
    if problem.target.learned {
        gradient.extend(read("gradient.log_std"));
    }
    let distance = distance(&gradient, &expected.gradient);
    assert!(distance <= GRADIENT, "the gradient is off by {distance:e}: {settings:?}");
}

fn assert_all_agree(recipe: &Recipe, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let problem = recipe.problem(seed);
        for settings in [RT_PG, SAMPLE, MIW, CLIPPED, BH] {
            assert_agrees(&problem, &settings, false);
        }
    }
}

#[test]
fn random_problems() {
    for seed in 0..12 {
        let baseline = [Baseline::None, Baseline::Average, Baseline::LeaveOneOut][seed as usize % 3];
        let problem = Recipe::random(seed).problem(seed);
        for settings in [RT_PG, SAMPLE, MIW, CLIPPED, BH] {
            let settings = Settings { baseline, discount: 0.97, total: seed % 4 == 0, ..settings };
            assert_agrees(&problem, &settings, false);
        }
    }
}

#[test]
fn horizons_of_a_thousand_steps() {
    let long = Recipe { window: 3, batch: 3, horizon: 1000, shift: 0.01, ..Recipe::default() };
    assert_all_agree(&Recipe { early_ends: false, ..long.clone() }, 1..2);
    assert_all_agree(&long, 2..3);
    // Simulations that were unstable in their first step.
    assert_all_agree(&Recipe { horizon: 4, empty: true, ..long }, 3..5);
}

#[test]
fn log_ratios_of_three_hundred_and_more() {
    for size in [100.0, 300.0, 320.0] {
        let recipe = Recipe { horizon: 50, shift: 0.3, log_ratio: Some(size), ..Recipe::default() };
        assert_all_agree(&recipe, 3..5);
        // Alone, a trajectory of weight exp(-300) still has the effective sample size 1.
        assert_all_agree(&Recipe { window: 1, batch: 1, ..recipe }, 0..4);
    }
}

#[test]
fn one_trajectory_and_one_batch() {
    for (window, batch) in [(1, 1), (1, 6), (5, 1)] {
        assert_all_agree(&Recipe { window, batch, ..Recipe::default() }, 5..6);
    }
}

#[test]
fn other_coefficients_and_exponents() {
    let problem = Recipe { shift: 0.2, learned: true, ..Recipe::default() }.problem(8);
    let rules = [
        Coefficients::Theoretical { second_moment: 1000.0, delta: 0.1 },
        Coefficients::Fixed { lambda: 0.0, adaptive: false },
        Coefficients::Fixed { lambda: 0.4, adaptive: false },
        Coefficients::Fixed { lambda: 0.4, adaptive: true },
        Coefficients::Fixed { lambda: 1.0, adaptive: false },
    ];
    for rule in rules {
        for exponent in [-2.0, -1.0, -0.5, 0.0] {
            let weighting = Weighting::PowerMean { rule, closed_form: true, exponent };
            assert_agrees(&problem, &Settings { weighting, ..RT_PG }, false);
        }
    }
}

#[test]
fn only_log_densities_of_the_behaviour() {
    for (seed, size) in [(1, None), (2, Some(300.0))] {
        let problem = Recipe { shift: 0.2, horizon: 40, log_ratio: size, ..Recipe::default() }.problem(seed);
        assert_agrees(&problem, &SAMPLE, true);
        assert_agrees(&problem, &MIW, true);
    }
}

#[test]
fn unequal_deviations_and_infinite_second_moments() {
    for deviation_shift in [DeviationShift::Slight, DeviationShift::Infinite] {
        assert_all_agree(&Recipe { deviation_shift, ..Recipe::default() }, 9..11);
    }
    for window in [1, 5] {
        let recipe = Recipe { window, deviation_shift: DeviationShift::AllInfinite, ..Recipe::default() };
        assert_agrees(&recipe.problem(1), &RT_PG, false);
    }
}

#[test]
fn an_estimate_that_is_not_finite_is_told() {
    let session = Session::new();
    let problem = Recipe::default().problem(1);
    session.write("policy.safetensors", tensors::policy_file(&problem.target));
    let mut logged = tensors::trajectories(&problem);
    let shape = [problem.window(), problem.batch(), problem.horizon];
    let rewards = |value: f64| f64s(&shape, &vec![value; shape.iter().product()]);
    let files = "--policy policy.safetensors --trajectories logged.safetensors --out estimate.safetensors";
    // The gradient is in the range, and the squares of its components are not.
    logged.insert("rewards".to_owned(), rewards(1e200));
    session.write("logged.safetensors", tensors::file(&logged, &[]));
    let printed = session.succeed(&format!("estimate {files}"));
    assert!(printed.contains("e200") || printed.contains("e201") || printed.contains("e199"), "{printed}");
    logged.insert("rewards".to_owned(), rewards(1e308));
    session.write("logged.safetensors", tensors::file(&logged, &[]));
    std::fs::remove_file(session.path("estimate.safetensors")).unwrap();
    let message = session.fails(&format!("estimate {files}"), 1);
    assert!(message.contains("the estimate is not finite: gradient."), "{message}");
    assert!(!session.path("estimate.safetensors").exists());
}

/// An estimate is written over an estimate, and over nothing else.
#[test]
fn only_estimates_are_overwritten() {
    let session = Session::new();
    let problem = Recipe::default().problem(1);
    session.write("policy.safetensors", tensors::policy_file(&problem.target));
    session.write("logged.safetensors", tensors::file(&tensors::trajectories(&problem), &[]));
    let command = "estimate --policy policy.safetensors --trajectories logged.safetensors --out";
    session.succeed(&format!("{command} estimate.safetensors"));
    session.succeed(&format!("{command} estimate.safetensors"));
    session.write("metrics.csv", "mine");
    session.write("other.safetensors", tensors::policy_file(&problem.target));
    for name in ["metrics.csv", "other.safetensors"] {
        let before = std::fs::read(session.path(name)).unwrap();
        let message = session.refused(&format!("{command} {name}"));
        assert!(
            message.contains(&format!("--out {name}: there is something that is no estimate")),
            "{message}"
        );
        assert!(std::fs::read(session.path(name)).unwrap() == before);
    }
}

#[test]
fn doubtful_estimates_are_told() {
    let session = Session::new();
    let recipe = Recipe { batch: 20, window: 1, horizon: 30, shift: 0.5, ..Recipe::default() };
    let problem = recipe.problem(3);
    session.write("policy.safetensors", tensors::policy_file(&problem.target));
    let mut logged = tensors::trajectories(&problem);
    session.write("logged.safetensors", tensors::file(&logged, &[]));
    let files = "estimate --policy policy.safetensors --trajectories logged.safetensors";
    let told = |options: &str| {
        let output = session.run(&format!("{files} {options}"));
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let far = told("--weights miw");
    assert!(far.contains("the estimate is that of a single trajectory"), "{far}");
    // Densities of other actions.
    logged.remove("behaviour_mean");
    logged.remove("behaviour_log_std");
    logged.insert("behaviour_log_prob".to_owned(), f64s(&[1, 20], &[40.0; 20]));
    session.write("logged.safetensors", tensors::file(&logged, &[]));
    let wrong = told("--divergence sample");
    assert!(
        wrong.contains("ln D of batch 0 is -") && wrong.contains("no second moment of ratios is below 1"),
        "{wrong}"
    );
    // A batch of one has no other return to compare with.
    let problem = Recipe { batch: 1, shift: 0.0, ..recipe }.problem(3);
    session.write("logged.safetensors", tensors::file(&tensors::trajectories(&problem), &[]));
    let error = session.refused(&format!("{files} --baseline average"));
    assert!(error.contains("--baseline average leaves nothing of batches of one trajectory"), "{error}");
    assert!(told("--baseline leave-one-out --weights miw --clip inf").is_empty());
}

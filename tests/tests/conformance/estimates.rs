//! Whole estimates.

use integration_tests::oracle::{Activation, Baseline, Coefficients, Settings, Weighting};
use integration_tests::problems::{DeviationShift, Recipe};
use trainer::device::SelectedDevice;

use crate::bounds::assert_conforms;
use crate::support::{devices, devices_for};

pub(crate) const RT_PG: Weighting =
    Weighting::PowerMean { rule: Coefficients::Adaptive { scale: 1.0 }, closed_form: true, exponent: -1.0 };
pub(crate) const MIW: Weighting = Weighting::MultipleImportance { clip: f64::INFINITY };
pub(crate) const PLAIN: Settings =
    Settings { weighting: RT_PG, discount: 1.0, total: false, baseline: Baseline::None };

fn assert_conforms_everywhere(recipe: &Recipe, settings: &Settings, seed: u64) {
    assert_conforms_on(&devices(), recipe, settings, seed);
}

fn assert_conforms_on(devices: &[SelectedDevice], recipe: &Recipe, settings: &Settings, seed: u64) {
    let problem = recipe.problem(seed);
    for device in devices {
        assert_conforms(&problem, settings, device, &format!("seed {seed}, {settings:?}, {recipe:?}"));
    }
}

/// Rules for the coefficients that take turns.
pub(crate) const RULES: [Coefficients; 7] = [
    Coefficients::Adaptive { scale: 1.0 },
    Coefficients::Adaptive { scale: 2.1459 },
    Coefficients::Theoretical { second_moment: 50.0, delta: 0.2 },
    Coefficients::Fixed { lambda: 0.3, adaptive: false },
    Coefficients::Fixed { lambda: 0.7, adaptive: true },
    Coefficients::Fixed { lambda: 0.0, adaptive: false },
    Coefficients::Fixed { lambda: 1.0, adaptive: true },
];

/// Options that take turns with the seed.
fn varied_settings(seed: u64) -> Settings {
    let pick =
        |count: usize, salt: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt) >> 33) as usize % count;
    let power_mean = Weighting::PowerMean {
        rule: RULES[pick(RULES.len(), 2)],
        closed_form: pick(2, 3) == 0,
        exponent: [-1.0, -0.5, -2.0, 0.0][pick(4, 4)],
    };
    Settings {
        weighting: [
            power_mean,
            power_mean,
            power_mean,
            Weighting::MultipleImportance { clip: [f64::INFINITY, 2.0][pick(2, 9)] },
            Weighting::BalanceHeuristic,
        ][pick(5, 5)],
        discount: [1.0, 0.9, 0.99, 0.0][pick(4, 6)],
        total: pick(3, 7) == 0,
        baseline: [Baseline::None, Baseline::Average, Baseline::LeaveOneOut][pick(3, 8)],
    }
}

#[test]
fn random_problems() {
    for seed in 0..60 {
        assert_conforms_on(&devices_for(seed), &Recipe::random(seed), &varied_settings(seed), seed);
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
        assert_conforms_on(&devices_for(seed), &recipe, &varied_settings(seed + 1000), seed);
        assert_conforms_on(&devices_for(seed), &recipe, &PLAIN, seed);
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
    for window in [1, 5] {
        let recipe = Recipe { window, deviation_shift: DeviationShift::AllInfinite, ..Recipe::default() };
        assert_conforms_everywhere(&recipe, &PLAIN, 4);
    }
}

//! The whole estimate.

use super::{
    Baseline, Coefficients, Problem, balance_heuristic_weight, coefficients, log_density, log_ratio,
    log_second_moment_closed_form, log_second_moment_sample, multiple_importance_weight, power_mean_weight,
    step_returns,
};

/// How trajectories are weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weighting {
    /// Power-mean-corrected weights.
    PowerMean {
        /// How coefficients are chosen.
        rule: Coefficients,
        /// Second moments from the closed form, else from the sample.
        closed_form: bool,
        /// Exponent of the power mean.
        exponent: f64,
    },
    /// Uniform multiple importance weights.
    MultipleImportance {
        /// The largest ratio; infinite for none.
        clip: f64,
    },
    /// Balance heuristic over the batches' behaviour policies.
    BalanceHeuristic,
    /// `1 / (N omega)`.
    Uniform,
}

/// Options of an estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How trajectories are weighted.
    pub weighting: Weighting,
    /// Discount `gamma`.
    pub discount: f64,
    /// Total returns (REINFORCE) instead of returns to go (GPOMDP).
    pub total: bool,
    /// What is subtracted from returns.
    pub baseline: Baseline,
}

/// The estimate and everything behind it. Nested vectors are by batch, then trajectory.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// `l_ij`.
    pub log_ratio: Vec<Vec<f64>>,
    /// `ln p_k(tau_ij)`.
    pub log_prob_target: Vec<Vec<f64>>,
    /// `ln D_i`.
    pub log_second_moment: Vec<f64>,
    /// `alpha_i`; `1/omega` for weightings without coefficients.
    pub alpha: Vec<f64>,
    /// `lambda_i`; 0 for weightings without coefficients.
    pub lambda: Vec<f64>,
    /// `w_ij`.
    pub weights: Vec<Vec<f64>>,
    /// `sum_ij w_ij g(tau_ij)`.
    pub gradient: Vec<f64>,
    /// The same sum of absolute values: what its round-off is proportional to.
    pub gradient_scale: Vec<f64>,
}

/// The estimate at the problem's target policy.
pub fn answer(problem: &Problem, settings: &Settings) -> Answer {
    let (window, batch) = (problem.window(), problem.batch());
    let ratios = problem.map(|batch, steps| log_ratio(problem, batch, steps));
    let closed_form = !matches!(settings.weighting, Weighting::PowerMean { closed_form: false, .. });
    let log_second_moment: Vec<f64> = match settings.weighting {
        Weighting::PowerMean { .. } if closed_form => {
            problem.batches.iter().map(|batch| log_second_moment_closed_form(problem, batch)).collect()
        }
        _ => ratios.iter().map(|ratios| log_second_moment_sample(ratios)).collect(),
    };
    let (alpha, lambda) = match settings.weighting {
        Weighting::PowerMean { rule, .. } => {
            coefficients(rule, &log_second_moment, batch, problem.target.flat().len())
        }
        _ => (vec![1.0 / window as f64; window], vec![0.0; window]),
    };
    let weight = |i: usize, j: usize| match settings.weighting {
        Weighting::PowerMean { exponent, .. } => {
            power_mean_weight(ratios[i][j], alpha[i], lambda[i], exponent, batch)
        }
        Weighting::MultipleImportance { clip } => {
            multiple_importance_weight(ratios[i][j], clip, window, batch)
        }
        Weighting::BalanceHeuristic => {
            let steps = &problem.batches[i].trajectories[j];
            let target = log_density(&problem.target, steps);
            let behaviours = problem.batches.iter().map(|batch| &batch.behaviour);
            let differences: Vec<f64> =
                behaviours.map(|behaviour| log_density(behaviour, steps) - target).collect();
            balance_heuristic_weight(&differences, batch)
        }
        Weighting::Uniform => 1.0 / (window * batch) as f64,
    };
    let weights: Vec<Vec<f64>> = (0..window).map(|i| (0..batch).map(|j| weight(i, j)).collect()).collect();
    let (gradient, gradient_scale) = gradient_for_weights(problem, &weights, settings);
    let log_prob_target = problem.map(|_, steps| log_density(&problem.target, steps));
    Answer {
        log_ratio: ratios,
        log_prob_target,
        log_second_moment,
        alpha,
        lambda,
        weights,
        gradient,
        gradient_scale,
    }
}

/// `sum_ij w_ij sum_u G_iju grad ln pi(a_iju | s_iju)`, and the same sum of absolute values.
pub fn gradient_for_weights(
    problem: &Problem,
    weights: &[Vec<f64>],
    settings: &Settings,
) -> (Vec<f64>, Vec<f64>) {
    let count = problem.target.flat().len();
    let (mut gradient, mut scale) = (vec![0.0; count], vec![0.0; count]);
    for (batch, weights) in problem.batches.iter().zip(weights) {
        let (returns, sizes) = step_returns(batch, settings.discount, settings.total, settings.baseline);
        for (trajectory, steps) in batch.trajectories.iter().enumerate() {
            for (u, step) in steps.iter().enumerate() {
                let score = problem.target.score(&step.observation, &step.action);
                let coefficient = weights[trajectory] * returns[trajectory][u];
                let size = weights[trajectory] * sizes[trajectory][u];
                for (parameter, score) in score.into_iter().enumerate() {
                    gradient[parameter] += coefficient * score;
                    scale[parameter] += size * score.abs();
                }
            }
        }
    }
    (gradient, scale)
}

//! Log-densities of trajectories, their ratios, and second moments of the ratios.

use super::{Batch, Policy, Problem, Step, log_sum_exp};

/// `ln p(tau)` up to the dynamics: every step's Gaussian log-density at `mean(step)`.
fn log_density_at(steps: &[Step], mean: impl Fn(&Step) -> Vec<f64>, log_std: &[f64]) -> f64 {
    let ln_root_two_pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
    steps
        .iter()
        .map(|step| {
            let mean = mean(step);
            (0..log_std.len())
                .map(|d| {
                    let scaled = (step.action[d] - mean[d]) / log_std[d].exp();
                    -ln_root_two_pi - log_std[d] - 0.5 * scaled * scaled
                })
                .sum::<f64>()
        })
        .sum()
}

/// `ln p(tau)` under `policy`.
pub fn log_density(policy: &Policy, steps: &[Step]) -> f64 {
    log_density_at(steps, |step| policy.mean(&step.observation), &policy.log_std)
}

/// `l = ln p_i(tau) - ln p_k(tau)`, behaviour minus target, from the stored behaviour means.
pub fn log_ratio(problem: &Problem, batch: &Batch, steps: &[Step]) -> f64 {
    let behaviour = log_density_at(steps, |step| step.behaviour_mean.clone(), &batch.behaviour.log_std);
    behaviour - log_density(&problem.target, steps)
}

/// What round-off of a log-ratio is proportional to: the terms' size before anything cancels.
pub fn log_ratio_scale(problem: &Problem, batch: &Batch, steps: &[Step]) -> f64 {
    let (target, behaviour) = (&problem.target, &batch.behaviour);
    steps
        .iter()
        .map(|step| {
            let mean = target.mean(&step.observation);
            let mean_scale = target.mean_scale(&step.observation);
            (0..mean.len())
                .map(|d| {
                    let (wide, narrow) = (behaviour.log_std[d].exp(), target.log_std[d].exp());
                    let (action, logged) = (step.action[d], step.behaviour_mean[d]);
                    let size = (1.0 + action.abs() + logged.abs() + mean_scale[d]) / wide.min(narrow);
                    let scores = ((action - mean[d]) / narrow).abs() + ((action - logged) / wide).abs();
                    size * (1.0 + scores)
                })
                .sum::<f64>()
        })
        .sum()
}

/// `ln D_i` of the closed form: for each dimension of each step, with target `t` and behaviour `b`,
/// `ln d2 = 2 ln s_b - ln s_t - ln(2 s_b^2 - s_t^2) / 2 + (mu_t - mu_b)^2 / (2 s_b^2 - s_t^2)`; infinite when the
/// denominator is not positive.
pub fn log_second_moment_closed_form(problem: &Problem, batch: &Batch) -> f64 {
    let target = &problem.target;
    let exponents: Vec<f64> = batch
        .trajectories
        .iter()
        .map(|steps| {
            let of_step = |step: &Step| {
                let mean = target.mean(&step.observation);
                (0..mean.len())
                    .map(|d| {
                        let (t, b) = (target.log_std[d], batch.behaviour.log_std[d]);
                        let denominator = 2.0 * (2.0 * b).exp() - (2.0 * t).exp();
                        if denominator <= 0.0 {
                            return f64::INFINITY;
                        }
                        let shift = mean[d] - step.behaviour_mean[d];
                        2.0 * b - t - 0.5 * denominator.ln() + shift * shift / denominator
                    })
                    .sum::<f64>()
            };
            steps.iter().map(of_step).sum()
        })
        .collect();
    log_sum_exp(&exponents) - (exponents.len() as f64).ln()
}

/// What round-off of the closed form is proportional to.
pub fn log_second_moment_scale(problem: &Problem, batch: &Batch) -> f64 {
    let target = &problem.target;
    let of_step = |step: &Step| {
        let (mean, mean_scale) = (target.mean(&step.observation), target.mean_scale(&step.observation));
        (0..mean.len())
            .map(|d| {
                let (t, b) = (2.0 * target.log_std[d], 2.0 * batch.behaviour.log_std[d]);
                let denominator = (2.0 * b.exp() - t.exp()).abs();
                let amplification = (2.0 * b.exp() + t.exp()) / denominator;
                let shift = (mean[d] - step.behaviour_mean[d]).abs();
                let size = mean_scale[d] + step.behaviour_mean[d].abs();
                amplification * (1.0 + (shift * shift + shift * size) / denominator)
            })
            .sum::<f64>()
    };
    batch.trajectories.iter().map(|steps| steps.iter().map(of_step).sum::<f64>()).fold(0.0, f64::max)
}

/// `ln D_i = ln( (1/N) sum_j exp(-2 l_ij) )`.
pub fn log_second_moment_sample(log_ratios: &[f64]) -> f64 {
    let exponents: Vec<f64> = log_ratios.iter().map(|ratio| -2.0 * ratio).collect();
    log_sum_exp(&exponents) - (exponents.len() as f64).ln()
}

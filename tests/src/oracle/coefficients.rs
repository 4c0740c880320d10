//! Mixture coefficients and corrections.

use super::log_sum_exp;

/// How coefficients follow from the second moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coefficients {
    /// `alpha_i = D_i^(-1/2) / sum_l D_l^(-1/2)`, `lambda_i = min(1, sqrt(c / (D_i N omega)))`.
    Adaptive {
        /// `c`.
        scale: f64,
    },
    /// `alpha = 1/omega`, `lambda = min(1, sqrt((4 d ln 6 + 4 ln(1/delta)) / (3 D N omega)))`.
    Theoretical {
        /// `D`.
        second_moment: f64,
        /// `delta`.
        delta: f64,
    },
    /// A constant `lambda`, with `alpha = 1/omega` or adaptive.
    Fixed {
        /// `lambda`.
        lambda: f64,
        /// Whether `alpha` is adaptive.
        adaptive: bool,
    },
}

/// `alpha` and `lambda` of every batch.
pub fn coefficients(
    rule: Coefficients,
    log_second_moment: &[f64],
    batch: usize,
    parameter_count: usize,
) -> (Vec<f64>, Vec<f64>) {
    let window = log_second_moment.len();
    let samples = (batch * window) as f64;
    let uniform = vec![1.0 / window as f64; window];
    match rule {
        Coefficients::Adaptive { scale } => {
            let lambda = |log_moment: &f64| (0.5 * ((scale / samples).ln() - log_moment)).exp().min(1.0);
            (adaptive_alpha(log_second_moment), log_second_moment.iter().map(lambda).collect())
        }
        Coefficients::Theoretical { second_moment, delta } => {
            let dimensions = parameter_count as f64;
            let numerator = 4.0 * dimensions * 6.0_f64.ln() + 4.0 * (1.0 / delta).ln();
            let lambda = (numerator / (3.0 * second_moment * samples)).sqrt().min(1.0);
            (uniform, vec![lambda; window])
        }
        Coefficients::Fixed { lambda, adaptive } => {
            let alpha = if adaptive { adaptive_alpha(log_second_moment) } else { uniform };
            (alpha, vec![lambda; window])
        }
    }
}

/// Infinite second moments leave nothing to their batches, unless all are infinite: then all share alike.
fn adaptive_alpha(log_second_moment: &[f64]) -> Vec<f64> {
    if log_second_moment.iter().all(|log_moment| *log_moment == f64::INFINITY) {
        return vec![1.0 / log_second_moment.len() as f64; log_second_moment.len()];
    }
    let scores: Vec<f64> = log_second_moment.iter().map(|log_moment| -0.5 * log_moment).collect();
    let total = log_sum_exp(&scores);
    scores.iter().map(|score| (score - total).exp()).collect()
}

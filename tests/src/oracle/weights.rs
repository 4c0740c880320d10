//! Weights of single trajectories: the factor of `g(tau)` in the estimate, `1/N` included.

/// `(alpha / N) ((1 - lambda) ratio^s + lambda)^(1/s)` with `ratio = exp(-l)`; for `s = 0` the limit
/// `(alpha / N) ratio^(1 - lambda)`. `s = -1` is `alpha / (N ((1 - lambda) exp(l) + lambda))`.
pub fn power_mean_weight(log_ratio: f64, alpha: f64, lambda: f64, exponent: f64, batch: usize) -> f64 {
    let mean = if exponent == 0.0 {
        (-(1.0 - lambda) * log_ratio).exp()
    } else {
        ((1.0 - lambda) * (-exponent * log_ratio).exp() + lambda).powf(1.0 / exponent)
    };
    if alpha == 0.0 { 0.0 } else { alpha / batch as f64 * mean }
}

/// `min(exp(-l), clip) / (N omega)`.
pub fn multiple_importance_weight(log_ratio: f64, clip: f64, window: usize, batch: usize) -> f64 {
    (-log_ratio).exp().min(clip) / (window * batch) as f64
}

/// `1 / (N sum_l exp(ln p_l - ln p_k))` over all policies `l` of the window.
pub fn balance_heuristic_weight(log_density_ratios: &[f64], batch: usize) -> f64 {
    1.0 / (batch as f64 * log_density_ratios.iter().map(|ratio| ratio.exp()).sum::<f64>())
}

//! What weights say about themselves.

/// `(sum w)^2 / sum w^2`.
pub fn effective_sample_size(weights: &[f64]) -> f64 {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let scaled = || weights.iter().map(|weight| weight / largest);
    scaled().sum::<f64>().powi(2) / scaled().map(|weight| weight * weight).sum::<f64>()
}

/// Share of each batch in the sum of all weights.
pub fn share(weights: &[Vec<f64>]) -> Vec<f64> {
    let total: f64 = weights.iter().flatten().sum();
    weights.iter().map(|batch| batch.iter().sum::<f64>() / total).collect()
}

//! Statistics over runs.

/// The mean of the last `width` values at every position; NaN before the first full window, and everywhere if `width` is
/// zero.
pub fn running_mean(values: &[f64], width: usize) -> Vec<f64> {
    let mean = |end: usize| match end.checked_sub(width) {
        Some(start) if width > 0 => values[start..end].iter().sum::<f64>() / width as f64,
        _ => f64::NAN,
    };
    (1..=values.len()).map(mean).collect()
}

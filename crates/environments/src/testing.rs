//! What the unit tests of several modules share.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::Environment;

/// A generator for tests.
pub(crate) fn generator(seed: u64) -> impl Rng {
    SmallRng::seed_from_u64(seed)
}

/// Asserts that two slices agree to `tolerance`, relative to numbers larger than 1.
#[track_caller]
pub(crate) fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
    let close = |(a, e): (&f64, &f64)| (a - e).abs() <= tolerance * e.abs().max(1.0);
    assert!(
        actual.len() == expected.len() && actual.iter().zip(expected).all(close),
        "{actual:?} is not {expected:?} to {tolerance:e}"
    );
}

/// Asserts that component `index` of the first observation is uniform on `low..high`.
///
/// Checks the range, and mean and variance of 20 000 draws within five standard errors: a shift of the mean by 2 % of
/// the width of the range, or a width that is wrong by 5 %, is found with a probability above 0.99.
#[track_caller]
pub(crate) fn assert_resets_uniformly(
    environment: &mut dyn Environment,
    index: usize,
    [low, high]: [f64; 2],
    component: impl Fn(&[f64]) -> f64,
) {
    const DRAWS: usize = 20_000;
    let mut random = generator(index as u64);
    let mut observation = vec![0.0; environment.observation_size()];
    let mut unit = || {
        environment.reset(&mut random, &mut observation);
        (component(&observation) - low) / (high - low)
    };
    let draws: Vec<f64> = (0..DRAWS).map(|_| unit()).collect();
    assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)), "component {index} leaves {low}..{high}");

    let mean = draws.iter().sum::<f64>() / DRAWS as f64;
    let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / DRAWS as f64;
    let deviation = (1.0_f64 / 12.0 / DRAWS as f64).sqrt();
    assert!((mean - 0.5).abs() < 5.0 * deviation, "component {index}: mean {mean} of the unit range");
    // The variance of a uniform square about its mean is 1/180.
    let deviation = (1.0_f64 / 180.0 / DRAWS as f64).sqrt();
    assert!((variance - 1.0 / 12.0).abs() < 5.0 * deviation, "component {index}: variance {variance}");
}

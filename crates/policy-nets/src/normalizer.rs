//! Running mean and deviation of observations.

/// Standardises observations: `(s - mean) / std`, per component.
///
/// The statistics are Welford's running mean and variance over every observation given to [`update`](Self::update).
/// They travel in the policy file, since a policy trained on standardised observations is meaningless without them.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalizer {
    count: f64,
    mean: Vec<f64>,
    sum_of_squares: Vec<f64>,
    /// The deviations that belong to the sums, or those that were given.
    std: Vec<f64>,
}

/// Smallest variance that follows from observations, so that a constant component stays finite.
const VARIANCE_FLOOR: f64 = 1e-8;

impl Normalizer {
    /// A normaliser that has seen nothing: mean 0 and deviation 1.
    pub fn new(observation_size: usize) -> Self {
        Self::from_moments(0.0, vec![0.0; observation_size], vec![0.0; observation_size])
    }

    /// A normaliser with given statistics, as files store them, which are taken as they are. `count` observations stand
    /// behind them.
    pub fn from_statistics(count: f64, mean: Vec<f64>, std: Vec<f64>) -> Self {
        let weight = count.max(1.0);
        let sum_of_squares = std.iter().map(|std| std * std * weight).collect();
        Self { count: weight, mean, sum_of_squares, std }
    }

    /// A normaliser from its exact moments, as checkpoints store them ([`moments`](Self::moments)).
    pub fn from_moments(count: f64, mean: Vec<f64>, sum_of_squares: Vec<f64>) -> Self {
        let std = sum_of_squares.iter().map(|squares| deviation(*squares, count)).collect();
        Self { count, mean, sum_of_squares, std }
    }

    /// Mean and sum of squared deviations of each component.
    pub fn moments(&self) -> (&[f64], &[f64]) {
        (&self.mean, &self.sum_of_squares)
    }

    /// Takes in `observations` (`[rows, observation]`), one after the other.
    ///
    /// # Panics
    /// When they are no whole number of observations.
    pub fn update(&mut self, observations: &[f32]) {
        let size = self.assert_whole(observations);
        for observation in observations.chunks_exact(size) {
            self.count += 1.0;
            let sums = self.mean.iter_mut().zip(&mut self.sum_of_squares);
            for (value, (mean, squares)) in observation.iter().zip(sums) {
                let value = f64::from(*value);
                let delta = value - *mean;
                *mean += delta / self.count;
                *squares += delta * (value - *mean);
            }
        }
        if !observations.is_empty() {
            for (std, squares) in self.std.iter_mut().zip(&self.sum_of_squares) {
                *std = deviation(*squares, self.count);
            }
        }
    }

    /// Components of an observation, of which `observations` are a whole number.
    fn assert_whole(&self, observations: &[f32]) -> usize {
        let size = self.mean.len();
        let is_whole = size > 0 && observations.len().is_multiple_of(size);
        assert!(is_whole, "whole observations of {size} components");
        size
    }

    /// Number of observations behind the statistics.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean of each component.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Deviation of each component, 1 before the first observation.
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    /// Standardises rows of observations in place.
    ///
    /// # Panics
    /// When they are no whole number of observations.
    pub fn apply(&self, observations: &mut [f32]) {
        let size = self.assert_whole(observations);
        for row in observations.chunks_exact_mut(size) {
            for ((value, mean), std) in row.iter_mut().zip(&self.mean).zip(&self.std) {
                *value = ((f64::from(*value) - mean) / std) as f32;
            }
        }
    }
}

fn deviation(sum_of_squares: f64, count: f64) -> f64 {
    if count <= 0.0 {
        return 1.0;
    }
    let variance = sum_of_squares / count;
    // Not `max`, which returns the floor in the place of a NaN.
    if variance < VARIANCE_FLOOR { VARIANCE_FLOOR.sqrt() } else { variance.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_two_pass_formula() {
        let data = [[1.0, 5.0], [2.0, 5.0], [4.0, 5.0], [9.0, 5.0]];
        let mut normalizer = Normalizer::new(2);
        assert_eq!(normalizer.std(), [1.0, 1.0]);
        normalizer.update(&data[..3].concat());
        normalizer.update(&data[3]);
        normalizer.update(&[]);
        assert_eq!(normalizer.mean(), [4.0, 5.0]);
        let variance = data.iter().map(|row| (f64::from(row[0]) - 4.0).powi(2)).sum::<f64>() / 4.0;
        assert!((normalizer.std()[0] - variance.sqrt()).abs() < 1e-12);
        assert_eq!(normalizer.std()[1], 1e-4);
    }

    #[test]
    fn statistics_survive_the_round_trip() {
        let mut normalizer = Normalizer::new(1);
        normalizer.update(&[3.0, -1.0, 7.5]);
        let copy = Normalizer::from_statistics(
            normalizer.count(),
            normalizer.mean().to_vec(),
            normalizer.std().to_vec(),
        );
        assert_eq!(copy.mean(), normalizer.mean());
        assert_eq!(copy.std(), normalizer.std());
        assert_eq!(Normalizer::from_statistics(9.0, vec![1.0], vec![1e-6]).std(), [1e-6], "taken as it is");
    }
}

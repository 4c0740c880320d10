//! Curves of several runs on one grid, and the area under a curve.

use super::StatisticsError;

/// `points` evenly spaced horizontal values that all runs have in common: from the last of their beginnings to the first
/// of their ends. Empty when the runs have nothing in common.
///
/// `runs` are the horizontal values of each run, increasing.
pub fn common_grid(runs: &[&[f64]], points: usize) -> Vec<f64> {
    let first =
        runs.iter().map(|x| x.first().copied().unwrap_or(f64::INFINITY)).fold(f64::NEG_INFINITY, f64::max);
    let last =
        runs.iter().map(|x| x.last().copied().unwrap_or(f64::NEG_INFINITY)).fold(f64::INFINITY, f64::min);
    if points == 0 || !first.is_finite() || !last.is_finite() || first > last {
        return Vec::new();
    }
    if points == 1 || first == last {
        return vec![last];
    }
    let share = |point: usize| point as f64 / (points - 1) as f64;
    // The weighted form meets both ends to the bit.
    (0..points).map(|point| (1.0 - share(point)) * first + share(point) * last).collect()
}

/// The curve of straight lines through (`x`, `y`) at every value of `grid`; NaN before its first and after its last point, for
/// nothing is known there.
///
/// # Errors
/// [`StatisticsError::NoPoints`], [`StatisticsError::Length`], [`StatisticsError::NotIncreasing`].
pub fn interpolate(x: &[f64], y: &[f64], grid: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    check_curve(x, y)?;
    let at = |&position: &f64| {
        // The number of points that are not beyond the position.
        let passed = x.partition_point(|&x| x <= position);
        let Some(last) = passed.checked_sub(1) else { return f64::NAN };
        if x[last] == position {
            return y[last];
        }
        x.get(passed).map_or(f64::NAN, |next| {
            let share = (position - x[last]) / (next - x[last]);
            (1.0 - share) * y[last] + share * y[passed]
        })
    };
    Ok(grid.iter().map(at).collect())
}

/// The mean height of the curve through (`x`, `y`): its integral by the trapezoidal rule over its horizontal extent,
/// `sum_i (x_(i+1) - x_i) (y_i + y_(i+1)) / 2 / (x_n - x_1)`. Of a single point it is the point's height.
///
/// # Errors
/// [`StatisticsError::NoPoints`], [`StatisticsError::Length`], [`StatisticsError::NotIncreasing`].
pub fn area_under_curve(x: &[f64], y: &[f64]) -> Result<f64, StatisticsError> {
    check_curve(x, y)?;
    if let [height] = y {
        return Ok(*height);
    }
    let pieces = x.windows(2).zip(y.windows(2));
    let area: f64 = pieces.map(|(x, y)| 0.5 * (x[1] - x[0]) * (y[0] + y[1])).sum();
    Ok(area / (x[x.len() - 1] - x[0]))
}

fn check_curve(x: &[f64], y: &[f64]) -> Result<(), StatisticsError> {
    if x.len() != y.len() {
        return Err(StatisticsError::Length { found: y.len(), expected: x.len() });
    }
    if x.is_empty() {
        return Err(StatisticsError::NoPoints);
    }
    let mut previous = f64::NEG_INFINITY;
    for (index, &value) in x.iter().enumerate() {
        if !value.is_finite() || value <= previous {
            return Err(StatisticsError::NotIncreasing { index, value });
        }
        previous = value;
    }
    Ok(())
}

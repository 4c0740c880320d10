//! Against recorded numbers, against hand computation, and properties.

mod properties;
mod rliable;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::*;

fn generator(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

#[test]
fn aggregates_by_hand() {
    let values = [7.0, 1.0, 100.0, 3.0, 5.0];
    assert_eq!(median(&values), 5.0);
    assert_eq!(interquartile_mean(&values), 5.0, "mean of 3, 5, 7");
    assert_eq!(mean(&values), 23.2);
    assert_eq!(median(&[1.0, 2.0]), 1.5);
    assert_eq!(interquartile_mean(&[1.0, 2.0, 4.0]), 7.0 / 3.0, "nothing to cut");
    assert!(mean(&[]).is_nan() && median(&[]).is_nan() && interquartile_mean(&[]).is_nan());
}

#[test]
fn wrong_scores_are_named() {
    assert_eq!(Scores::new(vec![]), Err(StatisticsError::NoRuns));
    assert_eq!(Scores::new(vec![vec![1.0], vec![]]), Err(StatisticsError::NoRuns));
    let error = Scores::new(vec![vec![1.0], vec![2.0, f64::NAN]]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "score NaN of run 1 in task 1: expected a number, or plus infinity for a censored one"
    );
    assert!(Scores::single_task(vec![f64::NEG_INFINITY]).is_err());
    assert_eq!(Bootstrap::new(0, 0.95), Err(StatisticsError::NoReplicates));
    for confidence in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
        assert!(matches!(Bootstrap::new(1, confidence), Err(StatisticsError::Confidence(_))));
        assert!(matches!(student_t_interval(&[1.0, 2.0], confidence), Err(StatisticsError::Confidence(_))));
    }
    assert_eq!(student_t_interval(&[1.0], 0.9), Err(StatisticsError::TooFewRuns(1)));
}

#[test]
fn the_seed_determines_the_interval() {
    let scores = Scores::single_task((0..8).map(|run| f64::from(run * run)).collect()).unwrap();
    let interval =
        |seed| bootstrap_interval(&scores, Aggregate::default(), Bootstrap::default(), &mut generator(seed));
    assert_eq!(interval(3), interval(3));
    assert_ne!(interval(3), interval(4));
}

#[test]
fn censored_runs_move_only_what_depends_on_them() {
    let scores = |runs: &[Option<u64>]| Scores::censored(runs).unwrap();
    let one = scores(&[Some(100), Some(200), None, Some(300), Some(400)]);
    assert_eq!(Aggregate::Median.of(&one), 300.0);
    assert_eq!(Aggregate::InterquartileMean.of(&one), 300.0);
    assert_eq!(Aggregate::Mean.of(&one), f64::INFINITY);
    let most = scores(&[Some(100), None, None]);
    assert_eq!(Aggregate::Median.of(&most), f64::INFINITY);

    let interval = bootstrap_interval(&one, Aggregate::Median, Bootstrap::default(), &mut generator(1));
    assert_eq!(interval.upper, f64::INFINITY, "three of five censored in 6% of the resamples");
    assert!(interval.lower >= 100.0 && interval.lower < 300.0);
    let all = scores(&[None, None]);
    let interval = bootstrap_interval(&all, Aggregate::Median, Bootstrap::default(), &mut generator(1));
    assert_eq!((interval.lower, interval.upper), (f64::INFINITY, f64::INFINITY));
    // Neither of two censored runs is known to be the better one.
    assert_eq!(probability_of_improvement(&all, &all), Ok(0.5));
}

#[test]
fn thresholds_need_a_full_window() {
    let trajectories = [10, 20, 30, 40, 50];
    let returns = [200.0, 0.0, 100.0, 200.0, 200.0];
    let reached = |window, threshold| trajectories_to_threshold(&trajectories, &returns, window, threshold);
    assert_eq!(reached(10, 195.0), Ok(Some(10)));
    assert_eq!(reached(20, 195.0), Ok(Some(50)));
    assert_eq!(reached(20, 150.0), Ok(Some(40)), "reached is at least the threshold");
    assert_eq!(reached(30, 195.0), Ok(None));
    assert_eq!(reached(60, 0.0), Ok(None));
    assert_eq!(reached(15, 133.0), Ok(Some(40)), "half of the batch before: (10 200 + 5 100) / 15 is 166.7");
    assert_eq!(reached(0, 0.0), Err(StatisticsError::EmptyWindow));
    let diverged = trajectories_to_threshold(&[1, 2, 3], &[f64::NAN, 5.0, 5.0], 2, 5.0);
    assert_eq!(diverged, Ok(Some(3)), "the missing value ends with its window");
    let error = trajectories_to_threshold(&[1, 2], &[1.0], 1, 0.0);
    assert_eq!(error, Err(StatisticsError::Length { found: 1, expected: 2 }));
}

#[test]
fn windows_count_trajectories_and_not_iterations() {
    // A large batch, and small ones after it.
    let (trajectories, returns) = ([50, 55, 60, 110], [10.0, 100.0, 50.0, 30.0]);
    let means = mean_of_last_trajectories(&trajectories, &returns, 20);
    assert_eq!(means, [10.0, (15.0 * 10.0 + 5.0 * 100.0) / 20.0, (10.0 * 10.0 + 5.0 * 150.0) / 20.0, 30.0]);
    let means = mean_of_last_trajectories(&trajectories, &returns, 55);
    assert!(means[0].is_nan() && means[1] == (50.0 * 10.0 + 5.0 * 100.0) / 55.0, "{means:?}");
    assert!(mean_of_last_trajectories(&trajectories, &returns, 0).iter().all(|mean| mean.is_nan()));
}

#[test]
fn curves_meet_their_points_and_end_where_their_data_end() {
    let (x, y) = ([10.0, 20.0, 40.0], [1.0, 3.0, 5.0]);
    let grid = [0.0, 10.0, 15.0, 20.0, 39.0, 40.0, 41.0];
    let bits = |values: Vec<f64>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let gap = f64::NAN;
    let found = interpolate(&x, &y, &grid).unwrap();
    assert_eq!(bits(found), bits(vec![gap, 1.0, 2.0, 3.0, 4.9, 5.0, gap]));
    assert_eq!(area_under_curve(&x, &y), Ok((10.0 * 2.0 + 20.0 * 4.0) / 30.0));
    assert_eq!(area_under_curve(&[7.0], &[3.0]), Ok(3.0));
    assert_eq!(area_under_curve(&[], &[]), Err(StatisticsError::NoPoints));
    let folded = interpolate(&[1.0, 1.0], &y[..2], &grid);
    assert_eq!(folded, Err(StatisticsError::NotIncreasing { index: 1, value: 1.0 }));
    assert!(area_under_curve(&x, &y[..2]).is_err());
}

#[test]
fn a_grid_covers_what_runs_share() {
    let (a, b): ([f64; 3], [f64; 2]) = ([10.0, 20.0, 70.0], [20.0, 60.0]);
    assert_eq!(common_grid(&[&a, &b], 5), [20.0, 30.0, 40.0, 50.0, 60.0]);
    assert_eq!(common_grid(&[&a, &[80.0, 90.0]], 5), [0.0; 0]);
    assert_eq!(common_grid(&[&a, &[]], 5), [0.0; 0]);
    assert_eq!(common_grid(&[], 5), [0.0; 0]);
    assert_eq!(common_grid(&[&b, &[60.0]], 5), [60.0]);
}

#[test]
fn bands_are_the_intervals_of_their_points() {
    let curves = vec![vec![1.0, 10.0, 5.0], vec![2.0, 20.0, f64::NAN], vec![4.0, 40.0, 5.0]];
    let bootstrap = Bootstrap::new(500, 0.9).unwrap();
    let band = bootstrap_curve(&curves, Aggregate::Mean, bootstrap, &mut generator(5)).unwrap();
    // The same resamples at every point: ten times the scores have ten times the interval.
    assert!((band[1].lower - 10.0 * band[0].lower).abs() < 1e-12);
    assert!((band[1].upper - 10.0 * band[0].upper).abs() < 1e-12);
    let first = Scores::single_task(vec![1.0, 2.0, 4.0]).unwrap();
    let interval = bootstrap_interval(&first, Aggregate::Mean, bootstrap, &mut generator(5));
    assert_eq!(interval, band[0], "the same draws in the same order");
    assert!(band[2].value.is_nan() && band[2].lower.is_nan(), "a run has no value there");

    let band = student_t_curve(&curves, 0.9).unwrap();
    assert_eq!(band[0], student_t_interval(&[1.0, 2.0, 4.0], 0.9).unwrap());
    assert!(band[2].value.is_nan());
    assert!(bootstrap_curve(&[], Aggregate::Mean, bootstrap, &mut generator(5)).is_err());
    assert!(student_t_curve(&[vec![1.0], vec![]], 0.9).is_err());
}

#[test]
fn algorithms_on_different_tasks_are_not_compared() {
    let one = Scores::single_task(vec![1.0]).unwrap();
    let two = Scores::new(vec![vec![1.0], vec![2.0]]).unwrap();
    assert_eq!(probability_of_improvement(&one, &two), Err(StatisticsError::Tasks(1, 2)));
}

//! What must hold for all scores.

use proptest::prelude::*;

use super::*;

const AGGREGATES: [Aggregate; 4] =
    [Aggregate::InterquartileMean, Aggregate::Mean, Aggregate::Median, Aggregate::MedianOfTasks];

fn runs() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1e3..1e3, 1..13)
}

fn tasks() -> impl Strategy<Value = Vec<Vec<f64>>> {
    prop::collection::vec(runs(), 1..4)
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn aggregates_ignore_the_order_of_runs_and_tasks(mut tasks in tasks()) {
        let before = Scores::new(tasks.clone()).unwrap();
        tasks.reverse();
        for runs in &mut tasks {
            let half = runs.len() / 2;
            runs.rotate_left(half);
        }
        let after = Scores::new(tasks).unwrap();
        for aggregate in AGGREGATES {
            prop_assert!((aggregate.of(&before) - aggregate.of(&after)).abs() < 1e-9, "{aggregate:?}");
        }
    }

    #[test]
    fn aggregates_and_intervals_lie_within_the_scores(tasks in tasks(), seed: u64) {
        let scores = Scores::new(tasks.clone()).unwrap();
        let (least, largest) = bounds(&tasks.concat());
        let bootstrap = Bootstrap::new(100, 0.9).unwrap();
        for aggregate in AGGREGATES {
            let found = bootstrap_interval(&scores, aggregate, bootstrap, &mut generator(seed));
            prop_assert_eq!(found.value, aggregate.of(&scores));
            prop_assert!(found.lower <= found.upper);
            for value in [found.value, found.lower, found.upper] {
                prop_assert!((least - 1e-9..=largest + 1e-9).contains(&value), "{aggregate:?}: {found:?}");
            }
        }
    }

    #[test]
    fn aggregates_follow_shift_and_scale(runs in runs(), shift in -100.0..100.0, scale in 0.1..10.0) {
        let scores = Scores::single_task(runs.clone()).unwrap();
        let moved = Scores::single_task(runs.iter().map(|run| scale * run + shift).collect()).unwrap();
        for aggregate in AGGREGATES {
            let expected: f64 = scale * aggregate.of(&scores) + shift;
            prop_assert!((aggregate.of(&moved) - expected).abs() < 1e-8, "{aggregate:?}");
        }
    }

    #[test]
    fn intervals_contain_their_estimate_and_grow_with_confidence(runs in runs(), seed: u64) {
        let scores = Scores::single_task(runs.clone()).unwrap();
        let interval = |aggregate, confidence| {
            let bootstrap = Bootstrap::new(1000, confidence).unwrap();
            bootstrap_interval(&scores, aggregate, bootstrap, &mut generator(seed))
        };
        for aggregate in AGGREGATES {
            let (narrow, wide) = (interval(aggregate, 0.5), interval(aggregate, 0.95));
            prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
            // The mean of equal values may differ in its last digit.
            prop_assert!(wide.lower <= wide.value + 1e-9 && wide.value - 1e-9 <= wide.upper, "{aggregate:?} {wide:?}");
        }
        if runs.len() > 1 {
            let student = student_t_interval(&runs, 0.95).unwrap();
            prop_assert!(student.lower <= student.value && student.value <= student.upper);
        }
    }

    #[test]
    fn improvement_is_a_probability_and_antisymmetric(x in runs(), y in runs(), shift in 3e3..4e3) {
        let moved = Scores::single_task(x.iter().map(|x| x + shift).collect()).unwrap();
        let (x, y) = (Scores::single_task(x).unwrap(), Scores::single_task(y).unwrap());
        let probability = probability_of_improvement(&x, &y).unwrap();
        prop_assert!((0.0..=1.0).contains(&probability));
        prop_assert!((probability + probability_of_improvement(&y, &x).unwrap() - 1.0).abs() < 1e-12);
        prop_assert_eq!(probability_of_improvement(&x, &x), Ok(0.5));
        prop_assert_eq!(probability_of_improvement(&moved, &y), Ok(1.0));
    }

    #[test]
    fn a_higher_threshold_is_never_reached_earlier(
        returns in prop::collection::vec(0.0..200.0, 1..50), width in 1_u64..8, low in 0.0..200.0, step in 0.0..50.0,
    ) {
        let trajectories: Vec<u64> = (1..=returns.len() as u64).collect();
        let reached = |threshold| {
            let count = trajectories_to_threshold(&trajectories, &returns, width, threshold).unwrap();
            count.unwrap_or(u64::MAX)
        };
        prop_assert!(reached(low) <= reached(low + step));
        prop_assert!(reached(low) >= width);
    }

    #[test]
    fn curves_stay_between_their_points(y in prop::collection::vec(-10.0..10.0, 1..20), points in 1_usize..30) {
        let x: Vec<f64> = (0..y.len()).map(|index| (index * index) as f64).collect();
        let (least, largest) = bounds(&y);
        let grid = common_grid(&[&x], points);
        prop_assert!(!grid.is_empty() && grid.windows(2).all(|pair| pair[0] < pair[1]));
        for value in interpolate(&x, &y, &grid).unwrap() {
            prop_assert!((least - 1e-12..=largest + 1e-12).contains(&value), "{value}");
        }
        let area = area_under_curve(&x, &y).unwrap();
        prop_assert!((least - 1e-12..=largest + 1e-12).contains(&area));
    }
}

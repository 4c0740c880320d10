//! `EnvironmentBatch` against single environments stepped one by one.

#![allow(clippy::unwrap_used, reason = "a test ends where its own preparation fails")]

use std::cell::RefCell;

use environments::{
    Environment, StepError,
    batch::{BatchError, BatchStepError, EnvironmentBatch},
    registry::make,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

fn cart_poles(count: usize) -> Vec<Box<dyn Environment>> {
    (0..count).map(|_| make("cartpole").expect("a name of the registry")).collect()
}

fn stream(seed: u64, index: usize) -> impl Rng {
    SmallRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(index as u64))
}

#[test]
fn a_batch_needs_environments_of_one_kind() {
    assert_eq!(EnvironmentBatch::new(Vec::new()).err(), Some(BatchError::Empty));
    let mixed = vec![make("cartpole").unwrap(), make("lqr").unwrap()];
    let expected = BatchError::Mixed { index: 1, name: "lqr", found: (2, 2), expected: (4, 1) };
    assert_eq!(EnvironmentBatch::new(mixed).err(), Some(expected));

    let batch = EnvironmentBatch::new(cart_poles(3)).unwrap();
    assert_eq!((batch.len(), batch.observation_size(), batch.action_size()), (3, 4, 1));
    assert_eq!(batch.running(), [false; 3]);
}

#[test]
fn a_step_without_a_running_trajectory_is_an_error() {
    let mut batch = EnvironmentBatch::new(cart_poles(2)).unwrap();
    let (mut observations, mut rewards, mut terminated) = ([9.0; 8], [9.0; 2], [true; 2]);
    let mut step = |batch: &mut EnvironmentBatch| {
        batch.step(&[10.0; 2], |i| stream(0, i), &mut observations, &mut rewards, &mut terminated)
    };
    assert_eq!(step(&mut batch), Err(BatchStepError::NoneRunning));
    batch.reset(|i| stream(0, i), &mut [0.0; 8]);
    while batch.running_count() > 0 {
        step(&mut batch).unwrap();
    }
    assert_eq!(step(&mut batch), Err(BatchStepError::NoneRunning));
}

#[test]
fn a_failure_names_the_first_trajectory_and_leaves_the_others_running() {
    let mut batch = EnvironmentBatch::new(cart_poles(3)).unwrap();
    let (mut observations, mut rewards, mut terminated) = ([0.0; 12], [0.0; 3], [false; 3]);
    batch.reset(|i| stream(0, i), &mut observations);
    let actions = [0.0, f64::INFINITY, f64::NAN];
    let error =
        batch.step(&actions, |i| stream(0, i), &mut observations, &mut rewards, &mut terminated).unwrap_err();
    let source = StepError::ActionNotFinite { environment: "cartpole", index: 0, value: f64::INFINITY };
    assert_eq!(error, BatchStepError::Failed { index: 1, source });
    assert_eq!(batch.running(), [true, false, false]);
    assert_eq!(rewards, [1.0, 0.0, 0.0]);
    batch.reset(|i| stream(0, i), &mut observations);
    assert_eq!(batch.running(), [true; 3]);
}

#[test]
fn a_failure_that_is_no_unstable_simulation_is_named_first() {
    let mut batch = EnvironmentBatch::new((0..3).map(|_| make("lqr").unwrap()).collect()).unwrap();
    let (mut observations, mut rewards, mut terminated) = ([0.0; 6], [0.0; 3], [false; 3]);
    let mut step = |actions: [f64; 6]| {
        batch.reset(|i| stream(0, i), &mut observations);
        batch.step(&actions, |i| stream(0, i), &mut observations, &mut rewards, &mut terminated).unwrap_err()
    };
    let unstable = step([1e300, 1e300, 0.0, 0.0, 1e300, 0.0]);
    assert!(
        matches!(unstable, BatchStepError::Failed { index: 0, source: StepError::Unstable { .. } }),
        "{unstable:?}"
    );
    let error = step([1e300, 1e300, 0.0, f64::INFINITY, 1e300, 0.0]);
    let source = StepError::ActionNotFinite { environment: "lqr", index: 1, value: f64::INFINITY };
    assert_eq!(error, BatchStepError::Failed { index: 1, source });
}

#[test]
#[should_panic(expected = "actions has 3 elements, expected 2")]
fn an_array_of_a_wrong_length_panics() {
    let mut batch = EnvironmentBatch::new(cart_poles(2)).unwrap();
    batch.reset(|i| stream(0, i), &mut [0.0; 8]);
    let _ = batch.step(&[0.0; 3], |i| stream(0, i), &mut [0.0; 8], &mut [0.0; 2], &mut [false; 2]);
}

proptest! {
    /// Every trajectory is the one that a single environment makes with the same stream and actions; ended ones stay as
    /// they are and draw nothing.
    #[test]
    fn a_batch_is_its_environments_one_by_one(
        seed in 0_u64..1000,
        forces in prop::collection::vec(-10.0..10.0, 5),
    ) {
        let mut batch = EnvironmentBatch::new(cart_poles(5)).unwrap();
        let mut singles = cart_poles(5);
        let mut ended = [false; 5];
        let (mut observations, mut rewards, mut terminated) = ([f64::NAN; 20], [f64::NAN; 5], [true; 5]);
        let mut expected = [f64::NAN; 20];
        batch.reset(|i| stream(seed, i), &mut observations);
        for (i, row) in expected.chunks_exact_mut(4).enumerate() {
            singles[i].reset(&mut stream(seed, i), row);
        }
        prop_assert_eq!(observations, expected);

        for step in 0..60 {
            if ended == [true; 5] {
                break;
            }
            // What an ended environment is given must not matter.
            let actions: [f64; 5] = std::array::from_fn(|i| if ended[i] { f64::NAN } else { forces[i] });
            let asked = RefCell::new(Vec::new());
            let streams = |i| {
                asked.borrow_mut().push(i);
                stream(seed + step, i)
            };
            batch.step(&actions, streams, &mut observations, &mut rewards, &mut terminated).unwrap();

            let running: Vec<usize> = (0..5).filter(|i| !ended[*i]).collect();
            prop_assert_eq!(asked.into_inner(), running);
            for (i, row) in expected.chunks_exact_mut(4).enumerate() {
                let (reward, end) = if ended[i] {
                    (0.0, false)
                } else {
                    let transition = singles[i].step(&[forces[i]], &mut stream(seed + step, i), row).unwrap();
                    (transition.reward, transition.terminated)
                };
                prop_assert_eq!((rewards[i], terminated[i]), (reward, end));
                ended[i] |= end;
            }
            prop_assert_eq!(observations, expected);
            prop_assert_eq!(batch.running(), ended.map(|end| !end));
            prop_assert_eq!(batch.running_count(), ended.iter().filter(|end| !**end).count());
        }
        prop_assert!(ended.contains(&true), "no trajectory ended, so that nothing was tested");
    }
}

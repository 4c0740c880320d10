//! A batch of trajectories against float64, step by step.
//!
//! Every number of a step is computed again from the numbers that were recorded for it, so errors do not grow along a
//! trajectory, and chaotic dynamics are checked as sharply as others.

use environments::registry::Entry;
use environments::{BuiltIn, Dynamics, Outcome, cart_pole, linear_quadratic, mountain_car, pendulum};
use policy_nets::PolicyState;

use super::reference;
use crate::random::Streams;
use crate::rollout::Mode;
use crate::trajectories::{BatchShape, Trajectories};

/// With which randomness a batch was sampled.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Random streams.
    pub streams: Streams,
    /// Iteration.
    pub iteration: u32,
    /// Number of the first trajectory.
    pub first_trajectory: u32,
    /// Training or evaluation.
    pub mode: Mode,
}

/// Largest errors of the numbers of a batch, relative to numbers greater than 1. Infinite where a length is wrong or
/// padding is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RollOutErrors {
    /// Of means.
    pub means: f64,
    /// Of actions, given the means.
    pub actions: f64,
    /// Of observations, given the state and action before.
    pub observations: f64,
    /// Of rewards.
    pub rewards: f64,
    /// 0, or infinite.
    pub lengths: f64,
}

impl RollOutErrors {
    /// The largest.
    pub fn largest(self) -> f64 {
        [self.means, self.actions, self.observations, self.rewards, self.lengths].into_iter().fold(0.0, worse)
    }
}

/// The larger of two errors; a NaN is larger than anything.
pub(super) fn worse(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::INFINITY } else { left.max(right) }
}

fn relative(found: &[f32], expected: &[f64]) -> f64 {
    let error =
        |(found, expected): (&f32, &f64)| (f64::from(*found) - expected).abs() / expected.abs().max(1.0);
    found.iter().zip(expected).map(error).fold(0.0, worse)
}

/// Errors of `batch`, sampled by `policy` in the built-in environment `entry`; `None` for other environments.
pub fn errors(entry: &Entry, policy: &PolicyState, key: Key, batch: &Trajectories) -> Option<RollOutErrors> {
    let mut environment = entry.make().ok()?;
    let built_in = environment.built_in()?;
    let BatchShape { trajectories, horizon, observation_size, action_size } = batch.shape;
    let [reset, action_purpose, _] = key.mode.purposes();
    let exploration = f64::from(u8::from(key.mode != Mode::DeterministicEvaluation));
    let mut errors = RollOutErrors::default();
    let mut observation = vec![0.0; observation_size];
    let mut noise = vec![0.0; action_size];
    for trajectory in 0..trajectories {
        let stream = key.first_trajectory + trajectory as u32;
        environment.reset(&mut key.streams.stream(reset, key.iteration, stream, 0), &mut observation);
        let length = batch.lengths[trajectory] as usize;
        let mut terminated = false;
        for step in 0..length.min(horizon) {
            if terminated {
                errors.lengths = f64::INFINITY;
            }
            let place = trajectory * horizon + step;
            let observed = &batch.observations[place * observation_size..][..observation_size];
            let actions = &batch.actions[place * action_size..][..action_size];
            let means = &batch.means[place * action_size..][..action_size];
            errors.observations = worse(errors.observations, relative(observed, &observation));
            let state = wide(observed);
            errors.means = worse(errors.means, relative(means, &reference::mean(policy, &state)));
            key.streams.normals(action_purpose, key.iteration, stream, step as u32, &mut noise);
            let sampled =
                |d: usize| f64::from(means[d]) + exploration * policy.log_std[d].exp() * f64::from(noise[d]);
            let expected: Vec<f64> = (0..action_size).map(sampled).collect();
            errors.actions = worse(errors.actions, relative(actions, &expected));
            let (next, reward, end) = one_step(built_in, &state, &wide(actions));
            let error = (batch.rewards[place] - reward).abs() / reward.abs().max(1.0);
            errors.rewards = worse(errors.rewards, error);
            observation.copy_from_slice(&next);
            terminated = end;
        }
        let steps = trajectory * horizon + length..(trajectory + 1) * horizon;
        let padding = |values: &[f32], size: usize| {
            values
                .get(steps.start * size..steps.end * size)
                .is_some_and(|rest| rest.iter().all(|x| *x == 0.0))
        };
        let clean = padding(&batch.observations, observation_size)
            && padding(&batch.actions, action_size)
            && padding(&batch.means, action_size)
            && batch.rewards.get(steps.clone()).is_some_and(|rest| rest.iter().all(|reward| *reward == 0.0));
        if !clean || length == 0 || length < horizon && !terminated {
            errors.lengths = f64::INFINITY;
        }
    }
    Some(errors)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Observation, reward and end after one step from an observation.
fn one_step(built_in: BuiltIn, observation: &[f64], action: &[f64]) -> (Vec<f64>, f64, bool) {
    fn step<D: Dynamics<S, O, A>, const S: usize, const O: usize, const A: usize>(
        state: [f64; S],
        action: &[f64],
    ) -> (Vec<f64>, f64, bool) {
        let Outcome { next, reward, terminated } = D::step(state, std::array::from_fn(|d| action[d]));
        (D::observe(next).to_vec(), reward, terminated)
    }
    match built_in {
        BuiltIn::CartPole => {
            step::<cart_pole::Equations, 4, 4, 1>(std::array::from_fn(|d| observation[d]), action)
        }
        BuiltIn::Pendulum => {
            let state: pendulum::State = [observation[1].atan2(observation[0]), observation[2]];
            step::<pendulum::Equations, 2, 3, 1>(state, action)
        }
        BuiltIn::MountainCar => {
            step::<mountain_car::Equations, 2, 2, 1>(std::array::from_fn(|d| observation[d]), action)
        }
        BuiltIn::LinearQuadratic => {
            step::<linear_quadratic::Equations, 2, 2, 2>(std::array::from_fn(|d| observation[d]), action)
        }
    }
}

//! Evaluation of a policy on fresh episodes.

use std::time::Duration;

use environments::drawing::Scene;
use environments::registry::Entry;
use policy_nets::PolicyState;
use serde::Serialize;

use crate::random::Streams;
use crate::rollout::{Mode, RollOut, RollOutError, Sampling};
use crate::statistics::student_t_interval;
use crate::threads::Threads;
use crate::trajectories::Trajectories;

/// Returns and lengths of evaluation episodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of episodes.
    pub episodes: usize,
    /// Mean undiscounted return.
    pub return_mean: f64,
    /// Standard deviation of returns (divisor `n - 1`; 0 for one episode).
    pub return_std: f64,
    /// Half width of the 95 percent Student interval of the mean; `None` for one episode.
    pub return_interval: Option<f64>,
    /// Smallest return.
    pub return_min: f64,
    /// Largest return.
    pub return_max: f64,
    /// Mean length.
    pub length_mean: f64,
    /// Episodes that ended because their simulation turned unstable.
    pub unstable: usize,
}

/// Most episodes that are rolled out, and so in memory, at a time.
const PART: usize = 256;

/// Environments and memory for repeated evaluations.
pub struct Evaluator {
    entry: Entry,
    /// Roll-outs in their order, and how often each is made: those of whole parts, and that of the rest.
    parts: Vec<(RollOut, Trajectories, usize)>,
    /// Actions of the first episode of the last run.
    first_actions: Vec<f32>,
    /// Returns of the last run's episodes.
    returns: Vec<f64>,
}

impl Evaluator {
    /// Makes the environments.
    ///
    /// # Errors
    /// When an environment cannot be made, or has other sizes than its entry.
    ///
    /// # Panics
    /// When `episodes` or `horizon` is 0.
    pub fn new(
        entry: &Entry,
        episodes: usize,
        horizon: usize,
        threads: &Threads,
    ) -> Result<Self, RollOutError> {
        assert!(episodes > 0 && horizon > 0, "{episodes} episodes of {horizon} steps");
        let size = episodes.min(PART);
        let sizes = [(size, episodes / size), (episodes % size, 1)];
        let parts = sizes.into_iter().filter(|(size, _)| *size > 0).map(|(size, times)| {
            let roll_out = RollOut::new(entry, size, horizon, threads)?;
            let episodes = Trajectories::zeros(roll_out.shape());
            Ok((roll_out, episodes, times))
        });
        Ok(Self {
            entry: *entry,
            parts: parts.collect::<Result<_, RollOutError>>()?,
            first_actions: vec![],
            returns: vec![],
        })
    }

    /// Of so many episodes, those that are in memory at a time: a whole part and the rest.
    pub(crate) fn held(episodes: usize) -> usize {
        episodes.min(PART) + if episodes > PART { episodes % PART } else { 0 }
    }

    /// Runs every episode once. Equal `streams` and `iteration` give equal initial states.
    ///
    /// # Errors
    /// As [`RollOut::run`].
    pub fn run(
        &mut self,
        policy: &PolicyState,
        streams: Streams,
        iteration: u32,
        mode: Mode,
    ) -> Result<Evaluation, RollOutError> {
        self.run_observed(policy, streams, iteration, mode, |_| ())
    }

    /// As [`run`](Self::run), and hands the episodes to `observe`, some at a time, in their order.
    ///
    /// # Errors
    /// As [`RollOut::run`].
    pub fn run_observed(
        &mut self,
        policy: &PolicyState,
        streams: Streams,
        iteration: u32,
        mode: Mode,
        mut observe: impl FnMut(&Trajectories),
    ) -> Result<Evaluation, RollOutError> {
        let (mut steps, mut unstable) = (0, 0);
        let returns = &mut self.returns;
        returns.clear();
        for (roll_out, episodes, times) in &mut self.parts {
            for _ in 0..*times {
                let first_trajectory = returns.len() as u32;
                let sampling = Sampling { policy, streams, iteration, first_trajectory, mode };
                unstable += roll_out.run(sampling, episodes)?;
                if first_trajectory == 0 {
                    let length = episodes.lengths[0] as usize;
                    self.first_actions.clear();
                    self.first_actions.extend(&episodes.actions[..length * self.entry.action_size]);
                }
                observe(episodes);
                returns.extend(episodes.returns());
                steps += episodes.steps();
            }
        }
        let count = returns.len() as f64;
        let mean = returns.iter().sum::<f64>() / count;
        let squares: f64 = returns.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if returns.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Ok(Evaluation {
            episodes: returns.len(),
            return_mean: mean,
            return_std: std,
            return_interval: student_t_interval(returns, 0.95).ok().map(|interval| interval.upper - mean),
            return_min: returns.iter().copied().fold(f64::INFINITY, f64::min),
            return_max: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            length_mean: steps as f64 / count,
            unstable,
        })
    }

    /// Undiscounted returns of the last run's episodes, in their order.
    pub fn returns(&self) -> &[f64] {
        &self.returns
    }

    /// Time inside the environments' own resets and steps so far, summed over threads.
    pub fn environment_time(&self) -> Duration {
        self.parts.iter().map(|(roll_out, ..)| roll_out.environment_time()).sum()
    }

    /// Pictures of the first episode of the last [`run`](Self::run), which had these `streams`, `iteration` and `mode`:
    /// one of the state before every `stride`-th step, from the first on. The episode is made again from its recorded actions.
    ///
    /// # Errors
    /// When the environment cannot be made, or does not repeat the episode.
    pub fn film(
        &self,
        streams: Streams,
        iteration: u32,
        mode: Mode,
        stride: usize,
    ) -> Result<Vec<Scene>, RollOutError> {
        const TRAJECTORY: u32 = 0;
        let [reset, _, dynamics] = mode.purposes();
        let size = self.entry.action_size;
        let mut environment = self.entry.make()?;
        let mut observation = vec![0.0; self.entry.observation_size];
        let mut action = vec![0.0; size];
        environment.reset(&mut streams.stream(reset, iteration, TRAJECTORY, 0), &mut observation);
        let mut frames = vec![];
        for (step, recorded) in self.first_actions.chunks_exact(size).enumerate() {
            if step.is_multiple_of(stride) {
                let mut scene = Scene::new();
                environment.draw(&mut scene);
                frames.push(scene);
            }
            for (component, value) in action.iter_mut().zip(recorded) {
                *component = f64::from(*value);
            }
            let mut random = streams.stream(dynamics, iteration, TRAJECTORY, step as u32);
            environment.step(&action, &mut random, &mut observation).map_err(|source| {
                RollOutError::Step { iteration, trajectory: TRAJECTORY as usize, step, source }
            })?;
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use environments::drawing::Shape;
    use environments::registry;

    use super::*;
    use crate::training::preset_policy;

    /// Where the shapes of a picture are, up to the precision of recorded observations.
    fn rough(scene: &Scene) -> Vec<f32> {
        let numbers = |(_, shape): &(_, Shape)| match shape {
            Shape::Capsule { ends, .. } => ends.concat(),
            Shape::Path { points, .. } => points.concat(),
            Shape::Box { centre, .. } | Shape::Circle { centre, .. } => centre.to_vec(),
        };
        scene.shapes().iter().flat_map(numbers).map(|value| value as f32).collect()
    }

    #[test]
    fn many_episodes_are_made_in_parts_with_the_same_result() {
        let entry = registry::find("cartpole").unwrap();
        let (streams, threads) = (Streams::new(5), Threads::new(2).unwrap());
        let policy = preset_policy("cartpole");
        let count = 2 * PART + 3;
        let mode = Mode::StochasticEvaluation;
        let found =
            Evaluator::new(entry, count, 50, &threads).unwrap().run(&policy, streams, 4, mode).unwrap();
        let mut roll_out = RollOut::new(entry, count, 50, &threads).unwrap();
        let mut all = Trajectories::zeros(roll_out.shape());
        let sampling = Sampling { policy: &policy, streams, iteration: 4, first_trajectory: 0, mode };
        roll_out.run(sampling, &mut all).unwrap();
        assert_eq!(found.episodes, count);
        assert_eq!(found.return_mean, all.returns().sum::<f64>() / count as f64);
        assert_eq!(found.length_mean, all.steps() as f64 / count as f64);
    }

    #[test]
    fn a_film_shows_the_states_of_the_first_episode() {
        let entry = registry::find("cartpole").unwrap();
        let streams = Streams::new(5);
        let policy = preset_policy("cartpole");
        let mut evaluator = Evaluator::new(entry, 3, 200, &Threads::new(1).unwrap()).unwrap();
        let mode = Mode::StochasticEvaluation;
        evaluator.run(&policy, streams, 4, mode).unwrap();
        let frames = evaluator.film(streams, 4, mode, 1).unwrap();
        let length = evaluator.parts[0].1.lengths[0] as usize;
        assert!(length > 5 && length < 200, "{length}: the test needs an episode that ends early");
        assert_eq!(frames.len(), length);

        // The cart is where the recorded observation says.
        for (frame, observation) in frames.iter().zip(evaluator.parts[0].1.observations.chunks_exact(4)) {
            assert!(rough(frame).contains(&observation[0]), "{frame:?} does not show {observation:?}");
        }
        let every_third = evaluator.film(streams, 4, mode, 3).unwrap();
        assert_eq!(every_third.len(), length.div_ceil(3));
        for (kept, frame) in every_third.iter().zip(frames.iter().step_by(3)) {
            assert_eq!(rough(kept), rough(frame));
        }
    }
}

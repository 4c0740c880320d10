//! Evaluation of a policy on fresh episodes.

use std::time::Duration;

use environments::drawing::Scene;
use environments::registry::Entry;
use policy_nets::PolicyState;
use serde::Serialize;

use crate::random::Streams;
use crate::rollout::{Mode, RollOut, RollOutError, Sampling};
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
    /// Half width of the 95 percent Student interval of the mean; infinite for one episode.
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

/// Environments and memory for repeated evaluations.
pub struct Evaluator {
    entry: Entry,
    roll_out: RollOut,
    episodes: Trajectories,
}

impl Evaluator {
    /// Makes the environments.
    ///
    /// # Errors
    /// When an environment cannot be made.
    pub fn new(
        entry: &Entry,
        episodes: usize,
        horizon: usize,
        threads: &Threads,
    ) -> Result<Self, RollOutError> {
        let roll_out = RollOut::new(entry, episodes, horizon, threads)?;
        let episodes = Trajectories::zeros(roll_out.shape());
        Ok(Self { entry: *entry, roll_out, episodes })
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
        let sampling = Sampling { policy, streams, iteration, first_trajectory: 0, mode };
        let unstable = self.roll_out.run(sampling, &mut self.episodes)?;
        let returns: Vec<f64> = self.episodes.returns().collect();
        let count = returns.len() as f64;
        let mean = returns.iter().sum::<f64>() / count;
        let squares: f64 = returns.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if returns.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Ok(Evaluation {
            episodes: returns.len(),
            return_mean: mean,
            return_std: std,
            return_interval: student_quantile(returns.len()).map(|quantile| quantile * std / count.sqrt()),
            return_min: returns.iter().copied().fold(f64::INFINITY, f64::min),
            return_max: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            length_mean: self.episodes.steps() as f64 / count,
            unstable,
        })
    }

    /// Time inside the environments' own resets and steps so far, summed over threads.
    pub fn environment_time(&self) -> Duration {
        self.roll_out.environment_time()
    }

    /// Pictures of the first episode of the last [`run`](Self::run), which had these `streams`, `iteration` and `mode`:
    /// one of the state before each step. The episode is made again from its recorded actions.
    ///
    /// # Errors
    /// When the environment cannot be made, or does not repeat the episode.
    pub fn film(&self, streams: Streams, iteration: u32, mode: Mode) -> Result<Vec<Scene>, RollOutError> {
        const TRAJECTORY: u32 = 0;
        let [reset, _, dynamics] = mode.purposes();
        let size = self.entry.action_size;
        let mut environment = self.entry.make()?;
        let mut observation = vec![0.0; self.entry.observation_size];
        let mut action = vec![0.0; size];
        environment.reset(&mut streams.stream(reset, iteration, TRAJECTORY, 0), &mut observation);
        let length = self.episodes.lengths[TRAJECTORY as usize] as usize;
        let mut frames = Vec::with_capacity(length);
        for (step, recorded) in self.episodes.actions.chunks_exact(size).take(length).enumerate() {
            let mut scene = Scene::new();
            environment.draw(&mut scene);
            frames.push(scene);
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

/// The 0.975 quantile of Student's distribution with `count - 1` degrees of freedom.
fn student_quantile(count: usize) -> Option<f64> {
    use statrs::distribution::{ContinuousCDF, StudentsT};
    let distribution = StudentsT::new(0.0, 1.0, count.checked_sub(1)? as f64).ok()?;
    Some(distribution.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use environments::drawing::Shape;
    use environments::registry;
    use policy_nets::{Activation, Architecture, Deviation, Initialization};

    use super::*;
    use crate::random::Purpose;

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
    fn a_film_shows_the_states_of_the_first_episode() {
        let entry = registry::find("cartpole").unwrap();
        let architecture = Architecture {
            observation_size: 4,
            action_size: 1,
            hidden: vec![],
            activation: Activation::Tanh,
            bias: false,
        };
        let streams = Streams::new(5);
        let mut random = streams.stream(Purpose::Initialization, 0, 0, 0);
        let policy =
            PolicyState::start(architecture, Initialization::Zero, 1.0, Deviation::Fixed, &mut random);
        let mut evaluator = Evaluator::new(entry, 3, 200, &Threads::new(1).unwrap()).unwrap();
        let mode = Mode::StochasticEvaluation;
        evaluator.run(&policy, streams, 4, mode).unwrap();
        let frames = evaluator.film(streams, 4, mode).unwrap();
        let length = evaluator.episodes.lengths[0] as usize;
        assert!(length > 5 && length < 200, "{length}: the test needs an episode that ends early");
        assert_eq!(frames.len(), length);

        // The cart is where the recorded observation says.
        for (frame, observation) in frames.iter().zip(evaluator.episodes.observations.chunks_exact(4)) {
            assert!(rough(frame).contains(&observation[0]), "{frame:?} does not show {observation:?}");
        }
    }
}

//! Many environments stepped together.

use rand::Rng;

use crate::{Environment, StepError};

/// Why a batch was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no environment, so that the sizes are unknown.
    #[error("a batch needs at least one environment")]
    Empty,
    /// An environment without observations or without actions.
    #[error(
        "environment {name} has {found:?} observation and action components, expected at least one of each"
    )]
    NoComponents {
        /// Name of the environment.
        name: &'static str,
        /// Its observation size and action size.
        found: (usize, usize),
    },
    /// An environment differs in kind from the first one.
    #[error(
        "environment {index} ({name}) has {found:?} observation and action components, expected {expected:?} as \
         in the first one"
    )]
    Mixed {
        /// Position in the batch.
        index: usize,
        /// Name of the environment.
        name: &'static str,
        /// Its observation size and action size.
        found: (usize, usize),
        /// Those of the first environment.
        expected: (usize, usize),
    },
}

/// Why a step of a batch failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BatchStepError {
    /// Every trajectory has ended, or none was started.
    #[error("no trajectory of the batch is running; call reset first")]
    NoneRunning,
    /// An environment could not make its step.
    #[error("trajectory {index} of the batch cannot go on")]
    Failed {
        /// Position in the batch.
        index: usize,
        /// What the environment says.
        source: StepError,
    },
}

/// A batch of environments of one kind, each with its own trajectory.
///
/// | array | shape |
/// |---|---|
/// | `observations` | `[len, observation_size]` |
/// | `actions` | `[len, action_size]` |
/// | `rewards`, `terminated`, [`running`](Self::running) | `[len]` |
///
/// Arrays are row-major slices that the caller owns; stepping allocates nothing. Slices of another length are a
/// programming error and panic.
///
/// Environment `i` draws from the generator `streams(i)` and from no other, so that its trajectory depends neither on
/// the rest of the batch nor on how environments are divided into batches. To use several threads, give each its own
/// batch.
///
/// ```
/// use environments::{batch::EnvironmentBatch, registry};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let mut batch = EnvironmentBatch::new(vec![registry::make("cartpole")?, registry::make("cartpole")?])?;
/// let streams = |index| SmallRng::seed_from_u64(index as u64);
/// let mut observations = [0.0; 2 * 4];
/// let (mut rewards, mut terminated) = ([0.0; 2], [false; 2]);
///
/// batch.reset(streams, &mut observations);
/// let mut lengths = [0, 0];
/// while batch.running_count() > 0 {
///     batch.step(&[10.0, -1.0], streams, &mut observations, &mut rewards, &mut terminated)?;
///     for (length, reward) in lengths.iter_mut().zip(rewards) {
///         *length += reward as usize;
///     }
/// }
/// assert!(lengths[0] < lengths[1], "the stronger push fells the pole sooner");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EnvironmentBatch {
    environments: Vec<Box<dyn Environment>>,
    running: Vec<bool>,
    observation_size: usize,
    action_size: usize,
}

impl EnvironmentBatch {
    /// A batch of the given environments; none is running.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without environments, [`BatchError::NoComponents`] when they have no observations or no actions,
    /// [`BatchError::Mixed`] when their sizes differ.
    pub fn new(environments: Vec<Box<dyn Environment>>) -> Result<Self, BatchError> {
        let sizes =
            |environment: &dyn Environment| (environment.observation_size(), environment.action_size());
        let first = environments.first().ok_or(BatchError::Empty)?.as_ref();
        let expected = sizes(first);
        if expected.0 == 0 || expected.1 == 0 {
            return Err(BatchError::NoComponents { name: first.name(), found: expected });
        }
        for (index, environment) in environments.iter().enumerate() {
            let found = sizes(environment.as_ref());
            if found != expected {
                return Err(BatchError::Mixed { index, name: environment.name(), found, expected });
            }
        }
        let (observation_size, action_size) = expected;
        Ok(Self { running: vec![false; environments.len()], environments, observation_size, action_size })
    }

    /// The environments.
    pub fn into_environments(self) -> Vec<Box<dyn Environment>> {
        self.environments
    }

    /// Components of one observation.
    pub fn observation_size(&self) -> usize {
        self.observation_size
    }

    /// Components of one action.
    pub fn action_size(&self) -> usize {
        self.action_size
    }

    /// Number of environments.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.environments.len()
    }

    /// Which trajectories are running: started, and not ended in a terminal state.
    pub fn running(&self) -> &[bool] {
        &self.running
    }

    /// Number of running trajectories.
    pub fn running_count(&self) -> usize {
        self.running.iter().filter(|running| **running).count()
    }

    /// Starts a trajectory in every environment and writes the first observations.
    pub fn reset<R: Rng>(&mut self, mut streams: impl FnMut(usize) -> R, observations: &mut [f64]) {
        assert_length("observations", observations.len(), self.len() * self.observation_size);
        let rows = observations.chunks_exact_mut(self.observation_size);
        for (index, (environment, observation)) in self.environments.iter_mut().zip(rows).enumerate() {
            environment.reset(&mut streams(index), observation);
        }
        self.running.fill(true);
    }

    /// Makes one step in every running environment.
    ///
    /// Writes the next observation, the reward and whether this step ended the trajectory. An environment whose
    /// trajectory ended earlier makes no step: its action is not read, `streams` is not asked, its observation stays as
    /// it is, its reward is 0 and `terminated` is false.
    ///
    /// # Errors
    /// [`BatchStepError::NoneRunning`] when there is no trajectory to go on with, and then nothing is written.
    /// [`BatchStepError::Failed`] for the first environment that fails, after every other one has made its step; one whose
    /// simulation turned unstable is named when no other failed otherwise. A trajectory that fails has ended, with reward 0
    /// and `terminated` false for this step; the rest of the batch can go on.
    pub fn step<R: Rng>(
        &mut self,
        actions: &[f64],
        mut streams: impl FnMut(usize) -> R,
        observations: &mut [f64],
        rewards: &mut [f64],
        terminated: &mut [bool],
    ) -> Result<(), BatchStepError> {
        let (observation_size, action_size) = (self.observation_size, self.action_size);
        assert_length("actions", actions.len(), self.len() * action_size);
        assert_length("observations", observations.len(), self.len() * observation_size);
        assert_length("rewards", rewards.len(), self.len());
        assert_length("terminated", terminated.len(), self.len());
        if self.running_count() == 0 {
            return Err(BatchStepError::NoneRunning);
        }
        rewards.fill(0.0);
        terminated.fill(false);
        let mut failure: Option<(usize, StepError)> = None;
        for index in 0..self.environments.len() {
            if !self.running[index] {
                continue;
            }
            let action = &actions[index * action_size..][..action_size];
            let observation = &mut observations[index * observation_size..][..observation_size];
            match self.environments[index].step(action, &mut streams(index), observation) {
                Ok(transition) => {
                    rewards[index] = transition.reward;
                    terminated[index] = transition.terminated;
                    self.running[index] = !transition.terminated;
                }
                Err(source) => {
                    self.running[index] = false;
                    let is_unstable = |source: &StepError| matches!(source, StepError::Unstable { .. });
                    if failure.as_ref().is_none_or(|(_, first)| is_unstable(first) && !is_unstable(&source)) {
                        failure = Some((index, source));
                    }
                }
            }
        }
        failure.map_or(Ok(()), |(index, source)| Err(BatchStepError::Failed { index, source }))
    }
}

/// # Panics
/// When a slice does not have the length that its shape asks for.
#[track_caller]
fn assert_length(array: &str, found: usize, expected: usize) {
    assert!(found == expected, "{array} has {found} elements, expected {expected}");
}

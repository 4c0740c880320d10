//! Roll-outs: a policy acts in many environments in lock step.
//!
//! The policy's mean network runs on the host over all running trajectories of a group at once; groups are divided over
//! threads. Noise and environment randomness come from the streams of [`crate::random`], one for each trajectory and
//! step, and the mean of a row does not depend on the rows beside it, so the result is the same for any number of
//! threads.

use std::time::{Duration, Instant};

use environments::batch::{BatchError, BatchStepError, EnvironmentBatch};
use environments::registry::{Entry, MakeError};
use environments::{Environment, StepError};
use policy_nets::fused::{FusedNetwork, Scratch};
use policy_nets::{Architecture, Normalizer, PolicyState};

use crate::finite::{BadNumber, Quantity};
use crate::panics;
use crate::random::{Purpose, Streams};
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

/// Why a batch was not rolled out.
#[derive(Debug, thiserror::Error)]
pub enum RollOutError {
    /// The environment was not made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// Environments of one kind differ.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// An environment is not what its entry in the registry says.
    #[error(
        "environment `{name}` has {} observation and {} action components, but its entry says {} and {}",
        found[0], found[1], expected[0], expected[1]
    )]
    Entry {
        /// Name of the entry.
        name: &'static str,
        /// Components of an observation and of an action that the entry says.
        expected: [usize; 2],
        /// Those of the environment.
        found: [usize; 2],
    },
    /// A step could not be made.
    #[error("iteration {iteration}, trajectory {trajectory}, step {step}")]
    Step {
        /// Iteration.
        iteration: u32,
        /// Trajectory, from 0.
        trajectory: usize,
        /// Step, from 0.
        step: usize,
        /// What the environment says.
        source: StepError,
    },
    /// An environment returned a number that is not finite.
    #[error("iteration {iteration}: {} is {}", bad.quantity, bad.value)]
    NotFinite {
        /// Iteration.
        iteration: u32,
        /// The first such number: of the earliest step, the first trajectory's.
        bad: BadNumber,
    },
    /// An environment panicked.
    #[error("iteration {iteration}: the environment panicked: {message}")]
    Panicked {
        /// Iteration.
        iteration: u32,
        /// What it says.
        message: String,
    },
}

impl RollOutError {
    /// How many steps were made when it showed, and the trajectory, for the first of several: the reset's observation
    /// before all else, and what a step returns with its reward.
    fn place(&self) -> (usize, usize) {
        match self {
            Self::Step { step, trajectory, .. } => (step + 1, *trajectory),
            Self::NotFinite { bad, .. } => match bad.quantity {
                Quantity::Reward { trajectory, step } => (step + 1, trajectory),
                Quantity::Observation { trajectory, step, .. } => (step, trajectory),
                _ => (usize::MAX, usize::MAX),
            },
            _ => (usize::MAX, usize::MAX),
        }
    }
}

/// Which policy acts, and with which randomness.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'a> {
    /// The policy.
    pub policy: &'a PolicyState,
    /// Random streams of the run.
    pub streams: Streams,
    /// Iteration that the streams are keyed with.
    pub iteration: u32,
    /// Number that the first trajectory's stream is keyed with.
    pub first_trajectory: u32,
    /// Training or evaluation.
    pub mode: Mode,
}

/// What a roll-out is for, which decides its streams and whether actions are random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Training: actions are sampled.
    Training,
    /// Evaluation with sampled actions.
    StochasticEvaluation,
    /// Evaluation with the mean action.
    DeterministicEvaluation,
}

impl Mode {
    pub(crate) fn purposes(self) -> [Purpose; 3] {
        match self {
            Self::Training => [Purpose::Reset, Purpose::Action, Purpose::Dynamics],
            _ => [Purpose::EvaluationReset, Purpose::EvaluationAction, Purpose::EvaluationDynamics],
        }
    }
}

/// Environments and memory for roll-outs of one batch shape; nothing is allocated while stepping.
pub struct RollOut {
    shape: BatchShape,
    group_size: usize,
    groups: Vec<Group>,
    threads: Threads,
    /// The mean network, with the shape of the last policy.
    network: Option<(Architecture, FusedNetwork)>,
}

impl RollOut {
    /// Makes `trajectories` environments.
    ///
    /// # Errors
    /// When an environment cannot be made, or has other sizes than its entry.
    ///
    /// # Panics
    /// When `trajectories` or `horizon` is 0.
    pub fn new(
        entry: &Entry,
        trajectories: usize,
        horizon: usize,
        threads: &Threads,
    ) -> Result<Self, RollOutError> {
        Self::with_environments(entry, trajectories, horizon, threads, &mut vec![])
    }

    /// The same with environments from `spare`, as far as there are.
    ///
    /// # Errors
    /// When an environment cannot be made.
    pub(crate) fn with_environments(
        entry: &Entry,
        trajectories: usize,
        horizon: usize,
        threads: &Threads,
        spare: &mut Vec<Box<dyn Environment>>,
    ) -> Result<Self, RollOutError> {
        let shape = BatchShape {
            trajectories,
            horizon,
            observation_size: entry.observation_size,
            action_size: entry.action_size,
        };
        assert!(trajectories > 0 && horizon > 0, "{trajectories} trajectories of {horizon} steps");
        let group_size = group_size(trajectories, threads.count());
        let groups = (0..trajectories)
            .step_by(group_size)
            .map(|first| Group::new(entry, group_size.min(trajectories - first), spare))
            .collect::<Result<_, RollOutError>>()?;
        Ok(Self { shape, group_size, groups, threads: threads.clone(), network: None })
    }

    /// The environments.
    pub(crate) fn into_environments(self) -> impl Iterator<Item = Box<dyn Environment>> {
        self.groups.into_iter().flat_map(|group| group.environments.into_environments())
    }

    /// Sizes of the batches.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Time inside the environments' own resets and steps so far, summed over threads.
    pub fn environment_time(&self) -> Duration {
        self.groups.iter().map(|group| group.environment_time).sum()
    }

    /// Rolls out every environment once and overwrites `batch`.
    ///
    /// A trajectory whose simulation turns unstable ends before that step. Returns how many did.
    ///
    /// # Errors
    /// [`RollOutError::Step`] or [`RollOutError::NotFinite`], of the earliest step the first trajectory's, whatever the
    /// number of threads; [`RollOutError::Panicked`].
    ///
    /// # Panics
    /// When `batch` has other sizes, or the policy than the environment, or [`PolicyState::check_sizes`] refuses the policy.
    pub fn run(&mut self, sampling: Sampling<'_>, batch: &mut Trajectories) -> Result<usize, RollOutError> {
        let shape = self.shape;
        assert_eq!(batch.shape, shape, "sizes of the batch");
        if let Err(error) = sampling.policy.check_sizes() {
            panic!("{error}");
        }
        let sizes = (sampling.policy.architecture.observation_size, sampling.policy.architecture.action_size);
        assert_eq!(sizes, (shape.observation_size, shape.action_size), "sizes of the policy");
        let architecture = &sampling.policy.architecture;
        let network = match self.network.take().filter(|(previous, _)| previous == architecture) {
            Some(kept) => kept,
            None => (architecture.clone(), FusedNetwork::new(architecture)),
        };
        let (_, network) = self.network.insert(network);
        let parameters: Vec<f32> =
            sampling.policy.mean_parameters.iter().map(|value| *value as f32).collect();
        network.load(&parameters);
        let network = &*network;

        batch.log_std = sampling.policy.log_std.iter().map(|value| *value as f32).collect();
        let deviation: Vec<f32> = match sampling.mode {
            Mode::DeterministicEvaluation => vec![0.0; shape.action_size],
            _ => batch.log_std.iter().map(|log_std| log_std.exp()).collect(),
        };
        let BatchShape { horizon, observation_size, action_size, .. } = shape;
        let steps = self.group_size * horizon;
        let groups = self.groups.iter_mut().enumerate();
        let parts = batch
            .observations
            .chunks_mut(steps * observation_size)
            .zip(batch.actions.chunks_mut(steps * action_size))
            .zip(batch.means.chunks_mut(steps * action_size))
            .zip(batch.rewards.chunks_mut(steps))
            .zip(batch.lengths.chunks_mut(self.group_size))
            .map(|((((observations, actions), means), rewards), lengths)| Part {
                horizon,
                observations,
                actions,
                means,
                rewards,
                lengths,
            });
        let mut work: Vec<_> = groups.zip(parts).collect();
        let iteration = sampling.iteration;
        let outcomes = self.threads.map(&mut work, |((index, group), part)| {
            panics::catch(|| group.run(sampling, *index * self.group_size, network, &deviation, part))
                .unwrap_or_else(|message| Err(RollOutError::Panicked { iteration, message }))
        });
        let mut unstable = 0;
        let mut failures = vec![];
        for outcome in outcomes {
            match outcome {
                Ok(count) => unstable += count,
                Err(error) => failures.push(error),
            }
        }
        failures.into_iter().min_by_key(RollOutError::place).map_or(Ok(unstable), Err)
    }
}

/// Trajectories that one thread steps together: every thread has as many as every other, up to the remainder. Two groups
/// for each thread even out trajectories of different lengths, where both still fill the mean network's vectors.
fn group_size(trajectories: usize, threads: usize) -> usize {
    const VECTOR: usize = 8;
    match trajectories.div_ceil(2 * threads) {
        half if half >= VECTOR => half,
        _ => trajectories.div_ceil(threads),
    }
}

/// Where a group writes its trajectories.
struct Part<'a> {
    horizon: usize,
    observations: &'a mut [f32],
    actions: &'a mut [f32],
    means: &'a mut [f32],
    rewards: &'a mut [f64],
    lengths: &'a mut [u32],
}

/// Environments that one thread steps together.
struct Group {
    environments: EnvironmentBatch,
    observations: Vec<f64>,
    actions: Vec<f64>,
    rewards: Vec<f64>,
    terminated: Vec<bool>,
    rows: Vec<usize>,
    network_input: Vec<f32>,
    network_output: Vec<f32>,
    noise: Vec<f32>,
    scratch: Scratch,
    environment_time: Duration,
}

impl Group {
    fn new(entry: &Entry, size: usize, spare: &mut Vec<Box<dyn Environment>>) -> Result<Self, RollOutError> {
        let environment = |_| spare.pop().map_or_else(|| entry.make(), Ok);
        let environments = (0..size).map(environment).collect::<Result<Vec<_>, _>>()?;
        let environments = EnvironmentBatch::new(environments)?;
        let (expected, found) = (
            [entry.observation_size, entry.action_size],
            [environments.observation_size(), environments.action_size()],
        );
        if expected != found {
            return Err(RollOutError::Entry { name: entry.name, expected, found });
        }
        Ok(Self {
            environments,
            observations: vec![0.0; size * entry.observation_size],
            actions: vec![0.0; size * entry.action_size],
            rewards: vec![0.0; size],
            terminated: vec![false; size],
            rows: Vec::with_capacity(size),
            network_input: Vec::with_capacity(size * entry.observation_size),
            network_output: vec![0.0; size * entry.action_size],
            noise: vec![0.0; entry.action_size],
            scratch: Scratch::default(),
            environment_time: Duration::ZERO,
        })
    }

    fn run(
        &mut self,
        sampling: Sampling<'_>,
        first: usize,
        network: &FusedNetwork,
        deviation: &[f32],
        part: &mut Part<'_>,
    ) -> Result<usize, RollOutError> {
        let [reset, action, dynamics] = sampling.mode.purposes();
        let Sampling { streams, iteration, first_trajectory, .. } = sampling;
        let trajectory = |row: usize| first_trajectory + (first + row) as u32;
        for buffer in [&mut *part.observations, &mut *part.actions, &mut *part.means] {
            buffer.fill(0.0);
        }
        part.rewards.fill(0.0);
        part.lengths.fill(0);
        let mut unstable = 0;

        let start = Instant::now();
        self.environments
            .reset(|row| streams.stream(reset, iteration, trajectory(row), 0), &mut self.observations);
        self.environment_time += start.elapsed();
        for row in 0..self.environments.len() {
            self.check_observation(row, trajectory(row) as usize, 0, iteration)?;
        }
        // Mean actions take no noise.
        let random = sampling.mode != Mode::DeterministicEvaluation;
        self.noise.fill(0.0);
        for step in 0..part.horizon {
            self.rows.clear();
            let running = self.environments.running();
            self.rows.extend((0..running.len()).filter(|row| running[*row]));
            if self.rows.is_empty() {
                break;
            }
            self.compute_means(sampling.policy.normalizer.as_ref(), network, part, step);
            for (index, row) in self.rows.iter().enumerate() {
                if random {
                    streams.normals(action, iteration, trajectory(*row), step as u32, &mut self.noise);
                }
                let size = deviation.len();
                let place = (row * part.horizon + step) * size;
                let draws = self.network_output[index * size..].iter().zip(deviation.iter().zip(&self.noise));
                for (component, (mean, (deviation, noise))) in draws.enumerate() {
                    let value = mean + deviation * noise;
                    part.means[place + component] = *mean;
                    part.actions[place + component] = value;
                    self.actions[row * size + component] = f64::from(value);
                }
            }
            let start = Instant::now();
            let stepped = self.environments.step(
                &self.actions,
                |row| streams.stream(dynamics, iteration, trajectory(row), step as u32),
                &mut self.observations,
                &mut self.rewards,
                &mut self.terminated,
            );
            self.environment_time += start.elapsed();
            let failed = match stepped {
                Err(BatchStepError::Failed { index, source })
                    if !matches!(source, StepError::Unstable { .. }) =>
                {
                    let trajectory = trajectory(index) as usize;
                    Some(RollOutError::Step { iteration, trajectory, step, source })
                }
                _ => None,
            };
            match (failed, self.record(part, step, iteration, trajectory(0) as usize)) {
                (None, recorded) => unstable += recorded?,
                (Some(failed), Err(recorded)) if recorded.place() < failed.place() => return Err(recorded),
                (Some(failed), _) => return Err(failed),
            }
        }
        Ok(unstable)
    }

    /// Writes the observations of the running rows and computes their means.
    fn compute_means(
        &mut self,
        normalizer: Option<&Normalizer>,
        network: &FusedNetwork,
        part: &mut Part<'_>,
        step: usize,
    ) {
        let size = self.environments.observation_size();
        self.network_input.clear();
        for row in &self.rows {
            let place = (row * part.horizon + step) * size;
            let observation = &self.observations[row * size..(row + 1) * size];
            for (stored, value) in part.observations[place..place + size].iter_mut().zip(observation) {
                *stored = *value as f32;
            }
            self.network_input.extend_from_slice(&part.observations[place..place + size]);
        }
        if let Some(normalizer) = normalizer {
            normalizer.apply(&mut self.network_input);
        }
        let outputs = self.rows.len() * self.environments.action_size();
        network.means(&self.network_input, &mut self.network_output[..outputs], &mut self.scratch);
    }

    /// Refuses an observation that is not finite in the single precision in which it is kept.
    fn check_observation(
        &self,
        row: usize,
        trajectory: usize,
        step: usize,
        iteration: u32,
    ) -> Result<(), RollOutError> {
        let size = self.environments.observation_size();
        let observation = &self.observations[row * size..(row + 1) * size];
        match observation.iter().position(|value| !(*value as f32).is_finite()) {
            None => Ok(()),
            Some(component) => {
                let quantity = Quantity::Observation { trajectory, step, component };
                let bad = BadNumber { quantity, value: observation[component] };
                Err(RollOutError::NotFinite { iteration, bad })
            }
        }
    }

    /// Writes rewards and lengths of the step; returns how many trajectories turned unstable in it.
    fn record(
        &self,
        part: &mut Part<'_>,
        step: usize,
        iteration: u32,
        first: usize,
    ) -> Result<usize, RollOutError> {
        let size = self.environments.observation_size();
        let mut unstable = 0;
        for row in &self.rows {
            if !self.environments.running()[*row] && !self.terminated[*row] {
                // The step was not made: its action is no part of the trajectory.
                let action = self.environments.action_size();
                let place = row * part.horizon + step;
                part.observations[place * size..(place + 1) * size].fill(0.0);
                part.actions[place * action..(place + 1) * action].fill(0.0);
                part.means[place * action..(place + 1) * action].fill(0.0);
                unstable += 1;
                continue;
            }
            let reward = self.rewards[*row];
            if !reward.is_finite() {
                let quantity = Quantity::Reward { trajectory: first + row, step };
                return Err(RollOutError::NotFinite {
                    iteration,
                    bad: BadNumber { quantity, value: reward },
                });
            }
            self.check_observation(*row, first + row, step + 1, iteration)?;
            part.rewards[row * part.horizon + step] = reward;
            part.lengths[*row] = step as u32 + 1;
        }
        Ok(unstable)
    }
}

#[cfg(test)]
mod tests;

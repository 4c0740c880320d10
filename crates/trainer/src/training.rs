//! One run: sample, estimate, step.

mod error;
mod preparation;
mod saved;

use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use environments::registry::{self, Entry};
use policy_nets::{GaussianPolicy, Normalizer, PolicyState};

pub use self::error::TrainError;
use self::error::{in_evaluation, in_iteration};
#[cfg(test)]
pub(crate) use self::preparation::preset_policy;
pub(crate) use self::preparation::{batch_shape, check_memory, check_options, memory_need};
use self::preparation::{check_entry, device_roll_out};
use crate::algorithms::{self, Algorithm, Update};
use crate::checkpoint::Progress;
use crate::config::{BadBatches, Config};
use crate::device::{SelectedDevice, on_its_thread};
use crate::device_roll_out::{DeviceRollOut, DeviceSampling};
use crate::device_trajectories::{BatchSummary, DeviceBatch};
use crate::evaluation::Evaluator;
use crate::finite::{self, BadNumber, Quantity, Readings};
use crate::memory::MemoryNeed;
use crate::metrics::MetricsRow;
use crate::optimizer::Optimizer;
use crate::phases::{Phase, Phases};
use crate::random::{Purpose, Streams};
use crate::rollout::Mode;
use crate::sampler::Sampler;
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

/// A run in memory. [`step`](Self::step) makes one iteration.
pub struct Trainer {
    config: Config,
    entry: Entry,
    streams: Streams,
    policy: GaussianPolicy,
    state: PolicyState,
    algorithm: Box<dyn Algorithm>,
    optimizer: Optimizer,
    sampler: Sampler,
    fresh: Vec<Trajectories>,
    device_roll_out: Option<DeviceRollOut>,
    evaluator: Option<Evaluator>,
    best: Option<PolicyState>,
    progress: Progress,
    phases: Phases,
    device: SelectedDevice,
    threads: Threads,
    shape: BatchShape,
    memory_need: MemoryNeed,
    /// The row of the last iteration, which that of a dropped batch repeats.
    last_row: MetricsRow,
    /// Of the last iteration, until somebody asks.
    failed_evaluation: Option<TrainError>,
    /// Whether it goes on with the configuration of its checkpoint alone.
    is_exact: bool,
    /// Whether [`set_algorithm`](Self::set_algorithm) put another algorithm in the place of the configured one.
    algorithm_is_given: bool,
    /// Whether counters, policy, optimiser and the algorithm's memory are those of one iteration.
    whole: bool,
}

/// Batches that may be dropped one after the other before the run ends: by then, what is wrong is not a batch.
pub const MOST_DROPPED_IN_A_ROW: u32 = 100;

impl Trainer {
    /// Prepares a run on `device`, whatever `config.device` names. [`load_start`](Self::load_start) takes the policy that
    /// `policy.start` names.
    ///
    /// # Errors
    /// An unknown environment, and what [`with_environment`](Self::with_environment) refuses.
    pub fn new(config: &Config, device: &SelectedDevice) -> Result<Self, TrainError> {
        Self::with_environment(config, *registry::find(&config.environment.name)?, device)
    }

    /// Prepares a run on `device` in an environment of the caller's own, whose name takes the place of the one in `config`. The
    /// horizon is that of `config`, which [`load`](crate::config::load()) fills in from the environment that a preset names; where
    /// `environment.horizon` is `None`, it is the entry's.
    ///
    /// # Errors
    /// Values out of their range, options that do not go together, an environment that cannot be made or is not what `entry` says, a
    /// run that memory has no room for, threads that the system refuses.
    pub fn with_environment(
        config: &Config,
        entry: Entry,
        device: &SelectedDevice,
    ) -> Result<Self, TrainError> {
        let mut config = config.clone();
        entry.name.clone_into(&mut config.environment.name);
        let config = &config;
        config.check()?;
        check_entry(&entry)?;
        check_options(config)?;
        let threads = Threads::new(config.threads)?;
        let streams = Streams::new(config.seed);
        let architecture = config.policy.architecture(entry.observation_size, entry.action_size);
        let shape = batch_shape(config, &entry);
        let horizon = shape.horizon;
        // Nothing is allocated from the configuration's sizes before they are known to fit.
        let memory_need = check_memory(config, &entry, device, threads.count())?;
        let mut state = PolicyState::start(
            architecture,
            config.policy.initialization,
            0.5 * config.policy.variance.ln(),
            config.policy.deviation(),
            &mut streams.stream(Purpose::Initialization, 0, 0, 0),
        );
        if config.policy.normalize_observations {
            state.normalizer = Some(Normalizer::new(entry.observation_size));
        }
        let policy = GaussianPolicy::from_state(&state, &device.device);
        let algorithm = algorithms::make(config, &state, shape, streams, device, &threads);
        let evaluator = match config.evaluation.interval {
            0 => None,
            _ => Some(Evaluator::new(&entry, config.evaluation.episodes, horizon, &threads)?),
        };
        let device_roll_out = device_roll_out(config, &entry, shape, &state, algorithm.as_ref(), device);
        let mut sampler = Sampler::new(entry, horizon, &threads);
        if device_roll_out.is_none() {
            sampler.prepare(std::iter::once(shape.trajectories))?;
        }
        Ok(Self {
            config: config.clone(),
            entry,
            streams,
            policy,
            state,
            algorithm,
            optimizer: Optimizer::new(&config.optimizer),
            sampler,
            fresh: vec![],
            device_roll_out,
            evaluator,
            best: None,
            progress: Progress { memory_empty: true, ..Progress::default() },
            phases: Phases::default(),
            device: device.clone(),
            threads,
            shape,
            memory_need,
            last_row: MetricsRow::unknown(),
            failed_evaluation: None,
            is_exact: false,
            algorithm_is_given: false,
            whole: true,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters of the run so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Time of every phase so far.
    pub fn phases(&mut self) -> &mut Phases {
        &mut self.phases
    }

    /// Time inside the environments' own resets and steps so far, summed over threads, evaluation included.
    pub fn environment_time(&self) -> Duration {
        let evaluation = self.evaluator.as_ref().map(Evaluator::environment_time);
        evaluation.into_iter().chain([self.sampler.environment_time()]).sum()
    }

    /// Puts another algorithm in the place of the configured one, before the first iteration. Files of the run still have the
    /// name of the configured one, and its batches are those for which memory is reckoned.
    ///
    /// # Panics
    /// When an iteration has been made.
    pub fn set_algorithm(&mut self, algorithm: Box<dyn Algorithm>) {
        assert_eq!(self.progress.iteration, 0, "an algorithm is set before the first iteration");
        if !algorithm.accepts_device_batches() {
            self.device_roll_out = None;
        }
        self.algorithm = algorithm;
        self.algorithm_is_given = true;
    }

    /// Memory that the run needs, as reckoned before its start.
    pub fn memory_need(&self) -> MemoryNeed {
        self.memory_need
    }

    /// Whether everything that a checkpoint holds belongs to one iteration. An iteration that fails after the algorithm has
    /// taken its batch in leaves it otherwise.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether trajectories are rolled out by a kernel of the device.
    pub fn rolls_out_on_device(&self) -> bool {
        self.device_roll_out.is_some()
    }

    /// Number of worker threads.
    pub fn thread_count(&self) -> usize {
        self.sampler.thread_count()
    }

    /// The current policy.
    pub fn policy(&self) -> &PolicyState {
        &self.state
    }

    /// The best policy so far: by evaluation, or by the return of fresh trajectories when nothing is evaluated.
    pub fn best_policy(&self) -> &PolicyState {
        self.best.as_ref().unwrap_or(&self.state)
    }

    /// Whether a best policy is known.
    pub fn has_best_policy(&self) -> bool {
        self.best.is_some()
    }

    /// Sets the best policy after a restore.
    pub fn set_best_policy(&mut self, policy: PolicyState) {
        self.best = Some(policy);
    }

    /// Sets the row of the last iteration after a restore.
    pub fn set_last_row(&mut self, row: MetricsRow) {
        self.last_row = row;
    }

    /// Makes one iteration: samples the plan, estimates the gradient, steps the optimiser. A batch with a number that is not
    /// finite ends it, or is dropped, as the configuration says.
    ///
    /// # Errors
    /// A roll-out that failed, or a number that is not finite; then the policy is as before. A failed evaluation is no failure
    /// of the iteration, which was made: [`take_failed_evaluation`](Self::take_failed_evaluation) tells of it, or the next
    /// call does.
    pub fn step(&mut self) -> Result<MetricsRow, TrainError> {
        self.take_failed_evaluation().map_or(Ok(()), Err)?;
        let start = Instant::now();
        let (mut row, judged) = match self.attempt() {
            Err(TrainError::NotFinite { bad, .. }) if self.config.bad_batches == BadBatches::Drop => {
                (self.drop_batch(bad)?, None)
            }
            outcome => outcome?,
        };
        self.whole = false;
        self.progress.iteration += 1;
        self.progress.trajectories_total += row.trajectories;
        row.iteration = self.progress.iteration;
        row.trajectories_total = self.progress.trajectories_total;
        row.env_steps_total = self.progress.env_steps_total;
        if row.dropped == 0 {
            self.update_normalizer();
        }
        self.progress.evaluation_failed = false;
        row.evaluation_return = match self.evaluate(row.iteration, judged) {
            Err(TrainError::EvaluationNotFinite { .. }) if self.config.bad_batches == BadBatches::Drop => {
                None
            }
            Err(error) => {
                self.failed_evaluation = Some(error);
                self.progress.evaluation_failed = true;
                None
            }
            Ok(score) => score,
        };
        row.seconds = start.elapsed().as_secs_f64();
        self.progress.seconds_total += row.seconds;
        row.seconds_total = self.progress.seconds_total;
        self.last_row = row.clone();
        self.whole = true;
        Ok(row)
    }

    /// Makes the evaluation after the last iteration once more if it failed before the run was saved, where it is still due.
    ///
    /// # Errors
    /// What ended it then, as a rule.
    pub fn repeat_failed_evaluation(&mut self) -> Result<(), TrainError> {
        if !std::mem::take(&mut self.progress.evaluation_failed) {
            return Ok(());
        }
        let outcome = self.evaluate(self.progress.iteration, None);
        let drops = self.config.bad_batches == BadBatches::Drop;
        match outcome {
            Err(TrainError::EvaluationNotFinite { .. }) if drops => Ok(()),
            Err(error) => {
                self.progress.evaluation_failed = true;
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }

    /// Why the evaluation of the last iteration failed, when it did and nobody has asked.
    pub fn take_failed_evaluation(&mut self) -> Option<TrainError> {
        self.failed_evaluation.take()
    }

    /// Samples, checks, estimates and updates; counters are left alone, but for steps. Returns the row, and the policy that
    /// sampled with the mean return of what it sampled, if it did.
    fn attempt(&mut self) -> Result<(MetricsRow, Option<(f64, PolicyState)>), TrainError> {
        let iteration = self.progress.iteration + 1;
        let mut row = MetricsRow::default();
        let mut of_others = vec![];
        if self.device_roll_out.is_none() {
            (row.unstable, of_others) = self.sample()?;
            finite::check_batches(&self.fresh).map_err(|bad| TrainError::NotFinite { iteration, bad })?;
        }
        let (readings, summary, sampled_by) = if self.algorithm.accepts_device_batches() {
            let device = self.device.device.clone();
            on_its_thread(&device, || self.advance())?
        } else {
            self.advance()?
        };

        let steps = if let Some(summary) = summary {
            row.set_summary(&summary);
            summary.steps
        } else {
            row.set_returns(&self.fresh);
            self.fresh.iter().map(Trajectories::steps).sum()
        };
        row.set_diagnostics(&readings.report(), readings.newest(), row.trajectories as usize);
        row.gradient_norm = readings.gradient_norm();
        row.parameter_norm = norm(&self.state.flat_parameters());
        let deviations = self.state.log_std.iter().map(|log_std| log_std.exp());
        row.policy_std = deviations.sum::<f64>() / self.state.log_std.len() as f64;
        self.progress.env_steps_total += steps;
        self.progress.memory_empty = false;
        self.progress.dropped_in_a_row = 0;
        let return_mean = if of_others.contains(&true) {
            let own = self.fresh.iter().zip(&of_others).filter(|(_, of_other)| !**of_other);
            mean_return(own.map(|(batch, _)| batch))
        } else {
            Some(row.return_mean)
        };
        // Trajectories that ended for want of a stable simulation are short, and their returns tell nothing.
        let return_mean = return_mean.filter(|_| row.unstable == 0);
        Ok((row, return_mean.map(|return_mean| (return_mean, sampled_by))))
    }

    /// Rolls out on the device, where it does, and updates: all that an iteration does there.
    fn advance(&mut self) -> Result<(Readings, Option<BatchSummary>, PolicyState), TrainError> {
        let on_device = self.sample_on_device();
        self.whole = false;
        if let Some(batch) = &on_device {
            let iteration = self.progress.iteration + 1;
            self.algorithm
                .push_on_device(&batch.trajectories, &mut self.phases)
                .map_err(|error| TrainError::Device { iteration, reason: error.to_string() })?;
        }
        self.update(on_device.map(|batch| batch.summary))
    }

    /// Starts the device's own roll-out of what the algorithm plans, where there is one. Its numbers need no check: a kernel
    /// ends a trajectory before they leave the finite range.
    fn sample_on_device(&mut self) -> Option<DeviceBatch> {
        let Self { device_roll_out: Some(roll_out), algorithm, policy, phases, streams, progress, .. } = self
        else {
            return None;
        };
        let iteration = progress.iteration;
        algorithm.plan(iteration);
        let sampling = || DeviceSampling {
            parameters: policy.parameters(),
            log_std: policy.log_std(),
            streams: *streams,
            iteration,
            first_trajectory: 0,
            mode: Mode::Training,
        };
        Some(phases.time(Phase::RollOut, || roll_out.run(sampling())))
    }

    /// Samples what the algorithm plans; returns how many trajectories turned unstable, and which batches another policy than
    /// the current one sampled.
    fn sample(&mut self) -> Result<(u64, Vec<bool>), TrainError> {
        let iteration = self.progress.iteration;
        let plan = self.algorithm.plan(iteration);
        let key = (self.streams, iteration);
        let (sampler, fresh) = (&mut self.sampler, &mut self.fresh);
        let sampled =
            self.phases.time(Phase::RollOut, || sampler.sample(&plan, &self.policy, &self.state, key, fresh));
        // Rows of metrics count iterations from 1.
        let unstable = sampled.map_err(|error| in_iteration(error, iteration + 1))?;
        Ok((unstable, plan.iter().map(|draw| draw.parameters.is_some()).collect()))
    }

    /// Goes on without an update and without the fresh batch. When the algorithm has taken it in already, its memory is
    /// emptied.
    fn drop_batch(&mut self, bad: BadNumber) -> Result<MetricsRow, TrainError> {
        let iteration = self.progress.iteration + 1;
        if self.progress.dropped_in_a_row >= MOST_DROPPED_IN_A_ROW {
            return Err(TrainError::Dropped { iteration, bad });
        }
        // Variance-reduced estimates follow from the one before: without it there is nothing to go on from.
        let recursive = self.config.algorithm.variance_reduction().is_some();
        let nothing_left = recursive && (!self.whole || self.progress.memory_empty);
        // Only who made an algorithm of their own can make it anew.
        if nothing_left || (!self.whole && self.algorithm_is_given) {
            return Err(TrainError::NotFinite { iteration, bad });
        }
        if !self.whole {
            self.algorithm = algorithms::make(
                &self.config,
                &self.state,
                self.shape,
                self.streams,
                &self.device,
                &self.threads,
            );
            self.progress.memory_empty = true;
        }
        self.progress.dropped_iterations += 1;
        self.progress.dropped_in_a_row += 1;
        let plan = self.algorithm.plan(self.progress.iteration);
        let count = plan.iter().map(|draw| draw.trajectories as u64).sum();
        tracing::debug!(
            "iteration {iteration}: {} is {}; {count} trajectories are dropped",
            bad.quantity,
            bad.value
        );
        Ok(MetricsRow {
            trajectories: count,
            unstable: 0,
            dropped: count,
            flags: String::new(),
            ..self.last_row.clone()
        })
    }

    /// Updates the policy and reads all that follows in one transfer, together with the packed summary of a batch on the
    /// device; takes the step back when a number is not finite. Returns also the policy before.
    fn update(
        &mut self,
        summary: Option<Tensor<1>>,
    ) -> Result<(Readings, Option<BatchSummary>, PolicyState), TrainError> {
        let iteration = self.progress.iteration + 1;
        let before = self.optimizer.clone();
        let Self { algorithm, policy, optimizer, fresh, phases, .. } = self;
        let Update { packed, layout, gradient } = algorithm.update(policy, optimizer, fresh, phases);
        let summarized = summary.is_some();
        let values = self.phases.time(Phase::Record, || packed.read(summary));
        let mut values = values.map_err(|reason| TrainError::Device { iteration, reason })?;
        let summary = summarized.then(|| {
            let rest = values.split_off(BatchSummary::PACKED);
            BatchSummary::unpack(&std::mem::replace(&mut values, rest), self.shape.trajectories)
        });
        let readings = layout.read(values);
        let components = || gradient.and_then(|gradient| gradient.read(None).ok()).unwrap_or_default();
        if let Err(bad) = readings.check(components) {
            self.optimizer = before;
            self.policy = GaussianPolicy::from_state(&self.state, &self.policy.parameters().device());
            return Err(TrainError::NotFinite { iteration, bad });
        }
        let updated = self.policy.state_at(readings.parameters().to_vec());
        Ok((readings, summary, std::mem::replace(&mut self.state, updated)))
    }

    /// Evaluates the policy when it is time to, and keeps it when it is the best so far of those whose simulations stayed
    /// stable. Without evaluations, the one that is judged is that which sampled the iteration's batch, by its mean return;
    /// there is none when the batch was dropped.
    fn evaluate(
        &mut self,
        iteration: u32,
        sampled: Option<(f64, PolicyState)>,
    ) -> Result<Option<f64>, TrainError> {
        let due = match self.config.evaluation.interval {
            0 => false,
            interval => iteration.is_multiple_of(interval) || iteration == self.config.iterations,
        };
        let (score, judged) = match &mut self.evaluator {
            Some(evaluator) if due => {
                let (policy, streams) = (&self.state, self.streams);
                let mode = Mode::DeterministicEvaluation;
                let evaluation = self
                    .phases
                    .time(Phase::Evaluation, || evaluator.run(policy, streams, iteration, mode))
                    .map_err(|error| in_evaluation(error, iteration))?;
                if evaluation.unstable > 0 {
                    return Ok(Some(evaluation.return_mean));
                }
                (evaluation.return_mean, None)
            }
            Some(_) => return Ok(None),
            None => match sampled {
                Some((return_mean, policy)) => (return_mean, Some(policy)),
                None => return Ok(None),
            },
        };
        if !score.is_finite() {
            let bad = BadNumber { quantity: Quantity::Evaluation, value: score };
            return Err(TrainError::EvaluationNotFinite { iteration, bad });
        }
        if self.progress.best_score.is_none_or(|best| score > best) {
            self.progress.best_score = Some(score);
            self.best = Some(judged.unwrap_or_else(|| self.state.clone()));
        }
        Ok(due.then_some(score))
    }

    /// Takes the fresh observations into the normaliser, for the next iteration.
    fn update_normalizer(&mut self) {
        let Some(normalizer) = &mut self.state.normalizer else { return };
        for batch in &self.fresh {
            let BatchShape { horizon, observation_size, .. } = batch.shape;
            let rows = batch.observations.chunks_exact(horizon * observation_size);
            for (rows, length) in rows.zip(&batch.lengths) {
                normalizer.update(&rows[..*length as usize * observation_size]);
            }
        }
        self.policy.set_normalizer(normalizer.clone());
    }
}

/// Mean undiscounted return of all trajectories; `None` without one.
fn mean_return<'a>(batches: impl Iterator<Item = &'a Trajectories>) -> Option<f64> {
    let returns: Vec<f64> = batches.flat_map(Trajectories::returns).collect();
    (!returns.is_empty()).then(|| returns.iter().sum::<f64>() / returns.len() as f64)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

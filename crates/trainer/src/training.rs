//! One run: sample, estimate, step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use environments::registry::{self, Entry, UnknownEnvironment};
use estimator::DiagnosticsReport;
use policy_nets::tensor_file::HostTensor;
use policy_nets::{GaussianPolicy, Normalizer, PolicyState};

use crate::algorithms::{self, Algorithm, Update};
use crate::checkpoint::{Checkpoint, CheckpointError, Progress};
use crate::config::{Config, KernelChoice};
use crate::device::SelectedDevice;
use crate::device_roll_out::{DeviceRollOut, DeviceSampling};
use crate::device_trajectories::BatchSummary;
use crate::evaluation::Evaluator;
use crate::memory::{MemoryNeed, available, format_bytes};
use crate::metrics::{MetricsError, MetricsRow};
use crate::optimizer::Optimizer;
use crate::phases::{Phase, Phases};
use crate::random::{Purpose, Streams};
use crate::rollout::{Mode, RollOutError};
use crate::run_folder::RunFolderError;
use crate::sampler::Sampler;
use crate::threads::Threads;
use crate::trajectories::{BatchShape, Trajectories};

/// Why a run did not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// No such environment.
    #[error(transparent)]
    Environment(#[from] UnknownEnvironment),
    /// The run does not fit into memory.
    #[error(
        "the run needs about {}: {} for the window of {window} batches of {trajectories} trajectories of {horizon} \
         steps, {} for fresh trajectories, {} for the estimate; {} are available; lower algorithm.window, \
         algorithm.batch_size or environment.horizon",
        format_bytes(need.total()), format_bytes(need.window), format_bytes(need.batches),
        format_bytes(need.estimator), format_bytes(*available)
    )]
    Memory {
        /// What it needs.
        need: MemoryNeed,
        /// Bytes that are left.
        available: f64,
        /// Batches in the window.
        window: usize,
        /// Trajectories in a batch.
        trajectories: usize,
        /// Steps of a trajectory.
        horizon: usize,
    },
    /// Two options that do not go together.
    #[error("{0}")]
    Options(String),
    /// The operating system refused the worker threads.
    #[error("the worker threads could not be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A roll-out failed.
    #[error(transparent)]
    RollOut(#[from] RollOutError),
    /// An estimate is not finite; the update was not made.
    #[error(
        "iteration {iteration}: {what} is {value}; the update was not made, and the last good policy is saved"
    )]
    NotFinite {
        /// Iteration, from 1.
        iteration: u32,
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Reading from the device failed.
    #[error("iteration {iteration}: the device failed: {reason}")]
    Device {
        /// Iteration, from 1.
        iteration: u32,
        /// What the device says.
        reason: String,
    },
    /// The checkpoint belongs to another configuration.
    #[error("the checkpoint does not fit the configuration: {0}")]
    Mismatch(String),
    /// A checkpoint was not read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A policy was not written.
    #[error(transparent)]
    Policy(#[from] policy_nets::PolicyFileError),
    /// Metrics were not read or written.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The run folder was refused.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// A figure was not drawn.
    #[error(transparent)]
    Figure(#[from] crate::figures::FigureError),
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

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
    memory_need: MemoryNeed,
}

/// What an update tells the record.
struct Updated {
    report: DiagnosticsReport,
    /// Slot of the newest batch in the report.
    newest: usize,
    gradient_norm: f64,
    /// Of a batch that was rolled out on the device.
    summary: Option<BatchSummary>,
}

impl Trainer {
    /// Prepares a run on `device`.
    ///
    /// # Errors
    /// An unknown environment, options that do not go together, an environment that cannot be made.
    pub fn new(config: &Config, device: &SelectedDevice) -> Result<Self, TrainError> {
        Self::with_environment(config, *registry::find(&config.environment.name)?, device)
    }

    /// Prepares a run on `device` in an environment of the caller's own, whatever `config` names.
    ///
    /// # Errors
    /// Options that do not go together, an environment that cannot be made.
    pub fn with_environment(
        config: &Config,
        entry: Entry,
        device: &SelectedDevice,
    ) -> Result<Self, TrainError> {
        let horizon = config.environment.horizon.unwrap_or(entry.horizon);
        if config.policy.normalize_observations && config.algorithm.evaluates_earlier_policies() {
            return Err(TrainError::Options(format!(
                "policy.normalize_observations = true does not go with algorithm `{}`, which evaluates earlier \
                 policies whose normalizers are gone; set it to false",
                config.algorithm.name()
            )));
        }
        let threads = Threads::new(config.threads)?;
        let streams = Streams::new(config.seed);
        let architecture = config.policy.architecture(entry.observation_size, entry.action_size);
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
        let shape = BatchShape {
            trajectories: config.algorithm.batch_size(),
            horizon,
            observation_size: entry.observation_size,
            action_size: entry.action_size,
        };
        let memory_need = check_memory(config, shape, &state, device)?;
        let policy = GaussianPolicy::from_state(&state, &device.device);
        let parameter_count = state.flat_parameters().len();
        let algorithm = algorithms::make(config, shape, parameter_count, streams, device, &threads);
        let evaluator = match config.evaluation.interval {
            0 => None,
            _ => Some(Evaluator::new(&entry, config.evaluation.episodes, horizon, &threads)?),
        };
        let device_roll_out = device_roll_out(config, &entry, shape, &state, algorithm.as_ref(), device);
        let mut sampler = Sampler::new(entry, horizon, &threads);
        if device_roll_out.is_none() {
            sampler.prepare(shape.trajectories)?;
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
            progress: Progress::default(),
            phases: Phases::default(),
            memory_need,
        })
    }

    /// How much memory the run was reckoned to need.
    pub fn memory_need(&self) -> MemoryNeed {
        self.memory_need
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

    /// Sets the best policy after a restore.
    pub fn set_best_policy(&mut self, policy: PolicyState) {
        self.best = Some(policy);
    }

    /// Makes one iteration: samples the plan, estimates the gradient, steps the optimiser.
    ///
    /// # Errors
    /// A roll-out that failed, or an estimate that is not finite; then the policy is as before.
    pub fn step(&mut self) -> Result<MetricsRow, TrainError> {
        let start = Instant::now();
        let iteration = self.progress.iteration;
        let plan = self.algorithm.plan(iteration);
        let key = (self.streams, iteration);
        let mut row = MetricsRow::default();
        let summary = if let Some(roll_out) = &self.device_roll_out {
            let batch = self.phases.time(Phase::RollOut, || {
                roll_out.run(DeviceSampling {
                    parameters: self.policy.parameters(),
                    log_std: self.policy.log_std(),
                    streams: self.streams,
                    iteration,
                    first_trajectory: 0,
                    mode: Mode::Training,
                })
            });
            let failed = |reason: anyhow::Error| TrainError::Device {
                iteration: iteration + 1,
                reason: reason.to_string(),
            };
            self.algorithm.push_on_device(&batch.trajectories, &mut self.phases).map_err(failed)?;
            Some((batch.summary, batch.trajectories.shape.trajectories))
        } else {
            let (sampler, fresh) = (&mut self.sampler, &mut self.fresh);
            row.unstable = self
                .phases
                .time(Phase::RollOut, || sampler.sample(&plan, &self.policy, &self.state, key, fresh))?;
            row.set_returns(&self.fresh);
            None
        };

        let Updated { report, newest, gradient_norm, summary } = self.update(summary)?;
        let steps = match &summary {
            Some(summary) => {
                row.set_summary(summary);
                summary.steps
            }
            None => self.fresh.iter().map(Trajectories::steps).sum(),
        };

        row.set_diagnostics(&report, newest, row.trajectories as usize);
        self.progress.iteration += 1;
        self.progress.trajectories_total += row.trajectories;
        self.progress.env_steps_total += steps;
        row.iteration = self.progress.iteration;
        row.trajectories_total = self.progress.trajectories_total;
        row.env_steps_total = self.progress.env_steps_total;
        row.gradient_norm = gradient_norm;
        row.parameter_norm = norm(&self.state.flat_parameters());
        let deviations = self.state.log_std.iter().map(|log_std| log_std.exp());
        row.policy_std = deviations.sum::<f64>() / self.state.log_std.len() as f64;
        row.evaluation_return = self.evaluate(&row)?;
        self.update_normalizer();
        row.seconds = start.elapsed().as_secs_f64();
        self.progress.seconds_total += row.seconds;
        row.seconds_total = self.progress.seconds_total;
        Ok(row)
    }

    /// Updates the policy and reads diagnostics, gradient norm, parameters, and the packed summary of a batch on the device
    /// (with its number of trajectories), in one transfer.
    fn update(&mut self, summary: Option<(Tensor<1>, usize)>) -> Result<Updated, TrainError> {
        let iteration = self.progress.iteration + 1;
        let before = self.optimizer.clone();
        let Self { algorithm, policy, optimizer, fresh, phases, .. } = self;
        let Update { packed, squares, batches, newest } = algorithm.update(policy, optimizer, fresh, phases);
        let (summary, trajectories) = summary.unzip();
        let packed = match summary {
            Some(summary) => Tensor::cat(vec![summary, packed], 0),
            None => packed,
        };
        let values = self.phases.time(Phase::Record, || packed.try_into_data());
        let mut values: Vec<f64> = values
            .map_err(|error| TrainError::Device { iteration, reason: error.to_string() })?
            .iter::<f64>()
            .collect();
        let summary = trajectories.map(|trajectories| {
            let rest = values.split_off(BatchSummary::PACKED);
            BatchSummary::unpack(&std::mem::replace(&mut values, rest), trajectories)
        });
        let count = DiagnosticsReport::packed_len(batches);
        let parameters = &values[count + squares..];
        let gradient_norm = values[count..count + squares].iter().sum::<f64>().sqrt();
        let what =
            if gradient_norm.is_finite() { "a parameter after the update" } else { "the gradient's norm" };
        let mut checked = std::iter::once(&gradient_norm).chain(parameters);
        if let Some(value) = checked.find(|value| !value.is_finite()) {
            self.optimizer = before;
            self.policy = GaussianPolicy::from_state(&self.state, &self.policy.parameters().device());
            return Err(TrainError::NotFinite { iteration, what, value: *value });
        }
        self.state = self.policy.state_at(parameters.to_vec());
        let report = DiagnosticsReport::unpack(&values, batches);
        Ok(Updated { report, newest, gradient_norm, summary })
    }

    /// Evaluates the policy when it is time to, and keeps it when it is the best so far.
    fn evaluate(&mut self, row: &MetricsRow) -> Result<Option<f64>, TrainError> {
        let iteration = row.iteration;
        let due = match self.config.evaluation.interval {
            0 => false,
            interval => iteration.is_multiple_of(interval) || iteration == self.config.iterations,
        };
        let score = match &mut self.evaluator {
            Some(evaluator) if due => {
                let (policy, streams) = (&self.state, self.streams);
                let mode = Mode::DeterministicEvaluation;
                let evaluation = self
                    .phases
                    .time(Phase::Evaluation, || evaluator.run(policy, streams, iteration, mode))?;
                evaluation.return_mean
            }
            Some(_) => return Ok(None),
            None => row.return_mean,
        };
        if self.progress.best_score.is_none_or(|best| score > best) {
            self.progress.best_score = Some(score);
            self.best = Some(self.state.clone());
        }
        Ok(due.then_some(score))
    }

    /// Takes the fresh observations into the normaliser, for the next iteration.
    fn update_normalizer(&mut self) {
        let Some(normalizer) = &mut self.state.normalizer else { return };
        let mut observation = vec![];
        for batch in &self.fresh {
            let BatchShape { horizon, observation_size, .. } = batch.shape;
            let rows = batch.observations.chunks_exact(horizon * observation_size);
            for (rows, length) in rows.zip(&batch.lengths) {
                for row in rows.chunks_exact(observation_size).take(*length as usize) {
                    observation.clear();
                    observation.extend(row.iter().map(|value| f64::from(*value)));
                    normalizer.update(&observation);
                }
            }
        }
        self.policy.set_normalizer(normalizer.clone());
    }

    /// Everything that the run needs to go on exactly, best policy apart.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut tensors = BTreeMap::new();
        let vector = |values: Vec<f64>| HostTensor::new([values.len()], values);
        tensors.insert("parameters".to_owned(), vector(self.state.flat_parameters()));
        if let Some(normalizer) = &self.state.normalizer {
            let (mean, squares) = normalizer.moments();
            tensors.insert("normalizer.count".to_owned(), vector(vec![normalizer.count()]));
            tensors.insert("normalizer.mean".to_owned(), vector(mean.to_vec()));
            tensors.insert("normalizer.sum_of_squares".to_owned(), vector(squares.to_vec()));
        }
        if self.progress.iteration > 0 {
            self.optimizer.save(&mut tensors);
            self.algorithm.save(&mut tensors);
        }
        Checkpoint { progress: self.progress.clone(), tensors }
    }

    /// Goes on from a checkpoint of the same configuration.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`] when the checkpoint has other tensors or shapes.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let mismatch = |error: anyhow::Error| TrainError::Mismatch(error.to_string());
        let mut read = |name: &str, shape: &[usize]| checkpoint.read(name, shape);
        let flat = read("parameters", &self.policy.parameters().dims()).map_err(mismatch)?;
        self.state = self.policy.state_at(flat);
        if self.state.normalizer.is_some() {
            let size = self.entry.observation_size;
            let count = read("normalizer.count", &[1]).map_err(mismatch)?[0];
            let mean = read("normalizer.mean", &[size]).map_err(mismatch)?;
            let squares = read("normalizer.sum_of_squares", &[size]).map_err(mismatch)?;
            self.state.normalizer = Some(Normalizer::from_moments(count, mean, squares));
        }
        let device = self.policy.parameters().device();
        self.policy = GaussianPolicy::from_state(&self.state, &device);
        if checkpoint.progress.iteration > 0 {
            self.optimizer.restore(&self.policy.parameters(), &mut read).map_err(mismatch)?;
            self.algorithm.restore(&mut read).map_err(mismatch)?;
        }
        self.progress = checkpoint.progress.clone();
        Ok(())
    }
}

/// The kernel that rolls out the run's batches; one log line says why when there is none on a device that could run it.
fn device_roll_out(
    config: &Config,
    entry: &Entry,
    shape: BatchShape,
    state: &PolicyState,
    algorithm: &dyn Algorithm,
    device: &SelectedDevice,
) -> Option<DeviceRollOut> {
    if device.is_host() || config.kernels != KernelChoice::Auto {
        return None;
    }
    if !algorithm.accepts_device_batches() {
        tracing::info!(
            "trajectories are rolled out on the host: `{}` takes them from there",
            config.algorithm.name()
        );
        return None;
    }
    let normalized = state.normalizer.is_some();
    let roll_out = DeviceRollOut::new(entry, shape, &state.architecture, normalized, &device.device);
    roll_out.inspect_err(|reason| tracing::info!("trajectories are rolled out on the host: {reason}")).ok()
}

/// What a run needs; one that the host's memory cannot hold is refused. A GPU's own memory is not looked at.
fn check_memory(
    config: &Config,
    shape: BatchShape,
    state: &PolicyState,
    device: &SelectedDevice,
) -> Result<MemoryNeed, TrainError> {
    let fused = algorithms::uses_fused(config, device);
    let window = config.algorithm.window();
    let episodes = if config.evaluation.interval > 0 { config.evaluation.episodes } else { 0 };
    let need = MemoryNeed::new(shape, window, episodes, &state.architecture, fused);
    match available() {
        Some(available) if need.total() > available => Err(TrainError::Memory {
            need,
            available,
            window,
            trajectories: shape.trajectories,
            horizon: shape.horizon,
        }),
        _ => Ok(need),
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

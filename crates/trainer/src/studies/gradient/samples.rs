//! Gradient estimates at frozen parameters.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use environments::registry;
use policy_nets::{GaussianPolicy, PolicyState};

use super::path::{hash_of, numbers, with_numbers};
use super::repetitions::{self, Kept, Task};
use super::rows::RowFile;
use super::{Definition, Event, Samples, StudyError, StudyFolder, Truth};
use crate::algorithms;
use crate::config::{AlgorithmConfig, Config, OnPolicyConfig};
use crate::device::{self, SelectedDevice};
use crate::memory;
use crate::phases::Phases;
use crate::random::Streams;
use crate::sampler::Sampler;
use crate::studies::Entry;
use crate::studies::definition::REFERENCE_BATCH;
use crate::studies::plan::{configuration, hash, run_seed};
use crate::threads::Threads;
use crate::training::{TrainError, Trainer, batch_shape, check_memory, check_options};

/// Number of the first seed of the true gradient; those of repetitions begin at 0.
const TRUTH_SEED: u32 = 1 << 31;

/// An environment with a sequence of parameters.
pub(super) struct Frozen<'a> {
    name: &'a str,
    definition: &'a Definition,
    environment: usize,
    folder: &'a StudyFolder,
    config: Config,
    entry: &'static registry::Entry,
    horizon: usize,
    device: SelectedDevice,
    /// From the oldest to the one at which gradients are estimated.
    path: Vec<PolicyState>,
}

/// The configuration of an algorithm, and how many of the last parameters it samples from.
fn algorithm(
    name: &str,
    definition: &Definition,
    environment: usize,
    entry: usize,
) -> Result<(AlgorithmConfig, usize), StudyError> {
    let place = format!("study {name}");
    let Entry { label, age, .. } = &definition.algorithm[entry];
    let config = configuration(&place, definition, environment, Some(entry), definition.seed, 1)?;
    check_options(&config).map_err(|error| failed(name, label, error))?;
    let config = config.algorithm;
    let iterations = definition.frozen.as_ref().map_or(0, |frozen| frozen.iterations);
    let refuse = |reason: String| {
        let place = format!("{place}, algorithm `{label}`");
        Err(StudyError::Value { place, key: "age".to_owned(), reason })
    };
    let truth =
        configuration(&place, definition, environment, None, definition.seed, 1)?.algorithm.discount();
    if config.discount() != truth {
        let place = format!("{place}, algorithm `{label}`");
        let reason = format!(
            "is {}, but the gradient that stands for the true one has the discount {truth} of {}; give that another one",
            config.discount(),
            definition.environments[environment]
        );
        return Err(StudyError::Value { place, key: "discount".to_owned(), reason });
    }
    if config.variance_reduction().is_none() {
        return match age {
            Some(_) => {
                refuse(format!("does not go with algorithm `{}`, which has no large batches", config.name()))
            }
            None if config.window() > iterations as usize + 1 => {
                let place = format!("{place}, algorithm `{label}`");
                let reason = format!(
                    "is {}, expected at most {}, the parameters that there are after frozen.iterations = {iterations}",
                    config.window(),
                    iterations + 1
                );
                Err(StudyError::Value { place, key: "window".to_owned(), reason })
            }
            None => Ok((config.clone(), config.window())),
        };
    }
    match age.unwrap_or(1) {
        age if age > iterations => {
            refuse(format!("is {age}, expected at most frozen.iterations, which is {iterations}"))
        }
        age => Ok((config.with_one_snapshot(), age as usize + 1)),
    }
}

fn failed(name: &str, label: &str, source: TrainError) -> StudyError {
    StudyError::Run { run: format!("study {name}, `{label}`"), source: Box::new(source) }
}

/// Refuses more estimates than memory holds, which are kept as numbers and written as text, beside what making them takes.
fn check_estimates(
    place: &str,
    definition: &Definition,
    parameters: usize,
    work: f64,
) -> Result<(), StudyError> {
    const NUMBER: f64 = 8.0;
    const TEXT: f64 = 26.0;
    let (algorithms, runs) = (definition.algorithm.len() as f64, f64::from(definition.runs));
    let needed = work + parameters as f64 * runs * (algorithms * NUMBER + TEXT);
    match memory::available() {
        Some(available) if needed > available => Err(StudyError::Memory {
            place: place.to_owned(),
            runs: definition.runs,
            parameters,
            needed,
            available,
        }),
        _ => Ok(()),
    }
}

/// Trajectories behind an estimate: one batch for each of the last `length` parameters, the first of a variance-reduced
/// algorithm a large one.
fn trajectories(config: &AlgorithmConfig, length: usize) -> usize {
    match config.variance_reduction() {
        Some(reduction) => reduction.snapshot_size + reduction.batch_size * (length - 1),
        None => config.batch_size() * length,
    }
}

/// Trajectories that an environment's estimates take.
pub(super) fn cost(name: &str, definition: &Definition, environment: usize) -> Result<u64, StudyError> {
    let mut total = definition.frozen.as_ref().map_or(0, |frozen| frozen.reference_size as u64);
    for entry in 0..definition.algorithm.len() {
        let (config, length) = algorithm(name, definition, environment, entry)?;
        total += u64::from(definition.runs) * trajectories(&config, length) as u64;
    }
    Ok(total)
}

impl<'a> Frozen<'a> {
    /// Reads the parameters of the last iterations, or trains and keeps them; `None` when stopped.
    pub(super) fn new(
        name: &'a str,
        definition: &'a Definition,
        environment: usize,
        folder: &'a StudyFolder,
        jobs: usize,
        stop: &AtomicBool,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Option<Self>, StudyError> {
        let iterations = definition.frozen.as_ref().map_or(0, |frozen| frozen.iterations);
        let place = format!("study {name}");
        let config =
            configuration(&place, definition, environment, None, definition.seed, iterations.max(1))?;
        let run = |error: TrainError| StudyError::Run {
            run: format!("{place}, frozen parameters"),
            source: Box::new(error),
        };
        let device = device::select(&config.device)?;
        let entry = registry::find(&config.environment.name).map_err(|error| run(error.into()))?;
        let horizon = config.environment.horizon.unwrap_or(entry.horizon);
        let (mut longest, mut largest) = (1, 0.0);
        for (index, Entry { label, .. }) in definition.algorithm.iter().enumerate() {
            let (algorithm, length) = algorithm(name, definition, environment, index)?;
            longest = longest.max(length);
            let config = Config { algorithm, ..config.clone() };
            let need =
                check_memory(&config, entry, &device, 1).map_err(|error| failed(name, label, error))?;
            largest = need.total().max(largest);
        }
        let parameters =
            config.policy.architecture(entry.observation_size, entry.action_size).parameter_count();
        check_estimates(&place, definition, parameters, jobs as f64 * largest)?;
        let mut trainer = Trainer::new(&config, &device).map_err(run)?;
        trainer.load_start().map_err(run)?;
        let start = trainer.policy().clone();
        let key =
            format!("{}\nkept {longest}\nstart {}", hash(&config), hash_of(std::slice::from_ref(&start)));
        let file = RowFile::new(folder, "frozen", &definition.environments[environment], &key);
        let mut path: VecDeque<_> = file.read(numbers(&start).len(), observe)?.into();
        if path.is_empty() {
            path.push_back(numbers(&start));
            for _ in 0..iterations {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                trainer.step().map_err(run)?;
                if path.len() == longest {
                    path.pop_front();
                }
                path.push_back(numbers(trainer.policy()));
            }
            file.write(path.make_contiguous())?;
        }
        let path = path.iter().map(|numbers| with_numbers(&start, numbers)).collect();
        Ok(Some(Self { name, definition, environment, folder, config, entry, horizon, device, path }))
    }

    /// The true gradient and every algorithm's estimates, `jobs` at a time; `None` when stopped.
    pub(super) fn samples(
        &self,
        jobs: usize,
        stop: &AtomicBool,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Option<Vec<Samples>>, StudyError> {
        let mut tasks = vec![self.truth(observe)?];
        for entry in 0..self.definition.algorithm.len() {
            let (config, length) = algorithm(self.name, self.definition, self.environment, entry)?;
            let label = &self.definition.algorithm[entry].label;
            tasks.push(self.task(label, config, length, (0, self.definition.runs), observe)?);
        }
        for task in &tasks {
            observe(Event::Found(u64::from(task.found()) * task.trajectories as u64));
        }
        let estimator = || {
            let threads = Threads::one();
            let mut sampler = Sampler::new(*self.entry, self.horizon, &threads);
            move |task: &Task, repetition| self.estimate(task, repetition, &mut sampler, &threads)
        };
        repetitions::take(&tasks, jobs, estimator, stop, observe)?;
        let mut tasks = tasks.into_iter();
        let Some(parts) = tasks.next().and_then(Task::estimates) else { return Ok(None) };
        let truth = Truth::new(&parts);
        let samples = tasks.enumerate().map(|(entry, task)| {
            let small = task.config.algorithm.variance_reduction().filter(|_| task.length > 1);
            Some(Samples {
                entry,
                environment: self.environment,
                fresh: small.map_or(task.config.algorithm.batch_size(), |reduction| reduction.batch_size),
                used: task.trajectories,
                estimates: task.estimates()?,
                truth: truth.clone(),
            })
        });
        Ok(samples.collect())
    }

    /// The parts of an on-policy estimate from many trajectories.
    fn truth(&self, observe: &(dyn Fn(Event<'_>) + Sync)) -> Result<Task, StudyError> {
        let size = self.definition.frozen.as_ref().map_or(0, |frozen| frozen.reference_size);
        let discount = self.config.algorithm.discount();
        let batch_size = REFERENCE_BATCH.min(size / 2).max(1);
        let gpomdp = OnPolicyConfig { batch_size, discount, ..OnPolicyConfig::default() };
        let parts = (size / batch_size) as u32;
        self.task("truth", AlgorithmConfig::Gpomdp(gpomdp), 1, (TRUTH_SEED, parts), observe)
    }

    /// So many estimates at the last of `length` parameters, with those that are there.
    fn task(
        &self,
        label: &str,
        algorithm: AlgorithmConfig,
        length: usize,
        (first_seed, count): (u32, u32),
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Task, StudyError> {
        let mut config = self.config.clone();
        config.algorithm = algorithm;
        let path = self.last(length);
        let key = format!("{}\nlength {length}\nseed {first_seed}\npath {}", hash(&config), hash_of(path));
        let file = RowFile::new(self.folder, label, &self.definition.environments[self.environment], &key);
        let rows = file.read(path[0].parameter_count(), observe)?;
        Ok(Task {
            name: format!("study {}, `{label}`", self.name),
            trajectories: trajectories(&config.algorithm, length),
            config,
            length,
            count,
            first_seed,
            kept: Mutex::new(Kept::new(file, rows)),
        })
    }

    /// The last `length` parameters.
    fn last(&self, length: usize) -> &[PolicyState] {
        &self.path[self.path.len().saturating_sub(length)..]
    }

    /// One estimate at the last parameters, from batches at the last of them.
    fn estimate(
        &self,
        task: &Task,
        repetition: u32,
        sampler: &mut Sampler,
        threads: &Threads,
    ) -> Result<Vec<f64>, StudyError> {
        let streams = Streams::new(run_seed(self.definition.seed, task.first_seed + repetition));
        let shape = batch_shape(&task.config, self.entry);
        let states = self.last(task.length);
        let device = &self.device.device;
        let mut algorithm = algorithms::make(&task.config, &states[0], shape, streams, &self.device, threads);
        let mut phases = Phases::default();
        let mut fresh = vec![];
        let mut gradient = None;
        for (iteration, state) in states.iter().enumerate() {
            let iteration = iteration as u32;
            let policy = GaussianPolicy::from_state(state, device);
            let plan = algorithm.plan(iteration);
            sampler
                .sample(&plan, &policy, state, (streams, iteration), &mut fresh)
                .map_err(|error| task.failed(error.into()))?;
            gradient = Some(algorithm.estimate(&policy, &fresh, &mut phases).gradient);
        }
        Ok(gradient.map(|gradient| gradient.to_data().iter::<f64>().collect()).unwrap_or_default())
    }
}

//! Taking and keeping gradient estimates.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use environments::registry;
use policy_nets::files::write_atomically;
use policy_nets::{GaussianPolicy, PolicyState};

use super::path::hash_of;
use super::{Definition, Event, Samples, StudyError, StudyFolder, Truth};
use crate::algorithms;
use crate::config::{AlgorithmConfig, Config, OnPolicyConfig};
use crate::device::{self, SelectedDevice};
use crate::phases::Phases;
use crate::random::Streams;
use crate::sampler::Sampler;
use crate::studies::Entry;
use crate::studies::definition::REFERENCE_BATCH;
use crate::studies::plan::{configuration, run_seed, sha256, slug};
use crate::threads::Threads;
use crate::training::{TrainError, Trainer};
use crate::trajectories::BatchShape;

/// Number of the first seed of the true gradient; those of repetitions begin at 0.
const TRUTH_SEED: u32 = 1 << 31;

/// An environment with a sequence of parameters.
pub(super) struct Frozen<'a> {
    name: &'a str,
    definition: &'a Definition,
    environment: usize,
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
    let config = configuration(&place, definition, environment, Some(entry), definition.seed, 1)?.algorithm;
    let Entry { label, age, .. } = &definition.algorithm[entry];
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
    /// Trains, and keeps the parameters of the last iterations; `None` when stopped.
    pub(super) fn new(
        name: &'a str,
        definition: &'a Definition,
        environment: usize,
        stop: &AtomicBool,
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
        let mut longest = 1;
        for entry in 0..definition.algorithm.len() {
            longest = longest.max(algorithm(name, definition, environment, entry)?.1);
        }
        let mut trainer = Trainer::new(&config, &device).map_err(run)?;
        trainer.load_start().map_err(run)?;
        let mut path = VecDeque::from([trainer.policy().clone()]);
        for _ in 0..iterations {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            trainer.step().map_err(run)?;
            if path.len() == longest {
                path.pop_front();
            }
            path.push_back(trainer.policy().clone());
        }
        let entry = registry::find(&config.environment.name).map_err(|error| run(error.into()))?;
        let horizon = config.environment.horizon.unwrap_or(entry.horizon);
        let path = path.into();
        Ok(Some(Self { name, definition, environment, config, entry, horizon, device, path }))
    }

    /// The on-policy estimate from many trajectories; `None` when stopped.
    pub(super) fn truth(
        &self,
        folder: &StudyFolder,
        stop: &AtomicBool,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Option<Truth>, StudyError> {
        let size = self.definition.frozen.as_ref().map_or(0, |frozen| frozen.reference_size);
        let discount = self.config.algorithm.discount();
        let batch_size = REFERENCE_BATCH.min(size / 2).max(1);
        let gpomdp = OnPolicyConfig { batch_size, discount, ..OnPolicyConfig::default() };
        let config = AlgorithmConfig::Gpomdp(gpomdp);
        let parts = (size / batch_size) as u32;
        let parts = self.repetitions("truth", &config, 1, parts, TRUTH_SEED, folder, stop, observe)?;
        Ok(parts.map(|parts| {
            let count = parts.len() as f64;
            let gradient = super::measurement::mean_vector(&parts);
            let variance = super::measurement::variance_vector(&parts, &gradient);
            Truth { gradient, variance: variance.into_iter().map(|variance| variance / count).collect() }
        }))
    }

    /// An algorithm's estimates; `None` when stopped.
    pub(super) fn samples(
        &self,
        entry: usize,
        truth: &Truth,
        folder: &StudyFolder,
        stop: &AtomicBool,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Option<Samples>, StudyError> {
        let (config, length) = algorithm(self.name, self.definition, self.environment, entry)?;
        let runs = self.definition.runs;
        let label = &self.definition.algorithm[entry].label;
        let estimates = self.repetitions(label, &config, length, runs, 0, folder, stop, observe)?;
        let small = config.variance_reduction().filter(|_| length > 1);
        let fresh = small.map_or(config.batch_size(), |reduction| reduction.batch_size);
        Ok(estimates.map(|estimates| Samples {
            entry,
            environment: self.environment,
            fresh,
            used: trajectories(&config, length),
            estimates,
            truth: truth.clone(),
        }))
    }

    #[expect(clippy::too_many_arguments, reason = "private, and each is a different thing")]
    fn repetitions(
        &self,
        label: &str,
        config: &AlgorithmConfig,
        length: usize,
        count: u32,
        first_seed: u32,
        folder: &StudyFolder,
        stop: &AtomicBool,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Option<Vec<Vec<f64>>>, StudyError> {
        let mut complete = self.config.clone();
        complete.algorithm = config.clone();
        let toml = complete.to_toml().replacen("bad_batches = \"stop\"\n", "", 1);
        let path = hash_of(self.last(length));
        let key = format!("{toml}\nlength {length}\ncount {count}\nseed {first_seed}\npath {path}");
        let environment = slug(&self.definition.environments[self.environment]);
        let hash = sha256(key.as_bytes());
        let path = folder.file("runs").join(format!("{}-{environment}-{}.csv", slug(label), &hash[..8]));
        let trajectories = trajectories(config, length) as u64;
        if path.is_file() {
            match read(&path) {
                Ok(estimates) if estimates.len() == count as usize => {
                    observe(Event::Found(trajectories * u64::from(count)));
                    return Ok(Some(estimates));
                }
                _ => observe(Event::Notice(&format!(
                    "{} is damaged; its estimates are taken again",
                    path.display()
                ))),
            }
        }
        let threads = Threads::new(1).map_err(|error| self.failed(label, error.into()))?;
        let mut sampler = Sampler::new(*self.entry, self.horizon, &threads);
        let mut estimates = vec![];
        for repetition in 0..count {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let seed = run_seed(self.definition.seed, first_seed + repetition);
            estimates.push(self.estimate(&complete, length, Streams::new(seed), (&mut sampler, &threads))?);
            observe(Event::Trajectories(trajectories));
        }
        write_atomically(&path, &encode(&estimates))?;
        Ok(Some(estimates))
    }

    /// The last `length` parameters.
    fn last(&self, length: usize) -> &[PolicyState] {
        &self.path[self.path.len().saturating_sub(length)..]
    }

    fn failed(&self, label: &str, source: TrainError) -> StudyError {
        StudyError::Run { run: format!("study {}, `{label}`", self.name), source: Box::new(source) }
    }

    /// One estimate at the last parameters, from batches at the last `length` of them.
    fn estimate(
        &self,
        config: &Config,
        length: usize,
        streams: Streams,
        (sampler, threads): (&mut Sampler, &Threads),
    ) -> Result<Vec<f64>, StudyError> {
        let shape = BatchShape {
            trajectories: config.algorithm.batch_size(),
            horizon: self.horizon,
            observation_size: self.entry.observation_size,
            action_size: self.entry.action_size,
        };
        let states = self.last(length);
        let device = &self.device.device;
        let mut algorithm = algorithms::make(config, &states[0], shape, streams, &self.device, threads);
        let mut phases = Phases::default();
        let mut fresh = vec![];
        let mut gradient = None;
        for (iteration, state) in states.iter().enumerate() {
            let iteration = iteration as u32;
            let policy = GaussianPolicy::from_state(state, device);
            let plan = algorithm.plan(iteration);
            sampler.sample(&plan, &policy, state, (streams, iteration), &mut fresh)?;
            gradient = Some(algorithm.estimate(&policy, &fresh, &mut phases).gradient);
        }
        Ok(gradient.map(|gradient| gradient.to_data().iter::<f64>().collect()).unwrap_or_default())
    }
}

/// Estimates as CSV, below a first line with the hash of what follows.
fn encode(estimates: &[Vec<f64>]) -> Vec<u8> {
    let lines = estimates.iter().map(|estimate| {
        let numbers: Vec<String> = estimate.iter().map(f64::to_string).collect();
        numbers.join(",") + "\n"
    });
    let body: String = lines.collect();
    format!("# sha256 {}\n{body}", sha256(body.as_bytes())).into_bytes()
}

/// What [`encode`] wrote.
fn read(path: &std::path::Path) -> Result<Vec<Vec<f64>>, String> {
    let text = fs_err::read_to_string(path).map_err(|error| error.to_string())?;
    let (first, body) = text.split_once('\n').ok_or("empty")?;
    if first != format!("# sha256 {}", sha256(body.as_bytes())) {
        return Err("the hash differs".to_owned());
    }
    let number = |text: &str| text.parse::<f64>().map_err(|error| error.to_string());
    body.lines().map(|line| line.split(',').map(number).collect()).collect()
}

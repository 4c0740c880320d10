//! From a study to the configurations of its runs.

use std::path::Path;

use policy_nets::files::read_regular;
use rand::Rng;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::{Definition, Entry, Kind, StudyError};
use crate::config::layers::Layer;
use crate::config::load::load_layers;
use crate::config::{Config, Source};
use crate::random::{Purpose, Streams};
use crate::run_folder::policy_file;

/// A run of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// Index of the algorithm in the study.
    pub entry: usize,
    /// Index of the environment in the study.
    pub environment: usize,
    /// Number of the run, from 0. Runs of one number have one seed, whatever the algorithm.
    pub run: u32,
    /// Name of its folder: algorithm, environment, number and the beginning of the hash.
    pub name: String,
    /// Hash of the resolved configuration, and of the policy that it starts from, if it names one.
    pub hash: String,
    /// The resolved configuration; `rtpg train` with it repeats the run.
    pub config: Config,
    /// Hash of the policy that it starts from, if it names one.
    start: Option<String>,
}

impl PlannedRun {
    /// Fresh trajectories of the run; expected ones, where chance decides.
    pub fn trajectories(&self) -> u64 {
        let iterations = self.config.iterations;
        let algorithm = &self.config.algorithm;
        match algorithm.variance_reduction() {
            Some(reduction) => reduction.expected_trajectories(iterations).round() as u64,
            None => u64::from(iterations) * algorithm.batch_size() as u64,
        }
    }

    /// Refuses a policy to start from that is not what it was when the run was planned.
    pub(super) fn check_start(&self) -> Result<(), StudyError> {
        let found = self.config.policy.start.as_deref().map(digest_of_policy);
        if found == self.start {
            return Ok(());
        }
        let path = self.config.policy.start.as_deref().unwrap_or(Path::new("")).display().to_string();
        Err(StudyError::Start { run: self.name.clone(), path })
    }

    /// Those of the first `iteration` iterations; where chance decides, in proportion.
    pub(super) fn trajectories_until(&self, iteration: u32) -> u64 {
        self.trajectories() * u64::from(iteration) / u64::from(self.config.iterations).max(1)
    }
}

/// A study with every run resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name of the study.
    pub name: String,
    /// The study.
    pub definition: Definition,
    /// All runs: every algorithm's first on every environment, then every algorithm's second, ...
    pub runs: Vec<PlannedRun>,
}

impl Plan {
    /// Resolves every run of a study of the kind `training`; a `gradient` study has none.
    ///
    /// # Errors
    /// Unknown algorithms, options that an algorithm does not have, budgets that do not pay for an iteration.
    pub fn new(name: &str, definition: &Definition) -> Result<Self, StudyError> {
        let place = format!("study {name}");
        let of_training = definition.kind == Kind::Training;
        let mut resolved = vec![];
        for environment in 0..if of_training { definition.environments.len() } else { 0 } {
            for entry in 0..definition.algorithm.len() {
                let config = resolve(&place, definition, environment, entry)?;
                let start = config.policy.start.as_deref().map(digest_of_policy);
                resolved.push((environment, entry, config, start));
            }
        }
        let planned = |run: u32, resolved: &(usize, usize, Config, Option<String>)| {
            let (environment, entry, ref config, ref start) = *resolved;
            let config = Config { seed: run_seed(definition.seed, run), ..config.clone() };
            let start = start.clone();
            let hash = match &start {
                None => hash(&config),
                Some(start) => sha256(format!("{}\nstart {start}", hash(&config)).as_bytes()),
            };
            let label = slug(&definition.algorithm[entry].label);
            let name =
                format!("{label}-{}-{run:03}-{}", slug(&definition.environments[environment]), &hash[..8]);
            PlannedRun { entry, environment, run, name, hash, config, start }
        };
        let runs =
            (0..definition.runs).flat_map(|run| resolved.iter().map(move |resolved| planned(run, resolved)));
        Ok(Self { name: name.to_owned(), runs: runs.collect(), definition: definition.clone() })
    }

    /// The same study with the runs of the algorithms with these labels only.
    ///
    /// # Errors
    /// [`StudyError::Label`] for a label that no algorithm has.
    pub fn only(&self, labels: &[String]) -> Result<Self, StudyError> {
        let known = || self.definition.algorithm.iter().map(|entry| entry.label.as_str());
        if let Some(label) = labels.iter().find(|label| !known().any(|known| known == label.as_str())) {
            return Err(StudyError::Label {
                label: label.clone(),
                nearest: crate::config::nearest(label, known()),
                known: known().map(str::to_owned).collect(),
            });
        }
        let mut plan = self.clone();
        plan.runs.retain(|run| labels.contains(&self.entry(run).label));
        Ok(plan)
    }

    /// The algorithm of a run.
    pub fn entry(&self, run: &PlannedRun) -> &Entry {
        &self.definition.algorithm[run.entry]
    }
}

/// The seed of run number `run`: 63 bits of a stream that training never draws from, so that seeds of different studies
/// neither overlap nor follow each other.
pub(super) fn run_seed(study_seed: u64, run: u32) -> u64 {
    Streams::new(study_seed).stream(Purpose::Study, run, 0, 0).next_u64() >> 1
}

/// The configuration of an algorithm's runs, but for the seed.
fn resolve(
    place: &str,
    definition: &Definition,
    environment: usize,
    entry: usize,
) -> Result<Config, StudyError> {
    let once = configuration(place, definition, environment, Some(entry), 0, 1)?;
    let entry_definition = &definition.algorithm[entry];
    let budget = entry_definition.budget.or(definition.budget).unwrap_or_default();
    let iterations = once.algorithm.iterations_within(budget);
    if iterations == 0 {
        return Err(StudyError::Budget {
            place: place.to_owned(),
            label: entry_definition.label.clone(),
            budget,
            needed: once.algorithm.batch_size(),
        });
    }
    configuration(place, definition, environment, Some(entry), 0, iterations)
}

/// The configuration of an algorithm of the study with a given seed and number of iterations: the environment's own, below
/// the study's settings, below the algorithm's options; without an algorithm, the environment's own. One thread; a single
/// evaluation, at the end.
pub(super) fn configuration(
    place: &str,
    definition: &Definition,
    environment: usize,
    entry: Option<usize>,
    seed: u64,
    iterations: u32,
) -> Result<Config, StudyError> {
    let layer = |suffix: &str, table: Table| Layer { place: format!("{place}{suffix}"), table };
    let integer = |value: u64| Value::Integer(value.cast_signed());
    let evaluation = Table::from_iter([("interval".to_owned(), integer(u64::from(iterations)))]);
    let lowest = Table::from_iter([
        ("device".to_owned(), Value::String("cpu".to_owned())),
        ("evaluation".to_owned(), Value::Table(evaluation)),
    ]);
    let highest = Table::from_iter([
        ("seed".to_owned(), integer(seed)),
        ("iterations".to_owned(), integer(u64::from(iterations))),
        ("threads".to_owned(), integer(1)),
    ]);
    let mut layers = vec![layer("", lowest), layer(", settings", definition.settings.clone())];
    if let Some(Entry { label, optimizer, policy, options, .. }) =
        entry.map(|entry| &definition.algorithm[entry])
    {
        let mut own = Table::from_iter([("algorithm".to_owned(), Value::Table(options.clone()))]);
        for (name, table) in [("optimizer", optimizer), ("policy", policy)] {
            if !table.is_empty() {
                own.insert(name.to_owned(), Value::Table(table.clone()));
            }
        }
        layers.push(layer(&format!(", algorithm `{label}`"), own));
    }
    layers.push(layer("", highest));
    Ok(load_layers(&Source::parse(&definition.environments[environment]), layers)?)
}

/// SHA-256 of the resolved configuration, in hexadecimal digits. A key that does not change a run that ends well stands
/// in it only when it is not the default, so that finished runs stay what they are.
pub(super) fn hash(config: &Config) -> String {
    let text = config.to_toml();
    let text = text.replacen("bad_batches = \"stop\"\n", "", 1).replacen("clip = inf\n", "", 1);
    sha256(text.as_bytes())
}

/// SHA-256 of the file of a policy; nothing where it cannot be read, which a run that starts from it tells.
fn digest_of_policy(path: &Path) -> String {
    read_regular(&policy_file(path), u64::MAX).map_or_else(|_| String::new(), |bytes| sha256(&bytes))
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Lower-case letters, digits and single hyphens.
pub(super) fn slug(text: &str) -> String {
    let text = text.to_lowercase();
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn a_run_starts_from_the_policy_that_it_was_planned_with() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("start.safetensors");
        std::fs::write(&path, "one").unwrap();
        let mut config = load(&Source::Preset("lqr".to_owned()), &[]).unwrap();
        config.policy.start = Some(path.clone());
        let start = Some(digest_of_policy(&path));
        let (name, hash) = ("a-lqr-000".to_owned(), String::new());
        let planned = PlannedRun { entry: 0, environment: 0, run: 0, name, hash, config, start };
        planned.check_start().unwrap();
        std::fs::write(&path, "other").unwrap();
        let error = planned.check_start().unwrap_err();
        assert!(
            error.is_input() && error.to_string().contains("was changed since the study began"),
            "{error}"
        );
    }

    /// Finished runs of earlier versions stay what they are, where what is new has its default.
    #[test]
    fn keys_with_defaults_that_change_nothing_are_not_hashed() {
        let miw = |clip: &str| {
            let overrides = ["algorithm.name=miw".to_owned(), format!("algorithm.clip={clip}")];
            load(&Source::Preset("cartpole".to_owned()), &overrides).unwrap()
        };
        let without = |key: &str| {
            let text = miw("inf").to_toml();
            text.split_inclusive('\n').filter(|line| !line.starts_with(key)).collect::<String>()
        };
        assert_ne!(without("clip"), miw("inf").to_toml());
        let expected = without("clip").replace("bad_batches = \"stop\"\n", "");
        assert_eq!(hash(&miw("inf")), sha256(expected.as_bytes()));
        assert_ne!(hash(&miw("2.0")), hash(&miw("inf")));
    }
}

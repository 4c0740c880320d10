//! A run as a checkpoint, and back.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use policy_nets::tensor_file::HostTensor;
use policy_nets::{GaussianPolicy, Normalizer, PolicyState};
use toml::{Table, Value};

use super::{TrainError, Trainer};
use crate::algorithms::{AlgorithmError, Restore};
use crate::checkpoint::{Checkpoint, Progress};
use crate::config::RESUMABLE;
use crate::run_folder::policy_file;

impl Trainer {
    /// Everything that the run needs to go on exactly.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut tensors = BTreeMap::new();
        save_policy("", &self.state, &mut tensors);
        if let Some(best) = &self.best {
            save_policy("best.", best, &mut tensors);
        }
        if self.updates() > 0 {
            self.optimizer.save(&mut tensors);
        }
        if !self.progress.memory_empty {
            self.algorithm.save(&mut tensors);
        }
        let progress = Progress {
            subject: Some(self.subject()),
            configuration: Some(self.lasting_configuration().to_string()),
            ..self.progress.clone()
        };
        Checkpoint { progress, tensors }
    }

    /// What of the configuration stays as it is when the run goes on.
    fn lasting_configuration(&self) -> Table {
        let mut table = Table::try_from(&self.config).unwrap_or_default();
        table.retain(|key, _| !RESUMABLE.contains(&key));
        table
    }

    fn updates(&self) -> u32 {
        self.progress.iteration.saturating_sub(self.progress.dropped_iterations)
    }

    /// Environment and algorithm, by which a checkpoint is known.
    fn subject(&self) -> [String; 2] {
        [self.entry.name.to_owned(), self.config.algorithm.name().to_owned()]
    }

    /// Has [`restore`](Self::restore) refuse every configuration but the checkpoint's own: a study's runs are known by theirs.
    pub fn refuse_changes(&mut self) {
        self.is_exact = true;
    }

    /// Goes on from a checkpoint of the same configuration.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`] when the checkpoint has other tensors or shapes.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        if let Some(found) = &checkpoint.progress.subject
            && *found != self.subject()
        {
            let ([environment, algorithm], [own_environment, own_algorithm]) = (found, self.subject());
            return Err(TrainError::Mismatch(format!(
                "it is of `{algorithm}` on `{environment}`, not of `{own_algorithm}` on `{own_environment}`"
            )));
        }
        let changes = self.changes(checkpoint);
        let fixed: Vec<_> =
            changes.iter().filter(|change| self.is_fixed(change)).map(Change::to_string).collect();
        if !fixed.is_empty() {
            return Err(TrainError::Mismatch(format!(
                "{}; set it back in the run's config.toml, or start another run from the policy by --set policy.start=RUN",
                fixed.join(", ")
            )));
        }
        let mismatch = |error: AlgorithmError| match changes.as_slice() {
            [] => TrainError::Mismatch(error.to_string()),
            changes => {
                let changes: Vec<_> = changes.iter().map(Change::to_string).collect();
                TrainError::Mismatch(format!("{error}; changed since it was written: {}", changes.join(", ")))
            }
        };
        let mut read = |name: &str, shape: &[usize]| checkpoint.read(name, shape);
        self.state = self.read_policy("", &mut read).map_err(mismatch)?;
        self.best = None;
        if checkpoint.tensors.contains_key("best.parameters") {
            self.best = Some(self.read_policy("best.", &mut read).map_err(mismatch)?);
        }
        let device = self.policy.parameters().device();
        self.policy = GaussianPolicy::from_state(&self.state, &device);
        self.progress = checkpoint.progress.clone();
        // At the start, and so in the first version's files of it, nothing is remembered.
        self.progress.memory_empty |= self.progress.iteration == 0;
        if self.updates() > 0 {
            self.optimizer.restore(&self.policy.parameters(), &mut read).map_err(mismatch)?;
        }
        if !self.progress.memory_empty {
            self.algorithm.restore(&mut read).map_err(mismatch)?;
        }
        for change in &changes {
            let consequence = if change.is_of_policy() {
                "it says how the run began, and stays as it was"
            } else {
                "the run goes on with the new value"
            };
            tracing::warn!("the configuration was changed: {change}; {consequence}");
        }
        if let Some(Ok(policy)) =
            recorded(checkpoint).and_then(|mut table| table.remove("policy")).map(Value::try_into)
        {
            self.config.policy = policy;
        }
        Ok(())
    }

    /// Whether the run cannot go on with this: what its checkpoint holds would mean something else. Policies would be others with
    /// the same parameters, returns and estimates would be of another objective, moments of other decay rates, and scores not of one
    /// kind. With [`refuse_changes`](Self::refuse_changes) whatever the run still depends on.
    fn is_fixed(&self, change: &Change) -> bool {
        match change.key.as_str() {
            "policy.initialization" | "policy.start" => false,
            "policy.variance" => !self.config.policy.learn_variance,
            "policy.log_std_bounds.min" | "policy.log_std_bounds.max" => self.config.policy.learn_variance,
            "algorithm.discount" | "environment.horizon" | "optimizer.beta_1" | "optimizer.beta_2" => true,
            "evaluation.interval" => {
                self.is_exact || [&change.found, &change.own].contains(&&Value::Integer(0))
            }
            _ => self.is_exact || change.is_of_policy(),
        }
    }

    /// What of the configuration is not as it was when a checkpoint was written.
    fn changes(&self, checkpoint: &Checkpoint) -> Vec<Change> {
        let Some(mut found) = recorded(checkpoint) else { return vec![] };
        let mut own = self.lasting_configuration();
        for table in [&mut found, &mut own] {
            // The environment's own horizon is not recorded.
            if let Some(Value::Table(environment)) = table.get_mut("environment") {
                environment.entry("horizon").or_insert(Value::Integer(self.entry.horizon as i64));
            }
            // Nor is it said that a policy was drawn; of a start from a run's folder, the file in it is recorded.
            if let Some(Value::Table(policy)) = table.get_mut("policy") {
                let start = policy.entry("start").or_insert(Value::String(String::new()));
                let file =
                    start.as_str().and_then(|path| std::path::absolute(policy_file(Path::new(path))).ok());
                if let Some(path) = file.as_deref().and_then(Path::to_str) {
                    *start = Value::String(path.to_owned());
                }
            }
        }
        let iteration = checkpoint.progress.iteration;
        differences(&found, &own)
            .into_iter()
            .map(|(key, found, own)| Change { key, found, own, iteration })
            .collect()
    }

    /// The policy that [`save_policy`] saved under a prefix.
    fn read_policy(&self, prefix: &str, read: &mut Restore<'_>) -> Result<PolicyState, AlgorithmError> {
        let flat = read(&format!("{prefix}parameters"), &self.policy.parameters().dims())?;
        let mut state = self.policy.state_at(flat);
        if state.normalizer.is_some() {
            let size = self.entry.observation_size;
            let count = read(&format!("{prefix}normalizer.count"), &[1])?[0];
            let mean = read(&format!("{prefix}normalizer.mean"), &[size])?;
            let squares = read(&format!("{prefix}normalizer.sum_of_squares"), &[size])?;
            state.normalizer = Some(Normalizer::from_moments(count, mean, squares));
        }
        Ok(state)
    }
}

/// A key of the configuration that is not what it was when a checkpoint was written.
struct Change {
    /// Dotted.
    key: String,
    found: Value,
    own: Value,
    iteration: u32,
}

impl Change {
    fn is_of_policy(&self) -> bool {
        self.key.starts_with("policy.")
    }
}

impl Display for Change {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| match value {
            Value::Float(number) => format!("{number:?}"),
            Value::String(text) if text.is_empty() => "not set".to_owned(),
            other => other.to_string(),
        };
        let Self { key, found, own, iteration } = self;
        write!(formatter, "`{key}` is {}, and up to iteration {iteration} it was {}", text(own), text(found))
    }
}

/// The configuration that a checkpoint was written with, where it says.
fn recorded(checkpoint: &Checkpoint) -> Option<Table> {
    checkpoint.progress.configuration.as_deref()?.parse().ok()
}

/// The dotted keys that both tables have with another value, and the two values. What one of them does not have is a default
/// of another version of the program.
fn differences(left: &Table, right: &Table) -> Vec<(String, Value, Value)> {
    let mut found = vec![];
    for (key, left) in left {
        match (left, right.get(key)) {
            (Value::Table(left), Some(Value::Table(right))) => {
                let inner = differences(left, right).into_iter();
                found.extend(inner.map(|(inner, left, right)| (format!("{key}.{inner}"), left, right)));
            }
            (left, Some(right)) if left != right => found.push((key.clone(), left.clone(), right.clone())),
            _ => {}
        }
    }
    found
}

/// Adds a policy's flat parameters and the moments of its normaliser to a checkpoint.
fn save_policy(prefix: &str, state: &PolicyState, tensors: &mut BTreeMap<String, HostTensor>) {
    let mut insert = |name: &str, values: Vec<f64>| {
        tensors.insert(format!("{prefix}{name}"), HostTensor::new([values.len()], values));
    };
    insert("parameters", state.flat_parameters());
    if let Some(normalizer) = &state.normalizer {
        let (mean, squares) = normalizer.moments();
        insert("normalizer.count", vec![normalizer.count()]);
        insert("normalizer.mean", mean.to_vec());
        insert("normalizer.sum_of_squares", squares.to_vec());
    }
}

//! A run as a checkpoint, and back.

use std::collections::BTreeMap;

use policy_nets::tensor_file::HostTensor;
use policy_nets::{GaussianPolicy, Normalizer, PolicyState};
use toml::{Table, Value};

use super::{TrainError, Trainer};
use crate::algorithms::{AlgorithmError, Restore};
use crate::checkpoint::{Checkpoint, Progress};
use crate::config::RESUMABLE;

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
        let mismatch = |error: AlgorithmError| match changes.as_slice() {
            [] => TrainError::Mismatch(error.to_string()),
            changes => {
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
        for change in changes {
            tracing::warn!("the configuration was changed: {change}; the run goes on with the new value");
        }
        Ok(())
    }

    /// What of the configuration is not as it was when a checkpoint was written.
    fn changes(&self, checkpoint: &Checkpoint) -> Vec<String> {
        let found = checkpoint.progress.configuration.as_deref().map(str::parse::<Table>);
        let Some(Ok(found)) = found else { return vec![] };
        let text = |value: Value| match value {
            Value::Float(number) => format!("{number:?}"),
            other => other.to_string(),
        };
        differences(&found, &self.lasting_configuration())
            .into_iter()
            .map(|(key, found, own)| {
                let (iteration, found, own) = (checkpoint.progress.iteration, text(found), text(own));
                format!("`{key}` is {own}, and up to iteration {iteration} it was {found}")
            })
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

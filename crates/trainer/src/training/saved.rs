//! A run as a checkpoint, and back.

use std::collections::BTreeMap;

use policy_nets::tensor_file::HostTensor;
use policy_nets::{GaussianPolicy, Normalizer, PolicyState};

use super::{TrainError, Trainer};
use crate::algorithms::Restore;
use crate::checkpoint::{Checkpoint, Progress};

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
        let progress = Progress { subject: Some(self.subject()), ..self.progress.clone() };
        Checkpoint { progress, tensors }
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
        let mismatch = |error: anyhow::Error| TrainError::Mismatch(error.to_string());
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
        match &self.progress.subject {
            Some(found) if *found != self.subject() => {
                let ([environment, algorithm], [own_environment, own_algorithm]) = (found, self.subject());
                Err(TrainError::Mismatch(format!(
                    "it is of `{algorithm}` on `{environment}`, not of `{own_algorithm}` on `{own_environment}`"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The policy that [`save_policy`] saved under a prefix.
    fn read_policy(&self, prefix: &str, read: &mut Restore<'_>) -> Result<PolicyState, anyhow::Error> {
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

//! Trajectories of one policy on their way to a file (docs/formats.md).

use std::collections::HashMap;
use std::path::Path;

use policy_nets::tensor_file::TensorFile;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView, serialize};

use crate::trajectories::{BatchShape, Trajectories};

/// The metadata entry `format` of a file that is written.
const FORMAT: &str = "rtpg-trajectories/1";

/// Trajectories of one batch, gathered part by part.
#[derive(Clone, Debug)]
pub struct Recording {
    shape: BatchShape,
    observations: Vec<u8>,
    actions: Vec<u8>,
    means: Vec<u8>,
    rewards: Vec<u8>,
    lengths: Vec<u8>,
    log_std: Vec<u8>,
}

impl Recording {
    /// Room for the trajectories of `shape`.
    pub fn new(shape: BatchShape) -> Self {
        let [observations, actions, rewards] = sizes(shape);
        let room = Vec::with_capacity;
        Self {
            shape,
            observations: room(observations),
            actions: room(actions),
            means: room(actions),
            rewards: room(rewards),
            lengths: vec![],
            log_std: vec![],
        }
    }

    /// Bytes that a recording of `shape` takes until it is written, as parts and as a file.
    pub fn memory(shape: BatchShape) -> f64 {
        let [observations, actions, rewards] = sizes(shape);
        2.0 * (observations as f64 + 2.0 * actions as f64 + rewards as f64)
    }

    /// Takes in the next trajectories, all of one policy.
    pub fn push(&mut self, part: &Trajectories) {
        let singles =
            |to: &mut Vec<u8>, values: &[f32]| to.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        singles(&mut self.observations, &part.observations);
        singles(&mut self.actions, &part.actions);
        singles(&mut self.means, &part.means);
        self.log_std.clear();
        singles(&mut self.log_std, &part.log_std);
        self.rewards.extend(part.rewards.iter().flat_map(|reward| reward.to_le_bytes()));
        self.lengths.extend(part.lengths.iter().flat_map(|length| i64::from(*length).to_le_bytes()));
    }

    /// The file: a window of one batch.
    ///
    /// # Errors
    /// When there are other trajectories than those of the shape.
    pub fn into_bytes(self) -> Result<Vec<u8>, SafeTensorError> {
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let of_steps = |size| vec![1, trajectories, horizon, size];
        let tensors = [
            ("observations", Dtype::F32, of_steps(observation_size), &self.observations),
            ("actions", Dtype::F32, of_steps(action_size), &self.actions),
            ("behaviour_mean", Dtype::F32, of_steps(action_size), &self.means),
            ("rewards", Dtype::F64, vec![1, trajectories, horizon], &self.rewards),
            ("lengths", Dtype::I64, vec![1, trajectories], &self.lengths),
            ("behaviour_log_std", Dtype::F32, vec![1, action_size], &self.log_std),
        ];
        let views = tensors
            .into_iter()
            .map(|(name, dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).map(|view| (name, view)));
        let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
        serialize(views.collect::<Result<Vec<_>, _>>()?, Some(metadata))
    }

    /// Whether a file is a recording.
    pub fn is_one(path: &Path) -> bool {
        TensorFile::read(path).is_ok_and(|file| file.metadata("format") == Some(FORMAT))
    }
}

/// Bytes of all observations, actions and rewards.
fn sizes(shape: BatchShape) -> [usize; 3] {
    let steps = shape.trajectories * shape.horizon;
    [steps * shape.observation_size * 4, steps * shape.action_size * 4, steps * 8]
}

#[cfg(test)]
mod tests {
    use environments::registry;

    use super::*;
    use crate::evaluation::Evaluator;
    use crate::logged::{Behaviour, LoggedTrajectories};
    use crate::random::Streams;
    use crate::rollout::Mode;
    use crate::threads::Threads;
    use crate::training::preset_policy;

    #[test]
    fn a_recording_is_read_as_it_was_sampled() {
        // More episodes than are sampled at a time, most of which end early.
        let (count, horizon) = (300, 40);
        let policy = preset_policy("cartpole");
        let entry = registry::find("cartpole").unwrap();
        let mut evaluator = Evaluator::new(entry, count, horizon, &Threads::new(1).unwrap()).unwrap();
        let shape = BatchShape { trajectories: count, horizon, observation_size: 4, action_size: 1 };
        let mut recording = Recording::new(shape);
        let mode = Mode::StochasticEvaluation;
        let push = |episodes: &Trajectories| recording.push(episodes);
        let evaluation = evaluator.run_observed(&policy, Streams::new(7), 0, mode, push).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trajectories.safetensors");
        std::fs::write(&path, recording.into_bytes().unwrap()).unwrap();
        assert!(Recording::is_one(&path));

        let logged = LoggedTrajectories::load(&path).unwrap();
        assert_eq!((logged.window, logged.batch, logged.horizon), (1, count, horizon));
        let steps: u32 = logged.lengths.iter().sum();
        assert_eq!(f64::from(steps) / count as f64, evaluation.length_mean);
        assert!(logged.lengths.iter().any(|length| (*length as usize) < horizon));
        let returns = logged.rewards.chunks_exact(horizon).map(|rewards| rewards.iter().sum::<f64>());
        assert_eq!(returns.collect::<Vec<_>>(), evaluator.returns());
        let Behaviour::Gaussian { mean, log_std } = &logged.behaviour else { panic!("means are recorded") };
        assert_eq!(log_std[0], f64::from(policy.log_std[0] as f32));
        // The preset's policy is one of zeros.
        assert!(mean.iter().all(|mean| *mean == 0.0) && logged.actions.iter().any(|action| *action != 0.0));
    }
}

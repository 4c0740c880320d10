//! The slots of a window, and its batches in a checkpoint: the same for windows in the memory of the host, of a device, and in
//! tensors.

use policy_nets::tensor_file::HostTensor;

use crate::algorithms::{AlgorithmError, Restore, Saved};
use crate::trajectories::BatchShape;

/// Which slots of a ring are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) capacity: usize,
    pub(crate) filled: usize,
    pub(crate) newest: usize,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a window of no batches");
        Self { capacity, filled: 0, newest: 0 }
    }

    /// Takes the next slot: a free one, else that of the oldest batch.
    pub(crate) fn advance(&mut self) -> usize {
        self.newest =
            if self.filled < self.capacity { self.filled } else { (self.newest + 1) % self.capacity };
        self.filled = (self.filled + 1).min(self.capacity);
        self.newest
    }

    /// The state as a tensor of a checkpoint.
    pub(crate) fn position(self) -> Vec<f64> {
        vec![self.filled as f64, self.newest as f64]
    }

    /// Takes back what [`position`](Self::position) gave.
    pub(crate) fn restore(&mut self, position: &[f64]) -> Result<(), AlgorithmError> {
        let restored = Self { filled: position[0] as usize, newest: position[1] as usize, ..*self };
        // A ring that is not full has never gone round: its newest batch is the last.
        let fits = match restored.filled {
            0 => false,
            filled if filled < self.capacity => restored.newest + 1 == filled,
            filled => filled == self.capacity && restored.newest < filled,
        };
        if !fits || restored.position() != position {
            return Err(AlgorithmError(format!(
                "window.position is {position:?}, which no window of {} batches has",
                self.capacity
            )));
        }
        *self = restored;
        Ok(())
    }
}

/// The batches of a window, slot after slot, as a checkpoint holds them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batches {
    /// `[slot, trajectory, time, observation]`
    pub(crate) observations: Vec<f64>,
    /// `[slot, trajectory, time, action]`
    pub(crate) actions: Vec<f64>,
    /// `[slot, trajectory, time, action]`
    pub(crate) means: Vec<f64>,
    /// `[slot, action]`
    pub(crate) log_std: Vec<f64>,
    /// `[slot, trajectory]`
    pub(crate) lengths: Vec<u32>,
    /// `[slot, trajectory, time]`
    pub(crate) returns: Vec<f64>,
}

impl Batches {
    /// Adds the tensors `window.*`.
    pub(crate) fn save(self, ring: Ring, shape: BatchShape, saved: &mut Saved) {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let filled = ring.filled;
        let mut insert = |name: &str, shape: &[usize], values: Vec<f64>| {
            saved.insert(format!("window.{name}"), HostTensor::new(shape, values));
        };
        let steps = |last| [filled, trajectories, horizon, last];
        insert("position", &[2], ring.position());
        insert("observations", &steps(observation_size), self.observations);
        insert("actions", &steps(action_size), self.actions);
        insert("means", &steps(action_size), self.means);
        insert("log_std", &[filled, action_size], self.log_std);
        let lengths = self.lengths.into_iter().map(f64::from).collect();
        insert("lengths", &[filled, trajectories], lengths);
        insert("returns", &[filled, trajectories, horizon], self.returns);
    }

    /// Takes back what [`save`](Self::save) gave, the state of the ring included.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape, and lengths beyond the horizon.
    pub(crate) fn restore(
        ring: &mut Ring,
        shape: BatchShape,
        read: &mut Restore<'_>,
    ) -> Result<Self, AlgorithmError> {
        ring.restore(&read("window.position", &[2])?)?;
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let filled = ring.filled;
        let steps = |last| [filled, trajectories, horizon, last];
        let length = |value: f64| {
            if !(0.0..=horizon as f64).contains(&value) {
                return Err(AlgorithmError(format!("window.lengths holds {value}")));
            }
            Ok(value as u32)
        };
        Ok(Self {
            observations: read("window.observations", &steps(observation_size))?,
            actions: read("window.actions", &steps(action_size))?,
            means: read("window.means", &steps(action_size))?,
            log_std: read("window.log_std", &[filled, action_size])?,
            lengths: read("window.lengths", &[filled, trajectories])?
                .into_iter()
                .map(length)
                .collect::<Result<_, _>>()?,
            returns: read("window.returns", &[filled, trajectories, horizon])?,
        })
    }
}

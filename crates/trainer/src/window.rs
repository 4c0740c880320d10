//! The window: the last `omega` batches, on the device.

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{Baseline, LoggedActions, StepReturn, step_mask, step_returns};

use crate::algorithms::{AlgorithmError, Restore, Saved};
use crate::config::AlgorithmConfig;
use crate::ring::{Batches, Ring};
use crate::trajectories::{BatchShape, Trajectories};

/// A ring of batches in preallocated device memory. A push overwrites the oldest batch; nothing else moves.
///
/// | field | shape |
/// |---|---|
/// | `observations` | `[slot, trajectory, time, observation]` |
/// | `actions`, `means` | `[slot, trajectory, time, action]` |
/// | `log_std` | `[slot, action]` |
/// | `mask`, `returns` | `[slot, trajectory, time]` |
#[derive(Clone, Debug)]
pub struct Window {
    shape: BatchShape,
    ring: Ring,
    lengths: Vec<u32>,
    observations: Tensor<4>,
    actions: Tensor<4>,
    means: Tensor<4>,
    log_std: Tensor<2>,
    mask: Tensor<3>,
    returns: Tensor<3>,
}

/// How step returns are computed when a batch is pushed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReturnRule {
    /// Discount `gamma`.
    pub discount: f64,
    /// To go or total.
    pub kind: StepReturn,
    /// What is subtracted.
    pub baseline: Baseline,
}

impl ReturnRule {
    /// The rule that an algorithm's options give.
    pub fn new(config: &AlgorithmConfig) -> Self {
        let kind = match config {
            AlgorithmConfig::Reinforce(_) => StepReturn::Total,
            _ => StepReturn::ToGo,
        };
        Self { discount: config.discount(), kind, baseline: config.baseline() }
    }
}

impl Window {
    /// An empty window of `capacity` batches.
    ///
    /// # Panics
    /// When `capacity` is 0.
    pub fn new(capacity: usize, shape: BatchShape, device: &Device) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let steps = |last: usize| Tensor::zeros([capacity, trajectories, horizon, last], device);
        Self {
            shape,
            ring: Ring::new(capacity),
            lengths: vec![0; capacity * trajectories],
            observations: steps(observation_size),
            actions: steps(action_size),
            means: steps(action_size),
            log_std: Tensor::zeros([capacity, action_size], device),
            mask: Tensor::zeros([capacity, trajectories, horizon], device),
            returns: Tensor::zeros([capacity, trajectories, horizon], device),
        }
    }

    /// Number of batches held, `omega_k`.
    pub fn len(&self) -> usize {
        self.ring.filled
    }

    /// Whether no batch is held.
    pub fn is_empty(&self) -> bool {
        self.ring.filled == 0
    }

    /// Sizes of a batch.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Slot of the newest batch.
    pub fn newest(&self) -> usize {
        self.ring.newest
    }

    /// Copies a batch to the device, in the place of the oldest one when the window is full.
    ///
    /// # Panics
    /// When the batch has other sizes.
    pub fn push(&mut self, batch: &Trajectories, rule: ReturnRule) {
        assert_eq!(batch.shape, self.shape, "sizes of the batch");
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let device = self.mask.device();
        let slot = self.ring.advance();
        let steps = |values: &[f32], last: usize| {
            let data = TensorData::new(values.to_vec(), [1, trajectories, horizon, last]);
            Tensor::<4>::from_data(data, &device)
        };
        let mask = step_mask(&batch.lengths, [1, trajectories, horizon], &device);
        let rewards = TensorData::new(batch.rewards.clone(), [1, trajectories, horizon]);
        let rewards = Tensor::<3>::from_data(rewards, &device);
        let returns = step_returns(rewards, mask.clone(), rule.discount, rule.kind, rule.baseline);
        let log_std = TensorData::new(batch.log_std.clone(), [1, action_size]);

        self.observations
            .inplace(|ring| ring.slice_assign(slot..=slot, steps(&batch.observations, observation_size)));
        self.actions.inplace(|ring| ring.slice_assign(slot..=slot, steps(&batch.actions, action_size)));
        self.means.inplace(|ring| ring.slice_assign(slot..=slot, steps(&batch.means, action_size)));
        self.log_std.inplace(|ring| ring.slice_assign(slot..=slot, Tensor::from_data(log_std, &device)));
        self.mask.inplace(|ring| ring.slice_assign(slot..=slot, mask));
        self.returns.inplace(|ring| ring.slice_assign(slot..=slot, returns));
        self.lengths[slot * trajectories..][..trajectories].copy_from_slice(&batch.lengths);
    }

    /// Observations of every batch held, `[rows, observation]`.
    pub fn observations(&self) -> Tensor<2> {
        let rows = self.ring.filled * self.shape.trajectories * self.shape.horizon;
        self.held(&self.observations).reshape([rows, self.shape.observation_size])
    }

    /// Actions, behaviour means and mask of every batch held.
    pub fn logged(&self) -> LoggedActions {
        LoggedActions {
            actions: self.held(&self.actions),
            behaviour_mean: self.held(&self.means),
            behaviour_log_std: self.held(&self.log_std),
            mask: self.held(&self.mask),
        }
    }

    /// Step returns of every batch held, `[slot, trajectory, time]`.
    pub fn returns(&self) -> Tensor<3> {
        self.held(&self.returns)
    }

    /// The part of the window that one slot holds, as a window of one batch.
    ///
    /// # Panics
    /// When the slot holds no batch.
    #[must_use]
    pub fn slot(&self, slot: usize) -> Self {
        assert!(slot < self.ring.filled, "slot {slot} of {} that hold a batch", self.ring.filled);
        let only = slot..=slot;
        Self {
            shape: self.shape,
            ring: Ring { capacity: 1, filled: 1, newest: 0 },
            lengths: self.lengths[slot * self.shape.trajectories..][..self.shape.trajectories].to_vec(),
            observations: self.observations.clone().slice(only.clone()),
            actions: self.actions.clone().slice(only.clone()),
            means: self.means.clone().slice(only.clone()),
            log_std: self.log_std.clone().slice(only.clone()),
            mask: self.mask.clone().slice(only.clone()),
            returns: self.returns.clone().slice(only),
        }
    }

    fn held<const D: usize>(&self, ring: &Tensor<D>) -> Tensor<D> {
        if self.ring.filled == self.ring.capacity {
            ring.clone()
        } else {
            ring.clone().slice(0..self.ring.filled)
        }
    }

    /// Copies the batches held to the host, for a checkpoint.
    pub fn save(&self, saved: &mut Saved) {
        fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
            tensor.into_data().iter::<f64>().collect()
        }
        let lengths = &self.lengths[..self.ring.filled * self.shape.trajectories];
        let batches = Batches {
            observations: host(self.held(&self.observations)),
            actions: host(self.held(&self.actions)),
            means: host(self.held(&self.means)),
            log_std: host(self.held(&self.log_std)),
            lengths: lengths.to_vec(),
            returns: host(self.held(&self.returns)),
        };
        batches.save(self.ring, self.shape, saved);
    }

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        let batches = Batches::restore(&mut self.ring, self.shape, read)?;
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let (filled, device) = (self.ring.filled, self.mask.device());
        macro_rules! restore {
            ($field:ident, $shape:expr) => {
                let values = Tensor::from_data(TensorData::new(batches.$field, $shape), &device);
                self.$field.inplace(|ring| ring.slice_assign(0..filled, values));
            };
        }
        restore!(observations, [filled, trajectories, horizon, observation_size]);
        restore!(actions, [filled, trajectories, horizon, action_size]);
        restore!(means, [filled, trajectories, horizon, action_size]);
        restore!(log_std, [filled, action_size]);
        restore!(returns, [filled, trajectories, horizon]);
        let mask = step_mask(&batches.lengths, [filled, trajectories, horizon], &device);
        self.mask.inplace(|ring| ring.slice_assign(0..filled, mask));
        self.lengths[..batches.lengths.len()].copy_from_slice(&batches.lengths);
        Ok(())
    }
}

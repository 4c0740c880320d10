//! The window: the last `omega` batches, on the device.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{Baseline, LoggedActions, StepReturn, step_mask, step_returns};
use policy_nets::tensor_file::HostTensor;

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
    capacity: usize,
    filled: usize,
    newest: usize,
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

impl Window {
    /// An empty window of `capacity` batches.
    pub fn new(capacity: usize, shape: BatchShape, device: &Device) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let steps = |last: usize| Tensor::zeros([capacity, trajectories, horizon, last], device);
        Self {
            shape,
            capacity,
            filled: 0,
            newest: 0,
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
        self.filled
    }

    /// Whether no batch is held.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Sizes of a batch.
    pub fn shape(&self) -> BatchShape {
        self.shape
    }

    /// Slot of the newest batch.
    pub fn newest(&self) -> usize {
        self.newest
    }

    /// Slot that the next batch will take.
    pub fn next_slot(&self) -> usize {
        if self.filled < self.capacity { self.filled } else { (self.newest + 1) % self.capacity }
    }

    /// Copies a batch to the device, in the place of the oldest one when the window is full.
    pub fn push(&mut self, batch: &Trajectories, rule: ReturnRule) {
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let device = self.mask.device();
        let slot = self.next_slot();
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
        self.newest = slot;
        self.filled = (self.filled + 1).min(self.capacity);
    }

    /// Observations of every batch held, `[rows, observation]`.
    pub fn observations(&self) -> Tensor<2> {
        let rows = self.filled * self.shape.trajectories * self.shape.horizon;
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
    pub fn slot(&self, slot: usize) -> Self {
        let only = slot..=slot;
        Self {
            shape: self.shape,
            capacity: 1,
            filled: 1,
            newest: 0,
            observations: self.observations.clone().slice(only.clone()),
            actions: self.actions.clone().slice(only.clone()),
            means: self.means.clone().slice(only.clone()),
            log_std: self.log_std.clone().slice(only.clone()),
            mask: self.mask.clone().slice(only.clone()),
            returns: self.returns.clone().slice(only),
        }
    }

    fn held<const D: usize>(&self, ring: &Tensor<D>) -> Tensor<D> {
        if self.filled == self.capacity { ring.clone() } else { ring.clone().slice(0..self.filled) }
    }

    /// Copies the batches held to the host, for a checkpoint; [`restore`](Self::restore) takes them back.
    pub fn save(&self, tensors: &mut BTreeMap<String, HostTensor>) {
        fn host<const D: usize>(tensor: Tensor<D>) -> HostTensor {
            HostTensor::new(tensor.dims().to_vec(), tensor.into_data().iter::<f64>().collect())
        }
        let position = [self.filled as f64, self.newest as f64];
        tensors.insert("window.position".to_owned(), HostTensor::new([2], position.to_vec()));
        tensors.insert("window.observations".to_owned(), host(self.held(&self.observations)));
        tensors.insert("window.actions".to_owned(), host(self.held(&self.actions)));
        tensors.insert("window.means".to_owned(), host(self.held(&self.means)));
        tensors.insert("window.log_std".to_owned(), host(self.held(&self.log_std)));
        tensors.insert("window.mask".to_owned(), host(self.held(&self.mask)));
        tensors.insert("window.returns".to_owned(), host(self.held(&self.returns)));
    }

    /// Takes back what [`save`](Self::save) gave; `read` finds a tensor by name and checks its shape.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn restore<E>(
        &mut self,
        mut read: impl FnMut(&str, &[usize]) -> Result<Vec<f64>, E>,
    ) -> Result<(), E> {
        let position = read("window.position", &[2])?;
        self.filled = (position[0] as usize).min(self.capacity);
        self.newest = (position[1] as usize).min(self.capacity.saturating_sub(1));
        if self.filled == 0 {
            return Ok(());
        }
        let filled = self.filled;
        let mut fill = |name: &str, shape: &[usize]| -> Result<TensorData, E> {
            Ok(TensorData::new(read(name, shape)?, shape.to_vec()))
        };
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let device = self.mask.device();
        macro_rules! restore {
            ($field:ident, $name:literal, $shape:expr) => {
                let values = Tensor::from_data(fill($name, &$shape)?, &device);
                self.$field.inplace(|ring| ring.slice_assign(0..filled, values));
            };
        }
        restore!(observations, "window.observations", [filled, trajectories, horizon, observation_size]);
        restore!(actions, "window.actions", [filled, trajectories, horizon, action_size]);
        restore!(means, "window.means", [filled, trajectories, horizon, action_size]);
        restore!(log_std, "window.log_std", [filled, action_size]);
        restore!(mask, "window.mask", [filled, trajectories, horizon]);
        restore!(returns, "window.returns", [filled, trajectories, horizon]);
        Ok(())
    }
}

//! The window in plain device buffers, for the fused GPU kernels.

use burn::tensor::Tensor;
use estimator::step_returns_in_place;
use kernels::{BatchBuffers, Buffer, KernelDevice, Returns, WindowBuffers};

use crate::algorithms::{AlgorithmError, Restore, Saved};
use crate::device_trajectories::DeviceTrajectories;
use crate::ring::{Batches, Ring};
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::ReturnRule;

/// A ring of batches in preallocated device memory; the layout of [`crate::window::Window`], slot by slot, with lengths
/// in the place of the mask.
#[derive(Clone, Debug)]
pub struct DeviceWindow {
    shape: BatchShape,
    ring: Ring,
    device: KernelDevice,
    buffers: WindowBuffers,
    rule: ReturnRule,
    /// The rule on the device, once a batch has come from there.
    returns: Option<Returns>,
    work: Vec<f64>,
}

impl DeviceWindow {
    /// An empty window of `capacity` batches whose step returns follow `rule`.
    pub fn new(capacity: usize, shape: BatchShape, rule: ReturnRule, device: &KernelDevice) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let steps = capacity * trajectories * horizon;
        let buffers = WindowBuffers {
            observations: device.empty(steps * observation_size),
            actions: device.empty(steps * action_size),
            means: device.empty(steps * action_size),
            log_std: device.empty(capacity * action_size),
            lengths: device.empty_integers(capacity * trajectories),
            returns: device.empty(steps),
            filled: 0,
            batch: trajectories,
            horizon,
        };
        Self {
            shape,
            ring: Ring::new(capacity),
            device: device.clone(),
            buffers,
            rule,
            returns: None,
            work: vec![],
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

    /// The batches held, as the kernels take them.
    pub fn buffers(&self) -> &WindowBuffers {
        &self.buffers
    }

    /// Copies a batch, in the place of the oldest one when the window is full: six transfers to the device, no launch.
    ///
    /// # Panics
    /// When the batch has other sizes.
    pub fn push(&mut self, batch: &Trajectories) {
        assert_eq!(batch.shape, self.shape, "sizes of the batch");
        self.work.clear();
        self.work.extend_from_slice(&batch.rewards);
        let ReturnRule { discount, kind, baseline } = self.rule;
        step_returns_in_place(&mut self.work, &batch.lengths, discount, kind, baseline);
        let returns = self.work.iter().map(|value| *value as f32).collect();
        let lengths = batch.lengths.iter().map(|length| length.cast_signed()).collect();

        let slot = self.advance();
        self.write(&self.buffers.observations, slot, batch.observations.clone());
        self.write(&self.buffers.actions, slot, batch.actions.clone());
        self.write(&self.buffers.means, slot, batch.means.clone());
        self.write(&self.buffers.log_std, slot, batch.log_std.clone());
        self.write(&self.buffers.returns, slot, returns);
        self.device.write_integers(&self.buffers.lengths, slot * batch.lengths.len(), lengths);
    }

    /// Copies a batch that is on the device already, in the place of the oldest one when the window is full. Nothing
    /// passes through the host.
    ///
    /// # Errors
    /// When the batch is on another device, or has other sizes.
    pub fn push_device(&mut self, batch: &DeviceTrajectories) -> Result<(), AlgorithmError> {
        if batch.shape != self.shape {
            return Err(AlgorithmError("the batch has other sizes than the window's".to_owned()));
        }
        let device = &self.device;
        let elsewhere = || AlgorithmError("the batch is not on the window's device".to_owned());
        let batch = BatchBuffers {
            observations: device.buffer_of(batch.observations.clone()).ok_or_else(elsewhere)?,
            actions: device.buffer_of(batch.actions.clone()).ok_or_else(elsewhere)?,
            means: device.buffer_of(batch.means.clone()).ok_or_else(elsewhere)?,
            log_std: device.buffer_of(batch.log_std.clone()).ok_or_else(elsewhere)?,
            lengths: device.integer_buffer_of(batch.lengths.clone()).ok_or_else(elsewhere)?,
            rewards: device.buffer_of(batch.rewards.clone()).ok_or_else(elsewhere)?,
        };
        let ReturnRule { discount, kind, baseline } = self.rule;
        let horizon = self.shape.horizon;
        let returns = self
            .returns
            .get_or_insert_with(|| Returns::new(discount, kind, baseline, horizon, device))
            .clone();
        let slot = self.advance();
        self.buffers.store(slot, &batch, &returns, &self.device);
        Ok(())
    }

    fn advance(&mut self) -> usize {
        let slot = self.ring.advance();
        self.buffers.filled = self.ring.filled;
        slot
    }

    fn write(&self, buffer: &Buffer, slot: usize, values: Vec<f32>) {
        self.device.write(buffer, slot * values.len(), values);
    }

    /// Copies the batches held to the host, for a checkpoint; the names and shapes of [`crate::window::Window::save`].
    pub fn save(&self, saved: &mut Saved) {
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let (capacity, filled) = (self.ring.capacity, self.ring.filled);
        let host = |buffer: &Buffer, row: usize| -> Vec<f64> {
            let rows: Tensor<2> = self.device.tensor(buffer, [capacity, row]);
            rows.slice(0..filled).into_data().iter::<f64>().collect()
        };
        let (row, buffers) = (trajectories * horizon, &self.buffers);
        let lengths = self.device.integers(&buffers.lengths, [capacity, trajectories]).slice(0..filled);
        let batches = Batches {
            observations: host(&buffers.observations, row * observation_size),
            actions: host(&buffers.actions, row * action_size),
            means: host(&buffers.means, row * action_size),
            log_std: host(&buffers.log_std, action_size),
            lengths: lengths.into_data().iter::<u32>().collect(),
            returns: host(&buffers.returns, row),
        };
        batches.save(self.ring, self.shape, saved);
    }

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        let batches = Batches::restore(&mut self.ring, self.shape, read)?;
        self.buffers.filled = self.ring.filled;
        let (device, buffers) = (&self.device, &self.buffers);
        let fill = |buffer: &Buffer, values: Vec<f64>| {
            device.write(buffer, 0, values.into_iter().map(|value| value as f32).collect());
        };
        fill(&buffers.observations, batches.observations);
        fill(&buffers.actions, batches.actions);
        fill(&buffers.means, batches.means);
        fill(&buffers.log_std, batches.log_std);
        fill(&buffers.returns, batches.returns);
        let lengths = batches.lengths.into_iter().map(u32::cast_signed).collect();
        device.write_integers(&buffers.lengths, 0, lengths);
        Ok(())
    }
}

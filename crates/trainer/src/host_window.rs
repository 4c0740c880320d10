//! The window in host memory, for the fused CPU kernels.

use estimator::step_returns_in_place;
use policy_nets::fused;

use crate::algorithms::{AlgorithmError, Restore, Saved};
use crate::ring::{Batches, Ring};
use crate::trajectories::{BatchShape, Trajectories};
use crate::window::ReturnRule;

/// A ring of batches in preallocated host memory; the layout of [`crate::window::Window`], slot by slot.
#[derive(Clone, Debug)]
pub struct HostWindow {
    shape: BatchShape,
    ring: Ring,
    observations: Vec<f32>,
    actions: Vec<f32>,
    means: Vec<f32>,
    log_std: Vec<f32>,
    lengths: Vec<u32>,
    returns: Vec<f32>,
    work: Vec<f64>,
}

impl HostWindow {
    /// An empty window of `capacity` batches.
    pub fn new(capacity: usize, shape: BatchShape) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let steps = capacity * trajectories * horizon;
        Self {
            shape,
            ring: Ring::new(capacity),
            observations: vec![0.0; steps * observation_size],
            actions: vec![0.0; steps * action_size],
            means: vec![0.0; steps * action_size],
            log_std: vec![0.0; capacity * action_size],
            lengths: vec![0; capacity * trajectories],
            returns: vec![0.0; steps],
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

    /// Copies a batch, in the place of the oldest one when the window is full.
    ///
    /// # Panics
    /// When the batch has other sizes.
    pub fn push(&mut self, batch: &Trajectories, rule: ReturnRule) {
        assert_eq!(batch.shape, self.shape, "sizes of the batch");
        let slot = self.ring.advance();
        let copy = |ring: &mut [f32], values: &[f32]| {
            ring[slot * values.len()..][..values.len()].copy_from_slice(values);
        };
        copy(&mut self.observations, &batch.observations);
        copy(&mut self.actions, &batch.actions);
        copy(&mut self.means, &batch.means);
        copy(&mut self.log_std, &batch.log_std);
        let lengths = &mut self.lengths[slot * batch.lengths.len()..][..batch.lengths.len()];
        lengths.copy_from_slice(&batch.lengths);

        self.work.clear();
        self.work.extend_from_slice(&batch.rewards);
        let ReturnRule { discount, kind, baseline } = rule;
        step_returns_in_place(&mut self.work, &batch.lengths, discount, kind, baseline);
        let returns = &mut self.returns[slot * self.work.len()..][..self.work.len()];
        for (stored, value) in returns.iter_mut().zip(&self.work) {
            *stored = *value as f32;
        }
    }

    /// Every batch held, as the kernels take them.
    pub fn trajectories(&self) -> fused::Trajectories<'_> {
        let BatchShape { trajectories, horizon, observation_size, action_size } = self.shape;
        let count = self.ring.filled * trajectories;
        fused::Trajectories {
            observations: &self.observations[..count * horizon * observation_size],
            actions: &self.actions[..count * horizon * action_size],
            behaviour_means: &self.means[..count * horizon * action_size],
            behaviour_log_std: &self.log_std[..self.ring.filled * action_size],
            lengths: &self.lengths[..count],
            horizon,
        }
    }

    /// Step returns of every batch held, `[slot, trajectory, time]`.
    pub fn returns(&self) -> &[f32] {
        &self.returns[..self.ring.filled * self.shape.trajectories * self.shape.horizon]
    }

    /// Copies the batches held, for a checkpoint; the names and shapes of [`crate::window::Window::save`].
    pub fn save(&self, saved: &mut Saved) {
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        let view = self.trajectories();
        let batches = Batches {
            observations: wide(view.observations),
            actions: wide(view.actions),
            means: wide(view.behaviour_means),
            log_std: wide(view.behaviour_log_std),
            lengths: view.lengths.to_vec(),
            returns: wide(self.returns()),
        };
        batches.save(self.ring, self.shape, saved);
    }

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        let batches = Batches::restore(&mut self.ring, self.shape, read)?;
        let fill = |ring: &mut [f32], values: &[f64]| {
            ring.iter_mut().zip(values).for_each(|(stored, value)| *stored = *value as f32);
        };
        fill(&mut self.observations, &batches.observations);
        fill(&mut self.actions, &batches.actions);
        fill(&mut self.means, &batches.means);
        fill(&mut self.log_std, &batches.log_std);
        fill(&mut self.returns, &batches.returns);
        self.lengths[..batches.lengths.len()].copy_from_slice(&batches.lengths);
        Ok(())
    }
}

//! A batch of trajectories in the memory of a device.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::trajectories::{BatchShape, Trajectories};

/// Trajectories sampled by one policy on a device, padded to the horizon. Padding is zero.
///
/// | field | shape |
/// |---|---|
/// | `observations` | `[trajectory, time, observation]` |
/// | `actions`, `means` | `[trajectory, time, action]` |
/// | `rewards` | `[trajectory, time]` |
/// | `lengths` | `[trajectory]` |
/// | `log_std` | `[action]` |
#[derive(Clone, Debug)]
pub struct DeviceTrajectories {
    /// Sizes.
    pub shape: BatchShape,
    /// Raw observations, before any standardisation.
    pub observations: Tensor<3>,
    /// Raw actions, as sampled.
    pub actions: Tensor<3>,
    /// Means of the behaviour policy.
    pub means: Tensor<3>,
    /// `ln sigma` of the behaviour policy.
    pub log_std: Tensor<1>,
    /// Rewards.
    pub rewards: Tensor<2>,
    /// Steps of each trajectory.
    pub lengths: Tensor<1, Int>,
}

/// A batch that was rolled out on a device, with what metrics need of it.
#[derive(Clone, Debug)]
pub struct DeviceBatch {
    /// The trajectories.
    pub trajectories: DeviceTrajectories,
    /// A [`BatchSummary`], packed: [`BatchSummary::PACKED`] numbers.
    pub summary: Tensor<1>,
}

/// Returns and steps of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSummary {
    /// Trajectories.
    pub trajectories: u64,
    /// Mean undiscounted return.
    pub return_mean: f64,
    /// Standard deviation of the returns (divisor `N`).
    pub return_std: f64,
    /// Smallest return.
    pub return_min: f64,
    /// Largest return.
    pub return_max: f64,
    /// Steps of all trajectories together.
    pub steps: u64,
    /// Trajectories that turned unstable.
    pub unstable: u64,
}

impl BatchSummary {
    /// Length of a packed summary.
    pub const PACKED: usize = 7;

    /// Reads what a device packed about a batch of `trajectories`.
    ///
    /// # Panics
    /// When there are fewer than [`Self::PACKED`] numbers.
    pub fn unpack(packed: &[f64], trajectories: usize) -> Self {
        Self {
            trajectories: trajectories as u64,
            return_mean: packed[0],
            return_std: packed[1],
            return_min: packed[2],
            return_max: packed[3],
            steps: packed[4] as u64 * 65_536 + packed[5] as u64,
            unstable: packed[6] as u64,
        }
    }
}

impl DeviceTrajectories {
    /// Copies a batch to `device`.
    pub fn from_host(batch: &Trajectories, device: &Device) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = batch.shape;
        // CUDA pads the rows of tensors that are made with several dimensions, and kernels take numbers in a row.
        let numbers = |values: &[f32]| Tensor::<1>::from_data(values, device);
        let steps = |values: &[f32], last: usize| numbers(values).reshape([trajectories, horizon, last]);
        let rewards: Vec<f32> = batch.rewards.iter().map(|reward| *reward as f32).collect();
        let lengths: Vec<i32> = batch.lengths.iter().map(|length| *length as i32).collect();
        Self {
            shape: batch.shape,
            observations: steps(&batch.observations, observation_size),
            actions: steps(&batch.actions, action_size),
            means: steps(&batch.means, action_size),
            log_std: numbers(&batch.log_std),
            rewards: numbers(&rewards).reshape([trajectories, horizon]),
            lengths: Tensor::from_data(TensorData::new(lengths, [trajectories]), device),
        }
    }

    /// Copies the batch to the host: six transfers, for tests and for what has to be written to a file.
    pub fn to_host(&self) -> Trajectories {
        fn numbers<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
            tensor.to_data().iter::<f32>().collect()
        }
        Trajectories {
            shape: self.shape,
            observations: numbers(&self.observations),
            actions: numbers(&self.actions),
            means: numbers(&self.means),
            rewards: self.rewards.to_data().iter::<f64>().collect(),
            lengths: self.lengths.to_data().iter::<i64>().map(|length| length as u32).collect(),
            log_std: numbers(&self.log_std),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, select};

    #[test]
    fn a_batch_survives_the_way_to_the_device_and_back() {
        let shape = BatchShape { trajectories: 2, horizon: 3, observation_size: 2, action_size: 1 };
        let mut batch = Trajectories::zeros(shape);
        batch.observations.iter_mut().zip(0..).for_each(|(value, index)| *value = index as f32);
        batch.actions = vec![1.5, -2.0, 0.25, 4.0, 0.0, 0.0];
        batch.means = vec![1.0, -1.0, 0.5, 3.0, 0.0, 0.0];
        batch.rewards = vec![1.0, -0.5, 2.0, 0.125, 0.0, 0.0];
        batch.lengths = vec![3, 1];
        batch.log_std = vec![-0.5];
        let device = select(&DeviceChoice::Cpu).unwrap().device;
        assert_eq!(DeviceTrajectories::from_host(&batch, &device).to_host(), batch);
    }
}

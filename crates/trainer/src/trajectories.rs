//! A batch of trajectories on the host.

/// Sizes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Trajectories, `N`.
    pub trajectories: usize,
    /// Steps, `T`.
    pub horizon: usize,
    /// Observation components, `O`.
    pub observation_size: usize,
    /// Action components, `A`.
    pub action_size: usize,
}

/// Trajectories sampled by one policy, padded to the horizon. Padding is zero.
///
/// | field | shape |
/// |---|---|
/// | `observations` | `[trajectory, time, observation]` |
/// | `actions`, `means` | `[trajectory, time, action]` |
/// | `rewards` | `[trajectory, time]` |
/// | `lengths` | `[trajectory]` |
/// | `log_std` | `[action]` |
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectories {
    /// Sizes.
    pub shape: BatchShape,
    /// Raw observations, before any standardisation.
    pub observations: Vec<f32>,
    /// Raw actions, as sampled.
    pub actions: Vec<f32>,
    /// Means of the behaviour policy.
    pub means: Vec<f32>,
    /// Rewards.
    pub rewards: Vec<f64>,
    /// Steps of each trajectory.
    pub lengths: Vec<u32>,
    /// `ln sigma` of the behaviour policy.
    pub log_std: Vec<f32>,
}

impl Trajectories {
    /// Zeroed memory of the given shape.
    pub fn zeros(shape: BatchShape) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let steps = trajectories * horizon;
        Self {
            shape,
            observations: vec![0.0; steps * observation_size],
            actions: vec![0.0; steps * action_size],
            means: vec![0.0; steps * action_size],
            rewards: vec![0.0; steps],
            lengths: vec![0; trajectories],
            log_std: vec![0.0; action_size],
        }
    }

    /// Undiscounted return of each trajectory.
    pub fn returns(&self) -> impl Iterator<Item = f64> + '_ {
        self.rewards.chunks_exact(self.shape.horizon).map(|rewards| rewards.iter().sum())
    }

    /// Steps of all trajectories together.
    pub fn steps(&self) -> u64 {
        self.lengths.iter().map(|length| u64::from(*length)).sum()
    }
}

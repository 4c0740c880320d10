//! One trajectory: its statistics and its gradient, block by block.

use super::{
    gaussian::Gaussian,
    network::{FusedNetwork, Scratch},
    trajectories::{Trajectories, TrajectoryStatistics},
    vectors::{Kernel, Vectors},
};

/// A network and the data on which it is evaluated.
pub(super) struct Window<'a> {
    network: &'a FusedNetwork,
    trajectories: &'a Trajectories<'a>,
    /// Behaviour and target policy of every batch.
    gaussians: Vec<Gaussian>,
}

impl<'a> Window<'a> {
    /// Panics unless the shapes fit.
    pub(super) fn new(
        network: &'a FusedNetwork,
        trajectories: &'a Trajectories<'a>,
        log_std: &[f32],
    ) -> Self {
        trajectories.assert_shapes(network);
        assert_eq!(log_std.len(), network.action_size(), "length of the log standard deviations");
        let batches = trajectories.behaviour_log_std.chunks_exact(log_std.len());
        let gaussians = batches
            .map(|behaviour| Gaussian::new(behaviour, log_std, network.instruction_set().lanes()))
            .collect();
        Self { network, trajectories, gaussians }
    }

    /// Statistics of one trajectory.
    pub(super) fn statistics(&self, trajectory: usize, scratch: &mut Scratch) -> TrajectoryStatistics {
        self.network.reserve_outputs(scratch);
        let pass = Pass { window: self, trajectory, backward: None, scratch };
        self.network.instruction_set().dispatch(pass)
    }

    /// Statistics of one trajectory; its gradient times `weight` is written to the packed `gradient`, behind which stands that of
    /// the log standard deviations, or added to it unless it is the `first`.
    pub(super) fn gradient(
        &self,
        trajectory: usize,
        (returns, weight): (&[f32], f32),
        gradient: &mut [f32],
        first: bool,
        scratch: &mut Scratch,
    ) -> TrajectoryStatistics {
        self.network.reserve_outputs(scratch);
        if first {
            let is_empty = self.trajectories.lengths[trajectory] == 0;
            gradient[if is_empty { 0 } else { self.network.packed_count() }..].fill(0.0);
        }
        let backward = Some(Backward { returns, weight, gradient, first });
        let pass = Pass { window: self, trajectory, backward, scratch };
        self.network.instruction_set().dispatch(pass)
    }

    /// The policies of a trajectory's batch.
    fn gaussian(&self, trajectory: usize) -> &Gaussian {
        &self.gaussians[trajectory * self.gaussians.len() / self.trajectories.count()]
    }
}

struct Pass<'a> {
    window: &'a Window<'a>,
    trajectory: usize,
    backward: Option<Backward<'a>>,
    scratch: &'a mut Scratch,
}

struct Backward<'a> {
    returns: &'a [f32],
    weight: f32,
    gradient: &'a mut [f32],
    first: bool,
}

impl Kernel for Pass<'_> {
    type Output = TrajectoryStatistics;

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) -> TrajectoryStatistics {
        let Self { window, trajectory, mut backward, scratch } = self;
        let Window { network, trajectories, .. } = window;
        let (observation_size, action_size) = (network.observation_size(), network.action_size());
        let gaussian = window.gaussian(trajectory);
        let mut statistics = TrajectoryStatistics::default();
        for (start, rows) in network.blocks(trajectories.lengths[trajectory] as usize) {
            let step = trajectory * trajectories.horizon + start;
            let observations =
                &trajectories.observations[step * observation_size..][..rows * observation_size];
            let actions = &trajectories.actions[step * action_size..][..rows * action_size];
            let behaviour_means = &trajectories.behaviour_means[step * action_size..][..rows * action_size];
            let Scratch { block, means, .. } = &mut *scratch;
            let means = &mut means[..actions.len()];
            network.forward_block(simd, observations, block, means);
            gaussian.accumulate_statistics(simd, actions, behaviour_means, means, &mut statistics);
            if let Some(Backward { returns, weight, gradient, first }) = &mut backward {
                let (gradient, log_std_gradient) = gradient.split_at_mut(network.packed_count());
                let (delta, returns) = (network.mean_gradient(block), &returns[step..][..rows]);
                let log_std_gradient = &mut log_std_gradient[..action_size];
                gaussian.score(simd, (actions, means), (returns, *weight), delta, log_std_gradient);
                network.backward_block(simd, block, rows, gradient, *first && start == 0);
            }
        }
        statistics
    }
}

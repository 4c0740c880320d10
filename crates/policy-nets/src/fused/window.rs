//! Statistics and gradient over whole windows of trajectories, in parallel.
//!
//! The surrogate is `sum_j w_j sum_t G_jt log pi(a_jt | s_jt)`. The weights `w_j` depend on the statistics of all
//! trajectories, so there are two ways to its gradient, which agree to the bit:
//!
//! 1. *One sweep*: per trajectory the statistics and its gradient at weight 1 in a single forward and backward pass, kept
//!    in single precision; then the weighted sum of these. Chosen while they fit in [`SWEEP_BYTES`].
//! 2. *Two passes*: a forward pass for the statistics, then a forward and a backward pass in which each trajectory's
//!    gradient is added as soon as it is there.
//!
//! Weighted sums are formed in double precision over [`TASKS`] or fewer groups of trajectories and then over the
//! groups, both in ascending order. Neither the groups nor anything else depends on the number of threads, so neither
//! do the results.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    network::{FusedNetwork, Scratch},
    trajectories::{Gaussian, Trajectories, TrajectoryStatistics},
};

/// Most bytes of per-trajectory gradients that [`FusedNetwork::window_gradient`] keeps.
const SWEEP_BYTES: usize = 1 << 26;
/// Most groups of trajectories in a weighted sum.
const TASKS: usize = 64;
/// Parameters whose weighted sums one thread forms at a time.
const SUM_COLUMNS: usize = 128;

/// Gradient of a surrogate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SurrogateGradient {
    /// With respect to the parameters of the mean network, in flat order.
    pub mean: Vec<f64>,
    /// With respect to the logarithm of the target policy's standard deviation, `[action_size]`.
    pub log_std: Vec<f64>,
}

/// Memory for the computations over windows; grows to what they need and is kept between calls.
#[derive(Debug, Default)]
pub struct Workspace {
    threads: Vec<Mutex<ThreadMemory>>,
    /// Gradients of single trajectories, `[trajectories, row]`, or their weighted sums over groups.
    rows: Vec<f32>,
    sums: Vec<f64>,
}

#[derive(Debug, Default)]
struct ThreadMemory {
    scratch: Scratch,
    gaussian: Gaussian,
}

impl Workspace {
    /// Makes memory for every thread of the current pool.
    fn reserve_threads(&mut self) {
        let count = rayon::current_num_threads();
        if self.threads.len() < count {
            self.threads.resize_with(count, Mutex::default);
        }
    }
}

/// The memory of the current thread of the pool. A thread that runs one trajectory starts no other before its end, so
/// the lock is free.
fn own_memory(threads: &[Mutex<ThreadMemory>]) -> MutexGuard<'_, ThreadMemory> {
    let index = rayon::current_thread_index().unwrap_or(0);
    threads[index].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The policy whose statistics or gradient are wanted, and the data.
#[derive(Clone, Copy)]
struct Window<'a> {
    network: &'a FusedNetwork,
    trajectories: &'a Trajectories<'a>,
    log_std: &'a [f32],
}

impl FusedNetwork {
    /// Statistics of every trajectory under the policy with these means and this `log_std` `[action_size]`.
    ///
    /// # Panics
    /// When the shapes are not those of [`Trajectories`].
    pub fn trajectory_statistics(
        &self,
        trajectories: &Trajectories<'_>,
        log_std: &[f32],
        workspace: &mut Workspace,
    ) -> Vec<TrajectoryStatistics> {
        let window = self.window(trajectories, log_std);
        workspace.reserve_threads();
        let threads = &workspace.threads;
        (0..trajectories.count())
            .into_par_iter()
            .map(|trajectory| {
                let memory = &mut own_memory(threads);
                window.run(trajectory, None, memory)
            })
            .collect()
    }

    /// Gradient of `sum_j weights[j] sum_t returns[j, t] log pi(a_jt | s_jt)`. A trajectory of weight zero is left out.
    ///
    /// | argument | shape |
    /// |---|---|
    /// | `log_std` | `[action_size]` |
    /// | `weights` | `[window, batch]` |
    /// | `returns` | `[window, batch, horizon]`, not read behind a trajectory's end |
    ///
    /// # Panics
    /// When the shapes are not these and those of [`Trajectories`].
    pub fn surrogate_gradient(
        &self,
        trajectories: &Trajectories<'_>,
        log_std: &[f32],
        weights: &[f64],
        returns: &[f32],
        workspace: &mut Workspace,
    ) -> SurrogateGradient {
        let window = self.window(trajectories, log_std);
        assert_eq!(weights.len(), trajectories.count(), "a weight per trajectory");
        assert_eq!(returns.len(), trajectories.count() * trajectories.horizon, "a return per step");
        workspace.reserve_threads();
        let Workspace { threads, sums, .. } = workspace;
        let (row, group) = (self.row_length(), group_size(weights.len()));
        sums.clear();
        sums.resize(weights.len().div_ceil(group) * row, 0.0);
        sums.par_chunks_mut(row).enumerate().for_each(|(index, sum)| {
            let memory = &mut own_memory(threads);
            let first = index * group;
            for (trajectory, &weight) in (first..).zip(weights[first..].iter().take(group)) {
                if weight != 0.0 {
                    window.run(trajectory, Some(returns), memory);
                    add_scaled(sum, weight, &memory.scratch.gradient);
                }
            }
        });
        let mut total = vec![0.0; row];
        for sum in sums.chunks_exact(row) {
            for (total, value) in total.iter_mut().zip(sum) {
                *total += value;
            }
        }
        self.unpack_row(&total)
    }

    /// Statistics, weights from them, and gradient of the surrogate with these weights, by the faster way that the
    /// memory allows. `returns` are as in [`Self::surrogate_gradient`].
    ///
    /// # Errors
    /// The error of `weigh`.
    ///
    /// # Panics
    /// When the shapes are not those of [`Self::surrogate_gradient`].
    pub fn window_gradient<E>(
        &self,
        trajectories: &Trajectories<'_>,
        log_std: &[f32],
        returns: &[f32],
        weigh: impl FnOnce(&[TrajectoryStatistics]) -> Result<Vec<f64>, E>,
        workspace: &mut Workspace,
    ) -> Result<SurrogateGradient, E> {
        let row = self.row_length();
        if trajectories.count() * row * size_of::<f32>() > SWEEP_BYTES {
            let weights = weigh(&self.trajectory_statistics(trajectories, log_std, workspace))?;
            return Ok(self.surrogate_gradient(trajectories, log_std, &weights, returns, workspace));
        }
        let window = self.window(trajectories, log_std);
        assert_eq!(returns.len(), trajectories.count() * trajectories.horizon, "a return per step");
        workspace.reserve_threads();
        let Workspace { threads, rows, .. } = workspace;
        rows.resize(trajectories.count() * row, 0.0);
        let statistics: Vec<_> = rows
            .par_chunks_exact_mut(row)
            .enumerate()
            .map(|(trajectory, target)| {
                let memory = &mut own_memory(threads);
                let statistics = window.run(trajectory, Some(returns), memory);
                target.copy_from_slice(&memory.scratch.gradient);
                statistics
            })
            .collect();
        let weights = weigh(&statistics)?;
        assert_eq!(weights.len(), trajectories.count(), "a weight per trajectory");
        let mut total = vec![0.0; row];
        total.par_chunks_mut(SUM_COLUMNS).enumerate().for_each(|(index, total)| {
            let columns = index * SUM_COLUMNS..index * SUM_COLUMNS + total.len();
            let group = group_size(weights.len());
            for (weights, rows) in weights.chunks(group).zip(rows.chunks(group * row)) {
                let mut sum = [0.0; SUM_COLUMNS];
                let sum = &mut sum[..total.len()];
                for (&weight, row) in weights.iter().zip(rows.chunks_exact(row)) {
                    if weight != 0.0 {
                        add_scaled(sum, weight, &row[columns.clone()]);
                    }
                }
                for (total, value) in total.iter_mut().zip(sum) {
                    *total += *value;
                }
            }
        });
        Ok(self.unpack_row(&total))
    }

    fn window<'a>(&'a self, trajectories: &'a Trajectories<'a>, log_std: &'a [f32]) -> Window<'a> {
        trajectories.assert_shapes(self);
        assert_eq!(log_std.len(), self.action_size(), "length of the log standard deviations");
        Window { network: self, trajectories, log_std }
    }

    /// Length of a packed gradient followed by the gradient with respect to the log standard deviations.
    fn row_length(&self) -> usize {
        self.packed_count() + self.action_size()
    }

    fn unpack_row(&self, row: &[f64]) -> SurrogateGradient {
        let (packed, log_std) = row.split_at(self.packed_count());
        let mut mean = vec![0.0; self.parameter_count()];
        self.unpack(packed, &mut mean);
        SurrogateGradient { mean, log_std: log_std.to_vec() }
    }
}

/// Trajectories in a group of a weighted sum.
fn group_size(count: usize) -> usize {
    count.div_ceil(TASKS).max(1)
}

fn add_scaled(sum: &mut [f64], weight: f64, values: &[f32]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += weight * f64::from(value);
    }
}

impl Window<'_> {
    /// Statistics of one trajectory and, when there are returns, its gradient at weight 1 in `memory.scratch.gradient`.
    fn run(
        &self,
        trajectory: usize,
        returns: Option<&[f32]>,
        memory: &mut ThreadMemory,
    ) -> TrajectoryStatistics {
        let ThreadMemory { scratch, gaussian } = memory;
        gaussian.load(self.trajectories, trajectory, self.log_std);
        self.network.reserve_outputs(scratch);
        if returns.is_some() {
            scratch.gradient.clear();
            scratch.gradient.resize(self.network.row_length(), 0.0);
        }
        let pass = Pass { window: *self, trajectory, returns, scratch, gaussian };
        self.network.instruction_set().dispatch(pass)
    }
}

struct Pass<'a> {
    window: Window<'a>,
    trajectory: usize,
    returns: Option<&'a [f32]>,
    scratch: &'a mut Scratch,
    gaussian: &'a Gaussian,
}

impl WithSimd for Pass<'_> {
    type Output = TrajectoryStatistics;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> TrajectoryStatistics {
        let Self { window: Window { network, trajectories, .. }, trajectory, returns, scratch, gaussian } =
            self;
        let (observation_size, action_size) = (network.observation_size(), network.action_size());
        let (last, width) = (network.layer_count() - 1, network.output_width());
        let packed_count = if returns.is_some() { network.packed_count() } else { 0 };
        let (gradient, log_std_gradient) = scratch.gradient.split_at_mut(packed_count);
        let mut statistics = TrajectoryStatistics::default();
        for (start, rows) in network.blocks(trajectories.lengths[trajectory] as usize) {
            let step = trajectory * trajectories.horizon + start;
            let observations =
                &trajectories.observations[step * observation_size..][..rows * observation_size];
            let actions = &trajectories.actions[step * action_size..][..rows * action_size];
            let behaviour_means = &trajectories.behaviour_means[step * action_size..][..rows * action_size];
            network.forward_block(simd, observations, rows, &mut scratch.outputs);
            let means = &mut scratch.outputs[last][..rows * width];
            let block = gaussian.statistics(actions, behaviour_means, means, width);
            statistics.log_ratio += block.log_ratio;
            statistics.divergence += block.divergence;
            if let Some(returns) = returns {
                gaussian.score(actions, &returns[step..][..rows], means, width, log_std_gradient);
                network.backward_block(simd, observations, rows, &mut scratch.outputs, gradient);
            }
        }
        statistics
    }
}

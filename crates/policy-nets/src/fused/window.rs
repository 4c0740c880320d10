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
//! Weighted sums are formed in double precision over [`GROUPS`] or fewer groups of trajectories and then over the
//! groups, both in ascending order. Neither the groups nor anything else depends on the number of threads, so neither
//! do the results.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::{
    network::{FusedNetwork, Scratch},
    pass::Window,
    trajectories::{Trajectories, TrajectoryStatistics},
    vectors::{Kernel, Vectors},
};

/// Most bytes of per-trajectory gradients that [`FusedNetwork::window_gradient`] keeps.
const SWEEP_BYTES: usize = 1 << 26;
/// Most groups of trajectories in a weighted sum.
const GROUPS: usize = 64;
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
    /// Memory of every thread of the pool.
    scratch: Vec<Mutex<Scratch>>,
    /// Gradients of single trajectories, `[trajectories or groups, row]`.
    gradients: Vec<f32>,
    /// Weighted sums of gradients, `[groups, row]`.
    sums: Vec<f64>,
}

impl Workspace {
    /// Makes memory for every thread of the current pool.
    fn reserve_threads(&mut self) {
        let count = rayon::current_num_threads();
        if self.scratch.len() < count {
            self.scratch.resize_with(count, Mutex::default);
        }
    }
}

/// The memory of the current thread of the pool. A thread that runs one trajectory starts no other before its end, so
/// the lock is free.
fn own_scratch(scratch: &[Mutex<Scratch>]) -> MutexGuard<'_, Scratch> {
    let index = rayon::current_thread_index().unwrap_or(0);
    scratch[index].lock().unwrap_or_else(PoisonError::into_inner)
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
        let window = Window::new(self, trajectories, log_std);
        workspace.reserve_threads();
        let scratch = &workspace.scratch;
        (0..trajectories.count())
            .into_par_iter()
            .map(|trajectory| window.statistics(trajectory, &mut own_scratch(scratch)))
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
        let window = Window::new(self, trajectories, log_std);
        assert_weights_and_returns(trajectories, weights.len(), returns.len());
        workspace.reserve_threads();
        let Workspace { scratch, gradients, sums } = workspace;
        let (row, group) = (self.row_length(), group_size(weights.len()));
        let groups = weights.len().div_ceil(group);
        gradients.resize(groups * row, 0.0);
        sums.clear();
        sums.resize(groups * row, 0.0);
        let groups =
            sums.par_chunks_mut(row).zip(gradients.par_chunks_mut(row)).zip(weights.par_chunks(group));
        groups.enumerate().for_each(|(index, ((sum, gradient), weights))| {
            let scratch = &mut own_scratch(scratch);
            for (trajectory, &weight) in (index * group..).zip(weights) {
                if weight != 0.0 {
                    window.gradient(trajectory, returns, gradient, scratch);
                    self.instruction_set().dispatch(AddScaled { sum, weight, values: gradient });
                }
            }
        });
        let mut total = vec![0.0; row];
        for sum in sums.chunks_exact(row) {
            add(&mut total, sum);
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
        let window = Window::new(self, trajectories, log_std);
        assert_weights_and_returns(trajectories, trajectories.count(), returns.len());
        workspace.reserve_threads();
        let Workspace { scratch, gradients, .. } = workspace;
        gradients.resize(trajectories.count() * row, 0.0);
        let statistics: Vec<_> = gradients
            .par_chunks_exact_mut(row)
            .enumerate()
            .map(|(trajectory, gradient)| {
                window.gradient(trajectory, returns, gradient, &mut own_scratch(scratch))
            })
            .collect();
        let weights = weigh(&statistics)?;
        assert_weights_and_returns(trajectories, weights.len(), returns.len());
        Ok(self.unpack_row(&self.weighted_sum(&weights, gradients)))
    }

    /// `sum_j weights[j] gradients[j, :]`, in the order of the two passes.
    fn weighted_sum(&self, weights: &[f64], gradients: &[f32]) -> Vec<f64> {
        let (row, group) = (self.row_length(), group_size(weights.len()));
        let mut total = vec![0.0; row];
        total.par_chunks_mut(SUM_COLUMNS).enumerate().for_each(|(index, total)| {
            let columns = index * SUM_COLUMNS..index * SUM_COLUMNS + total.len();
            for (weights, gradients) in weights.chunks(group).zip(gradients.chunks(group * row)) {
                let mut sum = [0.0; SUM_COLUMNS];
                let sum = &mut sum[..total.len()];
                for (&weight, gradient) in weights.iter().zip(gradients.chunks_exact(row)) {
                    if weight != 0.0 {
                        let values = &gradient[columns.clone()];
                        self.instruction_set().dispatch(AddScaled { sum, weight, values });
                    }
                }
                add(total, sum);
            }
        });
        total
    }

    fn unpack_row(&self, row: &[f64]) -> SurrogateGradient {
        let (packed, log_std) = row.split_at(self.packed_count());
        let mut mean = vec![0.0; self.parameter_count()];
        self.unpack(packed, &mut mean);
        SurrogateGradient { mean, log_std: log_std.to_vec() }
    }

    /// Length of a packed gradient followed by the gradient with respect to the log standard deviations.
    fn row_length(&self) -> usize {
        self.packed_count() + self.action_size()
    }
}

fn assert_weights_and_returns(trajectories: &Trajectories<'_>, weights: usize, returns: usize) {
    assert_eq!(weights, trajectories.count(), "a weight per trajectory");
    assert_eq!(returns, trajectories.count() * trajectories.horizon, "a return per step");
}

/// Trajectories in a group of a weighted sum.
fn group_size(count: usize) -> usize {
    count.div_ceil(GROUPS).max(1)
}

fn add(total: &mut [f64], values: &[f64]) {
    for (total, value) in total.iter_mut().zip(values) {
        *total += value;
    }
}

/// `sum += weight * values`.
struct AddScaled<'a> {
    sum: &'a mut [f64],
    weight: f64,
    values: &'a [f32],
}

impl Kernel for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) {
        for (sum, &value) in self.sum.iter_mut().zip(self.values) {
            *sum += self.weight * f64::from(value);
        }
    }
}

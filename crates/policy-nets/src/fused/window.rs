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
//! Weighted sums are formed in single precision over [`FLUSH`] trajectories, which adds less than the rounding of the
//! gradients themselves, and in double precision over [`GROUPS`] or fewer groups of trajectories and then over the groups,
//! all in ascending order. Neither the groups nor anything else depends on the number of threads, so neither
//! do the results.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    aligned::{Aligned, LINE_NUMBERS},
    network::{FusedNetwork, Scratch},
    pass::Window,
    trajectories::{Trajectories, TrajectoryStatistics},
    vectors::{Kernel, Vectors},
};
use crate::threads::Threads;

/// Most bytes of per-trajectory gradients that [`FusedNetwork::window_gradient`] keeps.
const SWEEP_BYTES: usize = 1 << 26;
/// Most groups of trajectories in a weighted sum.
const GROUPS: usize = 64;
/// Least number of trajectories in one.
const LEAST_GROUP: usize = 8;
/// Trajectories whose weighted sum is formed in single precision.
const FLUSH: usize = 8;
/// Vectors of parameters whose weighted sums are formed in registers.
const SUM_VECTORS: usize = 8;
/// Numbers in [`SUM_VECTORS`] of the longest vectors.
const MOST_SUM_COLUMNS: usize = 128;
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

/// Threads for the computations over windows, and memory, which grows to what they need and is kept between calls.
#[derive(Debug)]
pub struct Workspace {
    threads: Threads,
    /// Memory of every thread.
    scratch: Vec<Mutex<Scratch>>,
    /// Gradients of single trajectories, `[trajectories or groups, row]`.
    gradients: Aligned,
    /// Weighted sums of gradients, `[groups, row]`.
    sums: Vec<f64>,
}

impl Workspace {
    /// An empty workspace for these threads.
    pub fn new(threads: &Threads) -> Self {
        Self {
            threads: threads.clone(),
            scratch: (0..threads.count()).map(|_| Mutex::default()).collect(),
            gradients: Aligned::default(),
            sums: vec![],
        }
    }
}

/// The memory of a thread, which no other takes.
fn own(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
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
        let Workspace { threads, scratch, .. } = workspace;
        let mut statistics = vec![TrajectoryStatistics::default(); trajectories.count()];
        let mut rest = (0, statistics.as_mut_slice());
        let shares = threads.shares(trajectories.count()).map(move |count| {
            let (first, statistics) = std::mem::take(&mut rest);
            let (statistics, other_statistics) = statistics.split_at_mut(count);
            rest = (first + count, other_statistics);
            (first, statistics)
        });
        threads.for_each(shares, |(first, statistics), thread| {
            let scratch = &mut own(&scratch[thread]);
            for (trajectory, statistics) in (first..).zip(statistics) {
                *statistics = window.statistics(trajectory, scratch);
            }
        });
        statistics
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
        let Workspace { threads, scratch, gradients, sums } = workspace;
        let (row, group) = (self.row_length(), group_size(weights.len()));
        let (weights, scale) = in_single_precision(weights);
        let groups = weights.len().div_ceil(group);
        gradients.reserve(groups * FLUSH * row);
        sums.clear();
        sums.resize(groups * row, 0.0);
        let groups =
            sums.chunks_mut(row).zip(gradients.chunks_mut(FLUSH * row)).zip(weights.chunks(group));
        threads.for_each(groups.enumerate(), |(index, ((sum, gradients), weights)), thread| {
            let scratch = &mut own(&scratch[thread]);
            for (part, weights) in weights.chunks(FLUSH).enumerate() {
                let first = index * group + part * FLUSH;
                for (trajectory, (&weight, gradient)) in
                    (first..).zip(weights.iter().zip(gradients.chunks_exact_mut(row)))
                {
                    if weight != 0.0 {
                        window.gradient(trajectory, returns, gradient, scratch);
                    }
                }
                let gradients = &gradients[..weights.len() * row];
                let add = AddWeighted { sum, weights, group: FLUSH, gradients, length: row, first: 0 };
                self.instruction_set().dispatch(add);
            }
        });
        self.unpack_row(&total(sums, row, scale))
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
        let Workspace { threads, scratch, gradients, .. } = workspace;
        gradients.reserve(trajectories.count() * row);
        let gradients = &mut gradients[..trajectories.count() * row];
        let mut statistics = vec![TrajectoryStatistics::default(); trajectories.count()];
        let mut rest = (0, gradients.as_mut(), statistics.as_mut_slice());
        let shares = threads.shares(trajectories.count()).map(move |count| {
            let (first, gradients, statistics) = std::mem::take(&mut rest);
            let (gradients, other_gradients) = gradients.split_at_mut(count * row);
            let (statistics, other_statistics) = statistics.split_at_mut(count);
            rest = (first + count, other_gradients, other_statistics);
            (first, gradients, statistics)
        });
        threads.for_each(shares, |(first, gradients, statistics), thread| {
            let scratch = &mut own(&scratch[thread]);
            let rows = gradients.chunks_exact_mut(row).zip(statistics);
            for (trajectory, (gradient, statistics)) in (first..).zip(rows) {
                *statistics = window.gradient(trajectory, returns, gradient, scratch);
            }
        });
        let weights = weigh(&statistics)?;
        assert_weights_and_returns(trajectories, weights.len(), returns.len());
        Ok(self.unpack_row(&self.weighted_sum(&weights, gradients, threads)))
    }

    /// `sum_j weights[j] gradients[j, :]`.
    fn weighted_sum(&self, weights: &[f64], gradients: &[f32], threads: &Threads) -> Vec<f64> {
        let (length, group) = (self.row_length(), group_size(weights.len()));
        let (weights, scale) = in_single_precision(weights);
        let mut sum = vec![0.0; length];
        threads.for_each(sum.chunks_mut(SUM_COLUMNS).enumerate(), |(index, sum), _| {
            let first = index * SUM_COLUMNS;
            let part = AddWeighted { sum, weights: &weights, group, gradients, length, first };
            self.instruction_set().dispatch(part);
            sum.iter_mut().for_each(|value| *value *= scale);
        });
        sum
    }

    fn unpack_row(&self, row: &[f64]) -> SurrogateGradient {
        let (packed, log_std) = row.split_at(self.packed_count());
        let mut mean = vec![0.0; self.parameter_count()];
        self.unpack(packed, &mut mean);
        SurrogateGradient { mean, log_std: log_std[..self.action_size()].to_vec() }
    }

    /// Room for a packed gradient followed by the gradient with respect to the log standard deviations, whole cache lines.
    fn row_length(&self) -> usize {
        (self.packed_count() + self.action_size()).next_multiple_of(LINE_NUMBERS)
    }
}

fn assert_weights_and_returns(trajectories: &Trajectories<'_>, weights: usize, returns: usize) {
    assert_eq!(weights, trajectories.count(), "a weight per trajectory");
    assert_eq!(returns, trajectories.count() * trajectories.horizon, "a return per step");
}

/// Trajectories in a group of a weighted sum.
fn group_size(count: usize) -> usize {
    count.div_ceil(GROUPS).max(LEAST_GROUP)
}

/// The sum of rows of this length, times `scale`.
fn total(rows: &[f64], length: usize, scale: f64) -> Vec<f64> {
    let mut total = vec![0.0; length];
    for row in rows.chunks_exact(length) {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
    }
    for value in &mut total {
        *value *= scale;
    }
    total
}

/// The weights divided by the largest magnitude among them, and that: so none overflows, and what vanishes is less than
/// 1e-37 of the largest.
fn in_single_precision(weights: &[f64]) -> (Vec<f32>, f64) {
    let largest = weights.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    (weights.iter().map(|weight| (weight / scale) as f32).collect(), scale)
}

/// `sum += sum_j weights[j] gradients[j, first..]`: in single precision over [`FLUSH`] trajectories, in double precision over
/// a group and over the groups. Rows of `gradients` have this length, of which as many numbers are taken as `sum` has.
struct AddWeighted<'a> {
    sum: &'a mut [f64],
    weights: &'a [f32],
    /// Trajectories in a group.
    group: usize,
    gradients: &'a [f32],
    length: usize,
    first: usize,
}

impl Kernel for AddWeighted<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { sum, weights, group, gradients, length, first } = self;
        for (part, sum) in sum.chunks_mut(SUM_VECTORS * V::LANES).enumerate() {
            let first = first + part * SUM_VECTORS * V::LANES;
            for (weights, gradients) in weights.chunks(group).zip(gradients.chunks(group * length)) {
                let mut group_sum = [0.0; MOST_SUM_COLUMNS];
                let group_sum = &mut group_sum[..sum.len()];
                for (weights, gradients) in weights.chunks(FLUSH).zip(gradients.chunks(FLUSH * length)) {
                    add_flushed(simd, group_sum, weights, gradients, length, first);
                }
                for (total, value) in sum.iter_mut().zip(group_sum) {
                    *total += *value;
                }
            }
        }
    }
}

/// Adds the weighted sum of at most [`FLUSH`] trajectories, formed in single precision.
#[inline(always)]
fn add_flushed<V: Vectors>(
    simd: V,
    total: &mut [f64],
    weights: &[f32],
    gradients: &[f32],
    length: usize,
    first: usize,
) {
    let mut sums = [simd.splat(0.0); SUM_VECTORS];
    for (&weight, gradient) in weights.iter().zip(gradients.chunks_exact(length)) {
        if weight == 0.0 {
            continue;
        }
        let (weight, values) = (simd.splat(weight), &gradient[first..][..total.len()]);
        if values.len() == SUM_VECTORS * V::LANES {
            for index in 0..SUM_VECTORS {
                let value = V::load(&values[index * V::LANES..]);
                sums[index] = simd.mul_add(weight, value, sums[index]);
            }
        } else {
            for (sum, values) in sums.iter_mut().zip(values.chunks(V::LANES)) {
                *sum = simd.mul_add(weight, simd.load_part(values), *sum);
            }
        }
    }
    let sums: &[f32] = pulp::bytemuck::cast_slice(&sums);
    for (total, &value) in total.iter_mut().zip(sums) {
        *total += f64::from(value);
    }
}

//! Statistics and gradient over whole windows of trajectories, in parallel.
//!
//! The surrogate is `sum_j w_j sum_t G_jt log pi(a_jt | s_jt)`. The weights `w_j` depend on the statistics of all
//! trajectories, so there are two ways to its gradient, which agree but for rounding:
//!
//! 1. *One sweep*: per trajectory the statistics and its gradient at weight 1 in a single forward and backward pass, kept
//!    in single precision; then the weighted sum of these. Chosen while they fit in [`SWEEP_BYTES`].
//! 2. *Two passes*: a forward pass for the statistics, then a forward and a backward pass in which the returns are multiplied
//!    with the weights, and the gradients of trajectories go to one sum.
//!
//! Weighted sums are formed in single precision over blocks of at most [`BLOCK`] trajectories, which adds less than the rounding of the
//! gradients themselves, and in double precision over [`GROUPS`] or fewer groups of blocks and then over the groups, all in
//! ascending order. Neither blocks nor groups nor anything else depends on the number of threads, so neither do the results.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    aligned::{Aligned, LINE_NUMBERS},
    network::{FusedNetwork, Scratch},
    pass::Window,
    trajectories::{Trajectories, TrajectoryStatistics},
    vectors::{Kernel, Vectors},
};
use crate::threads::Threads;

/// Most bytes of per-trajectory gradients that [`FusedNetwork::window_gradient`] keeps: with more, going through the network twice is
/// faster.
pub const SWEEP_BYTES: usize = 1 << 27;
/// Trajectories in a block of a weighted sum.
const BLOCK: usize = 16;
/// Most groups of blocks in one.
const GROUPS: usize = 64;
/// As many groups at least are allowed, however long their sums.
const LEAST_GROUPS: usize = 16;
/// Rows of a block that are added together.
const SUM_ROWS: usize = 4;
/// Most parameters whose sums over blocks one thread forms at a time.
const MOST_SUM_COLUMNS: usize = 1024;

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
    /// Gradients of single trajectories, `[trajectories, row]`.
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
        let Workspace { threads, scratch, sums, .. } = workspace;
        let row = self.row_length();
        let most_groups = (SWEEP_BYTES / (row * size_of::<f64>())).clamp(LEAST_GROUPS, GROUPS);
        // Few trajectories in smaller blocks: a group is one thread's.
        let block = weights.len().div_ceil(LEAST_GROUPS).clamp(1, BLOCK);
        let group = block * weights.len().div_ceil(block).div_ceil(most_groups).max(1);
        let (weights, scale) = in_single_precision(weights);
        let groups = weights.len().div_ceil(group);
        sums.clear();
        sums.resize(groups * row, 0.0);
        let groups = sums.chunks_mut(row).zip(weights.chunks(group));
        threads.for_each(groups.enumerate(), |(index, (sum, weights)), thread| {
            let scratch = &mut *own(&scratch[thread]);
            let mut memory = std::mem::take(&mut scratch.gradient);
            memory.reserve(row);
            let gradient = &mut memory[..row];
            for (number, weights) in weights.chunks(block).enumerate() {
                let (first, mut is_first) = (index * group + number * block, true);
                for (trajectory, &weight) in (first..).zip(weights) {
                    if weight != 0.0 {
                        window.gradient(trajectory, (returns, weight), gradient, is_first, scratch);
                        is_first = false;
                    }
                }
                if !is_first {
                    add(sum, gradient);
                }
            }
            scratch.gradient = memory;
        });
        let mut total = vec![0.0; row];
        for sum in sums.chunks_exact(row) {
            add(&mut total, sum);
        }
        for value in &mut total {
            *value *= scale;
        }
        self.unpack_row(&total)
    }

    /// Whether [`window_gradient`](Self::window_gradient) goes through the network once for a window of so many trajectories.
    pub fn sweeps_once(&self, trajectories: usize) -> bool {
        trajectories * self.row_length() * size_of::<f32>() <= SWEEP_BYTES
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
        if !self.sweeps_once(trajectories.count()) {
            // Of shorter windows before.
            workspace.gradients = Aligned::default();
            let weights = weigh(&self.trajectory_statistics(trajectories, log_std, workspace))?;
            return Ok(self.surrogate_gradient(trajectories, log_std, &weights, returns, workspace));
        }
        let window = Window::new(self, trajectories, log_std);
        assert_weights_and_returns(trajectories, trajectories.count(), returns.len());
        let Workspace { threads, scratch, gradients, .. } = workspace;
        gradients.reserve(trajectories.count() * row);
        let gradients = &mut gradients[..trajectories.count() * row];
        let mut statistics = vec![TrajectoryStatistics::default(); trajectories.count()];
        // Who has computed a block's first gradient has it in its caches when the weighted sum is formed.
        let owners: Vec<_> = (0..trajectories.count().div_ceil(BLOCK)).map(|_| AtomicUsize::new(0)).collect();
        let mut rest = (0, &mut *gradients, statistics.as_mut_slice());
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
                *statistics = window.gradient(trajectory, (returns, 1.0), gradient, true, scratch);
                if trajectory.is_multiple_of(BLOCK) {
                    owners[trajectory / BLOCK].store(thread, Ordering::Relaxed);
                }
            }
        });
        let weights = weigh(&statistics)?;
        assert_weights_and_returns(trajectories, weights.len(), returns.len());
        Ok(self.unpack_row(&self.weighted_sum(&weights, gradients, &owners, threads)))
    }

    /// `sum_j weights[j] gradients[j, :]`. Every block's sum is written over its first gradient.
    fn weighted_sum(
        &self,
        weights: &[f64],
        gradients: &mut [f32],
        owners: &[AtomicUsize],
        threads: &Threads,
    ) -> Vec<f64> {
        let length = self.row_length();
        let group = weights.len().div_ceil(BLOCK).div_ceil(GROUPS).max(1);
        let (weights, scale) = in_single_precision(weights);
        let blocks = gradients.chunks_mut(BLOCK * length).zip(weights.chunks(BLOCK));
        let blocks: Vec<_> = blocks.map(|block| Mutex::new(Some(block))).collect();
        threads.every(blocks.len(), |thread| {
            let is_own = |owner: &AtomicUsize| owner.load(Ordering::Relaxed) == thread;
            let first = blocks.iter().zip(owners).filter(|(_, owner)| is_own(owner)).map(|(block, _)| block);
            for block in first.chain(&blocks) {
                let taken = block.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some((gradients, weights)) = taken {
                    self.instruction_set().dispatch(SumBlock { gradients, weights, length });
                }
            }
        });
        drop(blocks);
        let mut sum = vec![0.0; length];
        let columns = length.div_ceil(threads.count()).next_multiple_of(LINE_NUMBERS).min(MOST_SUM_COLUMNS);
        threads.for_each(sum.chunks_mut(columns).enumerate(), |(index, sum), _| {
            let total = SumGroups { sum, blocks: gradients, group, length, first: index * columns, scale };
            self.instruction_set().dispatch(total);
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

/// The weights divided by the largest magnitude among them, and that: so none overflows, and what vanishes is less than
/// 1e-37 of the largest.
fn in_single_precision(weights: &[f64]) -> (Vec<f32>, f64) {
    let largest = weights.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    (weights.iter().map(|weight| (weight / scale) as f32).collect(), scale)
}

fn add<T: Copy + Into<f64>>(total: &mut [f64], values: &[T]) {
    for (total, &value) in total.iter_mut().zip(values) {
        *total += value.into();
    }
}

/// Writes `sum_j weights[j] gradients[j, :]` of a block in single precision over `gradients[0, :]`: row after row, as they lie in
/// memory, [`SUM_ROWS`] at a time. Rows of weight zero are not read.
struct SumBlock<'a> {
    gradients: &'a mut [f32],
    weights: &'a [f32],
    length: usize,
}

impl Kernel for SumBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { gradients, weights, length } = self;
        let (target, others) = gradients.split_at_mut(length);
        let target = V::vectors_mut(target);
        if weights[0] == 0.0 {
            target.fill(simd.splat(0.0));
        } else {
            let weight = simd.splat(weights[0]);
            for sum in &mut *target {
                *sum = simd.mul(weight, *sum);
            }
        }
        let parts = weights[1..].chunks(SUM_ROWS).zip(others.chunks(SUM_ROWS * length));
        for (weights, rows) in parts {
            match weights.first_chunk::<SUM_ROWS>() {
                Some(weights) if !weights.contains(&0.0) => add_rows(simd, target, weights, rows, length),
                _ => {
                    for (&weight, row) in weights.iter().zip(rows.chunks_exact(length)) {
                        if weight != 0.0 {
                            add_rows(simd, target, &[weight], row, length);
                        }
                    }
                }
            }
        }
    }
}

/// `target += sum_k weights[k] rows[k, :]`, in ascending order.
#[inline(always)]
fn add_rows<V: Vectors, const K: usize>(
    simd: V,
    target: &mut [V::Vector],
    weights: &[f32; K],
    rows: &[f32],
    length: usize,
) {
    let mut factors = [simd.splat(0.0); K];
    let mut vectors = [V::vectors(rows); K];
    for k in 0..K {
        factors[k] = simd.splat(weights[k]);
        vectors[k] = V::vectors(&rows[k * length..][..length]);
    }
    for (index, sum) in target.iter_mut().enumerate() {
        for k in 0..K {
            *sum = simd.mul_add(factors[k], vectors[k][index], *sum);
        }
    }
}

/// Writes `scale` times the sum over the blocks' first rows, group by group in double precision, in the columns from `first` on,
/// at most [`MOST_SUM_COLUMNS`].
struct SumGroups<'a> {
    sum: &'a mut [f64],
    blocks: &'a [f32],
    /// Blocks in a group.
    group: usize,
    length: usize,
    first: usize,
    scale: f64,
}

impl Kernel for SumGroups<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) {
        let Self { sum, blocks, group, length, first, scale } = self;
        let mut group_sum = [0.0; MOST_SUM_COLUMNS];
        let group_sum = &mut group_sum[..sum.len()];
        for group in blocks.chunks(group * BLOCK * length) {
            group_sum.fill(0.0);
            for block in group.chunks(BLOCK * length) {
                for (total, &value) in group_sum.iter_mut().zip(&block[first..]) {
                    *total += f64::from(value);
                }
            }
            for (total, value) in sum.iter_mut().zip(&*group_sum) {
                *total += *value;
            }
        }
        for value in sum {
            *value *= scale;
        }
    }
}

//! Sampling what an algorithm plans.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::time::Duration;

use environments::registry::Entry;
use policy_nets::{GaussianPolicy, PolicyState};

use crate::algorithms::Draw;
use crate::random::Streams;
use crate::rollout::{Mode, RollOut, RollOutError, Sampling};
use crate::threads::Threads;
use crate::trajectories::Trajectories;

/// Roll-outs of every batch size that an algorithm has asked for.
pub struct Sampler {
    entry: Entry,
    horizon: usize,
    threads: Threads,
    roll_outs: BTreeMap<usize, RollOut>,
}

impl Sampler {
    /// A sampler of trajectories of at most `horizon` steps.
    pub fn new(entry: Entry, horizon: usize, threads: &Threads) -> Self {
        Self { entry, horizon, threads: threads.clone(), roll_outs: BTreeMap::new() }
    }

    /// Makes the environments of batches of `trajectories` trajectories, unless they are there.
    ///
    /// # Errors
    /// When an environment cannot be made.
    pub fn prepare(&mut self, trajectories: usize) -> Result<&mut RollOut, RollOutError> {
        match self.roll_outs.entry(trajectories) {
            MapEntry::Occupied(entry) => Ok(entry.into_mut()),
            MapEntry::Vacant(vacant) => {
                Ok(vacant.insert(RollOut::new(&self.entry, trajectories, self.horizon, &self.threads)?))
            }
        }
    }

    /// Number of worker threads.
    pub fn thread_count(&self) -> usize {
        self.threads.count()
    }

    /// Time inside the environments' own resets and steps so far, summed over threads.
    pub fn environment_time(&self) -> Duration {
        self.roll_outs.values().map(RollOut::environment_time).sum()
    }

    /// Samples every draw of the plan into `fresh`, whose memory is used again; returns how many trajectories turned
    /// unstable.
    ///
    /// `state` is `policy` on the host; `key` are the streams and the iteration that every draw is keyed with.
    ///
    /// # Errors
    /// As [`RollOut::run`].
    pub fn sample(
        &mut self,
        plan: &[Draw],
        policy: &GaussianPolicy,
        state: &PolicyState,
        (streams, iteration): (Streams, u32),
        fresh: &mut Vec<Trajectories>,
    ) -> Result<u64, RollOutError> {
        let mut first_trajectory = 0;
        let mut unstable = 0;
        fresh.truncate(plan.len());
        for (index, draw) in plan.iter().enumerate() {
            let roll_out = self.prepare(draw.trajectories)?;
            if fresh.get(index).is_none_or(|batch| batch.shape != roll_out.shape()) {
                fresh.truncate(index);
                fresh.push(Trajectories::zeros(roll_out.shape()));
            }
            let other = draw.parameters.as_ref().map(|flat| policy.state_at(flat.clone()));
            let policy = other.as_ref().unwrap_or(state);
            let sampling = Sampling { policy, streams, iteration, first_trajectory, mode: Mode::Training };
            unstable += roll_out.run(sampling, &mut fresh[index])? as u64;
            first_trajectory += draw.trajectories as u32;
        }
        Ok(unstable)
    }
}

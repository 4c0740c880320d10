//! Sampling what an algorithm plans.

use std::time::Duration;

use environments::Environment;
use environments::registry::Entry;
use policy_nets::{GaussianPolicy, PolicyState};

use crate::algorithms::Draw;
use crate::random::Streams;
use crate::rollout::{Mode, RollOut, RollOutError, Sampling};
use crate::threads::Threads;
use crate::trajectories::Trajectories;

/// Roll-outs of what an algorithm plans: as many environments as the largest plan had, whatever the sizes of its draws.
pub struct Sampler {
    entry: Entry,
    horizon: usize,
    threads: Threads,
    /// One for each draw of the last plan.
    roll_outs: Vec<RollOut>,
    /// Environments that the last plan had no use for.
    spare: Vec<Box<dyn Environment>>,
    /// Time inside the environments of roll-outs that are no more.
    past: Duration,
}

impl Sampler {
    /// A sampler of trajectories of at most `horizon` steps.
    pub fn new(entry: Entry, horizon: usize, threads: &Threads) -> Self {
        Self {
            entry,
            horizon,
            threads: threads.clone(),
            roll_outs: vec![],
            spare: vec![],
            past: Duration::ZERO,
        }
    }

    /// Makes the environments of draws of so many `trajectories`, unless they are there.
    ///
    /// # Errors
    /// When an environment cannot be made.
    pub fn prepare(&mut self, trajectories: impl Iterator<Item = usize> + Clone) -> Result<(), RollOutError> {
        let sizes = self.roll_outs.iter().map(|roll_out| roll_out.shape().trajectories);
        let same = sizes.zip(trajectories.clone()).take_while(|(have, want)| have == want).count();
        // First all that no longer fit: their environments are used again.
        for roll_out in self.roll_outs.drain(same..) {
            self.past += roll_out.environment_time();
            self.spare.extend(roll_out.into_environments());
        }
        for count in trajectories.skip(same) {
            let (horizon, threads) = (self.horizon, &self.threads);
            let roll_out = RollOut::with_environments(&self.entry, count, horizon, threads, &mut self.spare)?;
            self.roll_outs.push(roll_out);
        }
        Ok(())
    }

    /// Number of worker threads.
    pub fn thread_count(&self) -> usize {
        self.threads.count()
    }

    /// Time inside the environments' own resets and steps so far, summed over threads.
    pub fn environment_time(&self) -> Duration {
        self.roll_outs.iter().map(RollOut::environment_time).sum::<Duration>() + self.past
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
        self.prepare(plan.iter().map(|draw| draw.trajectories))?;
        for (index, (draw, roll_out)) in plan.iter().zip(&mut self.roll_outs).enumerate() {
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

#[cfg(test)]
mod tests {
    use environments::registry;

    use super::*;
    use crate::training::preset_policy;

    #[test]
    fn plans_of_other_sizes_use_the_same_environments() {
        let entry = *registry::find("cartpole").unwrap();
        let (streams, threads) = (Streams::new(3), Threads::new(2).unwrap());
        let state = preset_policy("cartpole");
        let policy = GaussianPolicy::from_state(&state, &burn::tensor::Device::default());
        let mut sampler = Sampler::new(entry, 30, &threads);
        for (iteration, sizes) in [vec![10], vec![3, 7], vec![7, 3], vec![1], vec![4, 6]].iter().enumerate() {
            let plan: Vec<Draw> =
                sizes.iter().map(|count| Draw { trajectories: *count, parameters: None }).collect();
            let (mut found, mut expected) = (vec![], vec![]);
            let key = (streams, iteration as u32);
            sampler.sample(&plan, &policy, &state, key, &mut found).unwrap();
            let mut other = Sampler::new(entry, 30, &threads);
            other.sample(&plan, &policy, &state, key, &mut expected).unwrap();
            assert_eq!(found, expected);
            let made: usize = sampler.roll_outs.iter().map(|roll_out| roll_out.shape().trajectories).sum();
            assert_eq!(made + sampler.spare.len(), 10, "{sizes:?}");
        }
    }
}

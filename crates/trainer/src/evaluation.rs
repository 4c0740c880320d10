//! Evaluation of a policy on fresh episodes.

use environments::registry::Entry;
use policy_nets::PolicyState;
use serde::Serialize;

use crate::random::Streams;
use crate::rollout::{Mode, RollOut, RollOutError, Sampling};
use crate::threads::Threads;
use crate::trajectories::Trajectories;

/// Returns and lengths of evaluation episodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of episodes.
    pub episodes: usize,
    /// Mean undiscounted return.
    pub return_mean: f64,
    /// Standard deviation of returns (divisor `n - 1`; 0 for one episode).
    pub return_std: f64,
    /// Half width of the 95 percent Student interval of the mean; infinite for one episode.
    pub return_interval: Option<f64>,
    /// Smallest return.
    pub return_min: f64,
    /// Largest return.
    pub return_max: f64,
    /// Mean length.
    pub length_mean: f64,
    /// Episodes that ended because their simulation turned unstable.
    pub unstable: usize,
}

/// Environments and memory for repeated evaluations.
pub struct Evaluator {
    roll_out: RollOut,
    episodes: Trajectories,
}

impl Evaluator {
    /// Makes the environments.
    ///
    /// # Errors
    /// When an environment cannot be made.
    pub fn new(
        entry: &Entry,
        episodes: usize,
        horizon: usize,
        threads: &Threads,
    ) -> Result<Self, RollOutError> {
        let roll_out = RollOut::new(entry, episodes, horizon, threads)?;
        let episodes = Trajectories::zeros(roll_out.shape());
        Ok(Self { roll_out, episodes })
    }

    /// Runs every episode once. Equal `streams` and `iteration` give equal initial states.
    ///
    /// # Errors
    /// As [`RollOut::run`].
    pub fn run(
        &mut self,
        policy: &PolicyState,
        streams: Streams,
        iteration: u32,
        mode: Mode,
    ) -> Result<Evaluation, RollOutError> {
        let sampling = Sampling { policy, streams, iteration, first_trajectory: 0, mode };
        let unstable = self.roll_out.run(sampling, &mut self.episodes)?;
        let returns: Vec<f64> = self.episodes.returns().collect();
        let count = returns.len() as f64;
        let mean = returns.iter().sum::<f64>() / count;
        let squares: f64 = returns.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if returns.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Ok(Evaluation {
            episodes: returns.len(),
            return_mean: mean,
            return_std: std,
            return_interval: student_quantile(returns.len()).map(|quantile| quantile * std / count.sqrt()),
            return_min: returns.iter().copied().fold(f64::INFINITY, f64::min),
            return_max: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            length_mean: self.episodes.steps() as f64 / count,
            unstable,
        })
    }
}

/// The 0.975 quantile of Student's distribution with `count - 1` degrees of freedom.
fn student_quantile(count: usize) -> Option<f64> {
    use statrs::distribution::{ContinuousCDF, StudentsT};
    let distribution = StudentsT::new(0.0, 1.0, count.checked_sub(1)? as f64).ok()?;
    Some(distribution.inverse_cdf(0.975))
}

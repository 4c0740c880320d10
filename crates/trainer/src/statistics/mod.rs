//! Statistics over the runs of a study.
//!
//! The recommendations of Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge
//! of the Statistical Precipice" (`NeurIPS` 2021), whose library is rliable: interquartile means, stratified
//! bootstrap intervals and the probability of improvement instead of bare means over a handful of seeds.
//! `tests/data/rliable` holds a recorded case of that library, against which these functions are checked.
//!
//! | question | function |
//! |---|---|
//! | how good is an algorithm, and how sure is that | [`bootstrap_interval`], [`student_t_interval`] |
//! | is one better than the other | [`probability_of_improvement`], [`bootstrap_improvement`] |
//! | how many trajectories does it need | [`trajectories_to_threshold`] |
//! | how good was it on the way | [`area_under_curve`] |
//! | how does the return grow | [`common_grid`], [`interpolate`], then [`bootstrap_curve`] or [`student_t_curve`] |
//!
//! Every function is pure; those that draw resamples take the generator, so that equal generators give equal intervals.

mod aggregate;
mod bootstrap;
mod curves;
mod error;
mod improvement;
mod scores;
mod student;
mod threshold;

pub use aggregate::{Aggregate, interquartile_mean, mean, median};
pub use bootstrap::{Bootstrap, Estimate, bootstrap_curve, bootstrap_interval};
pub use curves::{area_under_curve, common_grid, interpolate};
pub use error::StatisticsError;
pub use improvement::{bootstrap_improvement, probability_of_improvement};
pub use scores::Scores;
pub use student::{student_t_curve, student_t_interval};
pub use threshold::{mean_of_last_trajectories, running_mean, trajectories_to_threshold};

#[cfg(test)]
mod tests;

//! The one place where the numbers behind an update are checked.
//!
//! [`check_batches`] looks at fresh trajectories on the host, whatever sampled them, before an algorithm remembers them.
//! [`Readings::check`] looks at what was read back from the device after the estimate, whatever computed it: log-ratios,
//! weights, diagnostics, gradient, parameters. Either names the first number that is not finite; then no update is made.

use std::fmt;

use burn::tensor::Tensor;
use estimator::{Diagnostics, DiagnosticsReport};

use crate::trajectories::{BatchShape, Trajectories};

/// A number that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct BadNumber {
    /// Which one.
    pub quantity: Quantity,
    /// NaN or an infinity.
    pub value: f64,
}

/// A quantity and its place. Trajectories, steps and components are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// A reward.
    Reward {
        /// Trajectory of the iteration.
        trajectory: usize,
        /// Step.
        step: usize,
    },
    /// A component of an observation.
    Observation {
        /// Trajectory of the iteration.
        trajectory: usize,
        /// Step.
        step: usize,
        /// Component.
        component: usize,
    },
    /// A component of an action.
    Action {
        /// Trajectory of the iteration.
        trajectory: usize,
        /// Step.
        step: usize,
        /// Component.
        component: usize,
    },
    /// A component of the policy's mean.
    Mean {
        /// Trajectory of the iteration.
        trajectory: usize,
        /// Step.
        step: usize,
        /// Component.
        component: usize,
    },
    /// A sum of rewards beyond the range of single precision.
    Return {
        /// Trajectory of the iteration.
        trajectory: usize,
    },
    /// A log-ratio.
    LogRatio {
        /// Batches between the trajectory's own and the newest.
        age: usize,
        /// Trajectory of its batch.
        trajectory: usize,
    },
    /// A weight.
    Weight {
        /// Batches between the trajectory's own and the newest.
        age: usize,
        /// Trajectory of its batch.
        trajectory: usize,
    },
    /// A number that the estimate says about itself.
    Diagnostic,
    /// A component of the gradient.
    Gradient {
        /// Index in the flat vector.
        component: usize,
    },
    /// The Euclidean norm of the gradient.
    GradientNorm,
    /// The square of that norm, in the single precision in which optimisers keep squares.
    SquaredNorm,
    /// A parameter after the update.
    Parameter {
        /// Index in the flat vector.
        index: usize,
    },
    /// The mean return of an evaluation.
    Evaluation,
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batch = |age: usize| match age {
            0 => "of the newest batch".to_owned(),
            1 => "of the batch before the newest".to_owned(),
            age => format!("of the batch {age} before the newest"),
        };
        match self {
            Self::Reward { trajectory, step } => {
                write!(formatter, "the reward of trajectory {trajectory} in step {step}")
            }
            Self::Observation { trajectory, step, component } => {
                write!(formatter, "observation {component} of trajectory {trajectory} in step {step}")
            }
            Self::Action { trajectory, step, component } => {
                write!(formatter, "action {component} of trajectory {trajectory} in step {step}")
            }
            Self::Mean { trajectory, step, component } => {
                write!(formatter, "mean {component} of trajectory {trajectory} in step {step}")
            }
            Self::Return { trajectory } => {
                write!(formatter, "the sum of rewards of trajectory {trajectory} in single precision")
            }
            Self::LogRatio { age, trajectory } => {
                write!(formatter, "the log-ratio of trajectory {trajectory} {}", batch(*age))
            }
            Self::Weight { age, trajectory } => {
                write!(formatter, "the weight of trajectory {trajectory} {}", batch(*age))
            }
            Self::Diagnostic => {
                write!(formatter, "a second moment, coefficient or sample size of the window")
            }
            Self::Gradient { component } => write!(formatter, "component {component} of the gradient"),
            Self::GradientNorm => write!(formatter, "the norm of the gradient"),
            Self::SquaredNorm => write!(formatter, "the squared norm of the gradient"),
            Self::Parameter { index } => write!(formatter, "parameter {index} after the update"),
            Self::Evaluation => write!(formatter, "the mean return of the evaluation"),
        }
    }
}

/// Checks the fresh trajectories of an iteration; those of several draws are counted through.
///
/// # Errors
/// The first bad number: the first trajectory's, and of its steps the first.
pub fn check_batches(fresh: &[Trajectories]) -> Result<(), BadNumber> {
    let mut first = 0;
    for batch in fresh {
        for index in 0..batch.shape.trajectories {
            check_trajectory(batch, index, first + index)?;
        }
        first += batch.shape.trajectories;
    }
    Ok(())
}

fn check_trajectory(batch: &Trajectories, index: usize, trajectory: usize) -> Result<(), BadNumber> {
    let BatchShape { horizon, observation_size, action_size, .. } = batch.shape;
    let length = batch.lengths[index] as usize;
    let part = |size: usize| index * horizon * size..(index * horizon + length) * size;
    let (rewards, observations) = (&batch.rewards[part(1)], &batch.observations[part(observation_size)]);
    let (actions, means) = (&batch.actions[part(action_size)], &batch.means[part(action_size)]);
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    // What is stored and summed in single precision must fit into it.
    let total = rewards.iter().map(|reward| reward.abs()).sum::<f64>() as f32;
    if total.is_finite() && finite(observations) && finite(actions) && finite(means) {
        return Ok(());
    }
    let component = |values: &[f32], size: usize, step: usize| {
        let values = &values[step * size..(step + 1) * size];
        values.iter().position(|value| !value.is_finite()).map(|component| (component, values[component]))
    };
    let bad = |quantity: Quantity, value: f64| Err(BadNumber { quantity, value });
    for (step, reward) in rewards.iter().enumerate() {
        if let Some((component, value)) = component(observations, observation_size, step) {
            return bad(Quantity::Observation { trajectory, step, component }, value.into());
        }
        if let Some((component, value)) = component(means, action_size, step) {
            return bad(Quantity::Mean { trajectory, step, component }, value.into());
        }
        if let Some((component, value)) = component(actions, action_size, step) {
            return bad(Quantity::Action { trajectory, step, component }, value.into());
        }
        if !reward.is_finite() {
            return bad(Quantity::Reward { trajectory, step }, *reward);
        }
    }
    bad(Quantity::Return { trajectory }, total.into())
}

/// Where the parts of an update's readings stand in the one tensor that is read.
///
/// | part | length |
/// |---|---|
/// | diagnostics | [`DiagnosticsReport::packed_len`] |
/// | parts of the squared norm of the gradient | `squares` |
/// | parameters after the update | `parameters` |
/// | log-ratios, where the algorithm has them | `[window, batch]` |
/// | weights | `[window, batch]` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of batches behind the diagnostics, `omega_k`.
    pub batches: usize,
    /// Slot of the newest batch in the diagnostics' order.
    pub newest: usize,
    /// Number of sums that add up to the squared norm.
    pub squares: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// Number of log-ratios.
    pub log_ratios: usize,
    /// Number of weights.
    pub weights: usize,
}

impl Layout {
    /// Packs an estimate's numbers and the parameters that it led to.
    pub fn pack(
        diagnostics: &Diagnostics,
        (batches, newest): (usize, usize),
        squared_norm: Tensor<1>,
        parameters: Tensor<1>,
    ) -> (Tensor<1>, Self) {
        let flat = |values: Tensor<2>| {
            let [window, batch] = values.dims();
            values.reshape([window * batch])
        };
        let [log_ratio, weights] =
            [diagnostics.log_ratio(), Some(diagnostics.weights())].map(|values| values.map(flat));
        let count = |values: &Option<Tensor<1>>| values.as_ref().map_or(0, |values| values.dims()[0]);
        let layout = Self {
            batches,
            newest,
            squares: squared_norm.dims()[0],
            parameters: parameters.dims()[0],
            log_ratios: count(&log_ratio),
            weights: count(&weights),
        };
        let parts = [diagnostics.packed(), squared_norm, parameters].into_iter();
        (Tensor::cat(parts.chain(log_ratio).chain(weights).collect(), 0), layout)
    }

    /// The same from numbers on the host.
    pub fn pack_on_host(
        mut diagnostics: Vec<f64>,
        (batches, newest): (usize, usize),
        squared_norm: f64,
        parameters: &[f32],
        log_ratio: Option<&[f64]>,
        weights: &[f64],
    ) -> (Vec<f64>, Self) {
        let log_ratio = log_ratio.unwrap_or_default();
        let layout = Self {
            batches,
            newest,
            squares: 1,
            parameters: parameters.len(),
            log_ratios: log_ratio.len(),
            weights: weights.len(),
        };
        diagnostics.reserve(layout.count() - diagnostics.len());
        diagnostics.push(squared_norm);
        diagnostics.extend(parameters.iter().map(|value| f64::from(*value)));
        diagnostics.extend_from_slice(log_ratio);
        diagnostics.extend_from_slice(weights);
        (diagnostics, layout)
    }

    /// The numbers with their meaning, once they are read. What stands behind the last part is left out.
    pub fn read(self, mut values: Vec<f64>) -> Readings {
        values.truncate(self.count());
        Readings { values, layout: self }
    }

    /// Where the squared norm stands.
    pub fn norm_place(&self) -> usize {
        DiagnosticsReport::packed_len(self.batches)
    }

    /// Where the numbers of single trajectories stand.
    pub fn trajectories_place(&self) -> usize {
        self.norm_place() + self.squares + self.parameters
    }

    /// Numbers in all.
    pub fn count(&self) -> usize {
        self.trajectories_place() + self.log_ratios + self.weights
    }
}

/// What an update is made from and leads to, read from the device in one transfer.
#[derive(Debug)]
pub struct Readings {
    values: Vec<f64>,
    layout: Layout,
}

impl Readings {
    /// The diagnostics.
    pub fn report(&self) -> DiagnosticsReport {
        DiagnosticsReport::unpack(&self.values, self.layout.batches)
    }

    /// Slot of the newest batch in the diagnostics' order.
    pub fn newest(&self) -> usize {
        self.layout.newest
    }

    /// The Euclidean norm of the gradient.
    pub fn gradient_norm(&self) -> f64 {
        self.values[self.layout.norm_place()..][..self.layout.squares].iter().sum::<f64>().sqrt()
    }

    /// The parameters after the update.
    pub fn parameters(&self) -> &[f64] {
        &self.values[self.layout.norm_place() + self.layout.squares..][..self.layout.parameters]
    }

    /// Checks every number, in the order in which one follows from the other; `gradient` is read only to say which of its
    /// components is bad.
    ///
    /// # Errors
    /// The first bad number.
    pub fn check(&self, gradient: impl FnOnce() -> Vec<f64>) -> Result<(), BadNumber> {
        // Optimisers keep squares of the gradient in single precision.
        let norm_overflows = self.gradient_norm().powi(2) > f64::from(f32::MAX);
        if !norm_overflows && self.values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let bad = |quantity: Quantity, value: f64| Err(BadNumber { quantity, value });
        let place = |values: &[f64]| {
            values.iter().position(|value| !value.is_finite()).map(|place| (place, values[place]))
        };
        let Layout { batches, newest, squares, parameters, log_ratios, weights } = self.layout;
        let (diagnostics, rest) = self.values.split_at(self.layout.norm_place());
        let (squares, rest) = rest.split_at(squares);
        let (parameters, of_trajectories) = rest.split_at(parameters);
        let batch = weights / batches.max(1);
        let locate = |place: usize| {
            let (slot, trajectory) = (place / batch, place % batch);
            ((newest + batches - slot) % batches.max(1), trajectory)
        };
        let (log_ratios, weights) = of_trajectories.split_at(log_ratios);
        if let Some((place, value)) = place(log_ratios) {
            let (age, trajectory) = locate(place);
            return bad(Quantity::LogRatio { age, trajectory }, value);
        }
        if let Some((place, value)) = place(weights) {
            let (age, trajectory) = locate(place);
            return bad(Quantity::Weight { age, trajectory }, value);
        }
        if let Some((_, value)) = place(diagnostics) {
            return bad(Quantity::Diagnostic, value);
        }
        if place(squares).is_some() {
            return match place(&gradient()) {
                Some((component, value)) => bad(Quantity::Gradient { component }, value),
                None => bad(Quantity::GradientNorm, self.gradient_norm()),
            };
        }
        if norm_overflows {
            return bad(Quantity::SquaredNorm, f64::INFINITY);
        }
        match place(parameters) {
            Some((index, value)) => bad(Quantity::Parameter { index }, value),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Trajectories {
        let shape = BatchShape { trajectories: 3, horizon: 4, observation_size: 2, action_size: 1 };
        Trajectories { lengths: vec![4, 2, 3], ..Trajectories::zeros(shape) }
    }

    fn found(change: impl Fn(&mut Trajectories)) -> Option<(Quantity, f64)> {
        let mut second = batch();
        change(&mut second);
        check_batches(&[batch(), second]).err().map(|bad| (bad.quantity, bad.value))
    }

    #[test]
    fn the_first_bad_number_of_a_batch_is_named() {
        assert_eq!(found(|_| ()), None);
        let reward = |batch: &mut Trajectories| batch.rewards[4 + 1] = f64::NEG_INFINITY;
        assert_eq!(found(reward), Some((Quantity::Reward { trajectory: 4, step: 1 }, f64::NEG_INFINITY)));
        let observation = |batch: &mut Trajectories| {
            reward(batch);
            batch.observations[(4 + 1) * 2 + 1] = f32::INFINITY;
        };
        let expected = Quantity::Observation { trajectory: 4, step: 1, component: 1 };
        assert_eq!(found(observation), Some((expected, f64::INFINITY)));
        let action = |batch: &mut Trajectories| batch.actions[8 + 2] = f32::INFINITY;
        let expected = Quantity::Action { trajectory: 5, step: 2, component: 0 };
        assert_eq!(found(action), Some((expected, f64::INFINITY)));
        let mean = |batch: &mut Trajectories| batch.means[0] = f32::INFINITY;
        let expected = Quantity::Mean { trajectory: 3, step: 0, component: 0 };
        assert_eq!(found(mean), Some((expected, f64::INFINITY)));
    }

    #[test]
    fn padding_is_not_looked_at_and_sums_must_fit_into_single_precision() {
        assert_eq!(found(|batch| batch.rewards[4 + 2] = f64::NAN), None);
        let large = |batch: &mut Trajectories| batch.rewards[8..10].fill(3e38);
        assert_eq!(found(large), Some((Quantity::Return { trajectory: 5 }, f64::INFINITY)));
        // Sums that cancel are partial sums on the way.
        let opposed = |batch: &mut Trajectories| batch.rewards[8..10].copy_from_slice(&[3e38, -3e38]);
        assert_eq!(found(opposed), Some((Quantity::Return { trajectory: 5 }, f64::INFINITY)));
    }

    /// Diagnostics of 2 batches of 3 trajectories, norm, 2 parameters, log-ratios, weights.
    fn readings(change: impl Fn(&mut [f64])) -> Result<(), BadNumber> {
        let mut values = vec![1.0; 12 + 1 + 2 + 6 + 6];
        change(&mut values);
        let layout = Layout { batches: 2, newest: 0, squares: 1, parameters: 2, log_ratios: 6, weights: 6 };
        layout.read(values).check(|| vec![0.5, f64::NEG_INFINITY])
    }

    #[test]
    fn the_first_bad_number_of_an_estimate_is_named() {
        readings(|_| ()).unwrap();
        readings(|values| values[12] = 3e38).unwrap();
        let square = readings(|values| values[12] = 4e38).unwrap_err();
        assert_eq!((square.quantity, square.value), (Quantity::SquaredNorm, f64::INFINITY));
        for (places, expected) in [
            (&[15 + 4, 21, 12][..], Quantity::LogRatio { age: 1, trajectory: 1 }),
            (&[21 + 2, 12, 3], Quantity::Weight { age: 0, trajectory: 2 }),
            (&[3, 12, 13], Quantity::Diagnostic),
            (&[12, 13], Quantity::Gradient { component: 1 }),
            (&[14], Quantity::Parameter { index: 1 }),
        ] {
            let outcome = readings(|values| places.iter().for_each(|place| values[*place] = f64::INFINITY));
            assert_eq!(outcome.unwrap_err().quantity, expected);
        }
    }
}

//! Problems as the padded arrays that devices and files hold.

use crate::oracle::{Problem, Step};

/// A problem's trajectories in row-major arrays, padded to the horizon.
///
/// | field | shape |
/// |---|---|
/// | `observations` | `[W, N, T, O]` |
/// | `actions`, `behaviour_mean` | `[W, N, T, A]` |
/// | `rewards` | `[W, N, T]` |
/// | `lengths` | `[W, N]` |
/// | `behaviour_log_std` | `[W, A]` |
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the table above says it")]
pub struct Padded {
    pub observations: Vec<f64>,
    pub actions: Vec<f64>,
    pub behaviour_mean: Vec<f64>,
    pub rewards: Vec<f64>,
    pub lengths: Vec<u32>,
    pub behaviour_log_std: Vec<f64>,
}

impl Problem {
    /// Observation components.
    pub fn observation_size(&self) -> usize {
        self.target.layers[0].weight[0].len()
    }

    /// Action components.
    pub fn action_size(&self) -> usize {
        self.target.log_std.len()
    }

    /// The trajectories with `fill` wherever there is no step.
    pub fn padded(&self, fill: f64) -> Padded {
        let field = |size: usize, values: &dyn Fn(&Step) -> Vec<f64>| -> Vec<f64> {
            let mut array = vec![];
            for steps in self.batches.iter().flat_map(|batch| &batch.trajectories) {
                array.extend(steps.iter().flat_map(values));
                array.extend(std::iter::repeat_n(fill, (self.horizon - steps.len()) * size));
            }
            array
        };
        let trajectories = self.batches.iter().flat_map(|batch| &batch.trajectories);
        Padded {
            observations: field(self.observation_size(), &|step| step.observation.clone()),
            actions: field(self.action_size(), &|step| step.action.clone()),
            behaviour_mean: field(self.action_size(), &|step| step.behaviour_mean.clone()),
            rewards: field(1, &|step| vec![step.reward]),
            lengths: trajectories.map(|steps| steps.len() as u32).collect(),
            behaviour_log_std: self
                .batches
                .iter()
                .flat_map(|batch| batch.behaviour.log_std.clone())
                .collect(),
        }
    }
}

//! Variance-reduced policy gradients: SVRPG, SRVR-PG, STORM-PG, PAGE-PG, DEF-PG.

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{Diagnostics, correction_weights, defensive_weights};
use policy_nets::GaussianPolicy;
use policy_nets::tensor_file::HostTensor;
use rand::RngExt;

use super::off_policy::Sample;
use super::{Algorithm, AlgorithmError, Draw, Estimate, Restore, Saved};
use crate::config::{CorrectionRule, SnapshotSchedule, VarianceReduction};
use crate::phases::{Phase, Phases};
use crate::random::{Purpose, Streams};
use crate::trajectories::Trajectories;

/// Large batches now and then, small ones between, corrected by what is known at a reference policy `r`.
///
/// With `v_r` the estimate kept for the reference, `g_B` the mean gradient of the small batch and `g^IS` its
/// importance-weighted form at the reference, the estimate at the current policy is (docs/method.md)
///
/// | algorithm | large batch | estimate of a small batch | reference |
/// |---|---|---|---|
/// | SVRPG | every `m` iterations | `v_r + g_B - g^IS_r` | the last snapshot |
/// | SRVR-PG | every `m` iterations | `v_r + g_B - g^IS_r` | the previous iteration |
/// | STORM-PG | the first iteration | `g_B + (1 - a)(v_r - g^IS_r)` | the previous iteration |
/// | PAGE-PG | with probability `p` | `v_r + g_B - g^IS_r` | the previous iteration |
/// | DEF-PG | with probability `p` | `v_r + mean[(p_t/q) g_t - (p_r/q) g_r]`, sampled from `q = (1 - beta) p_t + beta p_r` | the previous iteration |
///
/// Every estimate is unbiased given the reference, but for STORM-PG's, whose error decays by `1 - a` an iteration.
#[derive(Clone, Debug)]
pub struct VarianceReduced {
    rule: VarianceReduction,
    streams: Streams,
    /// Whether the planned iteration takes the large batch.
    anew: bool,
    reference: Reference,
}

/// The policy against which small batches are corrected. Before the first iteration all zeros, and not used.
#[derive(Clone, Debug)]
struct Reference {
    parameters: Tensor<1>,
    estimate: Tensor<1>,
}

impl VarianceReduced {
    /// An algorithm that has seen nothing; `streams` decide what it leaves to chance.
    pub fn new(rule: VarianceReduction, parameter_count: usize, streams: Streams, device: &Device) -> Self {
        let zeros = Tensor::zeros([parameter_count], device);
        let reference = Reference { parameters: zeros.clone(), estimate: zeros };
        Self { rule, streams, anew: true, reference }
    }

    /// The estimate from a small batch, and the weights `[1, batch]` of its trajectories at the reference (DEF-PG: at
    /// the current policy), `1/B` included.
    fn correct(
        &self,
        policy: &GaussianPolicy,
        sample: &Sample,
        phases: &mut Phases,
    ) -> (Tensor<1>, Tensor<2>) {
        let VarianceReduction { correction, discount, ratio, .. } = self.rule;
        let Reference { parameters, estimate } = self.reference.clone();
        let (current, reference) = phases.time(Phase::LogProbabilities, || {
            (sample.forward(policy, policy.parameters()), sample.forward(policy, parameters))
        });
        let (of_current, of_reference) = phases.time(Phase::Weights, || match correction {
            CorrectionRule::Defensive(share) => {
                let [current, reference] =
                    defensive_weights(sample.log_ratios(&reference, &current, ratio), share);
                (Some(current), reference)
            }
            _ => (None, correction_weights(sample.log_ratios(&current, &reference, ratio))),
        });
        let reported = last_step(of_current.as_ref().unwrap_or(&of_reference));
        phases.time(Phase::Gradient, || {
            let fresh = sample.gradient(current, of_current, discount);
            let control = sample.gradient(reference, Some(of_reference), discount);
            let estimate = match correction {
                CorrectionRule::Momentum(momentum) => fresh + (estimate - control).mul_scalar(1.0 - momentum),
                _ => estimate + (fresh - control),
            };
            (estimate, reported)
        })
    }
}

/// The weights of the last step, which cover the whole trajectory, over the number of trajectories.
fn last_step(weights: &Tensor<3>) -> Tensor<2> {
    let [window, batch, time] = weights.dims();
    let last = weights.clone().slice([0..window, 0..batch, time - 1..time]);
    last.reshape([window, batch]).div_scalar(batch as f64)
}

impl Algorithm for VarianceReduced {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        let mut choices = self.streams.stream(Purpose::Algorithm, iteration, 0, 0);
        self.anew = iteration == 0
            || match self.rule.schedule {
                SnapshotSchedule::Every(epoch) => iteration.is_multiple_of(epoch),
                SnapshotSchedule::First => false,
                SnapshotSchedule::Random(probability) => choices.random::<f64>() < probability,
            };
        if self.anew {
            return vec![Draw { trajectories: self.rule.snapshot_size, parameters: None }];
        }
        let batch = self.rule.batch_size;
        let earlier = match self.rule.correction {
            CorrectionRule::Defensive(share) => {
                (0..batch).filter(|_| choices.random::<f64>() < share).count()
            }
            _ => 0,
        };
        let reference = || self.reference.parameters.to_data().iter::<f64>().collect();
        let mut draws = vec![];
        if earlier < batch {
            draws.push(Draw { trajectories: batch - earlier, parameters: None });
        }
        if earlier > 0 {
            draws.push(Draw { trajectories: earlier, parameters: Some(reference()) });
        }
        draws
    }

    fn estimate(&mut self, policy: &GaussianPolicy, fresh: &[Trajectories], phases: &mut Phases) -> Estimate {
        let parameters = policy.parameters();
        let device = parameters.device();
        let sample = phases.time(Phase::Push, || Sample::new(fresh, &device));
        let (gradient, weights) = if self.anew {
            let forward = phases.time(Phase::LogProbabilities, || sample.forward(policy, parameters.clone()));
            let gradient =
                phases.time(Phase::Gradient, || sample.gradient(forward, None, self.rule.discount));
            (gradient, Tensor::full([1, sample.len()], 1.0 / sample.len() as f64, &device))
        } else {
            self.correct(policy, &sample, phases)
        };
        if self.anew || self.rule.correction != CorrectionRule::Snapshot {
            self.reference = Reference { parameters, estimate: gradient.clone() };
        }
        Estimate { gradient, diagnostics: Diagnostics::new(&weights, None), batches: 1, newest: 0 }
    }

    fn save(&self, saved: &mut Saved) {
        let host = |tensor: &Tensor<1>| {
            HostTensor::new(tensor.dims(), tensor.to_data().iter::<f64>().collect::<Vec<_>>())
        };
        saved.insert("reference.parameters".to_owned(), host(&self.reference.parameters));
        saved.insert("reference.estimate".to_owned(), host(&self.reference.estimate));
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        let device = self.reference.parameters.device();
        let shape = self.reference.parameters.dims();
        let mut tensor = |name: &str| -> Result<Tensor<1>, AlgorithmError> {
            Ok(Tensor::from_data(TensorData::new(read(name, &shape)?, shape), &device))
        };
        self.reference = Reference {
            parameters: tensor("reference.parameters")?,
            estimate: tensor("reference.estimate")?,
        };
        Ok(())
    }
}

#[cfg(test)]
#[path = "variance_reduced_tests.rs"]
mod tests;

//! The balance heuristic's matrix of log-densities, kept incrementally.

use burn::tensor::{Device, Tensor, TensorData};
use estimator::{balance_heuristic_weights, log_ratio};
use policy_nets::GaussianPolicy;
use policy_nets::tensor_file::HostTensor;

use super::{AlgorithmError, Restore, Saved};
use crate::window::Window;

/// `R[l, i, j] = ln p_l(tau_ij) - ln p_i(tau_ij)` for every pair of a policy `l` and a batch `i` in the window.
///
/// Each pair is evaluated once: an iteration adds the row of the new policy, which the gradient needs anyway, and the
/// column of the new batch under the old policies.
#[derive(Debug)]
pub(super) struct BalanceHeuristic {
    parameters: Tensor<2>,
    log_ratios: Tensor<3>,
}

impl BalanceHeuristic {
    pub(super) fn new(window: usize, batch: usize, parameter_count: usize, device: &Device) -> Self {
        Self {
            parameters: Tensor::zeros([window, parameter_count], device),
            log_ratios: Tensor::zeros([window, window, batch], device),
        }
    }

    /// Weights `[window, batch]` after a push; `ratios` are `ln p_i - ln p_k` for the current policy `k`.
    pub(super) fn weights(
        &mut self,
        policy: &GaussianPolicy,
        window: &Window,
        ratios: Tensor<2>,
    ) -> Tensor<2> {
        let [held, batch] = ratios.dims();
        let newest = window.newest();
        let only = newest..=newest;
        let fresh = window.slot(newest);
        let logged = fresh.logged();
        let shape = logged.actions.dims();
        self.parameters.inplace(|ring| ring.slice_assign(only.clone(), policy.parameters().unsqueeze::<2>()));
        for old in (0..held).filter(|slot| *slot != newest) {
            let parameters = self.parameters.clone().slice(old..=old).squeeze_dim::<1>(0);
            let mean = policy.mean_at(&parameters, fresh.observations()).reshape(shape);
            let column = log_ratio(mean, policy.log_std_at(&parameters), &logged).neg();
            let column = column.reshape([1, 1, batch]);
            self.log_ratios.inplace(|matrix| matrix.slice_assign([old..=old, only.clone()], column));
        }
        let row = ratios.clone().neg().reshape([1, held, batch]);
        self.log_ratios.inplace(|matrix| matrix.slice_assign([only.clone(), 0..=held - 1], row));

        let held_ratios = self.log_ratios.clone().slice([0..held, 0..held]);
        balance_heuristic_weights(held_ratios + ratios.reshape([1, held, batch]))
    }

    pub(super) fn save(&self, saved: &mut Saved) {
        let host = |values: TensorData| values.iter::<f64>().collect::<Vec<_>>();
        let parameters = HostTensor::new(self.parameters.dims(), host(self.parameters.to_data()));
        let log_ratios = HostTensor::new(self.log_ratios.dims(), host(self.log_ratios.to_data()));
        saved.insert("balance_heuristic.parameters".to_owned(), parameters);
        saved.insert("balance_heuristic.log_ratios".to_owned(), log_ratios);
    }

    pub(super) fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        let device = self.parameters.device();
        let shape = self.parameters.dims();
        let values = read("balance_heuristic.parameters", &shape)?;
        self.parameters = Tensor::from_data(TensorData::new(values, shape), &device);
        let shape = self.log_ratios.dims();
        let values = read("balance_heuristic.log_ratios", &shape)?;
        self.log_ratios = Tensor::from_data(TensorData::new(values, shape), &device);
        Ok(())
    }
}

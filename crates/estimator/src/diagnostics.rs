//! What an estimate says about itself.

use burn::tensor::Tensor;

use crate::coefficients::Coefficients;
use crate::numeric::smallest_normal;

/// Diagnostics of one estimate, on the device.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    window: usize,
    packed: Tensor<1>,
    weights: Tensor<2>,
    log_ratio: Option<Tensor<2>>,
}

/// Diagnostics of one estimate, on the host. Per-batch values are in the window's order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DiagnosticsReport {
    /// Effective sample size of all weights, `(sum w)^2 / sum w^2`: between 1 and the number of trajectories, or 0 where every
    /// weight has underflowed to 0.
    pub effective_sample_size: f64,
    /// Largest weight, in units of `1 / (N omega_k)`, the weight of plain averaging.
    pub largest_weight: f64,
    /// Effective sample size of each batch's weights.
    pub batch_effective_sample_size: Vec<f64>,
    /// Share of each batch in the sum of all weights.
    pub batch_share: Vec<f64>,
    /// `ln D_i` of each batch.
    pub log_second_moment: Vec<f64>,
    /// `alpha_i` of each batch.
    pub alpha: Vec<f64>,
    /// `lambda_i` of each batch.
    pub lambda: Vec<f64>,
}

impl Diagnostics {
    /// Diagnostics of `weights` (`[window, batch]`); `log_second_moment` is `[window]`.
    ///
    /// Estimators without coefficients pass `None` and report `alpha = 1/omega_k`, `lambda = 0` and `ln D = 0`.
    pub fn new(weights: &Tensor<2>, coefficients: Option<(&Tensor<1>, &Coefficients)>) -> Self {
        let [window, batch] = weights.dims();
        let floor = smallest_normal(weights.dtype());
        // Scaled by the batch's largest weight, and then by that among all, squares neither overflow nor all underflow.
        let batch_largest = weights.clone().max_dim(1).clamp_min(floor);
        let largest = batch_largest.clone().reshape([window]).max();
        let scaled = weights.clone() / batch_largest.clone();
        let sums = scaled.clone().sum_dim(1).reshape([window]);
        let squares = scaled.square().sum_dim(1).reshape([window]);
        let batch_effective = sums.clone().square() / squares.clone().clamp_min(floor);
        let relative = batch_largest.reshape([window]) / largest.clone();
        let sums = sums * relative.clone();
        let total = sums.clone().sum();
        let effective = total.clone().square() / (squares * relative.square()).sum().clamp_min(floor);
        let share = sums / total.clamp_min(floor);
        let relative_largest = largest.mul_scalar((window * batch) as f64);
        let (log_second_moment, alpha, lambda) = match coefficients {
            Some((log_second_moment, coefficients)) => (
                log_second_moment.clone(),
                coefficients.log_alpha.clone().exp(),
                coefficients.log_lambda.clone().exp(),
            ),
            None => (share.zeros_like(), share.full_like(1.0 / window as f64), share.zeros_like()),
        };
        let packed = Tensor::cat(
            vec![effective, relative_largest, batch_effective, share, log_second_moment, alpha, lambda],
            0,
        );
        Self { window, packed, weights: weights.clone(), log_ratio: None }
    }

    /// The diagnostics together with the log-ratios (`[window, batch]`) that the weights come from.
    #[must_use]
    pub fn with_log_ratio(mut self, log_ratio: Tensor<2>) -> Self {
        self.log_ratio = Some(log_ratio);
        self
    }

    /// The weights, `[window, batch]`.
    pub fn weights(&self) -> Tensor<2> {
        self.weights.clone()
    }

    /// The log-ratios that the weights come from, `[window, batch]`, where they do.
    pub fn log_ratio(&self) -> Option<Tensor<2>> {
        self.log_ratio.clone()
    }

    /// Diagnostics of `weights` (`[window, batch]`) that were computed elsewhere: the values that
    /// [`DiagnosticsReport::unpack`] reads.
    ///
    /// # Panics
    /// When there are other than [`DiagnosticsReport::packed_len`] values.
    pub fn from_packed(packed: Tensor<1>, weights: Tensor<2>) -> Self {
        let [window, _] = weights.dims();
        assert_eq!(packed.dims(), [DiagnosticsReport::packed_len(window)], "values of {window} batches");
        Self { window, packed, weights, log_ratio: None }
    }

    /// All values in one tensor, for a transfer together with others; [`DiagnosticsReport::unpack`] reads it.
    pub fn packed(&self) -> Tensor<1> {
        self.packed.clone()
    }

    /// Copies the diagnostics to the host: one transfer.
    pub fn report(&self) -> DiagnosticsReport {
        let values: Vec<f64> = self.packed.to_data().iter::<f64>().collect();
        DiagnosticsReport::unpack(&values, self.window)
    }
}

impl DiagnosticsReport {
    /// Number of values that a window of `window` batches packs.
    pub fn packed_len(window: usize) -> usize {
        2 + 5 * window
    }

    /// Reads what [`Diagnostics::packed`] holds.
    ///
    /// # Panics
    /// When `values` has fewer than [`packed_len`](Self::packed_len) elements.
    pub fn unpack(values: &[f64], window: usize) -> Self {
        let group = |index: usize| values[2 + index * window..2 + (index + 1) * window].to_vec();
        Self {
            effective_sample_size: values[0],
            largest_weight: values[1],
            batch_effective_sample_size: group(0),
            batch_share: group(1),
            log_second_moment: group(2),
            alpha: group(3),
            lambda: group(4),
        }
    }
}

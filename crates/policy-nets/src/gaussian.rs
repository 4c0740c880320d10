//! The log-density of the diagonal Gaussian, batched.

use burn::tensor::Tensor;

/// `ln(2 pi) / 2`, the constant of the standard normal's log-density.
pub const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_7;

/// Log-density of `actions` under `N(mean, diag(exp(log_std))^2)`, summed over the action axis.
///
/// `log pi(a|s) = sum_d [ -ln sqrt(2 pi) - ln sigma_d - (a_d - mu_d)^2 / (2 sigma_d^2) ]`
///
/// # Shapes
/// `mean`, `actions`: `[rows, action]`; `log_std`: `[action]`; result: `[rows]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn log_prob(mean: Tensor<2>, log_std: Tensor<1>, actions: Tensor<2>) -> Tensor<1> {
    let [_, action_size] = mean.dims();
    assert_eq!(actions.dims(), mean.dims(), "an action for each mean");
    assert_eq!(log_std.dims(), [action_size], "a deviation for each component");
    let precision = log_std.clone().mul_scalar(-2.0).exp().unsqueeze::<2>();
    let squares = (actions - mean).square() * precision;
    let constant = action_size as f64 * HALF_LN_TWO_PI;
    let normalizer = log_std.sum().add_scalar(constant);
    squares.sum_dim(1).squeeze_dim::<1>(1).mul_scalar(-0.5) - normalizer
}

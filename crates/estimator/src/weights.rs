//! Trajectory weights: the factor of `g(tau_ij)` in the gradient estimate, `1/N` included.
//!
//! All take and return `[window, batch]`. Exponents saturate just below the overflow of the device's float type.

use burn::tensor::Tensor;

use crate::coefficients::Coefficients;
use crate::numeric::{LOG_ZERO, log_add_exp, log_sum_exp, saturating_exp};

/// The exponents of a power mean that [`is_exponent`] accepts, in words.
pub const EXPONENTS: &str = "0, or a number from -1000 to -0.001";

/// Whether a power mean is computed with this exponent: near 0 the rounding errors of a logarithm would be divided by it, and far
/// below, where the mean is the least of both numbers but for the last digits, logarithms leave the range of the numbers.
pub fn is_exponent(value: f64) -> bool {
    value == 0.0 || (-1e3..=-1e-3).contains(&value)
}

/// # Panics
/// With an exponent that is none.
pub(crate) fn assert_exponent(value: f64) {
    assert!(is_exponent(value), "the exponent of the power mean is {value}, expected {EXPONENTS}");
}

/// # Panics
/// With a limit of the weights that is none.
pub(crate) fn assert_clip(clip: f64) {
    assert!(clip > 0.0, "the weights' limit is {clip}, expected a number above 0, or infinity for none");
}

/// Power-mean-corrected multiple importance weights (MPM), docs/method.md, equation 12:
///
/// `w_ij = (alpha_i / N) M_s(exp(-l_ij), 1)`, where `M_s(x, y) = ((1 - lambda_i) x^s + lambda_i y^s)^(1/s)`.
///
/// The exponent `s = -1` is the harmonic member `alpha_i / (N ((1 - lambda_i) exp(l_ij) + lambda_i))`, the method's
/// own; `s = 0` the geometric one. For `s < 0` every weight is at most `alpha_i / (N lambda_i^(-1/s))`.
///
/// Evaluated in logarithms: `ln M_s = (1/s) logaddexp(ln(1 - lambda) - s l, ln lambda)`.
///
/// # Panics
/// When [`is_exponent`] does not hold, or there are not as many coefficients as batches.
pub fn power_mean_weights(log_ratio: Tensor<2>, coefficients: &Coefficients, exponent: f64) -> Tensor<2> {
    assert_exponent(exponent);
    let [window, batch] = log_ratio.dims();
    let log_lambda = coefficients.log_lambda.clone().reshape([window, 1]);
    let log_alpha = coefficients.log_alpha.clone().reshape([window, 1]);
    let log_mean = if exponent == 0.0 {
        log_ratio * log_lambda.exp().sub_scalar(1.0)
    } else {
        let log_complement = log_complement(log_lambda.clone());
        let ratio_term = log_ratio.mul_scalar(-exponent) + log_complement;
        let one_term = log_lambda.expand([window, batch]);
        log_add_exp(ratio_term, one_term).div_scalar(exponent)
    };
    saturating_exp(log_mean + log_alpha.sub_scalar((batch as f64).ln()))
}

/// Uniform multiple importance weights (MIW), `w_ij = min(exp(-l_ij), clip) / (N omega_k)`, docs/method.md, equations 15 and 16:
/// no correction, and with an infinite `clip` no bound; else truncated importance weights (Ionides 2008).
///
/// # Panics
/// When `clip` is not above 0.
pub fn multiple_importance_weights(log_ratio: Tensor<2>, clip: f64) -> Tensor<2> {
    assert_clip(clip);
    let [window, batch] = log_ratio.dims();
    let log_clip = clip.ln().min(-LOG_ZERO);
    saturating_exp(log_ratio.neg().clamp_max(log_clip).sub_scalar(((window * batch) as f64).ln()))
}

/// Balance-heuristic weights (BH), `w(tau) = p_k(tau) / (N sum_l p_l(tau))` (Veach and Guibas 1995).
///
/// # Shapes
/// `log_density_ratios`: `[policy, window, batch]`, holding `ln p_l(tau_ij) - ln p_k(tau_ij)` for every policy `l` of
/// the window, the target `k` itself (zeros) included.
pub fn balance_heuristic_weights(log_density_ratios: Tensor<3>) -> Tensor<2> {
    let [_, window, batch] = log_density_ratios.dims();
    let log_mixture = log_sum_exp(log_density_ratios, 0).reshape([window, batch]);
    saturating_exp(log_mixture.neg().sub_scalar((batch as f64).ln()))
}

/// `ln(1 - lambda)`, exact at both ends.
///
/// Near 1, where `1 - lambda` cancels, it is `-expm1(ln lambda)` as a series; shaders have no `expm1`.
fn log_complement(log_lambda: Tensor<2>) -> Tensor<2> {
    /// Above this `ln lambda`, the series; below it, at most a bit and a half cancels.
    const SERIES_FROM: f64 = -0.5;
    /// `0.5^14 / 15!` is below the precision of float64.
    const SERIES_TERMS: u32 = 14;

    let is_one = log_lambda.clone().greater_equal_scalar(0.0);
    let is_near_one = log_lambda.clone().greater_equal_scalar(SERIES_FROM);
    let far = log_lambda.clone().clamp_max(SERIES_FROM).exp().neg().log1p();
    // 1 - exp(x) = -x (1 + x/2 (1 + x/3 (1 + ...))), for x = ln lambda
    let x = log_lambda.clamp_min(SERIES_FROM).mask_fill(is_one.clone(), SERIES_FROM);
    let series = (2..=SERIES_TERMS)
        .rev()
        .fold(x.ones_like(), |sum, term| (x.clone() * sum).div_scalar(term).add_scalar(1.0));
    let near = (x.neg() * series).log();
    far.mask_where(is_near_one, near).mask_fill(is_one, LOG_ZERO)
}

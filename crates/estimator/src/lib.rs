//! Gradient estimators that reuse trajectories: importance ratios, divergences, coefficients, weights, returns.
//!
//! Everything here is a function over batched tensors on any Burn device, and in [`host`] the same over slices in double
//! precision; it knows no network, no environment and no loop. The axes are always, in this order,
//!
//! | axis | symbol | meaning |
//! |---|---|---|
//! | `window` | `W` | batches in the window, each sampled by one behaviour policy |
//! | `batch` | `N` | trajectories of a batch |
//! | `time` | `T` | steps, padded to the horizon |
//! | `action` | `A` | action components |
//!
//! No axis is empty, and shapes are as stated: everything else is a wrong call, and as a rule a panic, in these functions or in
//! Burn's.
//!
//! A padded step carries 0 in the step mask and finite numbers elsewhere; it reaches no result. Logarithms that would be
//! infinite are [`LOG_ZERO`] or `-LOG_ZERO`: shaders may assume that infinities and NaN do not exist.
//!
//! The formulas are those of docs/method.md, with their numbers.

mod coefficients;
mod correction;
mod diagnostics;
mod divergence;
pub mod host;
mod numeric;
mod ratio;
mod returns;
mod weights;

pub use coefficients::{CoefficientRule, Coefficients, MixtureRule, theoretical_log_lambda};
pub use correction::{
    RatioScope, correction_weights, cumulative_log_ratios, defensive_weights, weighted_step_returns,
};
pub use diagnostics::{Diagnostics, DiagnosticsReport};
pub use divergence::{
    DivergenceEstimator, closed_form_log_second_moment, log_second_moment, sample_log_second_moment,
};
pub use numeric::{LOG_ZERO, log_sum_exp, step_mask};
pub use ratio::{LoggedActions, log_ratio, step_log_ratios};
pub use returns::{Baseline, StepReturn, step_coefficients, step_returns, step_returns_in_place, surrogate};
pub use weights::{
    EXPONENTS, balance_heuristic_weights, is_exponent, multiple_importance_weights, power_mean_weights,
};

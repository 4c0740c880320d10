//! Frozen parameters as numbers.

use policy_nets::{Normalizer, PolicyState};

use crate::studies::plan::sha256;

/// All of a policy that training changes: mean parameters, log-deviations, and mean and deviation of observations.
pub(super) fn numbers(state: &PolicyState) -> Vec<f64> {
    let moments = state.normalizer.as_ref().map(|normalizer| [normalizer.mean(), normalizer.std()].concat());
    [&state.mean_parameters[..], &state.log_std, &moments.unwrap_or_default()].concat()
}

/// The policy with other [`numbers`], as many as it has.
pub(super) fn with_numbers(state: &PolicyState, numbers: &[f64]) -> PolicyState {
    let (mean_parameters, rest) = numbers.split_at(state.mean_parameters.len());
    let (log_std, moments) = rest.split_at(state.log_std.len());
    let (mean, std) = moments.split_at(moments.len() / 2);
    let normalizer = state
        .normalizer
        .as_ref()
        .map(|normalizer| Normalizer::from_statistics(normalizer.count(), mean.to_vec(), std.to_vec()));
    PolicyState {
        mean_parameters: mean_parameters.to_vec(),
        log_std: log_std.to_vec(),
        normalizer,
        ..state.clone()
    }
}

/// SHA-256 of the numbers of policies, to the bit.
pub(super) fn hash_of(states: &[PolicyState]) -> String {
    let bytes = states.iter().flat_map(numbers).flat_map(f64::to_le_bytes);
    sha256(&bytes.collect::<Vec<u8>>())
}

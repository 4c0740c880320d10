//! Frozen parameters as numbers.

use policy_nets::PolicyState;

use crate::studies::plan::sha256;

/// All of a policy that training changes: mean parameters, log-deviations, and mean and deviation of observations.
fn numbers(state: &PolicyState) -> Vec<f64> {
    let moments = state.normalizer.as_ref().map(|normalizer| [normalizer.mean(), normalizer.std()].concat());
    [&state.mean_parameters[..], &state.log_std, &moments.unwrap_or_default()].concat()
}

/// SHA-256 of the numbers of policies, to the bit.
pub(super) fn hash_of(states: &[PolicyState]) -> String {
    let bytes = states.iter().flat_map(numbers).flat_map(f64::to_le_bytes);
    sha256(&bytes.collect::<Vec<u8>>())
}

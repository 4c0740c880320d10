//! The checks that the built-in environments make around their dynamics, so that all of them keep the contract of
//! [`Environment`](crate::Environment) in the same way.

use crate::StepError;

/// Admits a step: returns the state of the running trajectory, and the action as an array.
///
/// # Panics
/// When `action` does not have `A` components.
///
/// # Errors
/// [`StepError::NotRunning`] without a state, [`StepError::ActionNotFinite`] for the first component that is not
/// finite.
pub(crate) fn admit<S, const A: usize>(
    environment: &'static str,
    state: Option<S>,
    action: &[f64],
) -> Result<(S, [f64; A]), StepError> {
    let Ok(components) = <[f64; A]>::try_from(action) else {
        panic!("{environment}: the action has {} components, expected {A}", action.len());
    };
    let state = state.ok_or(StepError::NotRunning { environment })?;
    match components.into_iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, value)) => Err(StepError::ActionNotFinite { environment, index, value }),
        None => Ok((state, components)),
    }
}

/// Checks that the outcome of a step is finite; `what` names it in the message.
///
/// Needed where an action enters unclipped: its square, or the state it leads to, may overflow.
///
/// # Errors
/// [`StepError::Unstable`] for the first value that is not finite.
pub(crate) fn check_finite(
    environment: &'static str,
    what: &'static str,
    values: &[f64],
) -> Result<(), StepError> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(StepError::Unstable { environment, reason: format!("{what} is {value}") }),
        None => Ok(()),
    }
}

/// Writes an observation.
///
/// # Panics
/// When `observation` does not have as many components as `values`.
pub(crate) fn write(environment: &'static str, observation: &mut [f64], values: &[f64]) {
    assert!(
        observation.len() == values.len(),
        "{environment}: the observation slice has {} components, expected {}",
        observation.len(),
        values.len()
    );
    observation.copy_from_slice(values);
}

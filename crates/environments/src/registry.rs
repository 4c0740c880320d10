//! The built-in environments by name.

#[cfg(feature = "mujoco")]
use crate::mujoco::{
    Definition, HALF_CHEETAH, HOPPER, INVERTED_PENDULUM, MujocoEnvironment, SWIMMER, WALKER2D,
};
use crate::{Environment, cart_pole, linear_quadratic, mountain_car, pendulum};

/// What stopped the construction of an environment.
pub type ConstructionError = Box<dyn std::error::Error + Send + Sync>;

/// One environment of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name to make it by.
    pub name: &'static str,
    /// One line about the task.
    pub summary: &'static str,
    /// Components of an observation.
    pub observation_size: usize,
    /// Components of an action.
    pub action_size: usize,
    /// Steps of a trajectory unless the caller says otherwise.
    pub horizon: usize,
    /// Duration of a step in the world that is simulated, s; where there is no such world, the pace of its pictures.
    pub step_duration: f64,
    /// Makes one; [`make`](Self::make) adds the name to its error.
    pub construct: fn() -> Result<Box<dyn Environment>, ConstructionError>,
}

/// All environments, in the order in which they are listed.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: cart_pole::NAME,
        summary: "push a cart so that the pole on it stays upright",
        observation_size: cart_pole::OBSERVATION_SIZE,
        action_size: cart_pole::ACTION_SIZE,
        horizon: cart_pole::HORIZON,
        step_duration: cart_pole::TIME_STEP,
        construct: || Ok(Box::new(cart_pole::ContinuousCartPole::new())),
    },
    Entry {
        name: pendulum::NAME,
        summary: "swing a pendulum up with a weak motor and hold it there",
        observation_size: pendulum::OBSERVATION_SIZE,
        action_size: pendulum::ACTION_SIZE,
        horizon: pendulum::HORIZON,
        step_duration: pendulum::TIME_STEP,
        construct: || Ok(Box::new(pendulum::Pendulum::new())),
    },
    Entry {
        name: mountain_car::NAME,
        summary: "rock a car with a weak engine out of a valley",
        observation_size: mountain_car::OBSERVATION_SIZE,
        action_size: mountain_car::ACTION_SIZE,
        horizon: mountain_car::HORIZON,
        step_duration: 1.0 / 30.0,
        construct: || Ok(Box::new(mountain_car::ContinuousMountainCar::new())),
    },
    Entry {
        name: linear_quadratic::NAME,
        summary: "steer a linear system to the origin at the least quadratic cost",
        observation_size: linear_quadratic::OBSERVATION_SIZE,
        action_size: linear_quadratic::ACTION_SIZE,
        horizon: linear_quadratic::HORIZON,
        step_duration: 0.1,
        construct: || Ok(Box::new(linear_quadratic::LinearQuadratic::new())),
    },
    #[cfg(feature = "mujoco")]
    body(&HALF_CHEETAH, "run forward on two legs, in MuJoCo", || simulated(&HALF_CHEETAH)),
    #[cfg(feature = "mujoco")]
    body(&HOPPER, "jump forward on one leg, in MuJoCo", || simulated(&HOPPER)),
    #[cfg(feature = "mujoco")]
    body(&INVERTED_PENDULUM, "balance a pole on a cart, in MuJoCo", || simulated(&INVERTED_PENDULUM)),
    #[cfg(feature = "mujoco")]
    body(&SWIMMER, "swim forward with three links, in MuJoCo", || simulated(&SWIMMER)),
    #[cfg(feature = "mujoco")]
    body(&WALKER2D, "walk forward on two legs, in MuJoCo", || simulated(&WALKER2D)),
];

/// The entry of a body simulated by MuJoCo.
#[cfg(feature = "mujoco")]
const fn body(
    definition: &Definition,
    summary: &'static str,
    construct: fn() -> Result<Box<dyn Environment>, ConstructionError>,
) -> Entry {
    Entry {
        name: definition.name(),
        summary,
        observation_size: definition.observation_size(),
        action_size: definition.action_size(),
        horizon: definition.horizon(),
        step_duration: definition.step_duration(),
        construct,
    }
}

#[cfg(feature = "mujoco")]
fn simulated(definition: &'static Definition) -> Result<Box<dyn Environment>, ConstructionError> {
    Ok(Box::new(MujocoEnvironment::new(definition)?))
}

/// A name that is not in the registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown environment `{name}`{}; expected one of {}", self.suggestion(), known())]
pub struct UnknownEnvironment {
    /// The name asked for.
    pub name: String,
    /// The name in the registry that looks most like it, if one does.
    pub nearest: Option<&'static str>,
}

impl UnknownEnvironment {
    fn suggestion(&self) -> String {
        self.nearest.map_or_else(String::new, |nearest| format!(" (did you mean `{nearest}`?)"))
    }
}

/// Why an environment was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The name is not in the registry.
    #[error(transparent)]
    Unknown(#[from] UnknownEnvironment),
    /// The environment needs something that is missing or broken, such as a simulator library.
    #[error("environment `{name}` cannot be made")]
    Construction {
        /// Name of the environment.
        name: &'static str,
        /// What is missing or broken.
        source: ConstructionError,
    },
}

impl Entry {
    /// Makes the environment.
    ///
    /// # Errors
    /// [`MakeError::Construction`] when it needs something that is missing or broken.
    pub fn make(&self) -> Result<Box<dyn Environment>, MakeError> {
        (self.construct)().map_err(|source| MakeError::Construction { name: self.name, source })
    }
}

/// The names in the registry.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|entry| entry.name)
}

/// The entry called `name`.
///
/// # Errors
/// [`UnknownEnvironment`] when there is none, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, UnknownEnvironment> {
    ENTRIES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| UnknownEnvironment { name: name.to_owned(), nearest: nearest(name, names()) })
}

/// Makes the environment called `name`.
///
/// ```
/// let environment = environments::registry::make("cartpole")?;
/// assert_eq!(environment.observation_size(), 4);
///
/// let error = environments::registry::make("cart-pole").err().expect("no such name");
/// assert!(error.to_string().contains("did you mean `cartpole`?"));
/// # Ok::<(), environments::registry::MakeError>(())
/// ```
///
/// # Errors
/// [`MakeError::Unknown`] for a name that is not in the registry, [`MakeError::Construction`] when the environment needs
/// something that is missing or broken.
pub fn make(name: &str) -> Result<Box<dyn Environment>, MakeError> {
    find(name)?.make()
}

/// The one of the `known` names most similar to `name`, which may be Gymnasium's (`HalfCheetah-v4`), unless it is too different to
/// be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LEAST_SIMILARITY: f64 = 0.75;
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// The names, separated by commas.
fn known() -> String {
    names().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, error::Error};

    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_one_and_all_others() {
        for (name, expected) in [
            ("cart-pole", Some("cartpole")),
            ("CartPole", Some("cartpole")),
            ("pendulum-v1", Some("pendulum")),
            ("mountaincar", Some("mountain-car")),
            ("MountainCarContinuous-v0", Some("mountain-car")),
            ("lqg", Some("lqr")),
            ("breakout", None),
            ("", None),
        ] {
            let error = find(name).unwrap_err();
            assert_eq!(error.nearest, expected, "{name}");
            assert!(error.to_string().ends_with(&known()), "{error}");
        }
        let message = find("lqg").unwrap_err().to_string();
        assert!(
            message.starts_with("unknown environment `lqg` (did you mean `lqr`?); expected"),
            "{message}"
        );
    }

    #[test]
    fn names_are_unique_and_reach_their_entry() {
        assert_eq!(names().collect::<HashSet<_>>().len(), ENTRIES.len());
        for entry in ENTRIES {
            assert_eq!(find(entry.name).unwrap().summary, entry.summary);
        }
    }

    #[test]
    fn a_failed_construction_names_the_environment_and_the_reason() {
        let entry = Entry { name: "broken", construct: || Err("library not found".into()), ..ENTRIES[0] };
        let error = entry.make().err().unwrap();
        assert_eq!(error.to_string(), "environment `broken` cannot be made");
        assert_eq!(error.source().unwrap().to_string(), "library not found");
    }
}

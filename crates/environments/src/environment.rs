//! The trait of one environment.

use rand::Rng;

use crate::BuiltIn;
use crate::drawing::Scene;

/// What one step returns beside the next observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// Reward of the step that was made, the failing step included.
    pub reward: f64,
    /// Whether the step ended the trajectory in a terminal state. Reaching the horizon is not a terminal state; the
    /// caller counts steps.
    pub terminated: bool,
}

/// Why a step was not made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    /// [`Environment::step`] was called after the trajectory ended, or before the first [`Environment::reset`].
    #[error("{environment}: step called on an ended trajectory; call reset first")]
    NotRunning {
        /// Name of the environment.
        environment: &'static str,
    },
    /// An action is not finite.
    #[error("{environment}: action {index} is {value}, expected a finite number")]
    ActionNotFinite {
        /// Name of the environment.
        environment: &'static str,
        /// Position in the action.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// The simulated state left the range in which the dynamics are defined (a simulator that turned unstable).
    #[error("{environment}: the simulation became unstable: {reason}")]
    Unstable {
        /// Name of the environment.
        environment: &'static str,
        /// What was found.
        reason: String,
    },
}

/// One continuous-control environment.
///
/// Observations, actions and rewards are `f64` in the environment's own units. `observation` slices have
/// [`observation_size`](Self::observation_size) elements and `action` slices [`action_size`](Self::action_size);
/// other lengths are a programming error and panic.
///
/// Actions arrive raw, as the policy sampled them. An environment that clips them does so inside its dynamics.
///
/// A trajectory runs from [`reset`](Self::reset) until a step returns [`terminated`](Transition::terminated) or
/// [`StepError::Unstable`]; after that, and before the first reset, [`step`](Self::step) is an error. A reset is
/// allowed at any time. The horizon is the caller's: an environment counts no steps.
///
/// # Example
///
/// An environment of one's own: a point mass on a line that is pushed back to the origin.
///
/// ```
/// use environments::{Environment, StepError, Transition, batch::EnvironmentBatch};
/// use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
///
/// #[derive(Default)]
/// struct PointMass {
///     /// Position and velocity; `None` while no trajectory is running.
///     state: Option<[f64; 2]>,
/// }
///
/// impl Environment for PointMass {
///     fn name(&self) -> &'static str {
///         "point-mass"
///     }
///
///     fn observation_size(&self) -> usize {
///         2
///     }
///
///     fn action_size(&self) -> usize {
///         1
///     }
///
///     fn reset(&mut self, random: &mut dyn Rng, observation: &mut [f64]) {
///         let state = [random.random_range(-1.0..1.0), 0.0];
///         observation.copy_from_slice(&state);
///         self.state = Some(state);
///     }
///
///     fn step(
///         &mut self,
///         action: &[f64],
///         _random: &mut dyn Rng,
///         observation: &mut [f64],
///     ) -> Result<Transition, StepError> {
///         let environment = self.name();
///         let [position, velocity] = self.state.ok_or(StepError::NotRunning { environment })?;
///         let force = action[0];
///         if !force.is_finite() {
///             return Err(StepError::ActionNotFinite { environment, index: 0, value: force });
///         }
///         let next = [position + 0.1 * velocity, velocity + 0.1 * force.clamp(-1.0, 1.0)];
///         let terminated = next[0].abs() > 2.0;
///         observation.copy_from_slice(&next);
///         self.state = (!terminated).then_some(next);
///         Ok(Transition { reward: -position * position, terminated })
///     }
/// }
///
/// // One trajectory under a linear policy: the mass stays near the origin for all 100 steps.
/// let mut random = SmallRng::seed_from_u64(1);
/// let mut mass = PointMass::default();
/// let mut observation = [0.0; 2];
/// mass.reset(&mut random, &mut observation);
/// for _ in 0..100 {
///     let action = [-observation[0] - 2.0 * observation[1]];
///     assert!(!mass.step(&action, &mut random, &mut observation)?.terminated);
/// }
/// assert!(observation[0].abs() < 0.01);
///
/// // The same type in a batch.
/// let mut batch = EnvironmentBatch::new(vec![Box::new(PointMass::default()), Box::new(PointMass::default())])?;
/// let mut observations = [0.0; 4];
/// batch.reset(|index| SmallRng::seed_from_u64(index as u64), &mut observations);
/// assert_ne!(observations[..2], observations[2..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Environment: Send {
    /// The name in the registry, for messages.
    fn name(&self) -> &'static str;

    /// Number of components of an observation.
    fn observation_size(&self) -> usize;

    /// Number of components of an action.
    fn action_size(&self) -> usize;

    /// Starts a trajectory: draws the initial state from `random` and writes the first observation.
    ///
    /// Never reseeds: the initial state is a function of the generator's state alone, and successive resets from one
    /// generator differ. A running trajectory is abandoned.
    fn reset(&mut self, random: &mut dyn Rng, observation: &mut [f64]);

    /// Makes one step and writes the next observation.
    ///
    /// `random` is this step's own stream; deterministic dynamics leave it alone.
    ///
    /// # Errors
    /// [`StepError::NotRunning`] after the end of a trajectory, [`StepError::ActionNotFinite`] for a NaN or infinite
    /// action; both leave the trajectory as it was. [`StepError::Unstable`] when the dynamics or a simulator gave up,
    /// which ends the trajectory. No error writes an observation.
    fn step(
        &mut self,
        action: &[f64],
        random: &mut dyn Rng,
        observation: &mut [f64],
    ) -> Result<Transition, StepError>;

    /// Which of this crate's [`Dynamics`](crate::Dynamics) it follows, if it does: a kernel that computes them may then
    /// take its place.
    fn built_in(&self) -> Option<BuiltIn> {
        None
    }

    /// Adds a picture of the present state to an empty scene: shapes, what lies behind them, where the camera looks.
    ///
    /// An environment may draw nothing while no trajectory is running, or at all.
    fn draw(&self, scene: &mut Scene) {
        let _ = scene;
    }
}

//! LQR: steer a linear system to the origin at the least quadratic cost.
//!
//! Two decoupled dimensions without units. The observation is the state `s`, the action `a` has two components and is
//! not clipped:
//!
//! ```text
//! s' = A s + B a ,        A = B = 0.9 I
//! ```
//!
//! - **Reset**: both components from `U(-3, 3)`.
//! - **Reward**: `-(sᵀ Q s + aᵀ R a)` of the state before the step, `Q = diag(0.9, 0.1)`, `R = diag(0.1, 0.9)`.
//! - **End**: never.
//! - **Source**: the side task of RT-PG's authors (arXiv 2506.06178), in two dimensions and without bounds on state and
//!   action.
//!
//! The expected return of every linear Gaussian policy, and the best one, are known in closed form: see [`optimum`].

use crate::drawing::{Scene, classic};
use crate::{BuiltIn, Computed, Dynamics, Outcome, Real};

pub mod optimum;

/// Name in the registry.
pub const NAME: &str = "lqr";
/// Components of an observation.
pub const OBSERVATION_SIZE: usize = 2;
/// Components of an action.
pub const ACTION_SIZE: usize = 2;
/// Steps of a trajectory unless the caller says otherwise.
pub const HORIZON: usize = 50;

/// The diagonal of `A`, by which the state reaches the next state.
pub const STATE_DYNAMICS: [f64; 2] = [0.9, 0.9];
/// The diagonal of `B`, by which the action reaches the next state.
pub const ACTION_DYNAMICS: [f64; 2] = [0.9, 0.9];
/// The diagonal of `Q`, the cost of the state.
pub const STATE_COST: [f64; 2] = [0.9, 0.1];
/// The diagonal of `R`, the cost of the action.
pub const ACTION_COST: [f64; 2] = [0.1, 0.9];
/// Bound of every component of an initial state.
pub const RESET_BOUND: f64 = 3.0;

/// The state `s`.
pub type State<R = f64> = [R; OBSERVATION_SIZE];
/// The action `a`.
pub type Action<R = f64> = [R; ACTION_SIZE];

/// The state after a step.
pub fn dynamics<R: Real>(state: State<R>, action: Action<R>) -> State<R> {
    let c = R::constant;
    std::array::from_fn(|d| c(STATE_DYNAMICS[d]) * state[d] + c(ACTION_DYNAMICS[d]) * action[d])
}

/// The reward of a step from `state`.
pub fn reward<R: Real>(state: State<R>, action: Action<R>) -> R {
    -weighted_square(STATE_COST, state) - weighted_square(ACTION_COST, action)
}

/// `xᵀ diag(weights) x`.
fn weighted_square<R: Real>(weights: [f64; 2], x: [R; 2]) -> R {
    R::constant(weights[0]) * x[0] * x[0] + R::constant(weights[1]) * x[1] * x[1]
}

/// The environment; see the [module](self) for its definition.
pub type LinearQuadratic = Computed<Equations, OBSERVATION_SIZE, OBSERVATION_SIZE, ACTION_SIZE>;

/// The functions that define the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equations;

impl Dynamics<OBSERVATION_SIZE, OBSERVATION_SIZE, ACTION_SIZE> for Equations {
    const NAME: &'static str = NAME;
    const BUILT_IN: BuiltIn = BuiltIn::LinearQuadratic;

    fn reset<R: Real>(mut uniform: impl FnMut(f64, f64) -> R) -> State<R> {
        std::array::from_fn(|_| uniform(-RESET_BOUND, RESET_BOUND))
    }

    fn observe<R: Real>(state: State<R>) -> State<R> {
        state
    }

    fn step<R: Real>(state: State<R>, action: Action<R>) -> Outcome<R, OBSERVATION_SIZE> {
        let next = dynamics(state, action);
        Outcome { next, reward: reward(state, action), terminated: false.into() }
    }

    fn draw(state: State, scene: &mut Scene) {
        classic::linear_quadratic(state, scene);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, assert_resets_uniformly, generator};
    use crate::{Environment, StepError};

    /// `0.9 · 1² + 0.1 · 2² + 0.1 · 0.5² + 0.9 · 1² = 2.225`.
    #[test]
    fn steps_as_computed_by_hand() {
        let mut environment = LinearQuadratic::at([1.0, 2.0]);
        let mut observation = [0.0; OBSERVATION_SIZE];
        let transition = environment.step(&[0.5, -1.0], &mut generator(0), &mut observation).unwrap();
        assert_close(&observation, &[1.35, 0.9], 1e-15);
        assert_close(&[transition.reward], &[-2.225], 1e-15);
        assert!(!transition.terminated);
    }

    #[test]
    fn an_overflow_ends_the_trajectory_with_an_error() {
        let mut environment = LinearQuadratic::at([1.0, 2.0]);
        let error = environment.step(&[1e200, 0.0], &mut generator(0), &mut [0.0; 2]).unwrap_err();
        let reason = "the reward is -inf".to_owned();
        assert_eq!(error, StepError::Unstable { environment: "lqr", reason });
        let error = environment.step(&[0.0, 0.0], &mut generator(0), &mut [0.0; 2]).unwrap_err();
        assert_eq!(error, StepError::NotRunning { environment: "lqr" });
    }

    #[test]
    fn resets_in_a_square() {
        for index in 0..OBSERVATION_SIZE {
            assert_resets_uniformly(&mut LinearQuadratic::new(), index, [-3.0, 3.0], |o| o[index]);
        }
    }

    fn plane() -> impl Strategy<Value = [f64; 2]> {
        [-10.0..10.0, -10.0..10.0]
    }

    proptest! {
        #[test]
        fn is_linear_in_the_state_and_quadratic_in_the_cost(s in plane(), a in plane(), k in -5.0..5.0) {
            let (scaled_s, scaled_a) = (s.map(|x| k * x), a.map(|x| k * x));
            assert_close(&dynamics(scaled_s, scaled_a), &dynamics(s, a).map(|x| k * x), 1e-12);
            assert_close(&[reward(scaled_s, scaled_a)], &[k * k * reward(s, a)], 1e-12);
            prop_assert!(reward(s, a) <= 0.0);
        }
    }
}

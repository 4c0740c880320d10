//! Continuous mountain car: rock a car with a weak engine out of a valley.
//!
//! | component of the state | symbol | unit |
//! |---|---|---|
//! | 0 | position `x` | track units |
//! | 1 | velocity `v` | track units a step |
//!
//! The observation is the state, the action is one throttle without a unit. With `u = clip(a, ±1)`:
//!
//! ```text
//! v' = clip(v + 0.0015 u - 0.0025 cos 3x, ±0.07)
//! x' = clip(x + v', -1.2, 0.6)
//! ```
//!
//! and `v'` becomes 0 when the car hits the left wall.
//!
//! - **Reset**: `x` from `U(-0.6, -0.4)`, `v = 0`.
//! - **Reward**: `-0.1 a²` with the action as it came, not clipped; 100 more for the step that reaches the goal.
//! - **End**: `x ≥ 0.45` with `v ≥ 0`.
//! - **Source**: `MountainCarContinuous-v0` of Gymnasium,
//!   `gymnasium/envs/classic_control/continuous_mountain_car.py`, which rounds its state to single precision after
//!   every step; here it stays in double precision.

use crate::drawing::{Scene, classic};
use crate::{BuiltIn, Computed, Dynamics, Outcome, Real};

/// Name in the registry.
pub const NAME: &str = "mountain-car";
/// Components of an observation.
pub const OBSERVATION_SIZE: usize = 2;
/// Components of an action.
pub const ACTION_SIZE: usize = 1;
/// Steps of a trajectory unless the caller says otherwise.
pub const HORIZON: usize = 999;

/// Change of velocity in a step under full throttle.
pub const POWER: f64 = 0.0015;
/// Largest change of velocity in a step from the slope.
pub const GRAVITY: f64 = 0.0025;
/// Largest throttle; stronger ones are clipped.
pub const MAX_THROTTLE: f64 = 1.0;
/// Largest speed; faster ones are clipped.
pub const MAX_SPEED: f64 = 0.07;
/// Position of the left wall.
pub const MIN_POSITION: f64 = -1.2;
/// Right end of the track.
pub const MAX_POSITION: f64 = 0.6;
/// Position from which on the goal is reached.
pub const GOAL_POSITION: f64 = 0.45;
/// Reward for reaching the goal.
pub const GOAL_REWARD: f64 = 100.0;
/// Cost of an action, times its square.
pub const ACTION_COST: f64 = 0.1;
/// Range of the position of an initial state.
pub const RESET_POSITION: [f64; 2] = [-0.6, -0.4];

/// Position and velocity.
pub type State<R = f64> = [R; OBSERVATION_SIZE];
/// The throttle.
pub type Action<R = f64> = [R; ACTION_SIZE];

/// The state after a step.
pub fn dynamics<R: Real>([position, velocity]: State<R>, [action]: Action<R>) -> State<R> {
    let c = R::constant;
    let throttle = action.clamp(-MAX_THROTTLE, MAX_THROTTLE);
    let acceleration = throttle * POWER - c(GRAVITY) * (c(3.0) * position).cos();
    let velocity = (velocity + acceleration).clamp(-MAX_SPEED, MAX_SPEED);
    let position = (position + velocity).clamp(MIN_POSITION, MAX_POSITION);
    let stopped = position.is_at_most(MIN_POSITION) & velocity.is_less(0.0);
    [position, R::select(stopped, c(0.0), velocity)]
}

/// Whether a trajectory ends in `state`, at the goal.
pub fn is_terminal<R: Real>([position, velocity]: State<R>) -> R::Truth {
    position.is_at_least(GOAL_POSITION) & velocity.is_at_least(0.0)
}

/// The reward of a step that led to the state `next`.
pub fn reward<R: Real>([action]: Action<R>, next: State<R>) -> R {
    let c = R::constant;
    let goal = R::select(is_terminal(next), c(GOAL_REWARD), c(0.0));
    goal - c(ACTION_COST) * action * action
}

/// The environment; see the [module](self) for its definition.
pub type ContinuousMountainCar = Computed<Equations, OBSERVATION_SIZE, OBSERVATION_SIZE, ACTION_SIZE>;

/// The functions that define the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equations;

impl Dynamics<OBSERVATION_SIZE, OBSERVATION_SIZE, ACTION_SIZE> for Equations {
    const NAME: &'static str = NAME;
    const BUILT_IN: BuiltIn = BuiltIn::MountainCar;

    fn reset<R: Real>(mut uniform: impl FnMut(f64, f64) -> R) -> State<R> {
        let [low, high] = RESET_POSITION;
        [uniform(low, high), R::constant(0.0)]
    }

    fn observe<R: Real>(state: State<R>) -> State<R> {
        state
    }

    fn step<R: Real>(state: State<R>, action: Action<R>) -> Outcome<R, OBSERVATION_SIZE> {
        let next = dynamics(state, action);
        Outcome { next, reward: reward(action, next), terminated: is_terminal(next) }
    }

    fn draw(state: State, scene: &mut Scene) {
        classic::mountain_car(state, scene);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, assert_resets_uniformly, generator};
    use crate::{Environment, StepError};

    /// Transitions of Gymnasium 1.4.0's `MountainCarContinuous-v0`: state, action, next state (in single precision),
    /// reward, terminated. The third hits the wall, the fifth pays for an action beyond the range.
    const RECORDED: [(State, f64, State, f64, bool); 6] = [
        ([-0.5, 0.0], 0.5, [-0.499_426_841_735_839_84, 0.000_573_156_983_591_616_2], -0.025, false),
        ([-0.5, 0.02], -3.0, [-0.481_676_846_742_63, 0.018_323_156_982_660_294], -0.9, false),
        ([-1.19, -0.05], -1.0, [-1.2, 0.0], -0.1, false),
        ([0.44, 0.03], 1.0, [0.470_879_554_748_535_16, 0.030_879_560_858_011_246], 99.9, true),
        ([0.44, 0.03], 2.0, [0.470_879_554_748_535_16, 0.030_879_560_858_011_246], 99.6, true),
        ([0.3, 0.0699], 1.0, [0.369_845_986_366_272, 0.069_845_974_445_343_02], -0.1, false),
    ];

    #[test]
    fn steps_as_gymnasium_does() {
        for (state, action, next, reward, terminated) in RECORDED {
            let mut environment = ContinuousMountainCar::at(state);
            let mut observation = [0.0; OBSERVATION_SIZE];
            let transition = environment.step(&[action], &mut generator(0), &mut observation).unwrap();
            assert_close(&observation, &next, 3e-8);
            assert_close(&[transition.reward], &[reward], 1e-14);
            assert_eq!(transition.terminated, terminated);
        }
    }

    /// Gymnasium 1.4.0 needs 106 steps when the throttle always follows the velocity, with a return of 89.4.
    #[test]
    fn reaches_the_goal_by_rocking() {
        let mut environment = ContinuousMountainCar::at([-0.5, 0.0]);
        let mut observation = [-0.5, 0.0];
        let mut rewards = Vec::new();
        loop {
            let action = if observation[1] >= 0.0 { 1.0 } else { -1.0 };
            let transition = environment.step(&[action], &mut generator(0), &mut observation).unwrap();
            rewards.push(transition.reward);
            if transition.terminated {
                break;
            }
        }
        assert_eq!(rewards.len(), 106);
        assert_close(&[rewards.iter().sum()], &[89.4], 1e-12);
        assert_close(&observation, &[0.502_086_579_799_652_1, 0.064_047_664_403_915_4], 1e-5);
    }

    #[test]
    fn ends_on_the_goal_but_not_rolling_back_over_it() {
        assert!(is_terminal([0.45, 0.0]));
        assert!(!is_terminal([0.449_999, 0.07]));
        assert!(!is_terminal([0.5, -1e-9]));
    }

    #[test]
    fn an_action_whose_square_overflows_ends_the_trajectory_with_an_error() {
        let mut environment = ContinuousMountainCar::at([-0.5, 0.0]);
        let error = environment.step(&[1e200], &mut generator(0), &mut [0.0; 2]).unwrap_err();
        let reason = "the reward is -inf".to_owned();
        assert_eq!(error, StepError::Unstable { environment: "mountain-car", reason });
        let error = environment.step(&[0.0], &mut generator(0), &mut [0.0; 2]).unwrap_err();
        assert_eq!(error, StepError::NotRunning { environment: "mountain-car" });
    }

    #[test]
    fn resets_at_rest_in_the_valley() {
        let mut environment = ContinuousMountainCar::new();
        assert_resets_uniformly(&mut environment, 0, [-0.6, -0.4], |o| o[0]);
        let mut observation = [f64::NAN; OBSERVATION_SIZE];
        environment.reset(&mut generator(0), &mut observation);
        assert_eq!(observation[1], 0.0);
    }

    proptest! {
        #[test]
        fn clips_throttle_position_and_speed(x in -1.2..0.6, v in -0.07..0.07, excess in 0.0..1e6_f64) {
            for limit in [-1.0_f64, 1.0] {
                let next = dynamics([x, v], [limit + excess.copysign(limit)]);
                prop_assert_eq!(next, dynamics([x, v], [limit]));
                prop_assert!((-1.2..=0.6).contains(&next[0]) && next[1].abs() <= 0.07);
                prop_assert!(next[0] > -1.2 || next[1] >= 0.0, "moves into the wall");
            }
        }
    }
}

//! Pendulum: swing a rod up with a weak motor and hold it there.
//!
//! | component of the state | symbol | unit |
//! |---|---|---|
//! | 0 | angle `θ` from upright, not wrapped | rad |
//! | 1 | angular velocity `θ̇` | rad/s |
//!
//! The observation is `[cos θ, sin θ, θ̇]`, the action is one torque in N m. With the torque `u = clip(a, ±2)`, gravity
//! `g`, mass `m`, length `l` and time step `Δ`:
//!
//! ```text
//! θ̇' = clip(θ̇ + (3 g / (2 l) sin θ + 3 / (m l²) u) Δ, ±8)
//! θ' = θ + θ̇' Δ
//! ```
//!
//! - **Reset**: `θ` from `U(-π, π)`, `θ̇` from `U(-1, 1)`.
//! - **Reward**: `-(θ² + 0.1 θ̇² + 0.001 u²)` of the state before the step, with `θ` wrapped into `[-π, π)`.
//! - **End**: never.
//! - **Source**: `Pendulum-v1` of Gymnasium, `gymnasium/envs/classic_control/pendulum.py`, which rounds its observation
//!   (not its state) to single precision.

use std::f64::consts::PI;

use crate::drawing::{Scene, classic};
use crate::{BuiltIn, Computed, Dynamics, Outcome, Real};

/// Name in the registry.
pub const NAME: &str = "pendulum";
/// Components of an observation.
pub const OBSERVATION_SIZE: usize = 3;
/// Components of an action.
pub const ACTION_SIZE: usize = 1;
/// Steps of a trajectory unless the caller says otherwise.
pub const HORIZON: usize = 200;

/// Acceleration of gravity, m/s².
pub const GRAVITY: f64 = 10.0;
/// Mass of the rod, kg.
pub const MASS: f64 = 1.0;
/// Length of the rod, m.
pub const LENGTH: f64 = 1.0;
/// Largest torque, N m; stronger ones are clipped.
pub const MAX_TORQUE: f64 = 2.0;
/// Largest angular velocity, rad/s; faster ones are clipped.
pub const MAX_SPEED: f64 = 8.0;
/// Duration of a step, s.
pub const TIME_STEP: f64 = 0.05;
/// Bound of the angle of an initial state, rad.
pub const RESET_ANGLE: f64 = PI;
/// Bound of the angular velocity of an initial state, rad/s.
pub const RESET_SPEED: f64 = 1.0;

/// Angle and angular velocity.
pub type State<R = f64> = [R; 2];
/// The torque on the rod.
pub type Action<R = f64> = [R; ACTION_SIZE];

/// The state one [`TIME_STEP`] later.
pub fn dynamics<R: Real>([angle, speed]: State<R>, [action]: Action<R>) -> State<R> {
    let c = R::constant;
    let torque = action.clamp(-MAX_TORQUE, MAX_TORQUE);
    let acceleration =
        c(3.0 * GRAVITY / (2.0 * LENGTH)) * angle.sin() + c(3.0 / (MASS * LENGTH * LENGTH)) * torque;
    let speed = (speed + acceleration * TIME_STEP).clamp(-MAX_SPEED, MAX_SPEED);
    [angle + speed * TIME_STEP, speed]
}

/// The reward of a step from `state`.
pub fn reward<R: Real>([angle, speed]: State<R>, [action]: Action<R>) -> R {
    let c = R::constant;
    let torque = action.clamp(-MAX_TORQUE, MAX_TORQUE);
    let angle = wrap(angle);
    -(angle * angle + c(0.1) * speed * speed + c(0.001) * torque * torque)
}

/// The observation of `state`.
pub fn observe<R: Real>([angle, speed]: State<R>) -> [R; OBSERVATION_SIZE] {
    [angle.cos(), angle.sin(), speed]
}

/// The same angle in `[-π, π]`.
pub fn wrap<R: Real>(angle: R) -> R {
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

/// The environment; see the [module](self) for its definition.
pub type Pendulum = Computed<Equations, 2, OBSERVATION_SIZE, ACTION_SIZE>;

/// The functions that define the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equations;

impl Dynamics<2, OBSERVATION_SIZE, ACTION_SIZE> for Equations {
    const NAME: &'static str = NAME;
    const BUILT_IN: BuiltIn = BuiltIn::Pendulum;

    fn reset<R: Real>(mut uniform: impl FnMut(f64, f64) -> R) -> State<R> {
        [uniform(-RESET_ANGLE, RESET_ANGLE), uniform(-RESET_SPEED, RESET_SPEED)]
    }

    fn observe<R: Real>(state: State<R>) -> [R; OBSERVATION_SIZE] {
        observe(state)
    }

    fn step<R: Real>(state: State<R>, action: Action<R>) -> Outcome<R, 2> {
        let next = dynamics(state, action);
        Outcome { next, reward: reward(state, action), terminated: false.into() }
    }

    fn draw(state: State, scene: &mut Scene) {
        classic::pendulum(state, scene);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Environment;
    use crate::testing::{assert_close, assert_resets_uniformly, generator};

    /// Transitions of Gymnasium 1.4.0's `Pendulum-v1`: state, action, next state, reward.
    const RECORDED: [(State, f64, State, f64); 4] = [
        ([0.3, -0.4], 1.5, [0.302_332_007_749_800_24, 0.046_640_154_996_004_66], -0.108_249_999_999_999_9),
        ([PI, 0.0], -2.0, [3.126_592_653_589_793, -0.299_999_999_999_999_93], -9.873_604_401_089_358),
        ([4.0, 7.9], 5.0, [4.381_619_906_425_953, 7.632_398_128_519_054], -11.457_935_146_920_741),
        ([-10.0, -3.0], -0.25, [-10.131_474_208_341_649, -2.629_484_166_832_972_5], -7.486_320_630_246_277),
    ];

    #[test]
    fn steps_as_gymnasium_does() {
        for (state, action, next, reward) in RECORDED {
            let mut environment = Pendulum::at(state);
            let mut observation = [0.0; OBSERVATION_SIZE];
            let transition = environment.step(&[action], &mut generator(0), &mut observation).unwrap();
            assert_close(&environment.state().unwrap(), &next, 1e-14);
            assert_close(&observation, &[next[0].cos(), next[0].sin(), next[1]], 1e-14);
            assert_close(&[transition.reward], &[reward], 1e-14);
            assert!(!transition.terminated);
        }
    }

    /// The return and the last state of Gymnasium 1.4.0 under the same torques; the start is hanging, so the motion is
    /// not chaotic.
    #[test]
    fn follows_gymnasium_over_a_whole_trajectory() {
        let mut environment = Pendulum::at([3.0, 0.5]);
        let mut observation = [0.0; OBSERVATION_SIZE];
        let mut return_ = 0.0;
        for step in 0..HORIZON {
            let action = 2.0 * (0.1 * step as f64).sin();
            return_ += environment.step(&[action], &mut generator(0), &mut observation).unwrap().reward;
        }
        assert_close(&[return_], &[-1_538.871_159_033_688], 1e-10);
        assert_close(
            &environment.state().unwrap(),
            &[3.680_494_364_437_767_5, -0.306_387_334_564_363_3],
            1e-10,
        );
    }

    #[test]
    fn resets_over_the_whole_circle() {
        let mut environment = Pendulum::new();
        assert_resets_uniformly(&mut environment, 0, [-PI, PI], |o| o[1].atan2(o[0]));
        assert_resets_uniformly(&mut environment, 1, [-1.0, 1.0], |o| o[2]);
    }

    proptest! {
        #[test]
        fn wraps_to_the_same_angle_in_the_principal_range(angle in -100.0..100.0) {
            let wrapped = wrap(angle);
            prop_assert!((-PI..PI).contains(&wrapped));
            assert_close(&[wrapped.cos(), wrapped.sin()], &[angle.cos(), angle.sin()], 1e-12);
        }

        #[test]
        fn clips_torque_and_speed(angle in -4.0..4.0, speed in -8.0..8.0, excess in 0.0..1e6_f64) {
            let state = [angle, speed];
            for limit in [-2.0_f64, 2.0] {
                let beyond = [limit + excess.copysign(limit)];
                prop_assert_eq!(dynamics(state, beyond), dynamics(state, [limit]));
                prop_assert_eq!(reward(state, beyond), reward(state, [limit]));
                prop_assert!(dynamics(state, beyond)[1].abs() <= 8.0);
            }
            prop_assert_ne!(reward(state, [1.9]), reward(state, [2.0]));
        }

        /// The worst reward is `-(π² + 0.1 8² + 0.001 2²)`.
        #[test]
        fn rewards_within_the_documented_bounds(angle in -9.0..9.0, speed in -8.0..8.0, action in -9.0..9.0) {
            let reward = reward([angle, speed], [action]);
            prop_assert!((-16.273_604_402..=0.0).contains(&reward));
        }
    }
}

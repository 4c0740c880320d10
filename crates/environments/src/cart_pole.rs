//! Continuous CartPole: push a cart so that the pole hinged on it stays upright.
//!
//! | component of the state | symbol | unit |
//! |---|---|---|
//! | 0 | cart position `x` | m |
//! | 1 | cart velocity `ẋ` | m/s |
//! | 2 | pole angle `φ` from upright, positive to the right | rad |
//! | 3 | pole angular velocity `φ̇` | rad/s |
//!
//! The observation is the state, the action is one force in N. With the force `F = clip(a, ±10)`, gravity `g`, pole
//! mass `m`, total mass `M` and half the pole's length `l`:
//!
//! ```text
//! u = (F + m l φ̇² sin φ) / M
//! φ̈ = (g sin φ - u cos φ) / (l (4/3 - m cos² φ / M))
//! ẍ = u - m l φ̈ cos φ / M
//! ```
//!
//! integrated by the explicit Euler method: positions move with the velocities from before the step.
//!
//! - **Reset**: every component from `U(-0.05, 0.05)`.
//! - **Reward**: 1 for every step, the failing one included; the return is the length of the trajectory.
//! - **End**: `|x| > 2.4` or `|φ| > 12°`.
//! - **Source**: the CartPole of Gymnasium (`CartPole-v1`, after Barto, Sutton and Anderson 1983) with the force as a
//!   real number in place of two choices.

use crate::drawing::{Scene, classic};
use crate::{BuiltIn, Computed, Dynamics, Outcome, Real};

/// Name in the registry.
pub const NAME: &str = "cartpole";
/// Components of an observation.
pub const OBSERVATION_SIZE: usize = 4;
/// Components of an action.
pub const ACTION_SIZE: usize = 1;
/// Steps of a trajectory unless the caller says otherwise.
pub const HORIZON: usize = 200;

/// Acceleration of gravity, m/s².
pub const GRAVITY: f64 = 9.8;
/// Mass of the cart, kg.
pub const CART_MASS: f64 = 1.0;
/// Mass of the pole, kg.
pub const POLE_MASS: f64 = 0.1;
/// Half the length of the pole, m.
pub const POLE_HALF_LENGTH: f64 = 0.5;
/// Largest force, N; stronger ones are clipped.
pub const MAX_FORCE: f64 = 10.0;
/// Duration of a step, s.
pub const TIME_STEP: f64 = 0.02;
/// The trajectory ends beyond this distance from the centre, m.
pub const MAX_POSITION: f64 = 2.4;
/// The trajectory ends beyond this angle from upright (12 degrees), rad.
pub const MAX_ANGLE: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
/// Bound of every component of an initial state.
pub const RESET_BOUND: f64 = 0.05;
/// Reward of every step.
pub const REWARD: f64 = 1.0;

const TOTAL_MASS: f64 = CART_MASS + POLE_MASS;
const POLE_MASS_LENGTH: f64 = POLE_MASS * POLE_HALF_LENGTH;

/// Cart position, cart velocity, pole angle, pole angular velocity.
pub type State<R = f64> = [R; OBSERVATION_SIZE];
/// The force on the cart.
pub type Action<R = f64> = [R; ACTION_SIZE];

/// The state one [`TIME_STEP`] later.
pub fn dynamics<R: Real>(
    [position, velocity, angle, angular_velocity]: State<R>,
    [action]: Action<R>,
) -> State<R> {
    let c = R::constant;
    let force = action.clamp(-MAX_FORCE, MAX_FORCE);
    let (sin, cos) = angle.sin_cos();
    let push = (force + c(POLE_MASS_LENGTH) * angular_velocity * angular_velocity * sin) / TOTAL_MASS;
    let angular_acceleration = (c(GRAVITY) * sin - push * cos)
        / (c(POLE_HALF_LENGTH) * (c(4.0 / 3.0) - c(POLE_MASS) * cos * cos / TOTAL_MASS));
    let acceleration = push - c(POLE_MASS_LENGTH) * angular_acceleration * cos / TOTAL_MASS;
    [
        position + c(TIME_STEP) * velocity,
        velocity + c(TIME_STEP) * acceleration,
        angle + c(TIME_STEP) * angular_velocity,
        angular_velocity + c(TIME_STEP) * angular_acceleration,
    ]
}

/// Whether a trajectory ends in `state`.
pub fn is_terminal<R: Real>([position, _, angle, _]: State<R>) -> R::Truth {
    position.abs().is_greater(MAX_POSITION) | angle.abs().is_greater(MAX_ANGLE)
}

/// The environment; see the [module](self) for its definition.
pub type ContinuousCartPole = Computed<Equations, OBSERVATION_SIZE, OBSERVATION_SIZE, ACTION_SIZE>;

/// The functions that define the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Equations;

impl Dynamics<OBSERVATION_SIZE, OBSERVATION_SIZE, ACTION_SIZE> for Equations {
    const NAME: &'static str = NAME;
    const BUILT_IN: BuiltIn = BuiltIn::CartPole;

    fn reset<R: Real>(mut uniform: impl FnMut(f64, f64) -> R) -> State<R> {
        std::array::from_fn(|_| uniform(-RESET_BOUND, RESET_BOUND))
    }

    fn observe<R: Real>(state: State<R>) -> State<R> {
        state
    }

    fn step<R: Real>(state: State<R>, action: Action<R>) -> Outcome<R, OBSERVATION_SIZE> {
        let next = dynamics(state, action);
        Outcome { next, reward: R::constant(REWARD), terminated: is_terminal(next) }
    }

    fn draw(state: State, scene: &mut Scene) {
        classic::cart_pole(state, scene);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_close, assert_resets_uniformly, generator};
    use crate::{Environment, Transition};

    /// Transitions of Gymnasium 1.4.0's `CartPole-v1` whose force was set to the action: state, action, next state,
    /// terminated.
    const RECORDED: [(State, f64, State, bool); 4] = [
        ([0.0; 4], 1.0, [0.0, 0.019_512_195_121_951_22, 0.0, -0.029_268_292_682_926_828], false),
        (
            [0.1, -0.5, 0.05, 0.7],
            -3.25,
            [0.090_000_000_000_000_01, -0.564_094_905_401_112_3, 0.064, 0.810_716_080_954_606_9],
            false,
        ),
        (
            [-2.3, -1.5, -0.2, -1.25],
            10.0,
            [-2.329_999_999_999_999_6, -1.302_957_544_971_821_6, -0.225, -1.598_080_870_137_103_4],
            true,
        ),
        (
            [1.0, 2.0, 0.15, -2.0],
            0.5,
            [1.04, 2.008_206_764_538_086_6, 0.109_999_999_999_999_99, -1.968_237_106_180_798_8],
            false,
        ),
    ];

    #[test]
    fn steps_as_gymnasium_does() {
        for (state, action, next, terminated) in RECORDED {
            let mut environment = ContinuousCartPole::at(state);
            let mut observation = [0.0; OBSERVATION_SIZE];
            let transition = environment.step(&[action], &mut generator(0), &mut observation).unwrap();
            assert_close(&observation, &next, 1e-14);
            assert_eq!(transition, Transition { reward: 1.0, terminated });
        }
    }

    /// Gymnasium 1.4.0 counts 22 steps for the same start and a constant force of 2 N.
    #[test]
    fn the_return_is_the_length_of_a_fall() {
        let mut environment = ContinuousCartPole::at([0.01, -0.02, 0.03, 0.04]);
        let mut observation = [0.0; OBSERVATION_SIZE];
        let mut return_ = 0.0;
        loop {
            let transition = environment.step(&[2.0], &mut generator(0), &mut observation).unwrap();
            return_ += transition.reward;
            if transition.terminated {
                break;
            }
        }
        assert_eq!(return_, 22.0);
        let end = [
            0.181_233_037_242_612_47,
            0.848_205_143_712_284_6,
            -0.218_387_067_033_025_43,
            -1.491_443_938_582_859_7,
        ];
        assert_close(&observation, &end, 1e-12);
    }

    #[test]
    fn ends_beyond_the_bounds_and_not_on_them() {
        let twelve_degrees = 0.209_439_510_239_319_53;
        assert!(!is_terminal([2.4, 0.0, -twelve_degrees, 0.0]));
        assert!(is_terminal([2.400_001, 0.0, 0.0, 0.0]));
        assert!(is_terminal([-2.400_001, 0.0, 0.0, 0.0]));
        assert!(is_terminal([0.0, 0.0, 0.209_440, 0.0]));
        assert!(is_terminal([0.0, 0.0, -0.209_440, 0.0]));
        assert!(!is_terminal([0.0, 1e9, 0.0, -1e9]));
    }

    #[test]
    fn resets_near_the_upright_rest() {
        for index in 0..OBSERVATION_SIZE {
            assert_resets_uniformly(&mut ContinuousCartPole::new(), index, [-0.05, 0.05], |o| o[index]);
        }
    }

    fn states() -> impl Strategy<Value = State> {
        [-2.4..2.4, -3.0..3.0, -0.2..0.2, -3.0..3.0]
    }

    proptest! {
        /// The accelerations solve the equations of motion of a cart and a uniform rod:
        /// `M ẍ + m l (φ̈ cos φ - φ̇² sin φ) = F` and `m l ẍ cos φ + 4/3 m l² φ̈ = m g l sin φ`.
        #[test]
        fn satisfies_the_equations_of_motion(state in states(), force in -10.0..10.0) {
            let next = dynamics(state, [force]);
            let (x_dd, phi_dd) = ((next[1] - state[1]) / 0.02, (next[3] - state[3]) / 0.02);
            let (sin, cos) = state[2].sin_cos();
            let cart = 1.1 * x_dd + 0.05 * (phi_dd * cos - state[3] * state[3] * sin);
            let pole = 0.05 * x_dd * cos + 4.0 / 3.0 * 0.025 * phi_dd;
            assert_close(&[cart, pole], &[force, 0.05 * 9.8 * sin], 1e-10);
        }

        #[test]
        fn is_symmetric_to_its_mirror_image(state in states(), action in -20.0..20.0_f64) {
            let mirrored = dynamics(state.map(|value| -value), [-action]);
            prop_assert_eq!(mirrored.map(|value| -value), dynamics(state, [action]));
        }

        #[test]
        fn clips_the_force(state in states(), excess in 0.0..1e6_f64) {
            prop_assert_eq!(dynamics(state, [10.0 + excess]), dynamics(state, [10.0]));
            prop_assert_eq!(dynamics(state, [-10.0 - excess]), dynamics(state, [-10.0]));
            prop_assert_ne!(dynamics(state, [9.99]), dynamics(state, [10.0]));
        }
    }
}

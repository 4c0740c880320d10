//! Environments as pure functions, for kernels that compute the same.

use crate::Real;

/// An environment that is computed here, with `S` components of the state, `O` of an observation and `A` of an action.
///
/// Its functions are generic over the number type: [`Environment`](crate::Environment) evaluates them in `f64`, and
/// whoever writes a GPU kernel evaluates them once over the kernel's own values. A trajectory starts with
/// [`reset`](Self::reset); the policy sees [`observe`](Self::observe) of the state; a [`step`](Self::step) is
/// deterministic.
pub trait Dynamics<const S: usize, const O: usize, const A: usize>: 'static {
    /// Draws an initial state; `uniform(low, high)` is the next number from `U(low, high)`.
    fn reset<R: Real>(uniform: impl FnMut(f64, f64) -> R) -> [R; S];

    /// The observation of `state`.
    fn observe<R: Real>(state: [R; S]) -> [R; O];

    /// One step from `state` under the raw `action`.
    fn step<R: Real>(state: [R; S], action: [R; A]) -> Outcome<R, S>;
}

/// What a step leads to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<R: Real, const S: usize> {
    /// The state after the step.
    pub next: [R; S],
    /// The reward of the step.
    pub reward: R,
    /// Whether `next` is a terminal state.
    pub terminated: R::Truth,
}

/// The environments whose [`Dynamics`] are known, by which a kernel is found for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuiltIn {
    /// [`crate::cart_pole::ContinuousCartPole`].
    CartPole,
    /// [`crate::pendulum::Pendulum`].
    Pendulum,
    /// [`crate::mountain_car::ContinuousMountainCar`].
    MountainCar,
    /// [`crate::linear_quadratic::LinearQuadratic`].
    LinearQuadratic,
}

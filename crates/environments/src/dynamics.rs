//! Environments as pure functions, for kernels that compute the same.

use std::marker::PhantomData;

use rand::{Rng, RngExt};

use crate::drawing::Scene;
use crate::{Environment, Real, StepError, Transition, contract};

/// An environment that is computed here, with `S` components of the state, `O` of an observation and `A` of an action.
///
/// Its functions are generic over the number type: [`Computed`] evaluates them in `f64` as an [`Environment`], and
/// whoever writes a GPU kernel evaluates them once over the kernel's own values. A trajectory starts with
/// [`reset`](Self::reset); the policy sees [`observe`](Self::observe) of the state; a [`step`](Self::step) is
/// deterministic.
pub trait Dynamics<const S: usize, const O: usize, const A: usize>: Send + 'static {
    /// Name in configurations.
    const NAME: &'static str;

    /// By which a kernel is found.
    const BUILT_IN: BuiltIn;

    /// Draws an initial state; `uniform(low, high)` is the next number from `U(low, high)`.
    fn reset<R: Real>(uniform: impl FnMut(f64, f64) -> R) -> [R; S];

    /// The observation of `state`.
    fn observe<R: Real>(state: [R; S]) -> [R; O];

    /// One step from `state` under the raw `action`.
    fn step<R: Real>(state: [R; S], action: [R; A]) -> Outcome<R, S>;

    /// Draws a state.
    fn draw(state: [f64; S], scene: &mut Scene);
}

/// The environment that [`Dynamics`] define.
#[derive(Clone, Debug, Default)]
pub struct Computed<D, const S: usize, const O: usize, const A: usize> {
    /// `None` while no trajectory is running.
    state: Option<[f64; S]>,
    dynamics: PhantomData<D>,
}

impl<D, const S: usize, const O: usize, const A: usize> Computed<D, S, O, A> {
    /// An environment that waits for its first reset.
    pub const fn new() -> Self {
        Self { state: None, dynamics: PhantomData }
    }

    /// An environment in the middle of a trajectory.
    pub const fn at(state: [f64; S]) -> Self {
        Self { state: Some(state), dynamics: PhantomData }
    }

    /// The state, while a trajectory is running.
    pub const fn state(&self) -> Option<[f64; S]> {
        self.state
    }
}

impl<D: Dynamics<S, O, A>, const S: usize, const O: usize, const A: usize> Environment
    for Computed<D, S, O, A>
{
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn observation_size(&self) -> usize {
        O
    }

    fn action_size(&self) -> usize {
        A
    }

    fn reset(&mut self, random: &mut dyn Rng, observation: &mut [f64]) {
        let state = D::reset(|low, high| random.random_range(low..high));
        contract::write(D::NAME, observation, &D::observe(state));
        self.state = Some(state);
    }

    fn step(
        &mut self,
        action: &[f64],
        _random: &mut dyn Rng,
        observation: &mut [f64],
    ) -> Result<Transition, StepError> {
        let (state, action) = contract::admit(D::NAME, self.state, action)?;
        let Outcome { next, reward, terminated } = D::step(state, action);
        // A failed check ends the trajectory.
        self.state = None;
        contract::check_finite(D::NAME, "the reward", &[reward])?;
        contract::check_finite(D::NAME, "the state", &next)?;
        contract::write(D::NAME, observation, &D::observe(next));
        self.state = (!terminated).then_some(next);
        Ok(Transition { reward, terminated })
    }

    fn built_in(&self) -> Option<BuiltIn> {
        Some(D::BUILT_IN)
    }

    fn draw(&self, scene: &mut Scene) {
        if let Some(state) = self.state {
            D::draw(state, scene);
        }
    }
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

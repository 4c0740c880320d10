//! Dynamics of the environments in a kernel.

#![expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "an array of a kernel is not the handle that it is on the host"
)]

use std::marker::PhantomData;

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::Scope;
use burn_cubecl::cubecl::prelude::*;
use environments::{Dynamics, Outcome};

use super::random::{philox4x32_10, unit_uniform};
use super::traced::Traced;

/// Blocks of one stream are counted above the purpose's eight bits.
pub(super) const BLOCK: u32 = crate::random::BLOCK;

/// Dynamics with their sizes, as a kernel is generic over them.
pub(super) trait Simulation: Send + Sync + 'static {
    /// Components of the state.
    const STATE: usize;
    /// Components of an observation.
    const OBSERVATION: usize;
    /// Components of an action.
    const ACTION: usize;

    /// Uniform numbers that a reset takes.
    fn draws() -> usize;

    /// Writes the instructions of a reset.
    fn reset<'a>(uniform: &mut dyn FnMut(f64, f64) -> Traced<'a>) -> Vec<Traced<'a>>;

    /// Writes the instructions of an observation.
    fn observe<'a>(state: &[Traced<'a>]) -> Vec<Traced<'a>>;

    /// Writes the instructions of a step: next state, reward, whether it is terminal.
    fn step<'a>(
        state: &[Traced<'a>],
        action: &[Traced<'a>],
    ) -> (Vec<Traced<'a>>, NativeExpand<f32>, NativeExpand<bool>);
}

/// The [`Simulation`] of dynamics `D`.
pub(super) struct Simulated<D, const S: usize, const O: usize, const A: usize>(PhantomData<fn() -> D>);

impl<D: Dynamics<S, O, A>, const S: usize, const O: usize, const A: usize> Simulation
    for Simulated<D, S, O, A>
{
    const STATE: usize = S;
    const OBSERVATION: usize = O;
    const ACTION: usize = A;

    fn draws() -> usize {
        let mut count = 0;
        D::reset(|low, _| {
            count += 1;
            low
        });
        count
    }

    fn reset<'a>(uniform: &mut dyn FnMut(f64, f64) -> Traced<'a>) -> Vec<Traced<'a>> {
        D::reset(uniform).to_vec()
    }

    fn observe<'a>(state: &[Traced<'a>]) -> Vec<Traced<'a>> {
        D::observe(std::array::from_fn(|index| state[index])).to_vec()
    }

    fn step<'a>(
        state: &[Traced<'a>],
        action: &[Traced<'a>],
    ) -> (Vec<Traced<'a>>, NativeExpand<f32>, NativeExpand<bool>) {
        let (state, action) =
            (std::array::from_fn(|index| state[index]), std::array::from_fn(|index| action[index]));
        let Outcome { next, reward, terminated } = D::step(state, action);
        (next.to_vec(), reward.operand(), terminated.operand())
    }
}

/// Writes a fresh state of the stream `(purpose, iteration, trajectory, 0)`.
#[cube]
pub(super) fn reset<E: Simulation>(
    state: &mut Array<f32>,
    words: &mut Array<u32>,
    key_low: u32,
    key_high: u32,
    purpose: u32,
    iteration: u32,
    trajectory: u32,
) {
    let draws = comptime!(E::draws());
    let mut uniforms = Array::<f32>::new(comptime!(E::draws().next_multiple_of(2)));
    #[unroll]
    for pair in 0..comptime!(draws.div_ceil(2)) {
        words[0] = purpose + comptime!(pair as u32 * BLOCK);
        words[1] = iteration;
        words[2] = trajectory;
        words[3] = u32::new(0);
        philox4x32_10(words, key_low, key_high);
        uniforms[comptime!(2 * pair)] = unit_uniform(words[0], words[1]);
        uniforms[comptime!(2 * pair + 1)] = unit_uniform(words[2], words[3]);
    }
    write_reset::<E>(&uniforms, state);
}

#[cube]
fn write_reset<E: Simulation>(uniforms: &Array<f32>, state: &mut Array<f32>) {
    intrinsic!(|scope| {
        let mut index = 0;
        let values = E::reset(&mut |low, high| {
            index += 1;
            let unit = Traced::Value(scope, get::expand(scope, uniforms, index - 1));
            unit * (high - low) + low
        });
        write(scope, &values, state);
    });
}

/// Writes the observation of `state`.
#[cube]
pub(super) fn observe<E: Simulation>(state: &Array<f32>, observation: &mut Array<f32>) {
    intrinsic!(|scope| {
        let values = E::observe(&read(scope, state, E::STATE));
        write(scope, &values, observation);
    });
}

/// Writes the state after `action`; returns the reward and whether that state is terminal.
#[cube]
pub(super) fn step<E: Simulation>(
    state: &Array<f32>,
    action: &Array<f32>,
    next: &mut Array<f32>,
) -> (f32, bool) {
    intrinsic!(|scope| {
        let (values, reward, terminated) =
            E::step(&read(scope, state, E::STATE), &read(scope, action, E::ACTION));
        write(scope, &values, next);
        (reward, terminated)
    })
}

fn read<'a>(scope: &'a Scope, array: &NativeExpand<Array<f32>>, length: usize) -> Vec<Traced<'a>> {
    (0..length).map(|index| Traced::Value(scope, get::expand(scope, array, index))).collect()
}

fn write(scope: &Scope, values: &[Traced<'_>], array: &mut NativeExpand<Array<f32>>) {
    for (index, value) in values.iter().enumerate() {
        set::expand(scope, array, index, value.operand());
    }
}

// Without the name, the place in the array would be returned and read later.
#[allow(clippy::let_and_return, reason = "the name makes a value of it")]
#[cube]
fn get(array: &Array<f32>, #[comptime] index: usize) -> f32 {
    let value = array[index];
    value
}

#[cube]
fn set(array: &mut Array<f32>, #[comptime] index: usize, value: f32) {
    array[index] = value;
}

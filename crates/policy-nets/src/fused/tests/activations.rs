//! Accuracy of the nonlinearities over the whole range of single precision.

use super::super::{
    InstructionSet,
    activation::{Activate, Relu, Tanh},
    vectors::{Kernel, Vectors},
};

/// Applies an activation to numbers, whole vectors.
struct Apply<'a, A> {
    values: &'a mut [f32],
    activation: std::marker::PhantomData<A>,
}

impl<A: Activate> Kernel for Apply<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        for value in V::vectors_mut(self.values) {
            *value = A::value(simd, *value);
        }
    }
}

fn apply<A: Activate>(instructions: InstructionSet, inputs: &[f32]) -> Vec<f32> {
    let mut values = inputs.to_vec();
    instructions.dispatch(Apply::<A> { values: &mut values, activation: std::marker::PhantomData });
    values
}

/// Every 97th bit pattern of finite numbers of both signs.
fn sample() -> Vec<f32> {
    let positive = (0..0x7f80_0000_u32).step_by(97).map(f32::from_bits);
    let mut values: Vec<f32> = positive.clone().chain(positive.map(|x| -x)).collect();
    values.truncate(values.len() / 16 * 16);
    values
}

#[test]
fn tanh_is_accurate_to_a_few_units_in_the_last_place() {
    let inputs = sample();
    for instructions in InstructionSet::available() {
        let (mut largest_ulp, mut largest_error) = (0.0_f64, 0.0_f64);
        for (&x, value) in inputs.iter().zip(apply::<Tanh>(instructions, &inputs)) {
            let exact = f64::from(x).tanh();
            let error = (f64::from(value) - exact).abs();
            // Spacing of single-precision numbers at the exact value; subnormal results count from the least normal.
            let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
            largest_ulp = largest_ulp.max(error / 2.0_f64.powi(exponent - 23));
            largest_error = largest_error.max(error);
            assert!(value.abs() <= 1.0, "tanh({x}) = {value}");
        }
        assert!(largest_ulp < 5.5, "{largest_ulp} ulp");
        assert!(largest_error < 3.2e-7, "{largest_error:e}");
    }
}

#[test]
fn tanh_is_odd() {
    let inputs = sample();
    let negated: Vec<f32> = inputs.iter().map(|x| -x).collect();
    for instructions in InstructionSet::available() {
        for (a, b) in apply::<Tanh>(instructions, &inputs).iter().zip(apply::<Tanh>(instructions, &negated)) {
            assert_eq!(*a, -b);
        }
    }
}

#[test]
fn infinities_saturate_and_nan_stays() {
    let mut inputs = vec![0.0; 16];
    inputs[..3].copy_from_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    for instructions in InstructionSet::available() {
        let tanh = apply::<Tanh>(instructions, &inputs);
        assert!(tanh[0] > 1.0 - 4e-7 && tanh[0] <= 1.0 && tanh[1] == -tanh[0]);
        assert!(tanh[2].is_nan());
        assert_eq!(tanh[3..], [0.0; 13]);
        let relu = apply::<Relu>(instructions, &inputs);
        assert_eq!(relu[..2], [f32::INFINITY, 0.0]);
        assert!(relu[2].is_nan());
    }
}

#[test]
fn relu_is_the_positive_part() {
    let inputs = sample();
    for instructions in InstructionSet::available() {
        for (&x, value) in inputs.iter().zip(apply::<Relu>(instructions, &inputs)) {
            assert_eq!(value, x.max(0.0));
        }
    }
}

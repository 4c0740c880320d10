//! Numbers of a kernel that is being written.

use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub};

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::Scope;
use burn_cubecl::cubecl::prelude::*;
use environments::Real;

use super::functions::sin_cos;

/// A number of a kernel in `f32`: each operation on it adds an instruction to the kernel.
#[derive(Clone, Copy)]
pub(super) enum Traced<'a> {
    /// Known while the kernel is written.
    Constant(f64),
    /// Known when the kernel runs.
    Value(&'a Scope, NativeExpand<f32>),
}

impl<'a> Traced<'a> {
    /// The number as an operand.
    pub(super) fn operand(self) -> NativeExpand<f32> {
        match self {
            Self::Constant(value) => (value as f32).into(),
            Self::Value(_, value) => value,
        }
    }

    fn unary(self, known: fn(f64) -> f64, write: fn(&Scope, NativeExpand<f32>) -> NativeExpand<f32>) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(known(value)),
            Self::Value(scope, value) => Self::Value(scope, write(scope, value)),
        }
    }

    fn binary(
        self,
        other: Self,
        known: fn(f64, f64) -> f64,
        write: fn(&Scope, NativeExpand<f32>, NativeExpand<f32>) -> NativeExpand<f32>,
    ) -> Self {
        match (self, other) {
            (Self::Constant(left), Self::Constant(right)) => Self::Constant(known(left, right)),
            (Self::Value(scope, _), _) | (_, Self::Value(scope, _)) => {
                Self::Value(scope, write(scope, self.operand(), other.operand()))
            }
        }
    }

    fn compare(
        self,
        bound: f64,
        known: fn(&f64, &f64) -> bool,
        write: fn(&Scope, NativeExpand<f32>, NativeExpand<f32>) -> NativeExpand<bool>,
    ) -> TracedTruth<'a> {
        match self {
            Self::Constant(value) => TracedTruth::Constant(known(&value, &bound)),
            Self::Value(scope, value) => {
                TracedTruth::Value(scope, write(scope, value, Self::Constant(bound).operand()))
            }
        }
    }
}

/// Whether something holds in a kernel.
#[derive(Clone, Copy)]
pub(super) enum TracedTruth<'a> {
    /// Known while the kernel is written.
    Constant(bool),
    /// Known when the kernel runs.
    Value(&'a Scope, NativeExpand<bool>),
}

impl TracedTruth<'_> {
    /// The truth as an operand.
    pub(super) fn operand(self) -> NativeExpand<bool> {
        match self {
            Self::Constant(value) => value.into(),
            Self::Value(_, value) => value,
        }
    }
}

/// Instructions, each by its name.
mod write {
    use super::{cubecl, sin_cos};
    use cubecl::prelude::*;

    #[cube]
    pub(super) fn neg(x: f32) -> f32 {
        -x
    }

    #[cube]
    pub(super) fn add(x: f32, y: f32) -> f32 {
        x + y
    }

    #[cube]
    pub(super) fn sub(x: f32, y: f32) -> f32 {
        x - y
    }

    #[cube]
    pub(super) fn mul(x: f32, y: f32) -> f32 {
        x * y
    }

    #[cube]
    pub(super) fn div(x: f32, y: f32) -> f32 {
        x / y
    }

    #[cube]
    pub(super) fn sin(x: f32) -> f32 {
        let (sine, _) = sin_cos(x);
        sine
    }

    #[cube]
    pub(super) fn cos(x: f32) -> f32 {
        let (_, cosine) = sin_cos(x);
        cosine
    }

    #[cube]
    pub(super) fn abs(x: f32) -> f32 {
        x.abs()
    }

    #[cube]
    pub(super) fn floor(x: f32) -> f32 {
        x.floor()
    }

    #[cube]
    pub(super) fn clip(x: f32, low: f32, high: f32) -> f32 {
        clamp(x, low, high)
    }

    #[cube]
    pub(super) fn lt(x: f32, y: f32) -> bool {
        x < y
    }

    #[cube]
    pub(super) fn le(x: f32, y: f32) -> bool {
        x <= y
    }

    #[cube]
    pub(super) fn gt(x: f32, y: f32) -> bool {
        x > y
    }

    #[cube]
    pub(super) fn ge(x: f32, y: f32) -> bool {
        x >= y
    }

    #[cube]
    pub(super) fn both(x: bool, y: bool) -> bool {
        x && y
    }

    #[cube]
    pub(super) fn either(x: bool, y: bool) -> bool {
        x || y
    }

    #[cube]
    pub(super) fn choose(condition: bool, yes: f32, no: f32) -> f32 {
        select(condition, yes, no)
    }
}

macro_rules! operator {
    ($operator:ident, $method:ident) => {
        impl $operator for Traced<'_> {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                self.binary(other, $operator::$method, write::$method::expand)
            }
        }

        impl $operator<f64> for Traced<'_> {
            type Output = Self;

            fn $method(self, other: f64) -> Self {
                $operator::$method(self, Self::Constant(other))
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Neg for Traced<'_> {
    type Output = Self;

    fn neg(self) -> Self {
        self.unary(Neg::neg, write::neg::expand)
    }
}

impl From<bool> for TracedTruth<'_> {
    fn from(value: bool) -> Self {
        Self::Constant(value)
    }
}

impl BitAnd for TracedTruth<'_> {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        match (self, other) {
            (Self::Constant(known), unknown) | (unknown, Self::Constant(known)) => {
                if known {
                    unknown
                } else {
                    Self::Constant(false)
                }
            }
            (Self::Value(scope, left), Self::Value(_, right)) => {
                Self::Value(scope, write::both::expand(scope, left, right))
            }
        }
    }
}

impl BitOr for TracedTruth<'_> {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        match (self, other) {
            (Self::Constant(known), unknown) | (unknown, Self::Constant(known)) => {
                if known {
                    Self::Constant(true)
                } else {
                    unknown
                }
            }
            (Self::Value(scope, left), Self::Value(_, right)) => {
                Self::Value(scope, write::either::expand(scope, left, right))
            }
        }
    }
}

impl<'a> Real for Traced<'a> {
    type Truth = TracedTruth<'a>;

    fn constant(value: f64) -> Self {
        Self::Constant(value)
    }

    fn sin(self) -> Self {
        self.unary(f64::sin, write::sin::expand)
    }

    fn cos(self) -> Self {
        self.unary(f64::cos, write::cos::expand)
    }

    fn sin_cos(self) -> (Self, Self) {
        match self {
            Self::Constant(_) => (self.sin(), self.cos()),
            Self::Value(scope, value) => {
                let (sine, cosine) = sin_cos::expand(scope, value);
                (Self::Value(scope, sine), Self::Value(scope, cosine))
            }
        }
    }

    fn abs(self) -> Self {
        self.unary(f64::abs, write::abs::expand)
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        match self {
            Self::Constant(value) => Self::Constant(value.clamp(low, high)),
            Self::Value(scope, value) => {
                let bound = |bound| Self::Constant(bound).operand();
                Self::Value(scope, write::clip::expand(scope, value, bound(low), bound(high)))
            }
        }
    }

    fn rem_euclid(self, divisor: f64) -> Self {
        let quotient = (self / divisor).unary(f64::floor, write::floor::expand);
        self - quotient * divisor
    }

    fn is_less(self, bound: f64) -> TracedTruth<'a> {
        self.compare(bound, PartialOrd::lt, write::lt::expand)
    }

    fn is_at_most(self, bound: f64) -> TracedTruth<'a> {
        self.compare(bound, PartialOrd::le, write::le::expand)
    }

    fn is_greater(self, bound: f64) -> TracedTruth<'a> {
        self.compare(bound, PartialOrd::gt, write::gt::expand)
    }

    fn is_at_least(self, bound: f64) -> TracedTruth<'a> {
        self.compare(bound, PartialOrd::ge, write::ge::expand)
    }

    fn select(condition: TracedTruth<'a>, yes: Self, no: Self) -> Self {
        match condition {
            TracedTruth::Constant(known) => {
                if known {
                    yes
                } else {
                    no
                }
            }
            TracedTruth::Value(scope, condition) => {
                Self::Value(scope, write::choose::expand(scope, condition, yes.operand(), no.operand()))
            }
        }
    }
}

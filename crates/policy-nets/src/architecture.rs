//! The shape of a policy's mean network and the order of its flat parameter vector.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nonlinearity of the hidden layers. The output layer is linear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Hyperbolic tangent.
    #[default]
    Tanh,
    /// `max(x, 0)`.
    Relu,
}

/// Shape of the mean network: a multilayer perceptron of any depth. Without hidden layers it is the linear policy.
///
/// # Flat parameter vector
/// For each layer in turn the weight `[out, in]` in row-major order, then the bias `[out]` when there are biases;
/// last the logarithm of the standard deviation `[action_size]` when it is learned. This is the order in which
/// PyTorch's `parameters_to_vector` lists an `nn.Sequential` of `nn.Linear`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Architecture {
    /// Number of components of an observation.
    pub observation_size: usize,
    /// Number of components of an action.
    pub action_size: usize,
    /// Widths of the hidden layers, first to last.
    pub hidden: Vec<usize>,
    /// Nonlinearity after every hidden layer.
    pub activation: Activation,
    /// Whether every layer adds a bias.
    pub bias: bool,
}

/// The layers, such as `4 -> 32 -> 1`.
impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.observation_size)?;
        self.hidden.iter().chain([&self.action_size]).try_for_each(|width| write!(formatter, " -> {width}"))
    }
}

impl Architecture {
    /// Sizes of the layers as `(inputs, outputs)`, first to last.
    pub fn layers(&self) -> Vec<(usize, usize)> {
        let mut sizes = vec![self.observation_size];
        sizes.extend(&self.hidden);
        sizes.push(self.action_size);
        sizes.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// Number of parameters of the mean network (weights and biases; without the standard deviation).
    pub fn parameter_count(&self) -> usize {
        self.layers().iter().map(|(inputs, outputs)| outputs * (inputs + usize::from(self.bias))).sum()
    }
}

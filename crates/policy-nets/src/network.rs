//! The mean network as a function of its flat parameter vector.

use burn::tensor::{Tensor, activation};

use crate::{Activation, Architecture};

/// Means of the policy with flat `parameters` (`[P]`, the order of [`Architecture`]) at `observations` (`[rows, O]`).
///
/// Layers are views into the flat vector, so one backward pass gives the flat gradient.
pub(crate) fn mean(
    architecture: &Architecture,
    parameters: &Tensor<1>,
    observations: Tensor<2>,
) -> Tensor<2> {
    let layers = architecture.layers();
    let last = layers.len() - 1;
    let mut start = 0;
    let mut features = observations;
    for (index, (inputs, outputs)) in layers.into_iter().enumerate() {
        let weight = parameters.clone().slice(start..start + inputs * outputs).reshape([outputs, inputs]);
        start += inputs * outputs;
        features = features.matmul(weight.transpose());
        if architecture.bias {
            let bias = parameters.clone().slice(start..start + outputs);
            start += outputs;
            features = features + bias.unsqueeze::<2>();
        }
        if index < last {
            features = match architecture.activation {
                Activation::Tanh => features.tanh(),
                Activation::Relu => activation::relu(features),
            };
        }
    }
    features
}

//! The policy: multilayer perceptron and diagonal Gaussian, with backpropagation by hand.

/// Nonlinearity of hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`.
    Relu,
}

/// One affine layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// `[out][in]`.
    pub weight: Vec<Vec<f64>>,
    /// `[out]`.
    pub bias: Option<Vec<f64>>,
}

/// A Gaussian policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Layers, first to last; all but the last are followed by the activation.
    pub layers: Vec<Layer>,
    /// Nonlinearity.
    pub activation: Activation,
    /// `ln sigma` of every action component.
    pub log_std: Vec<f64>,
    /// Whether `log_std` is among the parameters.
    pub learned: bool,
}

impl Policy {
    /// `mu(s)`.
    pub fn mean(&self, observation: &[f64]) -> Vec<f64> {
        self.features(observation).pop().unwrap_or_default()
    }

    /// The observation, every layer's output after its activation, and last the mean.
    fn features(&self, observation: &[f64]) -> Vec<Vec<f64>> {
        let mut features = vec![observation.to_vec()];
        for (index, layer) in self.layers.iter().enumerate() {
            let mut output = layer.apply(&features[index], |x| x);
            if index + 1 < self.layers.len() {
                for value in &mut output {
                    *value = match self.activation {
                        Activation::Tanh => value.tanh(),
                        Activation::Relu => value.max(0.0),
                    };
                }
            }
            features.push(output);
        }
        features
    }

    /// `sum |w| |h| + |b|` of the last layer: how large the terms of the mean are before they cancel.
    pub fn mean_scale(&self, observation: &[f64]) -> Vec<f64> {
        let features = self.features(observation);
        let last = self.layers.len() - 1;
        self.layers[last].apply(&features[last], f64::abs)
    }

    /// Every trainable number: weights `[out, in]` and bias of each layer in turn, then `log_std` when it is learned.
    pub fn flat(&self) -> Vec<f64> {
        let mut flat = vec![];
        for layer in &self.layers {
            flat.extend(layer.weight.iter().flatten());
            flat.extend(layer.bias.iter().flatten());
        }
        if self.learned {
            flat.extend(&self.log_std);
        }
        flat
    }

    /// The policy of the same shape with the given trainable numbers.
    #[must_use]
    pub fn with_flat(&self, flat: &[f64]) -> Self {
        let mut values = flat.iter().copied();
        let mut policy = self.clone();
        for layer in &mut policy.layers {
            let weights = layer.weight.iter_mut().flatten();
            weights
                .chain(layer.bias.iter_mut().flatten())
                .for_each(|slot| *slot = values.next().unwrap_or(f64::NAN));
        }
        if policy.learned {
            policy.log_std.iter_mut().for_each(|slot| *slot = values.next().unwrap_or(f64::NAN));
        }
        policy
    }

    /// `grad ln pi(a|s)` in the order of [`flat`](Self::flat).
    pub fn score(&self, observation: &[f64], action: &[f64]) -> Vec<f64> {
        let features = self.features(observation);
        let mean = &features[self.layers.len()];
        // The derivative by the output of the layer at hand, starting with (a - mu) / sigma^2.
        let mut upstream: Vec<f64> =
            (0..action.len()).map(|d| (action[d] - mean[d]) / (2.0 * self.log_std[d]).exp()).collect();
        let mut by_layer = vec![];
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let input = &features[index];
            let mut gradient: Vec<f64> =
                upstream.iter().flat_map(|up| input.iter().map(move |x| up * x)).collect();
            if layer.bias.is_some() {
                gradient.extend(&upstream);
            }
            by_layer.push(gradient);
            if index > 0 {
                upstream = (0..input.len())
                    .map(|i| {
                        let back: f64 = (0..upstream.len()).map(|o| layer.weight[o][i] * upstream[o]).sum();
                        back * match self.activation {
                            Activation::Tanh => 1.0 - input[i] * input[i],
                            Activation::Relu => f64::from(u8::from(input[i] > 0.0)),
                        }
                    })
                    .collect();
            }
        }
        let mut score: Vec<f64> = by_layer.into_iter().rev().flatten().collect();
        if self.learned {
            let squares =
                (0..action.len()).map(|d| (action[d] - mean[d]).powi(2) / (2.0 * self.log_std[d]).exp());
            score.extend(squares.map(|square| square - 1.0));
        }
        score
    }
}

impl Layer {
    /// `W x + b`, with every number passed through `change`.
    fn apply(&self, input: &[f64], change: impl Fn(f64) -> f64) -> Vec<f64> {
        let bias = |output: usize| self.bias.as_ref().map_or(0.0, |bias| change(bias[output]));
        let row =
            |weights: &[f64]| weights.iter().zip(input).map(|(w, x)| change(*w) * change(*x)).sum::<f64>();
        self.weight.iter().enumerate().map(|(output, weights)| row(weights) + bias(output)).collect()
    }
}

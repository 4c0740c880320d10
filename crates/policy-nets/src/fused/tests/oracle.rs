//! The formulas in double precision, one sample at a time.

use crate::{Activation, Architecture};

/// Outputs of every layer for one observation, the observation first.
pub(super) fn layer_outputs(
    architecture: &Architecture,
    parameters: &[f64],
    observation: &[f64],
) -> Vec<Vec<f64>> {
    let layers = architecture.layers();
    let mut outputs = vec![observation.to_vec()];
    let mut rest = parameters;
    for (index, &(inputs, size)) in layers.iter().enumerate() {
        let (weight, after) = rest.split_at(inputs * size);
        let (bias, after) = after.split_at(if architecture.bias { size } else { 0 });
        rest = after;
        let input = &outputs[index];
        let output = (0..size).map(|o| {
            let sum: f64 = (0..inputs).map(|i| weight[o * inputs + i] * input[i]).sum();
            let sum = sum + bias.get(o).unwrap_or(&0.0);
            match architecture.activation {
                _ if index + 1 == layers.len() => sum,
                Activation::Tanh => sum.tanh(),
                Activation::Relu => sum.max(0.0),
            }
        });
        outputs.push(output.collect());
    }
    outputs
}

pub(super) fn means(architecture: &Architecture, parameters: &[f64], observation: &[f64]) -> Vec<f64> {
    layer_outputs(architecture, parameters, observation).pop().unwrap()
}

/// Adds the gradient of `sum_d mean_gradient[d] mean_d` to `gradient`.
pub(super) fn accumulate_vjp(
    architecture: &Architecture,
    parameters: &[f64],
    observation: &[f64],
    mean_gradient: &[f64],
    gradient: &mut [f64],
) {
    let outputs = layer_outputs(architecture, parameters, observation);
    let layers = architecture.layers();
    let mut end = architecture.parameter_count();
    let mut delta = mean_gradient.to_vec();
    for (index, &(inputs, size)) in layers.iter().enumerate().rev() {
        let bias_start = end - if architecture.bias { size } else { 0 };
        let start = bias_start - inputs * size;
        for o in 0..size {
            for i in 0..inputs {
                gradient[start + o * inputs + i] += delta[o] * outputs[index][i];
            }
            if architecture.bias {
                gradient[bias_start + o] += delta[o];
            }
        }
        let before: Vec<f64> = (0..inputs)
            .map(|i| {
                let sum: f64 = (0..size).map(|o| delta[o] * parameters[start + o * inputs + i]).sum();
                let h = outputs[index][i];
                match architecture.activation {
                    Activation::Tanh => sum * (1.0 - h * h),
                    Activation::Relu if h > 0.0 => sum,
                    Activation::Relu => 0.0,
                }
            })
            .collect();
        delta = before;
        end = start;
    }
}

/// Logarithm of the normal density.
pub(super) fn log_density(value: f64, mean: f64, log_std: f64) -> f64 {
    let z = (value - mean) / log_std.exp();
    -0.5 * z * z - log_std - 0.5 * std::f64::consts::TAU.ln()
}

/// Logarithm of the exponentiated order-2 Renyi divergence `E_b[(t / b)^2]` of two normal distributions.
pub(super) fn log_second_moment((mean_t, log_t): (f64, f64), (mean_b, log_b): (f64, f64)) -> f64 {
    let (variance_t, variance_b) = ((2.0 * log_t).exp(), (2.0 * log_b).exp());
    let excess = 2.0 * variance_b - variance_t;
    if excess <= 0.0 {
        return f64::INFINITY;
    }
    2.0 * log_b - log_t - 0.5 * excess.ln() + (mean_t - mean_b).powi(2) / excess
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    #[test]
    fn the_gradient_agrees_with_central_differences() {
        let mut random = Random(1);
        for activation in [Activation::Tanh, Activation::Relu] {
            let architecture = architecture(3, &[5, 4], 2, activation, true);
            let parameters = to_f64(&parameters(&architecture, &mut random));
            let (observation, direction) = (to_f64(&random.numbers(3, 1.0)), to_f64(&random.numbers(2, 1.0)));
            let mut gradient = vec![0.0; parameters.len()];
            accumulate_vjp(&architecture, &parameters, &observation, &direction, &mut gradient);
            let value = |parameters: &[f64]| -> f64 {
                means(&architecture, parameters, &observation)
                    .iter()
                    .zip(&direction)
                    .map(|(m, d)| m * d)
                    .sum()
            };
            let differences: Vec<f64> = (0..parameters.len())
                .map(|index| {
                    let (mut above, mut below) = (parameters.clone(), parameters.clone());
                    above[index] += 1e-6;
                    below[index] -= 1e-6;
                    (value(&above) - value(&below)) / 2e-6
                })
                .collect();
            let distance = relative_distance(&gradient, &differences);
            assert!(distance < 1e-8, "{activation:?}: {distance:e}");
        }
    }

    #[test]
    fn the_second_moment_agrees_with_numerical_integration() {
        let (target, behaviour) = ((0.7, -0.3), (0.1, -0.2));
        let step = 1e-3;
        let integral: f64 = (-20_000..20_000)
            .map(|index| {
                let x = f64::from(index) * step;
                let log_ratio = log_density(x, target.0, target.1) - log_density(x, behaviour.0, behaviour.1);
                (2.0 * log_ratio + log_density(x, behaviour.0, behaviour.1)).exp() * step
            })
            .sum();
        assert!((integral.ln() - log_second_moment(target, behaviour)).abs() < 1e-9);
        assert_eq!(log_second_moment((0.0, 0.5), (0.0, 0.0)), f64::INFINITY);
    }
}

//! What kernels are checked against: the policy and the RT-PG estimate in plain float64, straight from the formulas of
//! docs/method.md.

use policy_nets::{Activation, PolicyState};

use crate::trajectories::{BatchShape, Trajectories};

/// The observation, every layer's output after its activation, and last the mean.
fn features(policy: &PolicyState, observation: &[f64]) -> Vec<Vec<f64>> {
    let architecture = &policy.architecture;
    let sizes = architecture.layers();
    let mut features = vec![observation.to_vec()];
    let mut rest = policy.mean_parameters.as_slice();
    for (index, (inputs, outputs)) in sizes.iter().enumerate() {
        let (weight, others) = rest.split_at(inputs * outputs);
        let (bias, others) = others.split_at(if architecture.bias { *outputs } else { 0 });
        rest = others;
        let input = &features[index];
        let output = weight.chunks_exact(*inputs).enumerate().map(|(output, row)| {
            let sum: f64 = row.iter().zip(input).map(|(w, x)| w * x).sum();
            let sum = sum + bias.get(output).copied().unwrap_or(0.0);
            match architecture.activation {
                _ if index + 1 == sizes.len() => sum,
                Activation::Tanh => sum.tanh(),
                Activation::Relu => sum.max(0.0),
            }
        });
        features.push(output.collect());
    }
    features
}

/// Mean of the action.
pub(super) fn mean(policy: &PolicyState, observation: &[f64]) -> Vec<f64> {
    features(policy, observation).pop().unwrap_or_default()
}

/// Adds `coefficient * grad ln pi(a|s)`, with respect to the mean network's parameters and a learned `ln sigma` behind them, to
/// `gradient`.
fn add_score(
    policy: &PolicyState,
    observation: &[f64],
    action: &[f64],
    coefficient: f64,
    gradient: &mut [f64],
) {
    let architecture = &policy.architecture;
    let features = features(policy, observation);
    let sizes = architecture.layers();
    let mean = &features[sizes.len()];
    let mut upstream: Vec<f64> = (0..action.len())
        .map(|d| coefficient * (action[d] - mean[d]) / (2.0 * policy.log_std[d]).exp())
        .collect();
    let mut end = policy.mean_parameters.len();
    for (d, sum) in gradient[end..].iter_mut().enumerate() {
        let scaled = (action[d] - mean[d]) / policy.log_std[d].exp();
        *sum += coefficient * (scaled * scaled - 1.0);
    }
    for (index, (inputs, outputs)) in sizes.iter().enumerate().rev() {
        let start = end - outputs * (inputs + usize::from(architecture.bias));
        let input = &features[index];
        let weight = &policy.mean_parameters[start..start + inputs * outputs];
        for (output, up) in upstream.iter().enumerate() {
            for (position, x) in input.iter().enumerate() {
                gradient[start + output * inputs + position] += up * x;
            }
            if architecture.bias {
                gradient[start + inputs * outputs + output] += up;
            }
        }
        if index > 0 {
            upstream = (0..*inputs)
                .map(|i| {
                    let back: f64 = upstream
                        .iter()
                        .enumerate()
                        .map(|(output, up)| weight[output * inputs + i] * up)
                        .sum();
                    back * match architecture.activation {
                        Activation::Tanh => 1.0 - input[i] * input[i],
                        Activation::Relu => f64::from(u8::from(input[i] > 0.0)),
                    }
                })
                .collect();
        }
        end = start;
    }
}

/// Numbers `[size]` of one step of a batch.
fn row(values: &[f32], size: usize, place: usize) -> Vec<f64> {
    values[place * size..(place + 1) * size].iter().map(|value| f64::from(*value)).collect()
}

/// The RT-PG estimate at `target` with adaptive coefficients (`c` = 1), the closed form of the divergence and no discount:
/// equations (4) to (13).
pub(super) fn rt_pg(target: &PolicyState, batches: &[Trajectories]) -> Vec<f64> {
    let BatchShape { trajectories, horizon, observation_size, action_size } = batches[0].shape;
    let mut log_ratios = vec![];
    let mut moments = vec![];
    for batch in batches {
        let mut exponents = vec![];
        for trajectory in 0..trajectories {
            let (mut log_ratio, mut exponent) = (0.0, 0.0);
            for step in 0..batch.lengths[trajectory] as usize {
                let place = trajectory * horizon + step;
                let mean = mean(target, &row(&batch.observations, observation_size, place));
                let behaviour = row(&batch.means, action_size, place);
                let action = row(&batch.actions, action_size, place);
                for d in 0..action_size {
                    let (log_std, of_batch) = (target.log_std[d], f64::from(batch.log_std[d]));
                    let [from_target, from_behaviour] = [(mean[d], log_std), (behaviour[d], of_batch)]
                        .map(|(mean, log_std)| 0.5 * ((action[d] - mean) / log_std.exp()).powi(2) + log_std);
                    log_ratio += from_target - from_behaviour;
                    let spread = 2.0 * (2.0 * of_batch).exp() - (2.0 * log_std).exp();
                    let shift = behaviour[d] - mean[d];
                    exponent += 2.0 * of_batch - log_std - 0.5 * spread.ln() + shift * shift / spread;
                }
            }
            log_ratios.push(log_ratio);
            exponents.push(exponent);
        }
        moments.push(exponents.iter().map(|exponent| exponent.exp()).sum::<f64>() / trajectories as f64);
    }
    let total: f64 = moments.iter().map(|moment| moment.powf(-0.5)).sum();
    let samples = (batches.len() * trajectories) as f64;
    let mut gradient = vec![0.0; target.flat_parameters().len()];
    for (index, batch) in batches.iter().enumerate() {
        let alpha = moments[index].powf(-0.5) / total;
        let lambda = (1.0 / (moments[index] * samples)).sqrt().min(1.0);
        for trajectory in 0..trajectories {
            let ratio = log_ratios[index * trajectories + trajectory].exp();
            let weight = alpha / ((1.0 - lambda) * ratio + lambda) / trajectories as f64;
            let mut to_go = 0.0;
            for step in (0..batch.lengths[trajectory] as usize).rev() {
                let place = trajectory * horizon + step;
                to_go += batch.rewards[place];
                let observation = row(&batch.observations, observation_size, place);
                let action = row(&batch.actions, action_size, place);
                add_score(target, &observation, &action, weight * to_go, &mut gradient);
            }
        }
    }
    gradient
}

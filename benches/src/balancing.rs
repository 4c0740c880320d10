//! Policies that balance the pole to the horizon, so that a roll-out consists of steps and not of resets.

use policy_nets::{Activation, Architecture, Deviation, PolicyState};

/// State feedback on position, velocity, angle and angular velocity.
const GAINS: [f64; 4] = [1.0, 2.0, 30.0, 6.0];

/// The feedback as a linear policy, variance 0.3.
pub fn linear() -> PolicyState {
    policy(&[], GAINS.to_vec())
}

/// The same feedback through one unit of each of two hidden layers of 32; the cost is that of any 32x32 network.
pub fn hidden() -> PolicyState {
    const WIDTH: usize = 32;
    const SCALE: f64 = 0.01;
    let mut parameters = vec![0.0; WIDTH * 4 + WIDTH * WIDTH + WIDTH];
    for (parameter, gain) in parameters.iter_mut().zip(GAINS) {
        *parameter = SCALE * gain;
    }
    parameters[WIDTH * 4] = 1.0;
    parameters[WIDTH * 4 + WIDTH * WIDTH] = 1.0 / SCALE;
    policy(&[WIDTH, WIDTH], parameters)
}

fn policy(hidden: &[usize], mean_parameters: Vec<f64>) -> PolicyState {
    PolicyState {
        architecture: Architecture {
            observation_size: 4,
            action_size: 1,
            hidden: hidden.to_vec(),
            activation: Activation::Tanh,
            bias: false,
        },
        deviation: Deviation::Fixed,
        mean_parameters,
        log_std: vec![0.5 * 0.3_f64.ln()],
        normalizer: None,
    }
}

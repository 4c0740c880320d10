//! Start values of the mean network.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::Architecture;

/// How the mean network's weights start. Biases start at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialization {
    /// Uniform on `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    #[default]
    XavierUniform,
    /// All zeros: every mean starts at zero. With hidden layers the gradient of all but the last bias stays zero, so
    /// this is for linear policies.
    Zero,
}

impl Initialization {
    /// Draws the flat mean parameters of `architecture`, in its documented order.
    pub fn draw(self, architecture: &Architecture, random: &mut dyn Rng) -> Vec<f64> {
        let mut parameters = Vec::with_capacity(architecture.parameter_count());
        for (inputs, outputs) in architecture.layers() {
            let bound = (6.0 / (inputs + outputs) as f64).sqrt();
            parameters.extend((0..inputs * outputs).map(|_| match self {
                // Rounded to f32, so that a policy starts from the same numbers in every precision.
                Self::XavierUniform => f64::from(random.random_range(-bound..bound) as f32),
                Self::Zero => 0.0,
            }));
            if architecture.bias {
                parameters.extend(std::iter::repeat_n(0.0, outputs));
            }
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::Activation;

    fn architecture() -> Architecture {
        Architecture {
            observation_size: 17,
            action_size: 6,
            hidden: vec![32, 32],
            activation: Activation::Tanh,
            bias: true,
        }
    }

    #[test]
    fn xavier_stays_within_its_bound_and_fills_it() {
        let parameters = Initialization::XavierUniform.draw(&architecture(), &mut StdRng::seed_from_u64(1));
        assert_eq!(parameters.len(), 17 * 32 + 32 + 32 * 32 + 32 + 32 * 6 + 6);
        let bound = (6.0_f64 / 49.0).sqrt();
        let first = &parameters[..17 * 32];
        let largest = first.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        assert!(largest <= bound && largest > 0.95 * bound, "{largest} against {bound}");
        assert!(parameters[17 * 32..18 * 32].iter().all(|bias| *bias == 0.0));
    }

    #[test]
    fn the_same_stream_gives_the_same_start() {
        let draw =
            |seed| Initialization::XavierUniform.draw(&architecture(), &mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}

//! Counter-based random streams.
//!
//! Every draw is a function of (seed, purpose, iteration, trajectory, step): Philox4x32-10 (Salmon et al. 2011) with
//! the seed as its key and the rest as its counter. There is no generator state, so draws depend neither on the number
//! of threads nor on what was drawn before, and a resumed run needs nothing restored.

use std::convert::Infallible;

use rand::TryRng;
use rand_philox::philox4x32_10;

/// What a draw is for. Draws for different purposes never coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Start values of the policy.
    Initialization = 0,
    /// Initial states of training trajectories.
    Reset = 1,
    /// Action noise of training trajectories.
    Action = 2,
    /// Stochastic dynamics of training trajectories.
    Dynamics = 3,
    /// Choices that an algorithm makes (which policy to sample from, when to take a snapshot).
    Algorithm = 4,
    /// Seeds of a study's runs.
    Study = 5,
    /// Initial states of evaluation.
    EvaluationReset = 129,
    /// Action noise of evaluation.
    EvaluationAction = 130,
    /// Stochastic dynamics of evaluation.
    EvaluationDynamics = 131,
}

/// The streams of one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    key: [u32; 2],
}

impl Streams {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The key, lower half first.
    pub fn key(self) -> [u32; 2] {
        self.key
    }

    /// The stream of one place in a run.
    pub fn stream(self, purpose: Purpose, iteration: u32, trajectory: u32, step: u32) -> Stream {
        Stream {
            key: self.key,
            counter: [purpose as u32, iteration, trajectory, step],
            words: [0; 4],
            used: 4,
        }
    }

    /// Fills `noise` with standard normal draws of one place in a run (Box and Muller 1958; four for each block).
    pub fn normals(self, purpose: Purpose, iteration: u32, trajectory: u32, step: u32, noise: &mut [f32]) {
        let mut counter = [purpose as u32, iteration, trajectory, step];
        for chunk in noise.chunks_mut(4) {
            let words = philox4x32_10(counter, self.key);
            counter[0] += BLOCK;
            let (first, second) = (normal_pair(words[0], words[1]), normal_pair(words[2], words[3]));
            let normals = [first.0, first.1, second.0, second.1];
            chunk.copy_from_slice(&normals[..chunk.len()]);
        }
    }
}

/// Blocks of one stream are counted above the purpose's eight bits.
pub(crate) const BLOCK: u32 = 1 << 8;

/// Two independent standard normal numbers from two uniform words.
fn normal_pair(first: u32, second: u32) -> (f32, f32) {
    const UNIT: f32 = 1.0 / 16_777_216.0;
    // On (0, 1] and [0, 1), by 24 bits each.
    let radius = (-2.0 * (((first >> 8) + 1) as f32 * UNIT).ln()).sqrt();
    let (sine, cosine) = ((second >> 8) as f32 * UNIT * std::f32::consts::TAU).sin_cos();
    (radius * cosine, radius * sine)
}

/// A generator over one stream: the blocks of its counter, one after the other.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.used == 4 {
            self.words = philox4x32_10(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(BLOCK);
            self.used = 0;
        }
        self.used += 1;
        Ok(self.words[self.used - 1])
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.try_next_u32()?);
        Ok(low | u64::from(self.try_next_u32()?) << 32)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            let word = self.try_next_u32()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn the_block_function_matches_random123() {
        // Known-answer vectors kat_vectors of Random123, philox4x32 with 10 rounds.
        let block = philox4x32_10([0; 4], [0; 2]);
        assert_eq!(block, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let block =
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(block, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn every_coordinate_changes_the_stream() {
        let streams = Streams::new(7);
        let mut words = vec![
            streams.stream(Purpose::Reset, 1, 2, 3).next_u64(),
            streams.stream(Purpose::Action, 1, 2, 3).next_u64(),
            streams.stream(Purpose::Reset, 2, 2, 3).next_u64(),
            streams.stream(Purpose::Reset, 1, 3, 3).next_u64(),
            streams.stream(Purpose::Reset, 1, 2, 4).next_u64(),
            Streams::new(7 + (1 << 32)).stream(Purpose::Reset, 1, 2, 3).next_u64(),
        ];
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 6);
    }

    #[test]
    fn more_components_leave_the_first_ones_unchanged() {
        let streams = Streams::new(1);
        let (mut three, mut nine) = ([0.0; 3], [0.0; 9]);
        streams.normals(Purpose::Action, 5, 6, 7, &mut three);
        streams.normals(Purpose::Action, 5, 6, 7, &mut nine);
        assert_eq!(three, nine[..3]);
    }

    #[test]
    fn normals_have_the_moments_of_the_normal_distribution() {
        // 400000 draws: the standard error of the mean is 0.0016, of the variance 0.0022, of the fourth moment 0.016;
        // the bounds are 4.5 of each, so a fault of 0.015 in the mean or 0.02 in the variance is always seen.
        let streams = Streams::new(11);
        let mut noise = vec![0.0_f32; 4];
        let (mut sum, mut squares, mut fourth) = (0.0, 0.0, 0.0);
        for step in 0..100_000 {
            streams.normals(Purpose::Action, 0, 0, step, &mut noise);
            for value in &noise {
                let value = f64::from(*value);
                sum += value;
                squares += value * value;
                fourth += value.powi(4);
            }
        }
        let count = 400_000.0;
        assert!((sum / count).abs() < 0.0071);
        assert!((squares / count - 1.0).abs() < 0.01);
        assert!((fourth / count - 3.0).abs() < 0.07);
    }
}

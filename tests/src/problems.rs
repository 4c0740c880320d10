//! Random problems.
//!
//! Every number is rounded to `f32`, so that a device of either precision gets exactly the oracle's input.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::oracle::{Activation, Batch, Layer, Policy, Problem, Step, log_ratio};

/// What a problem should be like.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Batches, `omega_k`.
    pub window: usize,
    /// Trajectories of a batch, `N`.
    pub batch: usize,
    /// Steps, `T`.
    pub horizon: usize,
    /// Observation components.
    pub observation_size: usize,
    /// Action components.
    pub action_size: usize,
    /// Widths of hidden layers.
    pub hidden: Vec<usize>,
    /// Nonlinearity of hidden layers.
    pub activation: Activation,
    /// Whether layers add biases.
    pub bias: bool,
    /// Whether trajectories end early.
    pub early_ends: bool,
    /// Whether some of these end before their first step.
    pub empty: bool,
    /// Whether `ln sigma` is trained.
    pub learned: bool,
    /// How much each behaviour parameter differs from the target's, as a standard deviation.
    pub shift: f64,
    /// How much each behaviour `ln sigma` differs from the target's.
    pub deviation_shift: DeviationShift,
    /// Size of the log-ratios, with random signs, where actions are to be moved to give it. Needs equal deviations and
    /// a shift.
    pub log_ratio: Option<f64>,
}

/// Deviations of behaviour policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DeviationShift {
    /// The target's own.
    Equal,
    /// Off by up to 25 percent, within which all second moments are finite.
    Slight,
    /// Half the target's in every second batch, where second moments are infinite; equal elsewhere.
    Infinite,
    /// Half the target's in every batch, the newest included, so that all second moments are infinite.
    AllInfinite,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            window: 4,
            batch: 5,
            horizon: 20,
            observation_size: 3,
            action_size: 2,
            hidden: vec![6],
            activation: Activation::Tanh,
            bias: true,
            early_ends: true,
            empty: false,
            learned: false,
            shift: 0.1,
            deviation_shift: DeviationShift::Equal,
            log_ratio: None,
        }
    }
}

impl Recipe {
    /// A recipe of random sizes: window 1 to 8, batch 1 to 12, horizon 1 to 50, actions 1 to 6.
    pub fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        let depth = random.random_range(0..3);
        let shifts = [DeviationShift::Equal, DeviationShift::Slight, DeviationShift::Infinite];
        Self {
            window: random.random_range(1..9),
            batch: random.random_range(1..13),
            horizon: random.random_range(1..51),
            observation_size: random.random_range(1..9),
            action_size: random.random_range(1..7),
            hidden: (0..depth).map(|_| random.random_range(1..17)).collect(),
            activation: if random.random_bool(0.5) { Activation::Tanh } else { Activation::Relu },
            bias: random.random_bool(0.5),
            early_ends: random.random_bool(0.7),
            empty: false,
            learned: random.random_bool(0.3),
            shift: [0.0, 0.02, 0.1, 0.3][random.random_range(0..4)],
            deviation_shift: shifts[random.random_range(0..3)],
            log_ratio: None,
        }
    }

    /// A problem by this recipe. The newest batch is on-policy, as in training.
    pub fn problem(&self, seed: u64) -> Problem {
        let mut random = StdRng::seed_from_u64(seed);
        let target = self.target(&mut random);
        let batches = (0..self.window).map(|index| self.batch_of(index, &target, &mut random)).collect();
        let mut problem = Problem { target, batches, horizon: self.horizon };
        if let Some(size) = self.log_ratio {
            move_log_ratios(&mut problem, size, &mut random);
        }
        problem
    }

    fn target(&self, random: &mut StdRng) -> Policy {
        let mut sizes = vec![self.observation_size];
        sizes.extend(&self.hidden);
        sizes.push(self.action_size);
        let layer = |inputs: usize, outputs: usize, random: &mut StdRng| {
            let mut row = |length: usize| -> Vec<f64> {
                let bound = (6.0 / (inputs + outputs) as f64).sqrt();
                (0..length).map(|_| rounded(random.random_range(-bound..bound))).collect()
            };
            let weight = (0..outputs).map(|_| row(inputs)).collect();
            Layer { weight, bias: self.bias.then(|| row(outputs)) }
        };
        Policy {
            layers: sizes.windows(2).map(|pair| layer(pair[0], pair[1], random)).collect(),
            activation: self.activation,
            log_std: (0..self.action_size).map(|_| rounded(random.random_range(-1.0..0.3))).collect(),
            learned: self.learned,
        }
    }

    fn batch_of(&self, index: usize, target: &Policy, random: &mut StdRng) -> Batch {
        let newest = index + 1 == self.window && self.window > 1;
        let behaviour = if newest && self.deviation_shift != DeviationShift::AllInfinite {
            target.clone()
        } else {
            self.behaviour(index, target, random)
        };
        self.sample(behaviour, random)
    }

    /// A batch sampled by `behaviour`.
    fn sample(&self, behaviour: Policy, random: &mut StdRng) -> Batch {
        let trajectory = |random: &mut StdRng| -> Vec<Step> {
            let least = usize::from(!self.empty);
            let length =
                if self.early_ends { random.random_range(least..=self.horizon) } else { self.horizon };
            (0..length).map(|_| self.step(&behaviour, random)).collect()
        };
        Batch { trajectories: (0..self.batch).map(|_| trajectory(random)).collect(), behaviour }
    }

    /// Batches as a run samples them: each by a policy some way from the one before.
    pub fn run(&self, iterations: usize, seed: u64) -> Vec<Batch> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut policy = self.target(&mut random);
        let mut batches = vec![];
        for _ in 0..iterations {
            batches.push(self.sample(policy.clone(), &mut random));
            let flat = policy.flat();
            let moved: Vec<f64> =
                flat.iter().map(|value| rounded(value + self.shift * normal(&mut random))).collect();
            policy = policy.with_flat(&moved);
        }
        batches
    }

    fn behaviour(&self, index: usize, target: &Policy, random: &mut StdRng) -> Policy {
        let flat = target.flat();
        let moved: Vec<f64> = flat.iter().map(|value| rounded(value + self.shift * normal(random))).collect();
        let mut behaviour = target.with_flat(&moved);
        behaviour.log_std.clone_from(&target.log_std);
        for log_std in &mut behaviour.log_std {
            *log_std = rounded(match self.deviation_shift {
                DeviationShift::Slight => *log_std + random.random_range(-0.25..0.25),
                DeviationShift::Infinite if index.is_multiple_of(2) => *log_std - std::f64::consts::LN_2,
                DeviationShift::AllInfinite => *log_std - std::f64::consts::LN_2,
                _ => *log_std,
            });
        }
        behaviour
    }

    fn step(&self, behaviour: &Policy, random: &mut StdRng) -> Step {
        let observation: Vec<f64> = (0..self.observation_size).map(|_| rounded(normal(random))).collect();
        let behaviour_mean: Vec<f64> = behaviour.mean(&observation).into_iter().map(rounded).collect();
        let noisy = behaviour_mean.iter().zip(&behaviour.log_std);
        let action = noisy.map(|(mean, log_std)| rounded(mean + log_std.exp() * normal(random))).collect();
        Step { observation, action, reward: rounded(1.0 + normal(random)), behaviour_mean }
    }
}

/// Moves the actions of off-policy trajectories along `mu_i - mu_k`, in which the log-ratio is linear, until it is
/// `size` or `-size`.
fn move_log_ratios(problem: &mut Problem, size: f64, random: &mut StdRng) {
    let frozen = problem.clone();
    for (batch, before) in problem.batches.iter_mut().zip(&frozen.batches) {
        for steps in &mut batch.trajectories {
            let wanted = if random.random_bool(0.5) { size } else { -size };
            let slope: f64 = steps
                .iter()
                .flat_map(|step| {
                    let mean = frozen.target.mean(&step.observation);
                    let shift =
                        step.behaviour_mean.iter().zip(mean).map(|(behaviour, target)| behaviour - target);
                    let scaled =
                        shift.zip(&before.behaviour.log_std).map(|(shift, log_std)| shift / log_std.exp());
                    scaled.map(|shift| shift * shift).collect::<Vec<_>>()
                })
                .sum();
            if slope < 1e-6 {
                continue;
            }
            let step_size = (wanted - log_ratio(&frozen, before, steps)) / slope;
            for step in steps {
                let mean = frozen.target.mean(&step.observation);
                for (d, action) in step.action.iter_mut().enumerate() {
                    *action = rounded(*action + step_size * (step.behaviour_mean[d] - mean[d]));
                }
            }
        }
    }
}

/// The nearest `f32`.
pub fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

/// A standard normal number (Box and Muller 1958).
pub fn normal(random: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (2.0 * std::f64::consts::PI * random.random::<f64>()).cos()
}

//! Statistics and gradients over windows of trajectories.

use std::convert::Infallible;

use super::{
    super::{Scratch, SurrogateGradient, Trajectories, TrajectoryStatistics, Workspace},
    *,
};
use crate::threads::Threads;

/// A window with everything that the computations take. What lies behind the trajectories' ends is NaN.
struct Window {
    architecture: Architecture,
    parameters: Vec<f32>,
    observations: Vec<f32>,
    actions: Vec<f32>,
    behaviour_means: Vec<f32>,
    behaviour_log_std: Vec<f32>,
    returns: Vec<f32>,
    lengths: Vec<u32>,
    log_std: Vec<f32>,
    weights: Vec<f64>,
    horizon: usize,
}

impl Window {
    fn new(architecture: Architecture, [batches, batch, horizon]: [usize; 3], random: &mut Random) -> Self {
        let (o, a) = (architecture.observation_size, architecture.action_size);
        let (count, steps) = (batches * batch, batches * batch * horizon);
        let mut window = Self {
            parameters: parameters(&architecture, random),
            observations: random.numbers(steps * o, 1.5),
            actions: random.numbers(steps * a, 2.0),
            behaviour_means: random.numbers(steps * a, 1.0),
            behaviour_log_std: random.numbers(batches * a, 0.1),
            returns: random.numbers(steps, 100.0),
            lengths: (0..count).map(|_| random.below(horizon + 1) as u32).collect(),
            log_std: random.numbers(a, 0.1),
            weights: (0..count).map(|_| f64::from(random.number(1.0))).collect(),
            horizon,
            architecture,
        };
        if count > 1 {
            window.lengths[0] = horizon as u32;
            window.lengths[1] = 0;
            window.weights[count / 2] = 0.0;
        }
        for (trajectory, &length) in window.lengths.iter().enumerate() {
            let (first, end) = (trajectory * horizon + length as usize, (trajectory + 1) * horizon);
            window.observations[first * o..end * o].fill(f32::NAN);
            window.actions[first * a..end * a].fill(f32::NAN);
            window.behaviour_means[first * a..end * a].fill(f32::NAN);
            window.returns[first..end].fill(f32::NAN);
        }
        window
    }

    fn trajectories(&self) -> Trajectories<'_> {
        Trajectories {
            observations: &self.observations,
            actions: &self.actions,
            behaviour_means: &self.behaviour_means,
            behaviour_log_std: &self.behaviour_log_std,
            lengths: &self.lengths,
            horizon: self.horizon,
        }
    }

    fn network(&self, instructions: InstructionSet) -> FusedNetwork {
        loaded(&self.architecture, &self.parameters, instructions)
    }

    fn statistics(&self, instructions: InstructionSet) -> Vec<TrajectoryStatistics> {
        self.statistics_on(&Threads::one(), instructions)
    }

    fn statistics_on(&self, threads: &Threads, instructions: InstructionSet) -> Vec<TrajectoryStatistics> {
        let network = self.network(instructions);
        network.trajectory_statistics(&self.trajectories(), &self.log_std, &mut Workspace::new(threads))
    }

    fn two_passes(&self, instructions: InstructionSet) -> SurrogateGradient {
        self.two_passes_on(&Threads::one(), instructions)
    }

    fn two_passes_on(&self, threads: &Threads, instructions: InstructionSet) -> SurrogateGradient {
        self.network(instructions).surrogate_gradient(
            &self.trajectories(),
            &self.log_std,
            &self.weights,
            &self.returns,
            &mut Workspace::new(threads),
        )
    }

    fn one_sweep(&self, instructions: InstructionSet) -> (Vec<TrajectoryStatistics>, SurrogateGradient) {
        self.one_sweep_on(&Threads::one(), instructions)
    }

    fn one_sweep_on(
        &self,
        threads: &Threads,
        instructions: InstructionSet,
    ) -> (Vec<TrajectoryStatistics>, SurrogateGradient) {
        let mut statistics = Vec::new();
        let weigh = |given: &[TrajectoryStatistics]| {
            statistics = given.to_vec();
            Ok::<_, Infallible>(self.weights.clone())
        };
        let network = self.network(instructions);
        let Ok(gradient) = network.window_gradient(
            &self.trajectories(),
            &self.log_std,
            &self.returns,
            weigh,
            &mut Workspace::new(threads),
        );
        (statistics, gradient)
    }

    /// Statistics by the oracle, with the sizes of the sums' terms, and the gradient.
    fn oracle(&self) -> (Vec<[TrajectoryStatistics; 2]>, SurrogateGradient) {
        let (o, a) = (self.architecture.observation_size, self.architecture.action_size);
        let [parameters, log_std, behaviour_log_std] =
            [&self.parameters, &self.log_std, &self.behaviour_log_std].map(|values| to_f64(values));
        let batch = self.lengths.len() / (behaviour_log_std.len() / a);
        let mut gradient = SurrogateGradient { mean: vec![0.0; parameters.len()], log_std: vec![0.0; a] };
        let mut statistics = Vec::new();
        for (trajectory, &length) in self.lengths.iter().enumerate() {
            let [mut sums, mut sizes] = [TrajectoryStatistics::default(); 2];
            for step in trajectory * self.horizon..trajectory * self.horizon + length as usize {
                let observation = to_f64(&self.observations[step * o..][..o]);
                let means = oracle::means(&self.architecture, &parameters, &observation);
                let factor = self.weights[trajectory] * f64::from(self.returns[step]);
                let mut mean_gradient = vec![0.0; a];
                for d in 0..a {
                    let (action, mean) = (f64::from(self.actions[step * a + d]), means[d]);
                    let behaviour_mean = f64::from(self.behaviour_means[step * a + d]);
                    let behaviour_log_std = behaviour_log_std[trajectory / batch * a + d];
                    let behaviour = oracle::log_density(action, behaviour_mean, behaviour_log_std);
                    let target = oracle::log_density(action, mean, log_std[d]);
                    let (target_pair, behaviour_pair) =
                        ((mean, log_std[d]), (behaviour_mean, behaviour_log_std));
                    let divergence = oracle::log_second_moment(target_pair, behaviour_pair);
                    sums.log_ratio += behaviour - target;
                    sums.divergence += divergence;
                    sizes.log_ratio += behaviour.abs() + target.abs();
                    sizes.divergence += divergence + 1.0;
                    let precision = (-2.0 * log_std[d]).exp();
                    mean_gradient[d] = factor * (action - mean) * precision;
                    gradient.log_std[d] += factor * ((action - mean).powi(2) * precision - 1.0);
                }
                let total = &mut gradient.mean;
                oracle::accumulate_vjp(&self.architecture, &parameters, &observation, &mean_gradient, total);
            }
            statistics.push([sums, sizes]);
        }
        (statistics, gradient)
    }

    fn assert_agrees(&self) {
        let (expected_statistics, expected) = self.oracle();
        for instructions in InstructionSet::available() {
            let case =
                format!("{:?}, {} trajectories, {instructions:?}", self.architecture, self.lengths.len());
            let (statistics, gradient) = self.one_sweep(instructions);
            for (value, [sum, size]) in statistics.iter().zip(&expected_statistics) {
                assert!(
                    (value.log_ratio - sum.log_ratio).abs() <= 2e-6 * size.log_ratio,
                    "{case}: {value:?}, {sum:?}"
                );
                assert!(
                    value.divergence == sum.divergence
                        || (value.divergence - sum.divergence).abs() <= 2e-6 * size.divergence,
                    "{case}: {value:?}, {sum:?}"
                );
            }
            for (way, gradient) in [("one sweep", gradient), ("two passes", self.two_passes(instructions))] {
                for (name, value, expected) in [
                    ("mean", &gradient.mean, &expected.mean),
                    ("log_std", &gradient.log_std, &expected.log_std),
                ] {
                    let distance = relative_distance(value, expected);
                    assert!(distance < 5e-6, "{case}, {way}, {name}: {distance:e}");
                }
            }
            assert_eq!(statistics, self.statistics(instructions), "{case}");
        }
    }
}

#[test]
fn windows_agree_with_the_oracle() {
    let mut random = Random(11);
    for architecture in architectures(&mut random, 15) {
        let shape = [1 + random.below(4), 1 + random.below(4), 1 + random.below(20)];
        Window::new(architecture, shape, &mut random).assert_agrees();
    }
}

#[test]
fn short_and_long_horizons_agree_with_the_oracle() {
    let mut random = Random(12);
    for shape in [[1, 1, 1], [3, 1, 1], [2, 70, 1], [1, 2, 129], [1, 3, 1000]] {
        for bias in [false, true] {
            let architecture = architecture(5, &[9], 3, Activation::Tanh, bias);
            Window::new(architecture, shape, &mut random).assert_agrees();
        }
    }
}

#[test]
fn extreme_ratios_and_weights_agree_with_the_oracle() {
    let mut random = Random(13);
    let architecture = architecture(4, &[32, 32], 2, Activation::Tanh, true);
    let mut window = Window::new(architecture, [3, 5, 50], &mut random);
    window.log_std = vec![-4.0; 2];
    window.behaviour_log_std = vec![-4.0; 6];
    for (index, weight) in window.weights.iter_mut().enumerate() {
        *weight = 10.0_f64.powf(20.0 * index as f64 - 250.0);
    }
    window.assert_agrees();
    let (statistics, _) = window.one_sweep(InstructionSet::detect());
    assert!(statistics.iter().any(|value| value.log_ratio.abs() > 1e4 && value.divergence > 1e4));
}

#[test]
fn too_wide_a_target_has_an_infinite_divergence_and_a_finite_gradient() {
    let mut random = Random(14);
    let mut window = Window::new(architecture(4, &[8], 2, Activation::Tanh, false), [2, 4, 9], &mut random);
    window.log_std = vec![0.6, 0.0];
    window.behaviour_log_std = vec![0.0; 4];
    window.lengths.fill(9);
    for values in
        [&mut window.observations, &mut window.actions, &mut window.behaviour_means, &mut window.returns]
    {
        values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = 0.5);
    }
    window.assert_agrees();
    assert!(
        window.statistics(InstructionSet::detect()).iter().all(|value| value.divergence == f64::INFINITY)
    );
}

#[test]
fn many_trajectories_agree_with_the_oracle_either_way() {
    let mut random = Random(19);
    let window = Window::new(architecture(5, &[9], 2, Activation::Tanh, true), [10, 71, 6], &mut random);
    let (_, expected) = window.oracle();
    for instructions in InstructionSet::available() {
        let (_, sweep) = window.one_sweep(instructions);
        for gradient in [sweep, window.two_passes(instructions)] {
            assert!(relative_distance(&gradient.mean, &expected.mean) < 1e-5, "{instructions:?}");
        }
    }
}

#[test]
fn a_window_too_large_for_one_sweep_agrees_with_the_oracle() {
    let mut random = Random(20);
    let architecture = architecture(300, &[256, 200], 2, Activation::Tanh, true);
    let window = Window::new(architecture, [16, 20, 2], &mut random);
    assert!(window.architecture.parameter_count() * window.lengths.len() * 4 > super::super::SWEEP_BYTES);
    let (_, expected) = window.oracle();
    let instructions = InstructionSet::detect();
    let (_, gradient) = window.one_sweep_on(&Threads::new(2).unwrap(), instructions);
    assert_eq!(gradient, window.two_passes(instructions));
    assert!(relative_distance(&gradient.mean, &expected.mean) < 5e-6);
}

/// Whatever its gradient is, and wherever it lies in a block.
#[test]
fn a_trajectory_of_weight_zero_reaches_nothing() {
    let mut random = Random(21);
    let mut window = Window::new(architecture(4, &[8], 2, Activation::Tanh, false), [4, 5, 6], &mut random);
    for trajectory in (0..20).step_by(3) {
        window.weights[trajectory] = 0.0;
        window.returns[trajectory * 6..][..6].fill(f32::NAN);
    }
    for instructions in InstructionSet::available() {
        for gradient in [window.one_sweep(instructions).1, window.two_passes(instructions)] {
            assert!(gradient.mean.iter().chain(&gradient.log_std).all(|value| value.is_finite()));
        }
    }
}

#[test]
fn the_behaviour_policy_itself_has_exactly_zero_statistics() {
    let mut random = Random(15);
    let mut window =
        Window::new(architecture(17, &[32, 32], 6, Activation::Tanh, true), [2, 3, 40], &mut random);
    window.behaviour_log_std = window.log_std.repeat(2);
    for instructions in InstructionSet::available() {
        let network = window.network(instructions);
        network.means(&window.observations, &mut window.behaviour_means, &mut Scratch::default());
        for value in window.statistics(instructions) {
            assert_eq!(value.log_ratio, 0.0);
            assert!(value.divergence.abs() < 1e-12, "{value:?}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut random = Random(16);
    let window = Window::new(architecture(6, &[20, 11], 3, Activation::Tanh, true), [5, 27, 30], &mut random);
    for instructions in InstructionSet::available() {
        let run = |threads| {
            let threads = &Threads::new(threads).unwrap();
            let sweep = window.one_sweep_on(threads, instructions);
            let passes = window.two_passes_on(threads, instructions);
            (sweep, passes, window.statistics_on(threads, instructions))
        };
        let alone = run(1);
        for threads in [2, 3, 8] {
            assert_eq!(run(threads), alone, "{instructions:?}, {threads} threads");
        }
    }
}

#[test]
fn a_workspace_may_serve_windows_of_any_size_in_turn() {
    let mut random = Random(17);
    let mut workspace = Workspace::new(&Threads::new(3).unwrap());
    for batches in [1, 3, 2] {
        let window =
            Window::new(architecture(3, &[8], 2, Activation::Relu, true), [batches, 4, 12], &mut random);
        let network = window.network(InstructionSet::detect());
        let (trajectories, log_std) = (window.trajectories(), &window.log_std);
        let (weights, returns) = (&window.weights, &window.returns);
        let shared = network.surrogate_gradient(&trajectories, log_std, weights, returns, &mut workspace);
        assert_eq!(shared, window.two_passes(InstructionSet::detect()));
    }
}

#[test]
fn an_error_of_the_weights_is_passed_on() {
    let mut random = Random(18);
    let window = Window::new(architecture(3, &[], 2, Activation::Tanh, false), [1, 4, 12], &mut random);
    let result = window.network(InstructionSet::detect()).window_gradient(
        &window.trajectories(),
        &window.log_std,
        &window.returns,
        |_| Err("no weights"),
        &mut Workspace::new(&Threads::one()),
    );
    assert_eq!(result, Err("no weights"));
}

use environments::registry::ENTRIES;
use environments::{Environment, Transition};
use policy_nets::{Activation, Architecture, Deviation, Initialization};
use rand::{Rng, RngExt};

use super::*;

/// Drifts from a random start by its action; beyond `LIMIT` its simulation is unstable.
#[derive(Default)]
struct Fragile {
    state: Option<f64>,
    /// Whether a reset's observation is no number, and whether a reward is none.
    bad: [bool; 2],
}

const LIMIT: f64 = 2.0;

impl Environment for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }

    fn observation_size(&self) -> usize {
        1
    }

    fn action_size(&self) -> usize {
        1
    }

    fn reset(&mut self, random: &mut dyn Rng, observation: &mut [f64]) {
        observation[0] = random.random_range(-1.0..1.0);
        self.state = Some(observation[0]);
        if self.bad[0] {
            observation[0] = f64::NAN;
        }
    }

    fn step(
        &mut self,
        action: &[f64],
        _random: &mut dyn Rng,
        observation: &mut [f64],
    ) -> Result<Transition, StepError> {
        let environment = self.name();
        let state = self.state.take().ok_or(StepError::NotRunning { environment })? + action[0];
        if state.abs() > LIMIT {
            return Err(StepError::Unstable { environment, reason: format!("the state is {state}") });
        }
        std::thread::sleep(Duration::from_micros(100));
        observation[0] = state;
        self.state = Some(state);
        Ok(Transition { reward: if self.bad[1] { f64::NAN } else { 1.0 }, terminated: false })
    }
}

fn fragile() -> Entry {
    Entry {
        name: "fragile",
        observation_size: 1,
        action_size: 1,
        construct: || Ok(Box::new(Fragile::default())),
        ..ENTRIES[0]
    }
}

/// A policy whose mean is zero everywhere.
fn policy(deviation: f64) -> PolicyState {
    let architecture = Architecture {
        observation_size: 1,
        action_size: 1,
        hidden: vec![],
        activation: Activation::Tanh,
        bias: false,
    };
    let mut random = Streams::new(0).stream(Purpose::Initialization, 0, 0, 0);
    PolicyState::start(architecture, Initialization::Zero, deviation.ln(), Deviation::Fixed, &mut random)
}

fn training(policy: &PolicyState) -> Sampling<'_> {
    let streams = Streams::new(3);
    Sampling { policy, streams, iteration: 0, first_trajectory: 0, mode: Mode::Training }
}

const TRAJECTORIES: usize = 21;
const HORIZON: usize = 12;

fn roll_out(threads: usize) -> (usize, Trajectories, Duration) {
    let threads = Threads::new(threads).unwrap();
    let mut roll_out = RollOut::new(&fragile(), TRAJECTORIES, HORIZON, &threads).unwrap();
    let mut batch = Trajectories::zeros(roll_out.shape());
    let unstable = roll_out.run(training(&policy(0.5)), &mut batch).unwrap();
    (unstable, batch, roll_out.environment_time())
}

#[test]
fn an_unstable_trajectory_ends_before_the_step_that_failed_and_is_counted() {
    let (unstable, batch, _) = roll_out(1);
    let short = batch.lengths.iter().filter(|length| (**length as usize) < HORIZON).count();
    assert_eq!(unstable, short);
    assert!(
        unstable > 0 && unstable < TRAJECTORIES,
        "{unstable} of {TRAJECTORIES}: the test needs both kinds"
    );
    for (trajectory, length) in batch.lengths.iter().enumerate() {
        let steps = trajectory * HORIZON..(trajectory + 1) * HORIZON;
        for (step, place) in steps.enumerate() {
            let made = step < *length as usize;
            assert_eq!(batch.rewards[place], f64::from(u8::from(made)));
            assert_eq!(batch.actions[place] != 0.0, made, "trajectory {trajectory}, step {step}");
            assert_eq!(batch.observations[place] != 0.0, made, "trajectory {trajectory}, step {step}");
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let (unstable, batch, _) = roll_out(1);
    for threads in [2, 3, 21, 40] {
        let (other_unstable, other, _) = roll_out(threads);
        assert_eq!((other_unstable, &other), (unstable, &batch), "{threads} threads");
    }
    // A network that computes rows together, in groups that depend on the number of threads.
    let entry = environments::registry::find("pendulum").unwrap();
    let architecture = Architecture {
        observation_size: entry.observation_size,
        action_size: entry.action_size,
        hidden: vec![33, 18],
        activation: Activation::Tanh,
        bias: true,
    };
    let mut random = Streams::new(1).stream(Purpose::Initialization, 0, 0, 0);
    let policy =
        PolicyState::start(architecture, Initialization::XavierUniform, 0.0, Deviation::Fixed, &mut random);
    let batch = |threads| {
        let mut roll_out = RollOut::new(entry, 13, 20, &Threads::new(threads).unwrap()).unwrap();
        let mut batch = Trajectories::zeros(roll_out.shape());
        roll_out.run(training(&policy), &mut batch).unwrap();
        batch
    };
    let one = batch(1);
    assert!(one.means.iter().all(|mean| *mean != 0.0));
    for threads in [2, 3, 13] {
        assert_eq!(batch(threads), one, "{threads} threads");
    }
}

#[test]
fn the_environments_time_is_summed_over_threads() {
    for threads in [1, 4] {
        let (_, batch, time) = roll_out(threads);
        // A sleep takes at least what was asked for.
        assert!(time >= Duration::from_micros(100) * batch.steps() as u32, "{threads} threads: {time:?}");
    }
}

#[test]
fn threads_have_equal_shares() {
    for (trajectories, threads, expected) in
        [(40, 2, 10), (20, 2, 10), (10, 2, 5), (40, 1, 20), (10, 1, 10), (40, 16, 3), (1, 4, 1), (100, 4, 13)]
    {
        assert_eq!(group_size(trajectories, threads), expected, "{trajectories} on {threads}");
    }
}

thread_local! {
    static MADE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A reset's observation comes before the first step's reward, also when different threads see them.
#[test]
fn the_failure_that_is_named_does_not_depend_on_the_number_of_threads() {
    let construct = || {
        let number = MADE.get();
        MADE.set(number + 1);
        let bad = [number == 15, number == 3];
        Ok(Box::new(Fragile { bad, ..Fragile::default() }) as Box<dyn Environment>)
    };
    let entry = Entry { construct, ..fragile() };
    for threads in [1, 2, 3] {
        MADE.set(0);
        let threads = Threads::new(threads).unwrap();
        let mut roll_out = RollOut::new(&entry, TRAJECTORIES, HORIZON, &threads).unwrap();
        let mut batch = Trajectories::zeros(roll_out.shape());
        let Err(RollOutError::NotFinite { bad, .. }) = roll_out.run(training(&policy(0.5)), &mut batch)
        else {
            panic!("nothing is named");
        };
        assert_eq!(bad.quantity, Quantity::Observation { trajectory: 15, step: 0, component: 0 });
    }
}

/// Policies of other shapes take their turns.
#[test]
fn a_policy_of_another_shape_gets_a_network_of_its_own() {
    let threads = Threads::new(2).unwrap();
    let means = |policies: &[&PolicyState]| {
        let mut roll_out = RollOut::new(&fragile(), TRAJECTORIES, HORIZON, &threads).unwrap();
        let mut batch = Trajectories::zeros(roll_out.shape());
        for policy in policies {
            roll_out.run(training(policy), &mut batch).unwrap();
        }
        batch.means
    };
    let mut linear = policy(0.5);
    linear.mean_parameters[0] = 0.3;
    let mut deep = linear.clone();
    deep.architecture.hidden = vec![2];
    deep.mean_parameters = vec![0.5, -0.25, 1.0, 0.75];
    assert_eq!(means(&[&linear, &deep]), means(&[&deep]));
    assert_eq!(means(&[&deep, &linear]), means(&[&linear]));
}

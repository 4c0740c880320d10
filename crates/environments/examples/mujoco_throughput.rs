//! Steps per second of the bodies simulated by MuJoCo.
//!
//! ```text
//! cargo run --release -p environments --example mujoco_throughput [NAME MODE THREADS ENVIRONMENTS SECONDS]
//! ```
//!
//! `MODE` is `lock-step` (every environment makes one step, then all wait, as where one policy evaluation serves them
//! all) or `free` (each environment makes its trajectory without waiting). With arguments it prints one number, for
//! `benches/peers/envpool_gymnasium.py`; without, a table.

use std::error::Error;
use std::time::{Duration, Instant};

use environments::mujoco::{DEFINITIONS, Definition};
use environments::{Environment, StepError, registry};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Steps between two looks at the clock.
const ROUND: usize = 100;

/// An environment with what it needs to run by itself.
struct Runner {
    environment: Box<dyn Environment>,
    random: SmallRng,
    observation: Vec<f64>,
    action: Vec<f64>,
    /// Steps left until the horizon.
    left: usize,
}

impl Runner {
    fn new(entry: &registry::Entry, seed: u64) -> Result<Self> {
        let environment = entry.make()?;
        let observation = vec![0.0; entry.observation_size];
        let action = vec![0.0; entry.action_size];
        Ok(Self { environment, random: SmallRng::seed_from_u64(seed), observation, action, left: 0 })
    }

    /// Makes a step with a random action, after a reset where the trajectory has ended.
    fn step(&mut self, horizon: usize) -> std::result::Result<(), StepError> {
        if self.left == 0 {
            self.environment.reset(&mut self.random, &mut self.observation);
            self.left = horizon;
        }
        let Self { environment, random, observation, action, .. } = self;
        action.fill_with(|| random.random_range(-1.0..1.0));
        let transition = environment.step(action, random, observation)?;
        self.left = if transition.terminated { 0 } else { self.left - 1 };
        Ok(())
    }
}

fn measure(name: &str, mode: &str, threads: usize, environments: usize, seconds: f64) -> Result<f64> {
    let entry = registry::find(name)?;
    let seeds = 0..environments as u64;
    let mut runners = seeds.map(|seed| Runner::new(entry, seed)).collect::<Result<Vec<_>>>()?;
    // The first resets, and the first touch of the memory, are not counted.
    runners.iter_mut().try_for_each(|runner| runner.step(entry.horizon))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    // Steps of an environment before the threads meet.
    let stride = match mode {
        "lock-step" => 1,
        "free" => ROUND,
        _ => return Err(format!("mode `{mode}`; expected lock-step or free").into()),
    };
    // Small shares let a thread that is done take from one that the machine keeps waiting.
    let share = environments.div_ceil(4 * threads);
    let mut round = || {
        (0..ROUND / stride).try_for_each(|_| {
            runners.par_chunks_mut(share).try_for_each(|mine| {
                let mut mine = mine.iter_mut();
                mine.try_for_each(|runner| (0..stride).try_for_each(|_| runner.step(entry.horizon)))
            })
        })
    };
    pool.install(|| {
        let (start, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
        let mut steps = 0;
        while start.elapsed() < limit {
            round()?;
            steps += ROUND * environments;
        }
        Ok(steps as f64 / start.elapsed().as_secs_f64())
    })
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [name, mode, threads, environments, seconds] => {
            let rate = measure(name, mode, threads.parse()?, environments.parse()?, seconds.parse()?)?;
            println!("{rate:.0}");
        }
        [] => {
            println!(
                "{:<18} {:<10} {:>7} {:>12} {:>12}",
                "environment", "mode", "threads", "environments", "steps/s"
            );
            for name in DEFINITIONS.map(Definition::name) {
                for (mode, threads, environments) in
                    [("free", 1, 1), ("lock-step", 2, 8), ("lock-step", 2, 64), ("free", 2, 64)]
                {
                    let rate = measure(name, mode, threads, environments, 1.0)?;
                    println!("{name:<18} {mode:<10} {threads:>7} {environments:>12} {rate:>12.0}");
                }
            }
        }
        _ => return Err("expected NAME MODE THREADS ENVIRONMENTS SECONDS, or nothing".into()),
    }
    Ok(())
}

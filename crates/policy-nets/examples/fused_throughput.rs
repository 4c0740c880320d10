//! Speed of the fused CPU path, beside the arithmetic bound measured in the same run.
//!
//! `cargo run --release -p policy-nets --example fused_throughput [-- repetitions]`

use std::{convert::Infallible, time::Instant};

use policy_nets::{
    Activation, Architecture,
    fused::{FusedNetwork, InstructionSet, Scratch, Trajectories, TrajectoryStatistics, Workspace},
    threads::Threads,
};

const HORIZON: usize = 100;

fn main() {
    let repetitions = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200);
    let threads = Threads::new(0).expect("threads");
    for set in InstructionSet::available() {
        if set.lanes() == 1 {
            continue;
        }
        let ceiling = set.measure_ceiling(2000);
        println!(
            "\n{set:?}, {} threads, {:.1} GFLOP/s a core in a dense loop",
            threads.count(),
            ceiling / 1e9
        );
        println!("\nmeans");
        for (observation_size, action_size) in [(4, 1), (17, 6)] {
            for rows in [1, 8, 64, 1024] {
                time_means(&architecture(observation_size, action_size), set, rows, repetitions, ceiling);
            }
        }
        println!("\ngradient of a window, 17-32-32-6, horizon {HORIZON}");
        for (window, batch) in [(8, 40), (32, 80)] {
            let repetitions = repetitions.div_ceil(window / 8);
            time_window((window, batch), set, repetitions, ceiling * threads.count() as f64, &threads);
        }
    }
}

fn architecture(observation_size: usize, action_size: usize) -> Architecture {
    Architecture {
        observation_size,
        action_size,
        hidden: vec![32, 32],
        activation: Activation::Tanh,
        bias: false,
    }
}

/// Numbers in [-1, 1).
fn numbers(count: usize) -> Vec<f32> {
    (0..count as u32)
        .map(|index| (index.wrapping_mul(2_654_435_769) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

fn network(architecture: &Architecture, set: InstructionSet) -> FusedNetwork {
    let mut network = FusedNetwork::with_instruction_set(architecture, set);
    network.load(&numbers(architecture.parameter_count()).iter().map(|x| 0.3 * x).collect::<Vec<_>>());
    network
}

/// Least and median seconds of a run.
fn seconds(repetitions: usize, mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..repetitions.max(3))
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

fn time_means(
    architecture: &Architecture,
    set: InstructionSet,
    rows: usize,
    repetitions: usize,
    ceiling: f64,
) {
    let network = network(architecture, set);
    let observations = numbers(rows * architecture.observation_size);
    let mut means = vec![0.0; rows * architecture.action_size];
    let mut scratch = Scratch::default();
    let steps = 4096 / rows;
    let (least, median) = seconds(repetitions, || {
        for _ in 0..steps {
            network.means(&observations, &mut means, &mut scratch);
        }
    });
    let (least, median) = (least / steps as f64, median / steps as f64);
    let operations = 2.0 * (rows * architecture.parameter_count()) as f64;
    println!(
        "{:2}-32-32-{} {rows:5} rows: {:8.2} us (median {:8.2}), {:6.1} million rows/s, {:5.1} GFLOP/s, {:4.2} x bound",
        architecture.observation_size,
        architecture.action_size,
        least * 1e6,
        median * 1e6,
        rows as f64 / least / 1e6,
        operations / least / 1e9,
        least * ceiling / operations,
    );
}

fn time_window(
    (window, batch): (usize, usize),
    set: InstructionSet,
    repetitions: usize,
    ceiling: f64,
    threads: &Threads,
) {
    let architecture = architecture(17, 6);
    let network = network(&architecture, set);
    let (count, steps) = (window * batch, window * batch * HORIZON);
    let (observations, actions, behaviour_means) =
        (numbers(steps * 17), numbers(steps * 6), numbers(steps * 6));
    let (returns, lengths) = (numbers(steps), vec![HORIZON as u32; count]);
    let log_std = [-1.15; 6];
    let behaviour_log_std = log_std.repeat(window);
    let trajectories = Trajectories {
        observations: &observations,
        actions: &actions,
        behaviour_means: &behaviour_means,
        behaviour_log_std: &behaviour_log_std,
        lengths: &lengths,
        horizon: HORIZON,
    };
    let weigh =
        |statistics: &[TrajectoryStatistics]| Ok::<_, Infallible>(vec![1.0 / count as f64; statistics.len()]);
    let weights = vec![1.0 / count as f64; count];
    let mut workspace = Workspace::new(threads);

    let parameters = architecture.parameter_count();
    let forward = 2 * parameters;
    let backward = 2 * parameters + 2 * (parameters - 17 * 32);
    let report = |name: &str, operations: usize, (least, median): (f64, f64)| {
        let operations = (operations * steps) as f64;
        println!(
            "[{window}, {batch}, {HORIZON}] {name:10} {:6.2} ms (median {:6.2}), {:5.1} GFLOP/s, {:4.2} x bound",
            least * 1e3,
            median * 1e3,
            operations / least / 1e9,
            least * ceiling / operations,
        );
    };
    let statistics = seconds(repetitions, || {
        network.trajectory_statistics(&trajectories, &log_std, &mut workspace);
    });
    report("statistics", forward, statistics);
    let surrogate = seconds(repetitions, || {
        network.surrogate_gradient(&trajectories, &log_std, &weights, &returns, &mut workspace);
    });
    report("surrogate", forward + backward, surrogate);
    let whole = seconds(repetitions, || {
        let Ok(_) = network.window_gradient(&trajectories, &log_std, &returns, weigh, &mut workspace);
    });
    report("one sweep", forward + backward, whole);
}

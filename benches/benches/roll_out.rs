//! Environment steps per second of roll-outs, the policy's means and the random numbers included (docs/performance.md).
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::time::Duration;

use benches::balancing;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use environments::cart_pole;
use environments::registry;
use trainer::random::Streams;
use trainer::rollout::{Mode, RollOut, Sampling};
use trainer::threads::Threads;
use trainer::trajectories::Trajectories;

/// Trajectories of a batch: enough for two groups on each of a few threads.
const TRAJECTORIES: usize = 64;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = roll_out
}
criterion_main!(benches);

fn roll_out(criterion: &mut Criterion) {
    let entry = match registry::find(cart_pole::NAME) {
        Ok(entry) => entry,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    for (network, policy) in [("linear", balancing::linear()), ("32x32", balancing::hidden())] {
        let mut group = criterion.benchmark_group(format!("roll-out/cartpole-{network}"));
        for count in [1, 2] {
            let threads = match Threads::new(count) {
                Ok(threads) => threads,
                Err(error) => return eprintln!("skipped: {count} threads: {error}"),
            };
            let mut roll_out = match RollOut::new(entry, TRAJECTORIES, cart_pole::HORIZON, &threads) {
                Ok(roll_out) => roll_out,
                Err(error) => return eprintln!("skipped: {error}"),
            };
            let mut batch = Trajectories::zeros(roll_out.shape());
            // The same streams each time, and so the same number of steps.
            let sampling = Sampling {
                policy: &policy,
                streams: Streams::new(0),
                iteration: 0,
                first_trajectory: 0,
                mode: Mode::Training,
            };
            if let Err(error) = roll_out.run(sampling, &mut batch) {
                return eprintln!("skipped: {error}");
            }
            group.throughput(Throughput::Elements(batch.steps()));
            group.bench_function(format!("{count}-threads"), |bencher| {
                bencher.iter(|| roll_out.run(sampling, &mut batch));
            });
        }
        group.finish();
    }
}

//! Environment steps per second of roll-outs, the policy's means and the random numbers included (docs/performance.md).
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::time::{Duration, Instant};

use benches::balancing;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use environments::cart_pole;
use environments::registry;
use policy_nets::{GaussianPolicy, PolicyState};
use trainer::device::{Backend, DeviceChoice, SelectedDevice, select};
use trainer::device_roll_out::{DeviceRollOut, DeviceSampling};
use trainer::random::Streams;
use trainer::rollout::{Mode, RollOut, Sampling};
use trainer::threads::Threads;
use trainer::trajectories::{BatchShape, Trajectories};

/// Trajectories of a batch: enough for two groups on each of a few threads.
const TRAJECTORIES: usize = 64;
/// Trajectories of a batch on a device: as on the host, and until a large GPU is full.
const DEVICE_TRAJECTORIES: [usize; 4] = [TRAJECTORIES, 1024, 16_384, 131_072];
/// A batch that would take longer is left out, as on a software driver.
const LONGEST: Duration = Duration::from_secs(1);

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = roll_out, device_roll_out
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

fn device_roll_out(criterion: &mut Criterion) {
    for backend in [Backend::Wgpu, Backend::Cuda].into_iter().filter(|backend| backend.is_compiled()) {
        match select(&DeviceChoice::Backend(backend)) {
            Ok(device) => {
                eprintln!("{} is {}", backend.name(), device.name);
                for (network, policy) in [("linear", balancing::linear()), ("32x32", balancing::hidden())] {
                    roll_out_on(criterion, &device, network, &policy);
                }
            }
            Err(error) => eprintln!("skipped {}: {error}", backend.name()),
        }
    }
}

/// Whole batches from reset to horizon; every call ends when the device is idle.
fn roll_out_on(criterion: &mut Criterion, device: &SelectedDevice, network: &str, policy: &PolicyState) {
    let entry = match registry::find(cart_pole::NAME) {
        Ok(entry) => entry,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let name = format!("roll-out/{}/cartpole-{network}", device.backend.name());
    let mut group = criterion.benchmark_group(name);
    let on_device = GaussianPolicy::from_state(policy, &device.device);
    let sampling = DeviceSampling {
        parameters: on_device.parameters(),
        log_std: on_device.log_std(),
        streams: Streams::new(0),
        iteration: 0,
        first_trajectory: 0,
        mode: Mode::Training,
    };
    let mut before = (0, Duration::ZERO);
    for trajectories in DEVICE_TRAJECTORIES {
        let shape = BatchShape {
            trajectories,
            horizon: cart_pole::HORIZON,
            observation_size: entry.observation_size,
            action_size: entry.action_size,
        };
        let expected = before.1.as_secs_f64() * trajectories as f64 / before.0.max(1) as f64;
        if expected > LONGEST.as_secs_f64() {
            eprintln!("skipped {trajectories} trajectories: about {expected:.1} s a batch");
            break;
        }
        let roll_out = match DeviceRollOut::new(entry, shape, &policy.architecture, false, &device.device) {
            Ok(roll_out) => roll_out,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let run = || {
            let batch = roll_out.run(sampling.clone());
            device.device.sync().map(|()| batch)
        };
        let steps = match run() {
            Ok(batch) => match batch.trajectories.lengths.try_to_data() {
                Ok(lengths) => lengths.iter::<i64>().sum::<i64>(),
                // A batch larger than the device's largest buffer fails where it is read.
                Err(error) => {
                    eprintln!("skipped {trajectories} trajectories: {error}");
                    break;
                }
            },
            Err(error) => return eprintln!("skipped: {error:?}"),
        };
        let start = Instant::now();
        drop(run());
        before = (trajectories, start.elapsed());
        group.throughput(Throughput::Elements(steps as u64));
        group.bench_function(trajectories.to_string(), |bencher| bencher.iter(run));
    }
    group.finish();
}

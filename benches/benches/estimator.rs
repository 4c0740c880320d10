//! Samples per second of each stage of the RT-PG estimate and of the whole gradient, on every compiled backend that
//! answers (docs/performance.md).
#![expect(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::Duration;

use benches::workload::{Prepared, WORKLOADS, Workload};
use burn::tensor::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estimator::{Coefficients, LoggedActions, closed_form_log_second_moment, log_ratio, power_mean_weights};
use trainer::device::{self, Backend, DeviceChoice};
use trainer::phases::Phases;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = estimator
}
criterion_main!(benches);

fn estimator(criterion: &mut Criterion) {
    for backend in Backend::compiled() {
        match device::select(&DeviceChoice::Backend(backend)) {
            Ok(selected) => {
                for workload in WORKLOADS {
                    measure(criterion, backend.name(), &selected.device, workload);
                }
            }
            Err(error) => eprintln!("skipped: {}: {error}", backend.name()),
        }
    }
}

/// Every closure ends with the device idle: it reads its result back, or waits where the result is large.
fn measure(criterion: &mut Criterion, backend: &str, device: &Device, workload: Workload) {
    let mut group = criterion.benchmark_group(format!("{backend}/{}", workload.id()));
    group.throughput(Throughput::Elements(workload.samples()));

    // The data is made when the first benchmark of the group runs, so that a filter on names saves the work. Making
    // it also runs every stage, which compiles the shaders.
    let mut made = None;
    let mut stage = |name: &str, run: fn(&mut Stages, &Device)| {
        group.bench_function(name, |bencher| {
            let stages = made.get_or_insert_with(|| Stages::new(workload, device));
            run(stages, device);
            bencher.iter(|| run(stages, device));
        });
    };
    stage("means", |stages, device| {
        let mean = stages.prepared.policy.mean(stages.prepared.window.observations());
        wait(device);
        black_box(mean);
    });
    stage("ratio", |stages, _| {
        black_box(stages.ratio().into_data());
    });
    stage("coefficients", |stages, _| {
        let coefficients = stages.coefficients();
        black_box((coefficients.log_alpha.into_data(), coefficients.log_lambda.into_data()));
    });
    stage("weights", |stages, _| {
        let weights =
            power_mean_weights(stages.ratios.clone(), &stages.given, stages.workload.algorithm().exponent);
        black_box(weights.into_data());
    });
    stage("gradient", |stages, _| {
        let Prepared { policy, algorithm, .. } = &mut stages.prepared;
        let estimate = algorithm.estimate(policy, &[], &mut Phases::default());
        black_box(estimate.gradient.into_data());
    });
    group.finish();
}

fn wait(device: &Device) {
    if let Err(error) = device.sync() {
        eprintln!("the device failed: {error:?}");
    }
}

/// The inputs of each stage.
struct Stages {
    workload: Workload,
    prepared: Prepared,
    mean: Tensor<4>,
    logged: LoggedActions,
    ratios: Tensor<2>,
    given: Coefficients,
}

impl Stages {
    fn new(workload: Workload, device: &Device) -> Self {
        let prepared = workload.prepare(device);
        let logged = prepared.window.logged();
        let mean = prepared.policy.mean(prepared.window.observations()).reshape(logged.actions.dims());
        let ratios = log_ratio(mean.clone(), prepared.policy.log_std(), &logged);
        let given = coefficients(workload, &prepared, mean.clone(), &logged);
        Self { workload, prepared, mean, logged, ratios, given }
    }

    fn ratio(&self) -> Tensor<2> {
        log_ratio(self.mean.clone(), self.prepared.policy.log_std(), &self.logged)
    }

    fn coefficients(&self) -> Coefficients {
        coefficients(self.workload, &self.prepared, self.mean.clone(), &self.logged)
    }
}

/// Divergences, and the coefficients that follow from them.
fn coefficients(
    workload: Workload,
    prepared: &Prepared,
    mean: Tensor<4>,
    logged: &LoggedActions,
) -> Coefficients {
    let log_std = prepared.policy.log_std();
    let parameter_count = prepared.policy.parameters().dims()[0];
    let log_second_moment = closed_form_log_second_moment(mean, log_std, logged);
    workload.algorithm().rule(parameter_count).coefficients(log_second_moment, workload.batch)
}

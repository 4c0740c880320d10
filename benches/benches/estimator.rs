//! Samples per second of each stage of the RT-PG estimate and of the whole gradient, on every compiled backend that
//! answers (docs/performance.md).
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::Duration;

use benches::workload::{Prepared, WORKLOADS, Workload};
use burn::tensor::Tensor;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use estimator::{Coefficients, LoggedActions, closed_form_log_second_moment, log_ratio, power_mean_weights};
use trainer::algorithms::Algorithm;
use trainer::device::{self, Backend, DeviceChoice, SelectedDevice};
use trainer::phases::Phases;
use trainer::threads::Threads;

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
    // As many threads as there are processors, for the fused kernels.
    let threads = match Threads::new(0) {
        Ok(threads) => threads,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    for backend in Backend::compiled() {
        match device::select(&DeviceChoice::Backend(backend)) {
            Ok(device) => {
                for workload in WORKLOADS {
                    measure(criterion, &device, &threads, workload);
                }
            }
            Err(error) => eprintln!("skipped: {}: {error}", backend.name()),
        }
    }
}

/// Every call of a stage ends with the device idle: it reads its result back, or waits where the result is large.
fn measure(criterion: &mut Criterion, device: &SelectedDevice, threads: &Threads, workload: Workload) {
    let mut group = criterion.benchmark_group(format!("{}/{}", device.backend.name(), workload.id()));
    group.throughput(Throughput::Elements(workload.samples()));

    // The data is made for the first benchmark that runs, so that a filter on names saves the work.
    let mut made = None;
    let mut stage = |name: &str, run: fn(&mut Stages)| {
        group.bench_function(name, |bencher| {
            let stages = made.get_or_insert_with(|| Stages::new(workload, device, threads));
            // Compiles the shaders.
            run(stages);
            bencher.iter(|| run(stages));
        });
    };
    stage("means", |stages| {
        let mean = stages.prepared.policy.mean(stages.prepared.window.observations());
        if let Err(error) = stages.mean.device().sync() {
            eprintln!("the device failed: {error:?}");
        }
        black_box(mean);
    });
    stage("ratio", |stages| {
        black_box(stages.ratio().into_data());
    });
    stage("coefficients", |stages| {
        let coefficients = stages.coefficients();
        black_box((coefficients.log_alpha.into_data(), coefficients.log_lambda.into_data()));
    });
    stage("weights", |stages| {
        let exponent = stages.workload.algorithm().exponent;
        let weights = power_mean_weights(stages.ratios.clone(), &stages.given, exponent);
        black_box(weights.into_data());
    });
    stage("gradient", |stages| {
        let Prepared { policy, tensor_operations, .. } = &mut stages.prepared;
        let estimate = tensor_operations.estimate(policy, &[], &mut Phases::default());
        black_box(estimate.gradient.into_data());
    });
    if device.is_host() {
        stage("fused-gradient", |stages| {
            let Prepared { policy, fused: Some(fused), .. } = &mut stages.prepared else { return };
            let estimate = fused.estimate(policy, &[], &mut Phases::default());
            black_box(estimate.gradient.into_data());
        });
    } else {
        stage("device-gradient", |stages| {
            let Prepared { policy, device: Some(kernels), .. } = &mut stages.prepared else { return };
            let estimate = kernels.estimate(policy, &[], &mut Phases::default());
            black_box(estimate.gradient.into_data());
        });
    }
    group.finish();
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
    fn new(workload: Workload, device: &SelectedDevice, threads: &Threads) -> Self {
        let prepared = workload.prepare(device, threads);
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

//! Runs by algorithms of the caller's own: one whose device is lost, and one whose gradient is not a number.

use super::*;
use crate::algorithms::{Algorithm, AlgorithmError, Draw, Estimate, Restore, Saved, TrajectoryReuse};
use crate::checkpoint::Checkpoint;
use crate::config::{Source, load};
use crate::device;
use crate::phases::Phases;
use crate::trajectories::{BatchShape, Trajectories};

/// A device that is lost in its fourth iteration: everything that reads from it panics from then on.
struct Lost {
    inner: TrajectoryReuse,
    iterations: u32,
}

impl Algorithm for Lost {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        self.iterations = iteration + 1;
        self.inner.plan(iteration)
    }

    fn estimate(
        &mut self,
        policy: &policy_nets::GaussianPolicy,
        fresh: &[Trajectories],
        phases: &mut Phases,
    ) -> Estimate {
        assert!(self.iterations < 4, "the device is lost");
        self.inner.estimate(policy, fresh, phases)
    }

    fn save(&self, saved: &mut Saved) {
        assert!(self.iterations < 4, "the device is lost");
        self.inner.save(saved);
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        self.inner.restore(read)
    }
}

#[test]
fn a_lost_device_ends_a_run_and_loses_nothing() {
    let settings = ["iterations=6", "environment.horizon=5", "checkpoint.iterations=2", "kernels=generic"]
        .map(str::to_owned);
    let config = load(&Source::Preset("lqr".to_owned()), &settings).unwrap();
    let device = device::select(&config.device).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let start = |name: &str, trainer: Trainer| {
        let folder = RunFolder::create(&scratch.path().join(name), false).unwrap();
        Run::start_prepared(trainer, &device, folder).unwrap()
    };
    let stop = AtomicBool::new(false);
    let mut whole = start("whole", Trainer::new(&config, &device).unwrap());
    whole.train(&stop, |_| ()).unwrap();

    let mut trainer = Trainer::new(&config, &device).unwrap();
    let shape = BatchShape { trajectories: 20, horizon: 5, observation_size: 2, action_size: 2 };
    let inner = TrajectoryReuse::new(&config.algorithm, trainer.policy(), shape, &device.device).unwrap();
    trainer.set_algorithm(Box::new(Lost { inner, iterations: 0 }));
    let mut run = start("lost", trainer);
    let error = run.train(&stop, |_| ()).unwrap_err().to_string();
    assert_eq!(error, "iteration 4: a panic: the device is lost");
    drop(run);

    let folder = RunFolder::open(&scratch.path().join("lost")).unwrap();
    assert_eq!(Checkpoint::load(&folder.checkpoint()).unwrap().progress.iteration, 2);
    assert_eq!(metrics::read(&folder.metrics()).unwrap().len(), 3);
    let mut run = Run::resume(&config, &device, folder).unwrap();
    run.train(&stop, |_| ()).unwrap();
    assert_eq!(run.trainer().policy(), whole.trainer().policy());
}

/// Whose gradient is not a number in its fourth iteration.
struct Spoilt {
    inner: TrajectoryReuse,
    iterations: u32,
}

impl Algorithm for Spoilt {
    fn plan(&mut self, iteration: u32) -> Vec<Draw> {
        self.iterations = iteration + 1;
        self.inner.plan(iteration)
    }

    fn estimate(
        &mut self,
        policy: &policy_nets::GaussianPolicy,
        fresh: &[Trajectories],
        phases: &mut Phases,
    ) -> Estimate {
        let estimate = self.inner.estimate(policy, fresh, phases);
        let factor = if self.iterations == 4 { f64::NAN } else { 1.0 };
        Estimate { gradient: estimate.gradient.mul_scalar(factor), ..estimate }
    }

    fn save(&self, saved: &mut Saved) {
        self.inner.save(saved);
    }

    fn restore(&mut self, read: &mut Restore<'_>) -> Result<(), AlgorithmError> {
        self.inner.restore(read)
    }
}

/// The configured algorithm does not take the place of the given one.
#[test]
fn a_given_algorithm_that_has_taken_a_bad_batch_in_ends_the_run() {
    let settings = ["iterations=6", "environment.horizon=5", "bad_batches=drop", "kernels=generic"];
    let config = load(&Source::Preset("lqr".to_owned()), &settings.map(str::to_owned)).unwrap();
    let device = device::select(&config.device).unwrap();
    let mut trainer = Trainer::new(&config, &device).unwrap();
    let shape = BatchShape { trajectories: 20, horizon: 5, observation_size: 2, action_size: 2 };
    let inner = TrajectoryReuse::new(&config.algorithm, trainer.policy(), shape, &device.device).unwrap();
    trainer.set_algorithm(Box::new(Spoilt { inner, iterations: 0 }));
    for _ in 0..3 {
        trainer.step().unwrap();
    }
    let error = trainer.step().unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { iteration: 4, .. }), "{error}");
}

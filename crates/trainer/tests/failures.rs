//! Runs in environments that return rubbish or panic: what is bad is named, nothing is lost, and the run goes on exactly.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Tensor;
use environments::registry::Entry;
use environments::{Environment, StepError, Transition};
use policy_nets::{GaussianPolicy, PolicyState};
use rand::{Rng, RngExt};
use trainer::algorithms::{Algorithm, FusedReuse, TrajectoryReuse};
use trainer::config::{AlgorithmConfig, Config, Source, load};
use trainer::device::{self, SelectedDevice};
use trainer::finite::{Layout, Quantity};
use trainer::metrics::{self, MetricsRow};
use trainer::phases::Phases;
use trainer::run::Run;
use trainer::run_folder::RunFolder;
use trainer::threads::Threads;
use trainer::training::{MOST_DROPPED_IN_A_ROW, TrainError, Trainer};
use trainer::trajectories::{BatchShape, Trajectories};

/// A point that is pushed along a line. Seldom, and by its own random stream alone, it fails as `FAULT` says.
#[derive(Default)]
struct Faulty<const FAULT: u8> {
    position: Option<f64>,
}

const HEALTHY: u8 = 0;
const NAN_REWARD: u8 = 1;
const INFINITE_OBSERVATION: u8 = 2;
const HUGE_OBSERVATION: u8 = 3;
const HUGE_REWARD: u8 = 4;
const PANIC: u8 = 5;
const NAN_RESET: u8 = 6;

impl<const FAULT: u8> Environment for Faulty<FAULT> {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn observation_size(&self) -> usize {
        1
    }

    fn action_size(&self) -> usize {
        1
    }

    fn reset(&mut self, random: &mut dyn Rng, observation: &mut [f64]) {
        let position = random.random_range(-1.0..1.0);
        self.position = Some(position);
        observation[0] = if FAULT == NAN_RESET && position > 0.97 { f64::NAN } else { position };
    }

    fn step(
        &mut self,
        action: &[f64],
        random: &mut dyn Rng,
        observation: &mut [f64],
    ) -> Result<Transition, StepError> {
        let environment = self.name();
        let position = self.position.ok_or(StepError::NotRunning { environment })?;
        if !action[0].is_finite() {
            return Err(StepError::ActionNotFinite { environment, index: 0, value: action[0] });
        }
        let fails = random.random::<f64>() < 0.002;
        let next = position + 0.1 * action[0].clamp(-1.0, 1.0);
        self.position = Some(next);
        observation[0] = next;
        let mut reward = -next * next;
        match FAULT {
            NAN_REWARD if fails => reward = f64::NAN,
            INFINITE_OBSERVATION if fails => observation[0] = f64::NEG_INFINITY,
            HUGE_OBSERVATION if fails => observation[0] = 1e300,
            HUGE_REWARD if fails => reward = 1e39,
            PANIC => assert!(!fails, "the motor\nis on fire"),
            _ => {}
        }
        Ok(Transition { reward, terminated: false })
    }
}

fn entry<const FAULT: u8>() -> Entry {
    Entry {
        name: "lqr",
        summary: "fails seldom",
        observation_size: 1,
        action_size: 1,
        horizon: 10,
        step_duration: 0.1,
        construct: || Ok(Box::new(Faulty::<FAULT>::default())),
    }
}

const OPTIONS: &str = "iterations=60 environment.horizon=10 policy.initialization=xavier-uniform \
                       evaluation.interval=0 checkpoint.iterations=7";

fn config(options: &str) -> Config {
    let batches = if options.contains("svrpg") { "" } else { "algorithm.batch_size=6 algorithm.window=3" };
    let words = [OPTIONS, batches, options].map(str::split_whitespace);
    let overrides: Vec<String> = words.into_iter().flatten().map(str::to_owned).collect();
    load(&Source::Preset("lqr".to_owned()), &overrides).unwrap()
}

fn cpu() -> SelectedDevice {
    device::select(&"cpu".parse().unwrap()).unwrap()
}

fn trainer<const FAULT: u8>(options: &str) -> Trainer {
    Trainer::with_environment(&config(options), entry::<FAULT>(), &cpu()).unwrap()
}

/// Starts a run, or goes on with the one that is there, and trains to the end.
fn train<const FAULT: u8>(folder: &Path, options: &str) -> Result<(), TrainError> {
    let trainer = trainer::<FAULT>(options);
    let mut run = if folder.exists() {
        Run::resume_prepared(trainer, &cpu(), RunFolder::open(folder).unwrap())?
    } else {
        Run::start_prepared(trainer, &cpu(), RunFolder::create(folder, false).unwrap())?
    };
    run.train(&AtomicBool::new(false), |_| ()).map(drop)
}

fn rows(folder: &Path) -> Vec<MetricsRow> {
    let rows = metrics::read(&folder.join("metrics.csv")).unwrap();
    rows.into_iter().map(|row| MetricsRow { seconds: 0.0, seconds_total: 0.0, ..row }).collect()
}

fn policy(folder: &Path) -> PolicyState {
    PolicyState::load(&folder.join("policy.safetensors")).unwrap()
}

/// The failure of a run from its start, with any number of threads.
fn failure<const FAULT: u8>(options: &str) -> (u32, String) {
    let fail = |threads: u32| {
        let folder = tempfile::tempdir().unwrap();
        let error =
            train::<FAULT>(&folder.path().join("run"), &format!("{options} threads={threads}")).unwrap_err();
        let done = rows(&folder.path().join("run")).len() as u32;
        (done, error.to_string())
    };
    let one = fail(1);
    assert_eq!(fail(2), one);
    assert_eq!(fail(3), one);
    one
}

#[test]
fn the_first_bad_number_is_named_with_its_place() {
    let named = |(done, message): (u32, String), expected: &str, value: &str| {
        assert!(
            message.starts_with(&format!("iteration {}: {expected} of trajectory ", done + 1)),
            "{message}"
        );
        let end = format!(" is {value}; the update was not made");
        assert!(message.ends_with(&end), "{message}");
        message
    };
    let message = named(failure::<NAN_REWARD>(""), "the reward", "NaN");
    assert!(message.contains(" in step "), "{message}");
    named(failure::<INFINITE_OBSERVATION>(""), "observation 0", "-inf");
    named(failure::<HUGE_OBSERVATION>(""), "observation 0", &format!("{}", 1e300));
    let message = named(failure::<HUGE_REWARD>(""), "the sum of rewards", "inf");
    assert!(message.contains("in single precision"), "{message}");
    let message = named(failure::<NAN_RESET>(""), "observation 0", "NaN");
    assert!(message.contains(" in step 0 is "), "{message}");
}

/// The iteration was made, and is in every file; a policy that cannot be evaluated is not the best one.
#[test]
fn a_failed_evaluation_ends_the_run_after_its_iteration() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let overrides = ["optimizer.learning_rate=1e30", "evaluation.interval=1", "environment.horizon=30"];
    let config = load(&Source::Preset("lqr".to_owned()), &overrides.map(str::to_owned)).unwrap();
    let trainer = Trainer::new(&config, &cpu()).unwrap();
    let mut run = Run::start_prepared(trainer, &cpu(), RunFolder::create(&folder, false).unwrap()).unwrap();
    let error = run.train(&AtomicBool::new(false), |_| ()).unwrap_err();
    assert!(error.to_string().starts_with("the evaluation after iteration 1: "), "{error}");
    drop(run);
    let found = rows(&folder);
    assert_eq!((found.len(), found[0].evaluation_return), (1, None));
    let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap();
    assert!(
        summary.contains(r#""ending": "diverged""#) && summary.contains(r#""iterations": 1,"#),
        "{summary}"
    );
    assert!(!folder.join("policy-best.safetensors").exists());
    // It is not forgotten: who goes on meets it again, until numbers that are not finite are to be dropped.
    for _ in 0..2 {
        let mut run = Run::resume(&config, &cpu(), RunFolder::open(&folder).unwrap()).unwrap();
        let again = run.train(&AtomicBool::new(false), |_| ()).unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        drop(run);
        let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap();
        assert!(summary.contains(r#""ending": "diverged""#), "{summary}");
        assert_eq!(rows(&folder), found);
    }
    // Who makes iterations himself and does not ask is told by the next one.
    let mut trainer = Trainer::new(&config, &cpu()).unwrap();
    trainer.step().unwrap();
    assert_eq!(trainer.step().unwrap_err().to_string(), error.to_string());
}

/// The state before the failure is in the folder; with the fault gone, the run ends as if it had never been.
#[test]
fn a_run_that_failed_goes_on_where_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    train::<HEALTHY>(&whole, "").unwrap();
    for fault in [NAN_REWARD, PANIC] {
        let folder = scratch.path().join(format!("fault-{fault}"));
        let attempt = || match fault {
            PANIC => train::<PANIC>(&folder, "threads=2"),
            _ => train::<NAN_REWARD>(&folder, "threads=2"),
        };
        let first = attempt().unwrap_err().to_string();
        let done = rows(&folder).len();
        assert!(done > 0 && !done.is_multiple_of(7), "{done}: the test needs a failure between checkpoints");
        let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap();
        let ending = if fault == PANIC { "failed" } else { "diverged" };
        assert!(summary.contains(&format!(r#""ending": "{ending}""#)), "{summary}");
        assert_eq!(rows(&folder)[..], rows(&whole)[..done]);
        // Nothing has changed, so the same happens again, at once.
        assert_eq!(attempt().unwrap_err().to_string(), first);
        assert_eq!(rows(&folder).len(), done);
        train::<HEALTHY>(&folder, "").unwrap();
        assert_eq!(rows(&folder), rows(&whole));
        assert_eq!(policy(&folder), policy(&whole));
    }
}

#[test]
fn a_panic_of_an_environment_is_one_line() {
    let (done, message) = failure::<PANIC>("");
    assert_eq!(message, format!("iteration {}: the environment panicked: the motor is on fire", done + 1));
}

#[test]
fn batches_are_dropped_and_counted_when_asked() {
    for options in [
        "",
        "kernels=generic",
        "algorithm.name=bh",
        "algorithm.name=svrpg algorithm.snapshot_size=8 algorithm.batch_size=3",
        "policy.normalize_observations=true evaluation.interval=5",
    ] {
        let options = format!("{options} bad_batches=drop");
        let scratch = tempfile::tempdir().unwrap();
        let whole = scratch.path().join("whole");
        train::<NAN_REWARD>(&whole, &options).unwrap();
        let made = rows(&whole);
        assert_eq!(made.len(), 60, "{options}");
        let dropped: Vec<usize> = (0..60).filter(|index| made[*index].dropped > 0).collect();
        assert!(dropped.len() > 1 && dropped.len() < 30, "{options}: {dropped:?}");
        for index in dropped {
            let (row, before) = (&made[index], &made[index - 1]);
            assert_eq!(row.dropped, row.trajectories);
            assert_eq!(
                (row.return_mean, row.parameter_norm, row.env_steps_total),
                (before.return_mean, before.parameter_norm, before.env_steps_total)
            );
            assert_eq!(row.trajectories_total, before.trajectories_total + row.trajectories);
        }
        // In parts, with another number of threads: the same.
        let parts = scratch.path().join("parts");
        let folder = RunFolder::create(&parts, false).unwrap();
        let mut run = Run::start_prepared(trainer::<NAN_REWARD>(&options), &cpu(), folder).unwrap();
        run.train(&AtomicBool::new(true), |_| ()).unwrap();
        drop(run);
        for _ in 0..4 {
            let trainer = trainer::<NAN_REWARD>(&format!("{options} threads=2"));
            let folder = RunFolder::open(&parts).unwrap();
            let mut run = Run::resume_prepared(trainer, &cpu(), folder).unwrap();
            let stop = AtomicBool::new(false);
            run.train(&stop, |row| stop.store(row.iteration % 13 == 0, Ordering::Relaxed)).unwrap();
        }
        train::<NAN_REWARD>(&parts, &options).unwrap();
        assert_eq!(rows(&parts), made, "{options}");
        assert_eq!(policy(&parts), policy(&whole), "{options}");
    }
}

/// Every update leaves the range of numbers: the window is emptied each time, and after a while the run ends.
#[test]
fn dropping_without_end_ends() {
    let folder = tempfile::tempdir().unwrap();
    let options = "iterations=500 optimizer.name=constant optimizer.learning_rate=1e300 bad_batches=drop";
    let error = train::<HEALTHY>(&folder.path().join("run"), options).unwrap_err();
    assert!(matches!(error, TrainError::Dropped { iteration: 101, .. }), "{error}");
    let made = rows(&folder.path().join("run"));
    assert_eq!(made.len() as u32, MOST_DROPPED_IN_A_ROW);
    assert!(made.iter().all(|row| row.dropped == 6));
    // Nothing was ever learned, and the checkpoint of it can be gone on from.
    train::<HEALTHY>(&folder.path().join("run"), "iterations=110").unwrap();
    assert_eq!(rows(&folder.path().join("run")).len(), 110);
}

/// A batch that slipped through the first check is caught by the second, in both implementations.
#[test]
fn log_ratios_that_are_not_numbers_are_named() {
    let config = config("");
    let device = cpu();
    let threads = Threads::new(1).unwrap();
    let shape = BatchShape { trajectories: 6, horizon: 10, observation_size: 1, action_size: 1 };
    let state = trainer::<HEALTHY>("").policy().clone();
    let policy = GaussianPolicy::from_state(&state, &device.device);
    let algorithms: [Box<dyn Algorithm>; 2] = [
        Box::new(FusedReuse::new(&config.algorithm, &state, shape, &device.device, &threads).unwrap()),
        Box::new(TrajectoryReuse::new(&config.algorithm, &state, shape, &device.device).unwrap()),
    ];
    for mut algorithm in algorithms {
        let healthy = Trajectories { lengths: vec![10; 6], ..Trajectories::zeros(shape) };
        let mut bad = healthy.clone();
        bad.observations[4 * 10 + 3] = f32::NAN;
        let mut estimates = [healthy, bad].map(|batch| {
            algorithm.plan(0);
            algorithm.estimate(&policy, &[batch], &mut Phases::default())
        });
        let check = |estimate: &trainer::algorithms::Estimate| {
            let norm = estimate.gradient.clone().square().sum();
            let parameters = Tensor::zeros([1], &device.device);
            let place = (estimate.batches, estimate.newest);
            let (packed, layout) = Layout::pack(&estimate.diagnostics, place, norm, parameters);
            layout.read(packed.to_data().iter::<f64>().collect()).check(Vec::new)
        };
        check(&estimates[0]).unwrap();
        let quantity = check(&estimates[1]).unwrap_err().quantity;
        assert_eq!(quantity, Quantity::LogRatio { age: 0, trajectory: 4 });
        estimates[1].newest = 0;
        let quantity = check(&estimates[1]).unwrap_err().quantity;
        assert_eq!(quantity, Quantity::LogRatio { age: 1, trajectory: 4 });
    }
}

/// What can be written nowhere near is written elsewhere, and goes on from there.
#[test]
fn a_run_whose_folder_is_removed_is_rescued_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    train::<HEALTHY>(&whole, "").unwrap();
    // The second is as long as names can be.
    for name in ["lost".to_owned(), "n".repeat(255)] {
        let lost = scratch.path().join(&name);
        let folder = RunFolder::create(&lost, false).unwrap();
        let mut run = Run::start_prepared(trainer::<HEALTHY>(""), &cpu(), folder).unwrap();
        let error = run
            .train(&AtomicBool::new(false), |row| {
                if row.iteration == 10 {
                    std::fs::remove_dir_all(&lost).unwrap();
                }
            })
            .unwrap_err();
        let rescued = scratch.path().join(format!("{}-rescued", &name[..name.len().min(200)]));
        let message = error.to_string();
        assert!(matches!(error, TrainError::Rescued { .. }), "{message}");
        assert!(message.contains(&lost.display().to_string()), "{message}");
        let end = format!("go on with: rtpg train --resume {}", rescued.display());
        assert!(message.ends_with(&end) && message.lines().count() == 1, "{message}");
        assert!(!lost.exists());
        drop(run);
        train::<HEALTHY>(&rescued, "").unwrap();
        assert_eq!(rows(&rescued), rows(&whole));
        assert_eq!(policy(&rescued), policy(&whole));
        assert!(std::fs::read_dir(&rescued).unwrap().all(|entry| entry.unwrap().file_name() != "run.lock"));
    }
}

/// Without evaluations the best policy is the one whose batch had the best return, and not what became of it.
#[test]
fn the_best_policy_is_the_one_that_had_the_return() {
    let mut trainer = trainer::<HEALTHY>("evaluation.interval=0");
    let (mut best_return, mut best) = (f64::NEG_INFINITY, trainer.policy().clone());
    for _ in 0..20 {
        let sampled_by = trainer.policy().clone();
        let row = trainer.step().unwrap();
        if row.return_mean > best_return {
            (best_return, best) = (row.return_mean, sampled_by);
        }
        assert_eq!(trainer.best_policy(), &best);
        assert_eq!(trainer.progress().best_score, Some(best_return));
    }
}

#[test]
fn a_dropped_batch_says_nothing_about_the_policy() {
    let options =
        "evaluation.interval=0 optimizer.name=constant optimizer.learning_rate=1e300 bad_batches=drop";
    let mut trainer = trainer::<HEALTHY>(options);
    assert_eq!(trainer.step().unwrap().dropped, 6);
    assert_eq!(trainer.progress().best_score, None);
    assert!(!trainer.has_best_policy());
}

/// The policy that is evaluated, and so kept as the best, is the one that is saved: with the statistics of the observations
/// that the iteration sampled.
#[test]
fn what_is_evaluated_has_the_newest_statistics() {
    let options =
        "policy.normalize_observations=true evaluation.interval=1 evaluation.episodes=2 iterations=1";
    let mut trainer = trainer::<HEALTHY>(options);
    trainer.step().unwrap();
    assert_eq!(trainer.policy().normalizer.as_ref().unwrap().count(), 60.0);
    assert_eq!(trainer.best_policy(), trainer.policy());
}

/// Configurations that a program changes are checked as those of files are, and entries against their environments.
#[test]
fn configurations_and_entries_of_programs_are_checked() {
    let refusal = |change: &dyn Fn(&mut Config), entry: Entry| {
        let mut config = config("");
        change(&mut config);
        let Err(error) = Trainer::with_environment(&config, entry, &cpu()) else { panic!("it was taken") };
        error.to_string()
    };
    let healthy = entry::<HEALTHY>();
    for (change, expected) in [
        (
            &(|config: &mut Config| config.environment.horizon = Some(0)) as &dyn Fn(&mut Config),
            "`environment.horizon` is 0",
        ),
        (&|config: &mut Config| config.policy.hidden = vec![0], "`policy.hidden[0]` is 0"),
        (&|config: &mut Config| config.policy.variance = -1.0, "`policy.variance` is -1"),
        (&|config: &mut Config| config.evaluation.episodes = 0, "`evaluation.episodes` is 0"),
        (&|config: &mut Config| config.threads = 100_000, "`threads` is 100000"),
        (
            &|config: &mut Config| {
                let AlgorithmConfig::RtPg(options) = &mut config.algorithm else { panic!() };
                options.exponent = f64::NAN;
            },
            "`algorithm.exponent` is NaN",
        ),
    ] {
        let error = refusal(change, healthy);
        assert!(error.starts_with("configuration: key ") && error.contains(expected), "{error}");
    }
    let keep = |_: &mut Config| ();
    let error = refusal(&keep, Entry { horizon: 0, ..healthy });
    assert!(error.contains("a horizon of 0, expected at least 1"), "{error}");
    let error = refusal(&keep, Entry { observation_size: 3, ..healthy });
    assert!(
        error.contains("has 1 observation and 1 action components, but its entry says 3 and 1"),
        "{error}"
    );
    let trainer =
        Trainer::with_environment(&config(""), Entry { name: "my-own", ..healthy }, &cpu()).unwrap();
    assert_eq!(trainer.config().environment.name, "my-own");
}

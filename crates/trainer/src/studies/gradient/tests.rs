//! Gradient studies: what is kept and taken again, what is refused, and that threads change nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use policy_nets::tensor_file::StoredFloat;

use super::*;
use crate::studies::load;
use crate::training::preset_policy;

const SMALL: &str = r#"
title = "gradients"
kind = "gradient"
environments = ["lqr"]
runs = 6

[frozen]
iterations = 3
reference_size = 2000

[settings.environment]
horizon = 3

[[algorithm]]
label = "GPOMDP"
name = "gpomdp"
batch_size = 5

[[algorithm]]
label = "RT-PG"
name = "rt-pg"
batch_size = 5
window = 2
"#;

/// Trajectories of the truth's parts.
const PART: u64 = 500;

/// A study in a scratch folder.
struct Scratch {
    folder: tempfile::TempDir,
    definition: Definition,
}

/// What a call of [`measure`] gave.
struct Measured {
    outcome: Result<Option<Vec<Samples>>, StudyError>,
    sampled: u64,
    notices: Vec<String>,
}

impl Measured {
    fn samples(self) -> Vec<Samples> {
        self.outcome.unwrap().unwrap()
    }
}

impl Scratch {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let definition = read(folder.path(), text).unwrap();
        Self { folder, definition }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, out: &str) -> StudyFolder {
        StudyFolder::open(&self.path(out), &self.definition).unwrap()
    }

    /// Measures; `sample` is called with the trajectories that were sampled so far.
    fn measure(&self, out: &str, jobs: usize, stop: &AtomicBool, sample: impl Fn(u64) + Sync) -> Measured {
        let (sampled, notices) = (AtomicU64::new(0), Mutex::new(vec![]));
        let observe = |event: Event<'_>| match event {
            Event::Trajectories(count) => sample(sampled.fetch_add(count, Ordering::Relaxed) + count),
            Event::Notice(text) => notices.lock().unwrap().push(text.to_owned()),
            _ => {}
        };
        let outcome = measure("small", &self.definition, &self.open(out), jobs, stop, &observe);
        Measured { outcome, sampled: sampled.into_inner(), notices: notices.into_inner().unwrap() }
    }

    fn complete(&self, out: &str) -> Measured {
        self.measure(out, 2, &AtomicBool::new(false), |_| ())
    }

    /// The file of the estimates with this label.
    fn estimates(&self, out: &str, label: &str) -> PathBuf {
        let files = std::fs::read_dir(self.path(out).join("runs")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let of_label = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(label);
        paths.find(of_label).unwrap()
    }
}

fn read(folder: &Path, text: &str) -> Result<Definition, StudyError> {
    let path = folder.join("small.toml");
    std::fs::write(&path, text).unwrap();
    Ok(load(path.to_str().unwrap(), &[])?.1)
}

#[test]
fn observations_whose_moments_are_gone_are_refused() {
    for (name, size) in [("bh", "window = 2"), ("svrpg", "snapshot_size = 10"), ("def-pg", "")] {
        let text = format!("{SMALL}\n[[algorithm]]\nlabel = \"third\"\nname = \"{name}\"\n{size}\n");
        let plain = Scratch::new(&text);
        assert!(trajectories("small", &plain.definition).is_ok());
        let text =
            text.replace("[settings.env", "[settings.policy]\nnormalize_observations = true\n[settings.env");
        let scratch = Scratch::new(&text);
        let error = trajectories("small", &scratch.definition).unwrap_err();
        assert!(error.is_input());
        let message = format!("{:#}", anyhow::Error::from(error));
        assert!(
            message.starts_with("study small, `third`: policy.normalize_observations = true"),
            "{message}"
        );
        assert!(message.contains(&format!("does not go with algorithm `{name}`")), "{message}");
    }
}

/// What produced the frozen parameters is part of what an estimate is.
#[test]
fn estimates_at_other_parameters_are_not_taken_for_these() {
    let mut scratch = Scratch::new(SMALL);
    let environment = scratch.path("environment.toml");
    let start = scratch.path("start.safetensors");
    scratch.definition.environments = vec![environment.display().to_string()];
    let write = |algorithm: &str, parameter: f64| {
        let policy = format!("[policy]\nstart = \"{}\"", start.display());
        let text = format!("preset = \"lqr\"\n[algorithm]\n{algorithm}\n{policy}\n");
        std::fs::write(&environment, text).unwrap();
        let mut state = preset_policy("lqr");
        state.mean_parameters[0] = parameter;
        state.save(&start, StoredFloat::F32).unwrap();
    };
    write("batch_size = 20", 0.0);
    let first = scratch.complete("out").samples();
    write("batch_size = 30", 0.0);
    let second = scratch.complete("out").samples();
    assert_eq!(second, scratch.complete("second").samples());
    write("batch_size = 30", 0.25);
    let third = scratch.complete("out").samples();
    assert_eq!(third, scratch.complete("third").samples());
    assert!(first != second && second != third);
    // Those of the first are there still.
    write("batch_size = 20", 0.0);
    let again = scratch.complete("out");
    assert_eq!((again.sampled, again.samples()), (0, first));
}

#[test]
fn a_stopped_gradient_study_goes_on_where_it_stopped() {
    let scratch = Scratch::new(SMALL);
    let whole = scratch.complete("whole");
    let total = 4 * PART + 6 * 5 + 6 * 10;
    assert_eq!(whole.sampled, total);
    for (jobs, until) in [(1, PART), (1, 3 * PART), (2, 3 * PART), (3, 2 * PART), (1, 4 * PART + 15)] {
        let out = format!("{jobs}-{until}");
        let stop = AtomicBool::new(false);
        let event = |sampled| {
            stop.fetch_or(sampled >= until, Ordering::Relaxed);
        };
        let stopped = scratch.measure(&out, jobs, &stop, event);
        assert_eq!(stopped.outcome.unwrap(), None);
        assert!(stopped.sampled >= until && (jobs > 1 || stopped.sampled == until));
        let rest = scratch.complete(&out);
        assert_eq!(rest.notices, [""; 0]);
        assert_eq!(rest.sampled + stopped.sampled, total, "{out}");
        assert_eq!(rest.samples(), scratch.complete("whole").samples());
    }
}

#[test]
fn an_error_keeps_the_estimates_before_it() {
    let scratch = Scratch::new(SMALL);
    let whole = scratch.complete("whole").samples();
    let until = 4 * PART + 15;
    let event = |sampled| assert!(sampled < until, "no more");
    let failed = scratch.measure("out", 1, &AtomicBool::new(false), event);
    let message = format!("{:#}", anyhow::Error::from(failed.outcome.unwrap_err()));
    assert!(message.contains("study small, `GPOMDP`: ") && message.contains("no more"), "{message}");
    let rest = scratch.complete("out");
    assert_eq!(rest.sampled, 3 * 5 + 6 * 10);
    assert_eq!(rest.samples(), whole);
}

#[test]
fn more_repetitions_take_those_that_are_missing_and_fewer_take_none() {
    let mut scratch = Scratch::new(SMALL);
    scratch.complete("out").samples();
    scratch.definition.runs = 9;
    let more = scratch.complete("out");
    assert_eq!(more.sampled, 3 * 5 + 3 * 10);
    let more = more.samples();
    assert_eq!(more, scratch.complete("whole").samples());
    scratch.definition.runs = 4;
    let fewer = scratch.complete("out");
    assert_eq!(fewer.sampled, 0);
    let fewer = fewer.samples();
    assert_eq!(fewer, scratch.complete("few").samples());
    assert_eq!(fewer[1].estimates[..], more[1].estimates[..4]);
    scratch.definition.runs = 9;
    assert_eq!(scratch.complete("out").sampled, 0);
}

#[test]
fn damaged_and_foreign_estimates_are_taken_again_and_said_so() {
    let scratch = Scratch::new(SMALL);
    let whole = scratch.complete("out").samples();
    let path = scratch.estimates("out", "gpomdp");
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let foreign = std::fs::read(scratch.estimates("out", "rt-pg")).unwrap();
    for bytes in [&good[..good.len() / 2], &flipped, &foreign, b"\xff\xfe,\n", b"", b"1,2\n3\n"] {
        std::fs::write(&path, bytes).unwrap();
        let again = scratch.complete("out");
        assert_eq!(again.sampled, 6 * 5);
        assert_eq!(again.notices.len(), 1, "{:?}", again.notices);
        let expected = "it is made again";
        assert!(again.notices[0].contains(expected), "{:?}", again.notices);
        assert_eq!(again.samples(), whole);
        assert_eq!(std::fs::read(&path).unwrap(), good);
    }
    #[cfg(unix)]
    {
        let elsewhere = scratch.path("elsewhere.csv");
        std::fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let again = scratch.complete("out");
        assert!(again.notices[0].contains("symbolic link"), "{:?}", again.notices);
        assert_eq!(again.samples(), whole);
        assert!(!path.is_symlink() && std::fs::read(&elsewhere).unwrap() == good);
    }
    // Nothing is removed that may hold what others made.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = scratch.complete("out");
    assert_eq!(refused.sampled, 0);
    let message = refused.outcome.unwrap_err().to_string();
    assert!(message.contains("gpomdp-lqr-") && message.contains("it is not a regular file"), "{message}");
}

/// With one algorithm there is still work for two threads: the first to come waits for the other.
#[test]
fn repetitions_are_shared_among_threads_and_do_not_depend_on_their_number() {
    let scratch = Scratch::new(SMALL);
    let (seen, begin) = (Mutex::new(HashSet::new()), Instant::now());
    let event = |_| {
        let count = || seen.lock().unwrap().len();
        seen.lock().unwrap().insert(std::thread::current().id());
        while count() < 2 && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(count(), 2, "the truth is taken by one thread");
    };
    let shared = scratch.measure("shared", 2, &AtomicBool::new(false), event).samples();
    let one = scratch.measure("one", 1, &AtomicBool::new(false), |_| ()).samples();
    let many = scratch.measure("many", 5, &AtomicBool::new(false), |_| ()).samples();
    assert!(shared == one && one == many);
}

/// A stop ends the training of frozen parameters at once; where nothing is trained, there is nothing to stop.
#[test]
fn a_finished_study_trains_nothing() {
    let scratch = Scratch::new(SMALL);
    let stop = AtomicBool::new(true);
    assert_eq!(scratch.measure("out", 1, &stop, |_| ()).outcome.unwrap(), None);
    let whole = scratch.complete("out").samples();
    assert_eq!(scratch.measure("out", 1, &stop, |_| ()).samples(), whole);
    // Damaged parameters are made again, with the estimates that are there.
    let path = scratch.estimates("out", "frozen");
    std::fs::write(&path, "1,2,3\n").unwrap();
    let again = scratch.complete("out");
    assert_eq!((again.sampled, again.notices.len()), (0, 1));
    assert_eq!(again.samples(), whole);
}

/// Observations' moments are part of a frozen policy, and come back from its file to the bit.
#[test]
fn frozen_normalizers_are_kept() {
    let text =
        SMALL.replace("[settings.env", "[settings.policy]\nnormalize_observations = true\n[settings.env");
    let mut scratch = Scratch::new(&text);
    let whole = scratch.complete("out").samples();
    scratch.definition.runs = 8;
    let more = scratch.complete("out");
    assert_eq!(more.sampled, 2 * 5 + 2 * 10);
    let more = more.samples();
    assert_eq!(more[0].estimates[..6], whole[0].estimates[..]);
    assert_eq!(more, scratch.complete("whole").samples());
}

#[test]
fn environments_may_be_files_and_tables_come_before_figures() {
    let mut scratch = Scratch::new(SMALL);
    let files = ["one.toml", "two.toml"].map(|name| scratch.path(name).display().to_string());
    for (path, horizon) in files.iter().zip([3, 4]) {
        std::fs::write(path, format!("preset = \"lqr\"\n[environment]\nhorizon = {horizon}\n")).unwrap();
    }
    scratch.definition.environments = files.to_vec();
    scratch.definition.settings.clear();
    let samples = scratch.complete("out").samples();
    let folder = scratch.open("out");
    let table = report(&scratch.definition, &folder, &samples).unwrap();
    assert!(files.iter().all(|file| table.contains(file.as_str())), "{table}");
    let figure = |file: &str, extension: &str| {
        folder.file(&format!("error-{}.{extension}", crate::studies::plan::slug(file)))
    };
    for file in &files {
        assert!(figure(file, "svg").is_file() && figure(file, "png").is_file());
    }
    let tables = ["summary.csv", "components.csv", "summary.md"].map(|name| folder.file(name));
    let contents = || tables.each_ref().map(|path| std::fs::read_to_string(path).unwrap());
    let before = contents();
    for path in &tables {
        std::fs::remove_file(path).unwrap();
    }
    std::fs::remove_file(figure(&files[0], "svg")).unwrap();
    std::fs::create_dir(figure(&files[0], "svg")).unwrap();
    assert!(report(&scratch.definition, &folder, &samples).is_err());
    assert_eq!(contents(), before);
}

#[test]
fn keys_without_a_use_are_refused() {
    let refused = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path(), text).unwrap_err();
        assert!(error.is_input());
        error.to_string()
    };
    for (line, key) in [
        ("budget = 60", "budget"),
        ("threshold = -3.0", "threshold"),
        ("smoothing = 10", "smoothing"),
        ("horizontal = \"seconds\"", "horizontal"),
        ("interval = \"student-t\"", "interval"),
        ("isolated = true", "isolated"),
        ("position_label = \"window\"", "position_label"),
    ] {
        let message = refused(&format!("{line}\n{SMALL}"));
        let expected = format!("key `{key}` goes with kind = \"training\" only");
        assert!(message.ends_with(&expected), "{message}");
    }
    for (line, key) in [
        ("budget = 60", "budget"),
        ("optimizer = { learning_rate = 0.1 }", "optimizer"),
        ("policy = { hidden = [8] }", "policy"),
        ("position = 3.0", "position"),
        ("group = \"one\"", "group"),
    ] {
        let message = refused(&SMALL.replace("name = \"rt-pg\"", &format!("name = \"rt-pg\"\n{line}")));
        let expected = format!("key `algorithm.{key}` goes with kind = \"training\" only");
        assert!(message.ends_with(&expected), "{message}");
    }
}

/// Before the parameters are trained, and before anything is allocated from the sizes.
#[test]
fn estimates_that_do_not_fit_into_memory_are_refused() {
    let large = SMALL.replace("batch_size = 5\nwindow = 2", "batch_size = 16777216\nwindow = 4");
    let scratch = Scratch::new(&large.replace("horizon = 3", "horizon = 100000"));
    let refused = scratch.complete("out");
    let message = format!("{:#}", anyhow::Error::from(refused.outcome.unwrap_err()));
    assert!(message.starts_with("study small, `RT-PG`: the run needs at most about "), "{message}");
    assert!(message.contains("(4 batches of 16777216 trajectories of 100000 steps)"), "{message}");
    assert_eq!(refused.sampled, 0);
    assert_eq!(std::fs::read_dir(scratch.path("out/runs")).map_or(0, Iterator::count), 0);
    // Each of them fits, but not all that are kept.
    let policy =
        "[settings.policy]\nhidden = [3000, 3000]\ninitialization = \"xavier-uniform\"\n\n[[algorithm]]";
    let many = SMALL.replacen("[[algorithm]]", policy, 1).replace("runs = 6", "runs = 10000");
    let message = Scratch::new(&many).complete("out").outcome.unwrap_err().to_string();
    assert!(message.starts_with("study small: 10000 estimates of 9012000 numbers by each"), "{message}");
    assert!(message.ends_with("are available; lower runs or --jobs"), "{message}");
}

/// The file in a study's folder is a study, whose folder is that one.
#[test]
fn the_study_in_the_folder_can_be_read_again() {
    let names = crate::studies::built_in().iter().map(|built_in| built_in.name);
    for name in names {
        let definition = load(name, &[]).unwrap().1;
        let scratch = tempfile::tempdir().unwrap();
        let folder = StudyFolder::open(&scratch.path().join("out"), &definition).unwrap();
        let path = folder.file("study.toml");
        let again = load(path.to_str().unwrap(), &[]).unwrap().1;
        assert_eq!(again, definition);
    }
}

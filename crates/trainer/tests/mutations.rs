//! Every reader of files, fed with valid files that were damaged at random: each answers with a value or with one line of
//! error, without a panic and without allocating much more than the file's own size.
//!
//! The damage is a function of a seed. `RTPG_MUTATIONS=N` makes N of each kind instead of the usual number, and a failure
//! names its seed. What is found becomes a test by its own name in the second half of this file.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use integration_tests::problems::Recipe;
use policy_nets::PolicyState;
use policy_nets::tensor_file::{HostTensor, StoredFloat, TensorFile, to_bytes};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use trainer::checkpoint::Checkpoint;
use trainer::config::{Source, load, presets};
use trainer::device;
use trainer::logged::LoggedTrajectories;
use trainer::metrics::{self, MetricsRow};
use trainer::panics;
use trainer::run_folder::RunFolder;
use trainer::studies::{self, Plan, StudyFolder};
use trainer::training::Trainer;

/// Counts what the current thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that ends frees memory after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a reader may hold at a time beyond 64 times the size of its file.
const ALLOWANCE: usize = 4 << 20;

/// Damaged copies of each file.
fn rounds() -> u64 {
    std::env::var("RTPG_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// Runs a reader on `bytes`, which `name` describes; returns its error's text.
fn read(name: &str, bytes: &[u8], reader: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Option<String> {
    let before = HELD.get();
    MOST.set(before);
    let outcome =
        panics::catch(|| reader(bytes)).unwrap_or_else(|message| panic!("{name}: a panic: {message}"));
    let most = (MOST.get() - before).unsigned_abs();
    assert!(most <= ALLOWANCE + 64 * bytes.len(), "{name}: {most} bytes for a file of {}", bytes.len());
    let error = outcome.err();
    if let Some(error) = &error {
        assert!(!error.is_empty(), "{name}: an error without words");
    }
    error
}

/// One to four changes of a file, of the kinds that disks, editors and attackers make.
fn damaged(bytes: &[u8], other: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let length = bytes.len().max(1);
        let place = random.random_range(0..length).min(bytes.len());
        let size = random.random_range(0..64.min(length));
        match random.random_range(0..11) {
            0 if !bytes.is_empty() => bytes[place.min(length - 1)] ^= 1 << random.random_range(0..8),
            1 if !bytes.is_empty() => bytes[place.min(length - 1)] = random.random(),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place..(place + size).min(bytes.len()))),
            4 => {
                let copy = bytes[place..(place + size).min(bytes.len())].to_vec();
                bytes.splice(place..place, copy);
            }
            5 => {
                let from = random.random_range(0..other.len().max(1)).min(other.len());
                let part = other[from..(from + 4 * size).min(other.len())].to_vec();
                let end = (place + size).min(bytes.len());
                bytes.splice(place..end, part);
            }
            6 => insert(
                &mut bytes,
                place,
                &["99999999999999999999", "-1", "1e999", "nan", "18446744073709551615"],
                random,
            ),
            7 => insert(&mut bytes, place, &["[", "{\"a\":", "\"", "\\u0000", ",", "[[", "= "], random),
            8 => drop(bytes.splice(place..place, vec![b'['; 5000])),
            // The length of a header.
            9 if bytes.len() >= 8 => {
                let length: u64 = match random.random_range(0..4) {
                    0 => u64::MAX,
                    1 => 1 << random.random_range(0..64),
                    2 => bytes.len() as u64,
                    _ => random.random(),
                };
                bytes[..8].copy_from_slice(&length.to_le_bytes());
            }
            // Every occurrence of a digit, so that sizes of several places still agree.
            _ => {
                let (from, to) = (b'0' + random.random_range(0..10), b'0' + random.random_range(0..10));
                bytes.iter_mut().filter(|byte| **byte == from).for_each(|byte| *byte = to);
            }
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, place: usize, words: &[&str], random: &mut SmallRng) {
    let word = words[random.random_range(0..words.len())];
    bytes.splice(place..place, word.bytes());
}

/// Feeds damaged copies of valid files to a reader, and sees that it finds fault with most and with none of the valid ones.
fn feed(what: &str, files: &[Vec<u8>], mut reader: impl FnMut(&[u8]) -> Result<(), String>) {
    for file in files {
        assert_eq!(read(what, file, &mut reader), None, "{what}: the valid file");
    }
    let mut refused = 0;
    for seed in 0..rounds() {
        let mut random = SmallRng::seed_from_u64(seed);
        let file = &files[random.random_range(0..files.len())];
        let other = &files[random.random_range(0..files.len())];
        let bytes = damaged(file, other, &mut random);
        refused += u64::from(read(&format!("{what}, seed {seed}"), &bytes, &mut reader).is_some());
    }
    println!("{what}: {refused} of {} refused", rounds());
    assert!(2 * refused > rounds(), "{what}: fault was found with {refused} only");
}

/// A reader of files at a path.
fn at_path(
    path: &Path,
    mut reader: impl FnMut(&Path) -> Result<(), String>,
) -> impl FnMut(&[u8]) -> Result<(), String> {
    move |bytes| {
        std::fs::write(path, bytes).unwrap();
        reader(path)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[test]
fn configurations() {
    let scratch = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> = presets()
        .iter()
        .map(|preset| load(&Source::Preset(preset.name.to_owned()), &[]).unwrap().to_toml().into_bytes())
        .collect();
    let path = scratch.path().join("config.toml");
    let reader = |path: &Path| load(&Source::File(path.to_owned()), &[]).map(drop).map_err(text);
    feed("configurations", &files, at_path(&path, reader));
}

#[test]
fn settings_of_the_command_line() {
    let files: Vec<Vec<u8>> =
        ["algorithm.window=4", "policy.hidden=[]", "policy.log_std_bounds={min=-1.0,max=1.0}"]
            .map(|text| text.as_bytes().to_vec())
            .to_vec();
    feed("settings", &files, |bytes| {
        let setting = String::from_utf8_lossy(bytes).into_owned();
        load(&Source::Preset("cartpole".to_owned()), &[setting]).map(drop).map_err(text)
    });
}

#[test]
fn studies_and_their_folders() {
    let scratch = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> =
        studies::built_in().iter().map(|study| study.text.as_bytes().to_vec()).collect();
    let path = scratch.path().join("study.toml");
    // A plan holds every run; those of a large number are not made here.
    let reader = |path: &Path| {
        let (name, definition) = studies::load(&path.display().to_string(), &[]).map_err(text)?;
        let few = studies::Definition { runs: definition.runs.min(2), ..definition };
        Plan::new(&name, &few).map(drop).map_err(text)
    };
    feed("studies", &files, at_path(&path, reader));

    let (name, definition) = studies::load("cartpole-window", &["runs=1".to_owned()]).unwrap();
    let plan = Plan::new(&name, &definition).unwrap();
    let out = scratch.path().join("out");
    drop(StudyFolder::open(&out, &definition).unwrap());
    let file = out.join("study.toml");
    let valid = vec![std::fs::read(&file).unwrap()];
    let reader = |_: &Path| StudyFolder::open(&out, &definition).map(drop).map_err(text);
    feed("study folders", &valid, at_path(&file, reader));
    std::fs::write(&file, &valid[0]).unwrap();

    let folder = StudyFolder::open(&out, &definition).unwrap();
    let run = folder.run(&plan.runs[0]);
    std::fs::create_dir_all(&run).unwrap();
    let rows = metrics::to_csv(&[row(1), row(2)], true).unwrap();
    std::fs::write(run.join("metrics.csv"), &rows).unwrap();
    let completion = studies::Completion {
        configuration: plan.runs[0].hash.clone(),
        metrics: sha256(&rows),
        failure: None,
    };
    let valid = vec![serde_json::to_vec(&completion).unwrap()];
    let finished = |_: &Path| folder.finished(&plan.runs[0]).map(drop).ok_or("not finished".to_owned());
    feed("completions", &valid, at_path(&run.join("complete.json"), finished));
    std::fs::write(run.join("complete.json"), &valid[0]).unwrap();
    feed("results", &[rows], at_path(&run.join("metrics.csv"), finished));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

fn row(iteration: u32) -> MetricsRow {
    MetricsRow {
        iteration,
        return_mean: -0.1 * f64::from(iteration),
        flags: "weights ess".to_owned(),
        ..MetricsRow::default()
    }
}

#[test]
fn metrics_of_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let rows: Vec<MetricsRow> = (1..20).map(row).collect();
    let files = vec![metrics::to_csv(&rows, true).unwrap(), metrics::to_csv(&rows[..1], true).unwrap()];
    let reader = |path: &Path| {
        metrics::read_curve(path).map_err(text)?;
        metrics::read_first(path, 1).map_err(text)?;
        metrics::read(path).map(drop).map_err(text)
    };
    feed("metrics", &files, at_path(&scratch.path().join("metrics.csv"), reader));
}

/// A file as if it had no checksum, so that damage gets past it.
fn unsealed(mut bytes: Vec<u8>) -> Vec<u8> {
    find(&mut bytes, b"sha256-of-file:")[0] = b'S';
    bytes
}

/// The first place where `text` stands.
fn find<'a>(bytes: &'a mut [u8], text: &[u8]) -> &'a mut [u8] {
    let place = bytes.windows(text.len()).position(|window| window == text).unwrap();
    &mut bytes[place..place + text.len()]
}

#[test]
fn policies() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("policy.safetensors");
    let mut files = vec![];
    for setting in
        ["policy.hidden=[]", "policy.hidden=[3, 2]", "policy.bias=true", "policy.normalize_observations=true"]
    {
        let settings = [setting.to_owned(), "policy.initialization=xavier-uniform".to_owned()];
        let config = load(&Source::Preset("cartpole".to_owned()), &settings).unwrap();
        let trainer = Trainer::new(&config, &device::select(&config.device).unwrap()).unwrap();
        trainer.policy().save(&path, StoredFloat::F32).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        files.extend([unsealed(bytes.clone()), bytes]);
    }
    feed("policies", &files, at_path(&path, |path| PolicyState::load(path).map(drop).map_err(text)));
}

#[test]
fn checkpoints() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("state.safetensors");
    for (algorithm, others) in [("rt-pg", ""), ("bh", ""), ("page-pg", "algorithm.snapshot_size=3")] {
        let settings: Vec<String> = format!(
            "threads=1 environment.horizon=3 algorithm.name={algorithm} algorithm.batch_size=2 evaluation.episodes=1 {others}"
        )
        .split_whitespace()
        .map(str::to_owned)
        .collect();
        let config = load(&Source::Preset("cartpole".to_owned()), &settings).unwrap();
        let device = device::select(&config.device).unwrap();
        let mut trainer = Trainer::new(&config, &device).unwrap();
        let mut files = vec![];
        for _ in 0..3 {
            trainer.step().unwrap();
            trainer.checkpoint().save(&path, &scratch.path().join("previous")).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let mut open = unsealed(bytes.clone());
            *find(&mut open, b"rtpg-checkpoint/2").last_mut().unwrap() = b'1';
            files.extend([bytes, open]);
        }
        let mut restored = Trainer::new(&config, &device).unwrap();
        let reader = |path: &Path| {
            let checkpoint = Checkpoint::load(path).map_err(text)?;
            restored.restore(&checkpoint).map_err(text)
        };
        feed(&format!("checkpoints of {algorithm}"), &files, at_path(&path, reader));
    }
}

#[test]
fn logged_trajectories() {
    let scratch = tempfile::tempdir().unwrap();
    let problem = Recipe { window: 2, batch: 2, horizon: 3, ..Recipe::default() }.problem(1);
    let padded = problem.padded(f64::NAN);
    let steps = vec![problem.window(), problem.batch(), problem.horizon];
    let wide = |last: usize| [steps.clone(), vec![last]].concat();
    let (observation, action) = (problem.observation_size(), problem.action_size());
    let mut tensors = std::collections::BTreeMap::from([
        ("observations".to_owned(), HostTensor::new(wide(observation), padded.observations.clone())),
        ("actions".to_owned(), HostTensor::new(wide(action), padded.actions.clone())),
        ("rewards".to_owned(), HostTensor::new(steps.clone(), padded.rewards.clone())),
        ("behaviour_mean".to_owned(), HostTensor::new(wide(action), padded.behaviour_mean.clone())),
        (
            "behaviour_log_std".to_owned(),
            HostTensor::new([steps[0], action], padded.behaviour_log_std.clone()),
        ),
    ]);
    // Without `lengths`, nothing is padding.
    for tensor in tensors.values_mut() {
        tensor.values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = 0.5);
    }
    let files = vec![
        to_bytes(&tensors, &std::collections::BTreeMap::new(), StoredFloat::F64).unwrap(),
        to_bytes(&tensors, &std::collections::BTreeMap::new(), StoredFloat::F32).unwrap(),
    ];
    let path = scratch.path().join("trajectories.safetensors");
    feed(
        "trajectories",
        &files,
        at_path(&path, |path| LoggedTrajectories::load(path).map(drop).map_err(text)),
    );
}

/// A run folder with damaged files, opened and gone on with.
#[test]
fn whole_run_folders() {
    let scratch = tempfile::tempdir().unwrap();
    let settings: Vec<String> =
        "threads=1 iterations=3 environment.horizon=3 algorithm.batch_size=2 evaluation.interval=0"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
    let config = load(&Source::Preset("lqr".to_owned()), &settings).unwrap();
    let device = device::select(&config.device).unwrap();
    let path = scratch.path().join("run");
    let mut run =
        trainer::run::Run::start(&config, &device, RunFolder::create(&path, false).unwrap()).unwrap();
    run.train(&false.into(), |_| ()).unwrap();
    drop(run);
    let names = [
        "metrics.csv",
        "checkpoint/state.safetensors",
        "checkpoint/previous.safetensors",
        "policy-best.safetensors",
    ];
    let valid: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(path.join(name)).unwrap()).collect();
    for seed in 0..rounds() / 4 {
        let mut random = SmallRng::seed_from_u64(seed);
        for (name, valid) in names.iter().zip(&valid) {
            let bytes = if random.random() { damaged(valid, valid, &mut random) } else { valid.clone() };
            std::fs::write(path.join(name), bytes).unwrap();
        }
        let outcome = panics::catch(|| {
            let folder = RunFolder::open(&path).map_err(text)?;
            trainer::run::Run::resume(&config, &device, folder).map(drop).map_err(text)
        });
        let outcome =
            outcome.unwrap_or_else(|message| panic!("run folders, seed {seed}: a panic: {message}"));
        assert!(outcome.is_ok() || outcome.is_err_and(|error| !error.is_empty()));
    }
}

/// Sizes of empty tensors multiply to anything.
#[test]
fn empty_tensors_of_any_shape_are_refused() {
    let header = r#"{"mean.0.weight":{"dtype":"F32","shape":[4611686018427387904,0],"data_offsets":[0,0]},"log_std":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    let refused = read("empty", &bytes, &mut |bytes| {
        let file = TensorFile::from_bytes(Path::new("empty"), bytes.to_vec()).map_err(text)?;
        PolicyState::from_file(&file).map(drop).map_err(text)
    });
    assert!(refused.is_some());
}

//! Processes killed at random moments, as a power cut or the system's out-of-memory killer would: what goes on afterwards
//! ends as if nothing had happened.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::session::Session;

/// Kills of the test of runs.
const KILLS: u32 = 200;
/// Kills of the test of a study.
const STUDY_KILLS: u32 = 15;

/// Iterations of a fraction of a millisecond, with a checkpoint after each: most of the time goes into writing.
const OPTIONS: &str = "--device cpu --threads 1 --set iterations=1500 --set environment.horizon=3 \
                       --set algorithm.batch_size=3 --set algorithm.window=3 --set evaluation.episodes=1 \
                       --set evaluation.interval=3 --set policy.normalize_observations=true";

/// Runs a command and kills it after a random time of at most `most`; true when it was killed.
fn killed(session: &Session, command: &str, random: &mut SmallRng, most: Duration) -> bool {
    let mut child = session.command(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let moment = most.mul_f64(random.random());
    std::thread::sleep(moment);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.code() {
        None => true,
        Some(0) => false,
        Some(code) => panic!("rtpg {command}: {code}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Temporary files of writes that were under way.
fn temporary_files(folder: &Path) -> usize {
    let count = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
    };
    count(folder) + count(&folder.join("checkpoint"))
}

#[test]
fn killed_at_two_hundred_moments_and_the_same_in_the_end() {
    let session = Session::new();
    session.succeed(&format!("train lqr {OPTIONS} --out whole --set checkpoint.seconds=3600"));
    let begin = Instant::now();
    session.succeed(&format!("train lqr {OPTIONS} --out start --set iterations=1"));
    let startup = begin.elapsed();

    let mut random = SmallRng::seed_from_u64(1);
    let (mut kills, mut in_writes, mut runs) = (0, 0, 0);
    while kills < KILLS {
        runs += 1;
        let run = format!("run-{runs}");
        let mut command = format!("train lqr {OPTIONS} --out {run} --set checkpoint.iterations=1");
        while kills < KILLS && killed(&session, &command, &mut random, 4 * startup) {
            kills += 1;
            in_writes += usize::from(temporary_files(&session.path(&run)) > 0);
            // A kill before the configuration is there leaves nothing to go on with.
            command = if session.path(&run).join("config.toml").exists() {
                format!("train --resume {run}")
            } else {
                format!("train lqr {OPTIONS} --out {run} --set checkpoint.iterations=1 --force")
            };
        }
        if session.path(&run).join("config.toml").exists() {
            session.succeed(&format!("train --resume {run} --set checkpoint.iterations=0"));
        } else {
            session.succeed(&command);
        }
        assert_eq!(session.metrics(&run), session.metrics("whole"), "{run} after {kills} kills");
        for file in ["policy.safetensors", "policy-best.safetensors"] {
            let read = |run: &str| std::fs::read(session.path(run).join(file)).unwrap();
            assert!(read(&run) == read("whole"), "{file} of {run} after {kills} kills");
        }
        assert_eq!(temporary_files(&session.path(&run)), 0);
    }
    println!("{kills} kills in {runs} runs, {in_writes} in the middle of a write");
    assert!(in_writes > 0, "no kill was in the middle of a write");
}

const STUDY: &str = r#"
title = "killed"
environments = ["lqr"]
runs = 4
budget = 600
[settings.environment]
horizon = 5
[settings.checkpoint]
iterations = 7
[[algorithm]]
label = "RT-PG"
name = "rt-pg"
batch_size = 5
window = 3
[[algorithm]]
label = "SVRPG"
name = "svrpg"
snapshot_size = 10
batch_size = 5
epoch = 2
"#;

#[test]
fn a_study_killed_again_and_again_has_the_same_results() {
    let session = Session::new();
    session.write("killed.toml", STUDY);
    let begin = Instant::now();
    session.succeed("study killed.toml --out whole --jobs 2");
    let whole = begin.elapsed();
    let mut random = SmallRng::seed_from_u64(2);
    let (mut kills, mut studies) = (0, 0);
    while kills < STUDY_KILLS {
        studies += 1;
        let study = format!("study-{studies}");
        let command = format!("study killed.toml --out {study} --jobs 2");
        while kills < STUDY_KILLS && killed(&session, &command, &mut random, whole / 3) {
            kills += 1;
        }
        session.succeed(&command);
        assert_equal_studies(&session, "whole", &study);
    }
    println!("{kills} kills in {studies} studies");
}

/// Everything but times.
fn assert_equal_studies(session: &Session, first: &str, second: &str) {
    let runs = |study: &str| {
        let runs = std::fs::read_dir(session.path(study).join("runs")).unwrap();
        let mut names: Vec<_> = runs.map(|run| run.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(runs(first), runs(second));
    for run in runs(first) {
        let [first, second] = [first, second].map(|study| format!("{study}/runs/{run}"));
        assert_eq!(session.metrics(&first), session.metrics(&second), "{run}");
        let read = |run: &str| std::fs::read(session.path(run).join("policy.safetensors")).unwrap();
        assert!(read(&first) == read(&second), "{run}");
    }
    // The table's last column is the seconds of a run.
    let table = |study: &str| -> Vec<String> {
        let text = std::fs::read_to_string(session.path(study).join("summary.md")).unwrap();
        let without = |line: &str| {
            line.trim_end_matches(" |").rsplit_once(" | ").map_or(line, |(rest, _)| rest).to_owned()
        };
        text.lines().map(without).collect()
    };
    assert_eq!(table(first), table(second));
}

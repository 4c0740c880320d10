//! Runs that are stopped or killed go on as if nothing had happened.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::session::{Session, signal};

/// Several groups of environments (batch 40), so that threads have something to divide; each iteration takes a while.
const LONG: &str = "pendulum --device cpu --set iterations=30 --set algorithm.window=3 --set checkpoint.iterations=3 \
                    --set evaluation.interval=4 --set evaluation.episodes=4";

/// Files that equal runs must share to the byte.
const FILES: [&str; 3] = ["config.toml", "policy.safetensors", "policy-best.safetensors"];

fn assert_equal_runs(session: &Session, first: &str, second: &str) {
    assert_eq!(session.metrics(first), session.metrics(second), "metrics of {first} and {second}");
    for file in FILES {
        let read = |run: &str| std::fs::read(session.path(run).join(file)).unwrap();
        assert!(read(first) == read(second), "{file} of {first} and {second} differ");
    }
}

/// Everything that stands in the folder of a run that came to an end in order.
fn assert_complete(folder: &Path) {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "checkpoint",
        "config.toml",
        "learning_curve.png",
        "learning_curve.svg",
        "metrics.csv",
        "policy-best.safetensors",
        "policy.safetensors",
        "summary.json",
    ];
    assert_eq!(names, expected);
    assert!(folder.join("checkpoint/state.safetensors").is_file());
}

fn start(session: &Session, arguments: &str) -> Child {
    session.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until the run has recorded `rows` iterations.
fn wait_for_rows(session: &Session, run: &str, rows: usize, child: &mut Child) {
    let metrics = session.path(run).join("metrics.csv");
    wait_for(child, || std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() > rows);
}

/// Waits until something holds while the command runs, at most a minute.
fn wait_for(child: &mut Child, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(child.try_wait().unwrap().is_none(), "the command ended too early");
        assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened for a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let session = Session::new();
    for threads in [1, 2, 3] {
        session.succeed(&format!("train {LONG} --threads {threads} --out threads-{threads}"));
        // The resolved configuration names the number of threads.
        let config = session.path(&format!("threads-{threads}")).join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(config, text.replace(&format!("threads = {threads}"), "threads = 1")).unwrap();
    }
    assert_equal_runs(&session, "threads-1", "threads-2");
    assert_equal_runs(&session, "threads-1", "threads-3");
    session.succeed(&format!("train {LONG} --seed 1 --out other-seed"));
    assert_ne!(session.metrics("threads-1"), session.metrics("other-seed"));
}

#[test]
fn an_interrupted_run_is_complete_and_goes_on() {
    for algorithm in ["rt-pg", "bh"] {
        let session = Session::new();
        let options = format!("{LONG} --set algorithm.name={algorithm}");
        session.succeed(&format!("train {options} --out whole"));
        let mut child = start(&session, &format!("train {options} --out run"));
        wait_for_rows(&session, "run", 4, &mut child);
        signal(&child, Signal::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_complete(&session.path("run"));
        let summary = std::fs::read_to_string(session.path("run/summary.json")).unwrap();
        assert!(summary.contains(r#""ending": "stopped""#), "{summary}");
        let rows = session.metrics("run").len();
        assert!((4..30).contains(&rows), "{rows}");
        session.succeed("evaluate run --episodes 2");
        session.succeed("train --resume run");
        assert_equal_runs(&session, "whole", "run");
    }
}

/// Normaliser, learned deviation and constant steps survive a checkpoint too.
#[test]
fn a_run_in_two_parts_is_the_run_in_one() {
    let session = Session::new();
    for (index, options) in [
        "--set policy.normalize_observations=true --set policy.learn_variance=true --set policy.hidden=[5] \
         --set policy.initialization=xavier-uniform",
        "--set optimizer.name=constant --set optimizer.learning_rate=1e-5 --set algorithm.name=gpomdp --set algorithm.baseline=none",
        "--set algorithm.name=miw --set algorithm.window=3",
        "--set algorithm.divergence=sample --set algorithm.exponent=-0.5 --set evaluation.interval=0",
        "--set algorithm.name=storm-pg --set algorithm.snapshot_size=20 --set algorithm.batch_size=5",
        "--set algorithm.name=def-pg --set algorithm.snapshot_size=20 --set algorithm.batch_size=6",
    ]
    .into_iter()
    .enumerate()
    {
        let common = format!("lqr --device cpu --set environment.horizon=12 {options}");
        let (whole, parts) = (format!("whole-{index}"), format!("parts-{index}"));
        session.succeed(&format!("train {common} --set iterations=9 --out {whole}"));
        session.succeed(&format!("train {common} --set iterations=4 --out {parts}"));
        session.succeed(&format!("train --resume {parts} --set iterations=9"));
        let refused = session.refused(&format!("train --resume {parts} --set iterations=8"));
        assert!(refused.contains("has made 9 already"), "{refused}");
        if options.contains("interval=0") {
            assert_equal_runs(&session, &whole, &parts);
        } else {
            // The first part evaluates its last policy, iteration 4, on top of the interval.
            let without_evaluation = |run: &str| -> Vec<String> {
                let column = |line: String| {
                    let mut columns: Vec<&str> = line.split(',').collect();
                    columns.remove(9);
                    columns.join(",")
                };
                session.metrics(run).into_iter().map(column).collect()
            };
            assert_eq!(without_evaluation(&whole), without_evaluation(&parts), "{options}");
            let policy = |run: &str| std::fs::read(session.path(run).join("policy.safetensors")).unwrap();
            assert!(policy(&whole) == policy(&parts), "{options}");
        }
    }
}

#[test]
fn a_killed_run_goes_on_as_if_it_had_not_been() {
    let session = Session::new();
    session.succeed(&format!("train {LONG} --out whole"));
    let mut arguments = format!("train {LONG} --out run");
    // Rows after which to kill; between them lie checkpoints, every third iteration, and moments without one.
    for rows in [None, Some(0), Some(1), Some(5), Some(5), Some(11), Some(19)] {
        let mut child = start(&session, &arguments);
        match rows {
            Some(rows) => wait_for_rows(&session, "run", rows, &mut child),
            None => wait_for(&mut child, || session.path("run/config.toml").exists()),
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None);
        arguments = "train --resume run".to_owned();
    }
    session.succeed(&arguments);
    assert_complete(&session.path("run"));
    assert_equal_runs(&session, "whole", "run");
}

/// What a kill while a folder is made or emptied leaves behind can be overwritten.
#[test]
fn remains_of_a_killed_start_are_overwritten_by_force() {
    let session = Session::new();
    std::fs::create_dir_all(session.path("run/checkpoint")).unwrap();
    session.write("run/.rtpg-Ab12Cd", "half a file");
    session.run_lqr("run", "--force");
    assert_complete(&session.path("run"));
    for name in ["metrics.csv", "policy.safetensors", "policy-best.safetensors", "summary.json"] {
        std::fs::remove_file(session.path("run").join(name)).unwrap();
        session.run_lqr("run", "--force");
    }
    assert_complete(&session.path("run"));
}

#[test]
fn a_finished_run_is_resumed_to_the_same_end_and_can_be_prolonged() {
    let session = Session::new();
    session.run_lqr("run", "");
    let before = session.metrics("run");
    session.succeed("train --resume run");
    assert_eq!(session.metrics("run"), before);
    session.succeed("train --resume run --set iterations=5");
    assert_eq!(session.metrics("run").len(), 5);
    assert_eq!(session.metrics("run")[..3], before);
}

/// An update that leaves the range of numbers is not made; what was good is kept, and the run goes on from it.
#[test]
fn a_diverging_run_fails_and_keeps_its_last_good_state() {
    let session = Session::new();
    let constant = "--set optimizer.name=constant --set optimizer.learning_rate=1e-5";
    session.run_lqr("run", constant);
    session.run_lqr("whole", &format!("{constant} --set iterations=6 --set evaluation.interval=3"));
    let good = std::fs::read(session.path("run/policy.safetensors")).unwrap();
    session.edit_config("run", "learning_rate = 0.00001", "learning_rate = 1e38");
    let diverging = session.run("train --resume run --set iterations=6");
    let error = String::from_utf8(diverging.stderr).unwrap();
    assert_eq!(diverging.status.code(), Some(1), "{error}");
    let last = error.lines().last().unwrap();
    assert!(last.starts_with("error: iteration 4: parameter 0 after the update is "), "{error}");
    assert_complete(&session.path("run"));
    assert_eq!(session.metrics("run").len(), 3);
    assert!(std::fs::read(session.path("run/policy.safetensors")).unwrap() == good);
    let summary = std::fs::read_to_string(session.path("run/summary.json")).unwrap();
    assert!(summary.contains(r#""ending": "diverged""#), "{summary}");
    session.succeed("evaluate run --episodes 2");

    let config = std::fs::read_to_string(session.path("run/config.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("learning_rate")).unwrap();
    session.edit_config("run", line, "learning_rate = 0.00001");
    session.succeed("train --resume run");
    assert_eq!(session.metrics("whole"), session.metrics("run"));
}

/// The same in the first iteration, before there is anything to go back to but the start.
#[test]
fn a_run_that_diverges_at_once_leaves_its_start() {
    let session = Session::new();
    let options =
        "lqr --device cpu --out run --set optimizer.name=constant --set optimizer.learning_rate=1e38";
    let output = session.run(&format!("train {options} --set iterations=2"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    session.succeed("evaluate run --last --episodes 2");
    let config = std::fs::read_to_string(session.path("run/config.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("learning_rate")).unwrap();
    session.edit_config("run", line, "learning_rate = 0.00001");
    session.succeed("train --resume run");
    assert_complete(&session.path("run"));
}

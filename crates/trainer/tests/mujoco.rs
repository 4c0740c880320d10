//! The command on bodies simulated by MuJoCo.
//!
//! Without a MuJoCo library the tests that need it are skipped by name; with `RTPG_REQUIRE_MUJOCO=1` they fail instead.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::Write;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use environments::mujoco::library_info;
use policy_nets::PolicyState;
use serde_json::Value;

/// Whether there is a library; without one, the test called `test` is reported as skipped, or fails if it is required.
fn available(test: &str) -> bool {
    match library_info() {
        Ok(_) => true,
        Err(error) if std::env::var_os("RTPG_REQUIRE_MUJOCO").is_some_and(|value| value == "1") => {
            panic!("{test} needs MuJoCo: {error}")
        }
        Err(error) => {
            // Not `eprintln!`, which the test harness hides when a test passes.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: {error}");
            false
        }
    }
}

fn rtpg(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("rtpg").unwrap();
    command.current_dir(folder).env_remove("RTPG_LOG").args(arguments).output().unwrap()
}

/// The command on a machine without any library.
fn without_library(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("rtpg").unwrap();
    command.current_dir(folder).args(arguments).env("XDG_CACHE_HOME", folder.join("cache"));
    // In a program with wgpu, Mesa's drivers would keep their shaders there.
    command.env("MESA_SHADER_CACHE_DISABLE", "true");
    for variable in ["RTPG_MUJOCO_LIBRARY", "VIRTUAL_ENV", "CONDA_PREFIX", "RTPG_LOG"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {error}", output.status);
    error
}

/// The one line about wrong input.
#[track_caller]
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let lines = String::from_utf8(output.stderr.clone()).unwrap();
    let mut errors = lines.lines().filter(|line| line.starts_with("error: "));
    let error = errors.next().unwrap().to_owned();
    assert!(lines.ends_with(&format!("{error}\n")), "more than one line: {lines}");
    error
}

fn summary(run: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(run.join("summary.json")).unwrap()).unwrap()
}

/// Short runs.
const SHORT: [&str; 6] =
    ["--set", "iterations=2", "--set", "environment.horizon=10", "--set", "evaluation.interval=0"];

#[test]
fn without_a_library_the_one_command_is_told_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let info = refusal(&without_library(folder.path(), &["mujoco", "info"]));
    assert!(info.contains("`rtpg mujoco install`"), "{info}");
    let train = refusal(&without_library(folder.path(), &["train", "half-cheetah"]));
    assert!(train.contains("environment `half-cheetah` cannot be made"), "{train}");
    assert!(train.contains("`rtpg mujoco install`"), "{train}");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_version_that_cannot_be_fetched_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = refusal(&without_library(folder.path(), &["mujoco", "install", "--version", "2.2.2"]));
    assert!(error.contains("MuJoCo 2.2.2 cannot be fetched"), "{error}");
}

#[test]
fn the_library_in_use_is_told() {
    if !available("the_library_in_use_is_told") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = rtpg(folder.path(), &["mujoco", "info"]);
    succeeded(&output);
    let info = library_info().unwrap();
    let expected = format!("MuJoCo {} in {}\n", info.version, info.path.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn every_preset_trains_and_its_first_episode_is_drawn() {
    if !available("every_preset_trains_and_its_first_episode_is_drawn") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["half-cheetah", "hopper", "inverted-pendulum", "swimmer", "walker2d"] {
        let out = folder.path().join(name);
        let train = ["train", name, "--out", out.to_str().unwrap(), "--threads", "2"];
        succeeded(&rtpg(folder.path(), &[&train[..], &SHORT].concat()));
        let summary = summary(&out);
        assert_eq!((&summary["environment"], &summary["unstable_total"]), (&name.into(), &0.into()));
        let (share, seconds) =
            (summary["physics_share"].as_f64().unwrap(), summary["physics_seconds"].as_f64().unwrap());
        assert!(share > 0.0 && share <= 1.0, "{name}: {share}");
        let roll_out = summary["phase_seconds"]["roll_out"].as_f64().unwrap();
        assert!(seconds > 0.0 && seconds <= 2.0 * roll_out, "{name}: {seconds} s in {roll_out} s");

        let gif = folder.path().join(format!("{name}.gif"));
        let evaluate = ["evaluate", out.to_str().unwrap(), "--episodes", "2", "--gif", gif.to_str().unwrap()];
        succeeded(&rtpg(folder.path(), &evaluate));
        assert!(fs_err::read(&gif).unwrap().starts_with(b"GIF89a"), "{name}");
    }
    assert!(!folder.path().join("MUJOCO_LOG.TXT").exists(), "MuJoCo wrote its log");
}

#[test]
fn the_studies_run_every_algorithm() {
    if !available("the_studies_run_every_algorithm") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Two large batches of those that take them now and then.
    for (study, budget, algorithms) in
        [("half-cheetah-baselines", 640, 9), ("swimmer-baselines", 320, 9), ("half-cheetah-window", 80, 6)]
    {
        let budget = format!("budget={budget}");
        let short = ["--runs", "1", "--set", &budget, "--set", "settings.environment.horizon=5"];
        let output = rtpg(folder.path(), &[&["study", study][..], &short].concat());
        succeeded(&output);
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains(&format!("{algorithms} runs made, 0 found")), "{told}");
        let out = folder.path().join("studies").join(study);
        let manifest: Value =
            serde_json::from_slice(&fs_err::read(out.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["versions"]["mujoco"], library_info().unwrap().version);
        assert!(out.join("curves.png").is_file());
    }
    assert!(!folder.path().join("MUJOCO_LOG.TXT").exists(), "MuJoCo wrote its log");
}

#[test]
fn a_study_on_a_missing_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for study in ["half-cheetah-baselines", "half-cheetah-window"] {
        let error = refusal(&without_library(folder.path(), &["study", study, "--jobs", "1"]));
        assert!(error.contains("`rtpg mujoco install`"), "{study}: {error}");
    }
}

#[test]
fn unstable_trajectories_are_warned_of_once_and_counted() {
    if !available("unstable_trajectories_are_warned_of_once_and_counted") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // From the second iteration on actions whose cost is not finite.
    let train = ["train", "half-cheetah", "--out", out.to_str().unwrap(), "--set", "algorithm.name=gpomdp"];
    let steps = ["--set", "optimizer.name=constant", "--set", "optimizer.learning_rate=1e20"];
    let output = rtpg(folder.path(), &[&train[..], &steps, &SHORT, &["--set", "iterations=3"]].concat());
    let error = succeeded(&output);
    assert_eq!(error.matches("turned unstable").count(), 1, "{error}");
    assert!(error.contains("iteration 2: 40 of 40 trajectories"), "{error}");
    assert_eq!(summary(&out)["unstable_total"], 80);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("80 trajectories ended because their simulation turned unstable"), "{told}");
    let rows = trainer::metrics::read(&out.join("metrics.csv")).unwrap();
    assert_eq!(rows.iter().map(|row| row.unstable).collect::<Vec<_>>(), [0, 40, 40]);
    // Returns of 0, which are more than any other, and no achievement.
    let best = PolicyState::load(&out.join("policy-best.safetensors")).unwrap();
    assert!(best.mean_parameters.iter().all(|parameter| parameter.abs() < 10.0), "{best:?}");
}

#[test]
fn any_environment_is_drawn_and_a_picture_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "cartpole", "--out", "run", "--set", "iterations=1"];
    succeeded(&rtpg(folder.path(), &train));
    let evaluate = ["evaluate", "run", "--episodes", "1", "--gif"];
    let drawn = succeeded(&rtpg(folder.path(), &[&evaluate[..], &["pole.gif"]].concat()));
    assert_eq!(drawn, "");
    assert!(fs_err::read(folder.path().join("pole.gif")).unwrap().starts_with(b"GIF89a"));
    let error = refusal(&rtpg(folder.path(), &[&evaluate[..], &["absent/pole.gif"]].concat()));
    assert!(error.contains("absent/pole.gif"), "{error}");
}

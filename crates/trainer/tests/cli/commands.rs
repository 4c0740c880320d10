//! The other commands, and commands whose readers went away.

use std::process::Stdio;

use environments::registry;
use trainer::config::{AlgorithmConfig, presets};
use trainer::studies::built_in;

use crate::session::Session;
use crate::tensors;

#[test]
fn evaluate_prints_one_json_document() {
    let session = Session::new();
    session.run_lqr("run", "");
    let evaluate = |options: &str| -> serde_json::Value {
        serde_json::from_str(&session.succeed(&format!("evaluate run --json {options}"))).unwrap()
    };
    let report = evaluate("--episodes 7");
    assert_eq!(report["episodes"], 7);
    assert_eq!(report["length_mean"], 10.0);
    let mean = report["return_mean"].as_f64().unwrap();
    assert!(report["return_min"].as_f64().unwrap() <= mean && mean <= report["return_max"].as_f64().unwrap());
    assert!(report["return_interval"].as_f64().unwrap() > 0.0);
    assert_eq!(evaluate("--episodes 7"), report, "the same seed");
    for options in ["--seed 1", "--stochastic"] {
        assert_ne!(evaluate(&format!("--episodes 7 {options}"))["returns"], report["returns"], "{options}");
    }
    let returns: Vec<f64> = serde_json::from_value(report["returns"].clone()).unwrap();
    assert_eq!(returns.len(), 7);
    assert!((returns.iter().sum::<f64>() / 7.0 - mean).abs() < 1e-9 * mean.abs());
    assert_eq!(
        (&report["environment"], &report["horizon"], &report["seed"]),
        (&"lqr".into(), &10.into(), &0.into())
    );
    assert!(evaluate("--episodes 1")["return_interval"].is_null());
    assert_eq!(evaluate("--episodes 2 --horizon 4")["length_mean"], 4.0);
    let file = session
        .succeed("evaluate run/policy-best.safetensors --environment lqr --horizon 10 --episodes 7 --json");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&file).unwrap(),
        report,
        "the same policy as a file"
    );
}

#[test]
fn plot_draws_again_what_the_run_drew() {
    let session = Session::new();
    session.run_lqr("run", "");
    let drawn = session.files();
    for file in ["run/learning_curve.svg", "run/learning_curve.png"] {
        std::fs::remove_file(session.path(file)).unwrap();
    }
    let printed = session.succeed("plot run");
    assert_eq!(printed, "run/learning_curve.svg\nrun/learning_curve.png\n");
    assert!(session.files() == drawn, "the figures differ from the run's own");
}

#[test]
fn lists_name_everything() {
    let session = Session::new();
    let list = session.succeed("list");
    let names = presets()
        .iter()
        .map(|preset| preset.name.to_owned())
        .chain(built_in().iter().map(|study| study.name.to_owned()))
        .chain(registry::names().map(str::to_owned))
        .chain(AlgorithmConfig::all().into_iter().map(|algorithm| algorithm.name().to_owned()));
    for name in names.chain(["cartpole", "swimmer", "gpomdp", "storm-pg"].map(str::to_owned)) {
        let is_listed = list
            .lines()
            .any(|line| line.strip_prefix("  ").is_some_and(|line| line.starts_with(&format!("{name} "))));
        assert!(is_listed, "{name}: {list}");
    }
    let devices = session.succeed("devices");
    assert!(devices.starts_with("backends in this program: "), "{devices}");
    assert!(devices.lines().last().unwrap().starts_with("auto takes "), "{devices}");
}

/// The configuration that a run leaves repeats it.
#[test]
fn a_resolved_configuration_repeats_its_run() {
    let session = Session::new();
    session.run_lqr("first", "--seed 5 --set algorithm.exponent=-2.0");
    session.succeed("train first/config.toml --out second");
    assert_eq!(session.metrics("first"), session.metrics("second"));
    for file in ["config.toml", "policy.safetensors", "learning_curve.svg"] {
        let read = |run: &str| std::fs::read(session.path(run).join(file)).unwrap();
        assert!(read("first") == read("second"), "{file}");
    }
}

#[test]
fn runs_without_a_name_take_the_next_free_folder() {
    let session = Session::new();
    let short =
        "train lqr --device cpu --set iterations=1 --set environment.horizon=2 --set evaluation.interval=0";
    for folder in ["runs/lqr-seed0", "runs/lqr-seed0-2", "runs/lqr-seed0-3"] {
        let printed = session.succeed(short);
        assert!(printed.contains(&format!("everything is in {folder}\n")), "{printed}");
        assert!(session.path(folder).join("policy.safetensors").is_file());
    }
}

/// A pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Whoever reads standard output may stop at any time.
#[test]
fn a_closed_standard_output_is_no_error() {
    let session = Session::new();
    session.run_lqr("run", "");
    for arguments in [
        "list",
        "devices",
        "completions bash",
        "--help",
        "train --help",
        "--version",
        "evaluate run --json --episodes 2",
        "plot run",
        "train --resume run --set iterations=4",
    ] {
        let output = session.command(arguments).stdout(closed_pipe()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !error.contains("panicked"), "rtpg {arguments}: {error}");
    }
}

/// A run outlives the terminal that its messages went to.
#[test]
fn a_closed_standard_error_does_not_end_a_run() {
    let session = Session::new();
    let options = "lqr --device cpu --out run --set iterations=4 --set environment.horizon=5";
    let output = session.command(&format!("train {options}")).stderr(closed_pipe()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(session.metrics("run").len(), 4);
    let status = session.command("train absent").stderr(closed_pipe()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_told() {
    let session = Session::new();
    for command in ["list", "devices", "completions bash"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = session.command(command).stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(error.starts_with("error: standard output could not be written: "), "{command}: {error}");
    }
}

/// What `rtpg evaluate` records, `rtpg estimate` takes: on-policy, every weight is 1/N.
#[test]
fn recorded_trajectories_can_be_estimated_from() {
    let session = Session::new();
    session.run_lqr("run", "--set policy.hidden=[4] --set policy.initialization=xavier-uniform");
    let record = "evaluate run --last --stochastic --episodes 5 --trajectories t.safetensors";
    for _ in 0..2 {
        let printed = session.succeed(record);
        assert!(printed.contains("the trajectories are in t.safetensors"), "{printed}");
    }
    session.succeed(
        "estimate --policy run/policy.safetensors --trajectories t.safetensors --out estimate.safetensors",
    );
    let weights = tensors::read(&session.path("estimate.safetensors"), "weights");
    assert_eq!(weights.len(), 5);
    assert!(weights.iter().all(|weight| (weight - 0.2).abs() < 1e-6), "{weights:?}");
    session.succeed("estimate --policy run --trajectories t.safetensors");
    let error = session.refused(&record.replace("t.safetensors", "run/policy.safetensors"));
    assert!(error.contains("there is something that is no recording of trajectories"), "{error}");
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let session = Session::new();
    let output = session.command("list").env("RTPG_LOG", "==bad").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.starts_with("error: RTPG_LOG is `==bad`: "), "{error}");
}

#[test]
fn messages_have_colours_where_they_are_wanted() {
    let session = Session::new();
    let colours = |name: &str, value: &str| {
        let mut command = session.command("train lqr --set iterations=1 --out run --force");
        let output = command.env_remove("NO_COLOR").env(name, value).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap().contains('\u{1b}')
    };
    assert!(colours("CLICOLOR_FORCE", "1"));
    assert!(!colours("CLICOLOR_FORCE", "0"), "standard error is no terminal");
}

#[test]
fn files_of_another_kind_are_not_drawn_over() {
    let session = Session::new();
    session.run_lqr("run", "");
    let error = session.refused("evaluate run/policy.safetensors --environment lqr --last");
    assert!(error.contains("--last goes with the folder of a run"), "{error}");
    std::fs::write(session.path("run/policy.gif"), "mine").unwrap();
    let error = session.refused("evaluate run --episodes 1 --gif run/policy.gif");
    assert!(error.contains("no GIF"), "{error}");
    assert_eq!(std::fs::read(session.path("run/policy.gif")).unwrap(), b"mine");
    for _ in 0..2 {
        session.succeed("evaluate run --episodes 1 --gif first.gif");
    }
}

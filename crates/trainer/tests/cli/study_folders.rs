//! Studies: what is refused, with its one line, and what is made again.

use crate::session::Session;

const STUDY: &str = r#"
title = "small"
environments = ["lqr"]
runs = 2
budget = 60
[settings.environment]
horizon = 5
[[algorithm]]
label = "RT-PG"
name = "rt-pg"
batch_size = 5
window = 2
[[algorithm]]
label = "GPOMDP"
name = "gpomdp"
batch_size = 5
"#;

fn session() -> Session {
    let session = Session::new();
    session.write("small.toml", STUDY);
    session
}

#[test]
fn wrong_studies_are_refused_and_finished_runs_stay() {
    let session = session();
    session.succeed("study small.toml --out study");
    session.write("unknown.toml", STUDY.replace("\"gpomdp\"", "\"gpomd\""));
    session.write("option.toml", STUDY.replace("\"gpomdp\"", "\"gpomdp\"\nwindow = 3"));
    session.write("budget.toml", STUDY.replace("budget = 60", "budget = 4"));
    session.write("twice.toml", STUDY.replace("GPOMDP", "RT-PG"));
    session.write("syntax.toml", "title = = 3");
    session.write("other.toml", STUDY.replace("budget = 60", "budget = 80"));
    session.write("many.toml", STUDY.replace("runs = 2", "runs = 4000000000"));
    std::fs::create_dir(session.path("foreign")).unwrap();
    session.write("foreign/thesis.txt", "irreplaceable");
    for (arguments, expected) in [
        ("study smal", vec!["unknown study `smal`"]),
        ("study absent.toml", vec!["absent.toml", "No such file"]),
        (
            "study unknown.toml --out study",
            vec!["algorithm `GPOMDP`: key `algorithm.name`", "did you mean `gpomdp`?"],
        ),
        ("study option.toml --out study", vec!["algorithm `GPOMDP`: unknown key `algorithm.window`"]),
        (
            "study budget.toml --out study",
            vec!["a budget of 4 fresh trajectories does not pay for one iteration of `RT-PG`, which takes 5"],
        ),
        ("study twice.toml --out study", vec!["two algorithms are labelled `RT-PG`"]),
        ("study syntax.toml --out study", vec!["syntax.toml: not valid TOML: line 1"]),
        ("study many.toml --out study", vec!["key `runs` is 4000000000, expected at most"]),
        (
            "study other.toml --out study",
            vec!["study holds the results of another study (they differ in budget)"],
        ),
        ("study small.toml --out foreign", vec!["foreign is not empty and not the folder of a study"]),
        ("study small.toml --out small.toml", vec!["small.toml"]),
        ("study small.toml --out study --set budgt=3", vec!["--set: unknown key `budgt`", "`budget`?"]),
        ("study small.toml --out study --runs 0", vec!["'--runs <R>': 0 is not in 1..=10000"]),
        ("study small.toml --out study --jobs 0", vec!["--jobs"]),
    ] {
        let error = session.refused(arguments);
        for part in expected {
            assert!(error.contains(part), "rtpg {arguments}: `{part}` is not in {error}");
        }
    }
    let printed = session.succeed("study small.toml --out study");
    assert!(printed.contains("0 runs made, 4 found"), "{printed}");
}

#[test]
fn damaged_results_are_made_again_and_said_so() {
    let session = session();
    session.succeed("study small.toml --out study");
    let runs = std::fs::read_dir(session.path("study/runs")).unwrap();
    let mut runs: Vec<String> =
        runs.map(|run| format!("study/runs/{}", run.unwrap().file_name().into_string().unwrap())).collect();
    runs.sort();
    let before: Vec<Vec<String>> = runs.iter().map(|run| session.metrics(run)).collect();
    let mut metrics = std::fs::read(session.path(&runs[0]).join("metrics.csv")).unwrap();
    let middle = metrics.len() / 2;
    metrics[middle] ^= 1;
    session.write(&format!("{}/metrics.csv", runs[0]), metrics);
    session.write(&format!("{}/complete.json", runs[1]), "{");
    session.write(&format!("{}/complete.json", runs[2]), "[".repeat(100_000));
    let output = session.run("study small.toml --out study");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.matches("the run is made again").count(), 3, "{told}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("3 runs made, 1 found"), "{printed}");
    let after: Vec<Vec<String>> = runs.iter().map(|run| session.metrics(run)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_study_has_one_writer_at_a_time() {
    use std::process::Stdio;
    let session = session();
    let long = "study small.toml --out study --set budget=100000000";
    let mut child = session.command(long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = std::time::Instant::now();
    while !session.path("study/runs").exists() {
        assert!(begin.elapsed() < std::time::Duration::from_mins(1), "nothing happened for a minute");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = session.run(long);
    let error = String::from_utf8(output.stderr).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(&format!("study is in use by process {} on ", child.id())), "{error}");
}

/// What one algorithm shows in every run is told once.
#[test]
fn signs_of_trouble_are_told_once_in_a_study() {
    let session = session();
    session.write(
        "capped.toml",
        STUDY
            .replace("window = 2", "window = 2\ncorrection_scale = 1e9")
            .replace("budget = 60", "budget = 100"),
    );
    for (out, isolated) in [("together", false), ("apart", true)] {
        let output = session.run(&format!("study capped.toml --out {out} --set isolated={isolated}"));
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.matches("every lambda is at its cap").count(), 1, "{out}: {told}");
    }
}

/// Pipes have no end, and whoever opens one waits for it.
#[cfg(unix)]
#[test]
fn pipes_in_the_place_of_files_are_not_read() {
    let session = session();
    session.succeed("study small.toml --out study --only RT-PG");
    let run = std::fs::read_dir(session.path("study/runs")).unwrap().next().unwrap().unwrap().path();
    for name in ["complete.json", "metrics.csv", "summary.json"] {
        std::fs::remove_file(run.join(name)).unwrap();
        let made = std::process::Command::new("mkfifo").arg(run.join(name)).status().unwrap();
        assert!(made.success());
        let printed = session.succeed("study small.toml --out study --only RT-PG");
        let again = usize::from(name != "summary.json");
        assert!(printed.contains(&format!("{again} runs made, {} found", 2 - again)), "{name}: {printed}");
    }
    std::process::Command::new("mkfifo").arg(session.path("pipe")).status().unwrap();
    for command in ["train pipe", "study small.toml --out other --set settings.policy.start=pipe"] {
        let output = session.run(command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {error}");
        assert!(error.contains("pipe: it is not a regular file"), "{command}: {error}");
    }
}

/// Runs of one iteration have no stretch of time in common.
#[test]
fn what_cannot_be_drawn_is_left_out() {
    let session = session();
    let output = session.run("study small.toml --out study --set horizontal=seconds --set budget=5");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("| RT-PG |"));
    assert!(error.contains("no curve is drawn of `RT-PG`"), "{error}");
    assert!(!session.path("study/curves.svg").exists() && session.path("study/summary.csv").exists());
}

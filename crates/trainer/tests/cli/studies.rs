//! Studies as a user makes them.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::session::Session;
#[cfg(unix)]
use crate::session::signal;

/// The first and the second TOML block of docs/studies.md.
fn examples() -> [String; 2] {
    let text = include_str!("../../../../docs/studies.md");
    let mut blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    [blocks.next().unwrap(), blocks.next().unwrap()]
}

fn read(session: &Session, path: &str) -> String {
    std::fs::read_to_string(session.path(path)).unwrap()
}

fn json(session: &Session, path: &str) -> Value {
    serde_json::from_str(&read(session, path)).unwrap()
}

/// Column of a CSV file without quoted commas.
fn column(text: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let index = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[index].to_owned()).collect()
}

#[test]
fn the_documented_example_leaves_everything_and_is_never_made_twice() {
    let session = Session::new();
    let [example, _] = examples();
    assert!(example.lines().count() <= 20, "{example}");
    session.write("mine.toml", example);
    let command = "study mine.toml --runs 2 --set budget=60 --set settings.environment.horizon=30";
    let printed = session.succeed(command);
    assert!(printed.contains("4 runs made, 0 found"), "{printed}");
    assert!(printed.contains("| RT-PG | 10 | 2 |"), "{printed}");
    assert!(printed.contains("| GPOMDP, faster | 10 | 2 |"), "{printed}");
    assert!(printed.contains("everything is in studies/mine"), "{printed}");
    let files = ["study.toml", "manifest.json", "results.csv", "summary.csv", "summary.md"];
    let figures = ["curves.svg", "curves.png", "threshold.svg", "threshold.png"];
    for file in files.into_iter().chain(figures) {
        assert!(session.path("studies/mine").join(file).is_file(), "{file}");
    }

    let manifest = json(&session, "studies/mine/manifest.json");
    let told: Vec<&str> =
        manifest["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(told.join(" "), format!("rtpg {command}"));
    assert_eq!(manifest["versions"]["rtpg"], env!("CARGO_PKG_VERSION"));
    assert!(
        manifest["versions"]["burn"].is_string() && manifest["versions"]["mujoco"].is_null(),
        "{manifest}"
    );

    // Two algorithms, two runs, six iterations of ten trajectories.
    let results = read(&session, "studies/mine/results.csv");
    assert_eq!(column(&results, "trajectories_total").iter().filter(|total| *total == "60").count(), 4);
    assert_eq!(column(&results, "iteration").len(), 24);
    assert!(column(&results, "memory_peak").iter().all(String::is_empty), "{results}");
    let summary = read(&session, "studies/mine/summary.csv");
    for statistic in ["interquartile mean", "mean", "median"] {
        assert!(column(&summary, "statistic").contains(&statistic.to_owned()), "{summary}");
    }
    for measure in ["final_return", "mean_return", "trajectories_to_threshold", "probability_of_improvement"]
    {
        assert!(column(&summary, "measure").contains(&measure.to_owned()), "{summary}");
    }

    let printed = session.succeed(command);
    assert!(printed.contains("0 runs made, 4 found"), "{printed}");
    let printed = session.succeed(&format!("{command} --runs 3").replace("--runs 2 ", ""));
    assert!(printed.contains("2 runs made, 4 found"), "{printed}");
    let fewer = String::from_utf8(session.run(command).stderr).unwrap();
    assert!(
        fewer.contains("2 more runs in studies/mine/runs are not counted: --runs counts more"),
        "{fewer}"
    );
    let drawn = session.refused("plot studies/mine");
    assert!(drawn.contains("studies/mine is the folder of a study, whose figures"), "{drawn}");
    let more = session.refused(&command.replace("budget=60", "budget=80"));
    assert!(more.contains("another study (they differ in budget)"), "{more}");
}

#[test]
fn the_documented_gradient_study_resolves_and_measures() {
    let session = Session::new();
    session.write("estimates.toml", &examples()[1]);
    let small = "--runs 3 --set frozen.iterations=10 --set frozen.reference_size=2000 \
                 --set settings.environment.horizon=10";
    let printed = session.succeed(&format!("study estimates.toml {small}"));
    // 110 trajectories at first, then ten times 10.
    assert!(printed.contains("| SRVR-PG, ten iterations after its large batch | 10 | 210 |"), "{printed}");
    let error =
        session.refused(&format!("study estimates.toml {small} --set frozen.iterations=9 --out other"));
    assert!(error.contains("`age` is 10, expected at most frozen.iterations, which is 9"), "{error}");
    session.write("wrong.toml", examples()[1].replace("srvr-pg", "gpomdp"));
    let error = session.refused("study wrong.toml");
    assert!(error.contains("`age` does not go with algorithm `gpomdp`"), "{error}");
    let error = session.refused("study estimates.toml --only RT-PG");
    assert!(error.contains("--only goes with studies of the kind `training`"), "{error}");
}

#[test]
fn chosen_algorithms_come_first_and_the_rest_later() {
    let session = Session::new();
    session.write("mine.toml", &examples()[0]);
    let command = "study mine.toml --runs 1 --set budget=20 --set settings.environment.horizon=10";
    let printed = session.succeed(&format!("{command} --only RT-PG"));
    assert!(printed.contains("1 runs made, 0 found") && !printed.contains("| GPOMDP"), "{printed}");
    let printed = session.succeed(command);
    assert!(printed.contains("1 runs made, 1 found") && printed.contains("| GPOMDP, faster |"), "{printed}");
    let error = session.refused(&format!("{command} --only RT-PGG"));
    assert!(error.contains("no algorithm is labelled `RT-PGG` (did you mean `RT-PG`?)"), "{error}");
    assert!(error.contains("labels: RT-PG; GPOMDP, faster"), "{error}");
}

const ISOLATED: &str = "--set isolated=true --set settings.environment.horizon=30 --jobs 1";

/// A window of 400 batches of 2 MiB tells itself from one of a single batch, and nothing else of the results changes.
#[cfg(target_os = "linux")]
#[test]
fn runs_in_processes_of_their_own_are_the_same_and_tell_their_memory() {
    const STUDY: &str = r#"
        title = "memory"
        environments = ["cartpole"]
        runs = 1
        budget = 4_000
        position_label = "window"
        [[algorithm]]
        label = "narrow"
        position = 1
        name = "rt-pg"
        batch_size = 200
        window = 1
        [[algorithm]]
        label = "wide"
        position = 400
        name = "rt-pg"
        batch_size = 200
        window = 400
    "#;
    let session = Session::new();
    session.write("memory.toml", STUDY);
    let together = session.succeed("study memory.toml --out together");
    assert!(!together.contains("peak memory"), "{together}");
    let apart = session.succeed("study memory.toml --out apart --set isolated=true");
    assert!(apart.contains("| peak memory, MiB | reckoned, MiB |"), "{apart}");
    assert!(session.path("apart/sensitivity-memory.svg").is_file());

    let rows = |folder: &str| {
        let text = read(&session, &format!("{folder}/results.csv"));
        ["algorithm", "return_mean", "gradient_norm", "weight_max"].map(|name| column(&text, name))
    };
    assert_eq!(rows("together"), rows("apart"));
    let text = read(&session, "apart/results.csv");
    let bytes = |name: &str| {
        let values = column(&text, name);
        [&values[0], values.last().unwrap()].map(|value| value.parse::<f64>().unwrap())
    };
    let ([narrow, wide], [need_narrow, need_wide]) = (bytes("memory_peak"), bytes("memory_need"));
    assert!(narrow > 1e6 && narrow < 2e8, "{narrow}");
    // The window is 400 x 200 x 200 steps of 4 (4 + 2 + 2) bytes, 512 MB, of which a twentieth is filled; memory that was
    // never touched is not resident.
    assert!(need_wide - need_narrow > 5e8, "{need_wide} {need_narrow}");
    assert!(wide - narrow > 2e7, "{wide} {narrow}");
    // Nothing is left of how the runs were made.
    let runs = std::fs::read_dir(session.path("apart/runs")).unwrap();
    assert!(runs.into_iter().all(|entry| entry.unwrap().path().is_dir()));
}

#[cfg(unix)]
#[test]
fn an_interrupted_study_goes_on_also_in_processes_of_their_own() {
    let session = Session::new();
    session.write("mine.toml", &examples()[0]);
    let command = format!("study mine.toml --runs 1 --set budget=60000 {ISOLATED} --only RT-PG");
    for options in [command.clone(), command.replace("isolated=true", "isolated=false")] {
        let options =
            format!("{options} --out {}", if options.contains("=true") { "apart" } else { "together" });
        let mut child =
            session.command(&options).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let out = options.rsplit(' ').next().unwrap();
        let begin = Instant::now();
        while !recorded(&session.path(out)) {
            assert!(child.try_wait().unwrap().is_none(), "the study ended too early");
            assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened for a minute");
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(&child, Signal::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let printed = session.succeed(&options);
        assert!(printed.contains("1 runs made, 0 found"), "{printed}");
    }
    let returns = |out: &str| column(&read(&session, &format!("{out}/results.csv")), "return_mean");
    assert_eq!(returns("apart").len(), 6000);
    assert_eq!(returns("apart"), returns("together"));
}

#[cfg(unix)]
fn wait_until(holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened for a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A run that somebody went on with otherwise is not the study's.
#[cfg(unix)]
#[test]
fn a_begun_run_that_went_on_otherwise_is_made_again() {
    let session = Session::new();
    session.write("mine.toml", &examples()[0]);
    let command = "study mine.toml --runs 1 --set budget=20000 --set settings.environment.horizon=30 --jobs 1 --only RT-PG --out";
    let mut child = session
        .command(&format!("{command} mixed"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(|| recorded(&session.path("mixed")));
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let run = std::fs::read_dir(session.path("mixed/runs")).unwrap().next().unwrap().unwrap();
    let run = format!("mixed/runs/{}", run.file_name().to_str().unwrap());
    let made = session.metrics(&run).len();
    let config = read(&session, &format!("{run}/config.toml"));
    let line = config.lines().find(|line| line.starts_with("learning_rate")).unwrap();
    session.edit_config(&run, line, "learning_rate = 0.5");
    session.succeed(&format!("train --resume {run} --set iterations={}", made + 2));
    let output = session.run(&format!("{command} mixed"));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("`optimizer.learning_rate` is"), "{told}");
    assert!(told.contains("the run is made again"), "{told}");
    session.succeed(&format!("{command} whole"));
    let returns = |out: &str| column(&read(&session, &format!("{out}/results.csv")), "return_mean");
    assert_eq!(returns("mixed"), returns("whole"));
}

/// Whoever asks a run to end, and however often: the study by its own Ctrl-C, and the system when the study is killed.
#[cfg(target_os = "linux")]
#[test]
fn a_study_that_is_asked_and_then_killed_saves_its_runs() {
    const STUDY: &str = r#"
        title = "slow"
        environments = ["pendulum"]
        runs = 1
        budget = 100_000_000
        [settings.policy]
        hidden = []
        [[algorithm]]
        label = "A"
        name = "gpomdp"
        batch_size = 20_000
    "#;
    let session = Session::new();
    session.write("slow.toml", STUDY);
    let command = "study slow.toml --out apart --set isolated=true --jobs 1";
    let mut child = session.command(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| recorded(&session.path("apart")));
    signal(&child, Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(600));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut runs = std::fs::read_dir(session.path("apart/runs")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.find(|path| path.is_dir()).unwrap();
    wait_until(|| {
        std::fs::read_to_string(run.join("summary.json")).is_ok_and(|text| text.contains("\"stopped\""))
    });
}

/// Killed as by the system's out-of-memory killer: the run's own process saves and ends, too.
#[cfg(target_os = "linux")]
#[test]
fn runs_end_with_their_study() {
    let session = Session::new();
    session.write("mine.toml", &examples()[0]);
    let command =
        format!("study mine.toml --runs 1 --set budget=10000000 {ISOLATED} --only RT-PG --out apart");
    let mut child = session.command(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(|| recorded(&session.path("apart")));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut runs = std::fs::read_dir(session.path("apart/runs")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.find(|path| path.is_dir()).unwrap();
    let ending = || std::fs::read_to_string(run.join("summary.json")).unwrap_or_default();
    wait_until(|| ending().contains("\"stopped\""));
}

/// Rows of the estimates of a gradient study whose files begin with `label`; without a file, none.
#[cfg(unix)]
fn estimates(study: &Path, label: &str) -> usize {
    let Ok(runs) = std::fs::read_dir(study.join("runs")) else { return 0 };
    let mut files = runs.flatten().map(|file| file.path());
    let of_label = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(label);
    let text = files.find(of_label).and_then(|path| std::fs::read_to_string(path).ok());
    text.map_or(0, |text| text.lines().filter(|line| !line.starts_with('#')).count())
}

#[cfg(unix)]
#[test]
fn an_interrupted_gradient_study_goes_on_with_the_estimates_that_it_has() {
    let session = Session::new();
    session.write("estimates.toml", &examples()[1]);
    let command = "study estimates.toml --set frozen.iterations=10 --set frozen.reference_size=2000 \
                   --set settings.environment.horizon=50 --jobs 1";
    let long = format!("{command} --runs 10000 --out halves");
    let mut child = session.command(&long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while estimates(&session.path("halves"), "truth") < 4 {
        assert!(child.try_wait().unwrap().is_none(), "the study ended too early");
        assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened for a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept = estimates(&session.path("halves"), "rt-pg");
    assert!(kept > 0);
    // Seven more than those.
    let runs = kept + 7;
    session.succeed(&format!("{command} --runs {runs} --out halves"));
    assert_eq!(estimates(&session.path("halves"), "rt-pg"), runs);
    session.succeed(&format!("{command} --runs {runs} --out whole"));
    for file in ["summary.csv", "components.csv", "summary.md"] {
        assert_eq!(read(&session, &format!("halves/{file}")), read(&session, &format!("whole/{file}")));
    }
}

/// The study decides what a run is, not what stands in the run's folder.
#[test]
fn a_run_in_a_process_of_its_own_goes_on_with_the_studys_configuration() {
    let session = Session::new();
    session.write("mine.toml", &examples()[0]);
    let command = format!("study mine.toml --runs 1 --set budget=60 {ISOLATED} --only RT-PG --out apart");
    session.succeed(&command);
    let results = || column(&read(&session, "apart/results.csv"), "return_mean");
    let expected = results();
    let run = std::fs::read_dir(session.path("apart/runs")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read_to_string(run.join("config.toml")).unwrap();
    for spoiled in ["seed = [".to_owned(), whole.replace("window = ", "window = 1"), String::new()] {
        assert_ne!(spoiled, whole);
        std::fs::remove_file(run.join("complete.json")).unwrap();
        std::fs::write(run.join("config.toml"), spoiled).unwrap();
        session.succeed(&command);
        assert_eq!(std::fs::read_to_string(run.join("config.toml")).unwrap(), whole);
        assert_eq!(results(), expected);
    }
}

/// A run that diverges is a result like others, wherever it is made.
#[test]
fn a_run_that_diverges_in_a_process_of_its_own_is_a_result() {
    const STUDY: &str = r#"
        title = "mixed"
        environments = ["lqr"]
        runs = 1
        budget = 100
        [[algorithm]]
        label = "bad"
        name = "gpomdp"
        optimizer = { learning_rate = 1e30 }
        [[algorithm]]
        label = "good"
        name = "gpomdp"
    "#;
    let session = Session::new();
    session.write("mixed.toml", STUDY);
    for out in ["together", "apart --set isolated=true"] {
        let printed = session.succeed(&format!("study mixed.toml --out {out}"));
        assert!(printed.contains("2 runs made, 0 found") && printed.contains("1 (1 failed)"), "{printed}");
    }
    let returns = |out: &str| column(&read(&session, &format!("{out}/results.csv")), "return_mean");
    assert_eq!(returns("apart"), returns("together"));
}

/// Whether a run of the study has recorded an iteration.
fn recorded(study: &Path) -> bool {
    let Ok(runs) = std::fs::read_dir(study.join("runs")) else { return false };
    runs.flatten().any(|run| {
        std::fs::read_to_string(run.path().join("metrics.csv")).is_ok_and(|text| text.lines().count() > 2)
    })
}

#[test]
fn a_printed_study_is_one() {
    let session = Session::new();
    let printed = session.succeed("study cartpole-window --print");
    assert!(printed.starts_with("# "), "{printed}");
    session.write("copy.toml", &printed);
    let resolved = session.succeed("study copy.toml --print --set budget=200");
    assert!(resolved.contains("budget = 200\n"), "{resolved}");
    session.write("resolved.toml", &resolved);
    assert_eq!(session.succeed("study resolved.toml --print"), resolved);
    assert!(!session.path("studies").exists());
}

#[test]
fn wrong_studies_are_refused() {
    let session = Session::new();
    session.write("mine.toml", &examples()[0]);
    std::fs::create_dir(session.path("stranger")).unwrap();
    session.write("stranger/letter.txt", "");
    for (arguments, expected) in [
        ("study cartpole-baseline", "unknown study `cartpole-baseline` (did you mean `cartpole-baselines`?)"),
        ("study absent.toml", "absent.toml"),
        ("study mine.toml --set budget=9", "does not pay for one iteration of `RT-PG`, which takes 10"),
        ("study cartpole-equal-data --set budget=200", "key `budget` is idle: every algorithm has"),
        ("study mine.toml --set runs=0", "--set: key `runs` is 0, expected at least 1"),
        ("study mine.toml --runs 0", "invalid value '0' for '--runs <R>': 0 is not in 1..=10000"),
        ("study mine.toml --out stranger", "stranger is not empty and not the folder of a study"),
        ("study mine.toml --set kind=gradient", "key `frozen` is missing"),
        (
            "study coefficients --set algorithm=[{label=\"A\",name=\"gpomdp\",discount=0.5}]",
            "algorithm `A`: key `discount` is 0.5, but the gradient that stands for the true one has",
        ),
        (
            "study mine.toml --set algorithm=[{label=\"A_b\"},{label=\"a-B\"}]",
            "--set: key `algorithm.label` is `A_b` and `a-B`, which would name the same files",
        ),
        (
            "study mine.toml --set environments=[\"lqr\",\"./lqr\"]",
            "--set: key `environments` has `lqr` and `./lqr`, which would name the same files",
        ),
        (
            "study mine.toml --set settings.preset=lqr",
            "key `settings.preset` follows from the study's own keys",
        ),
        ("study mine.toml --set threshold=nan", "--set: key `threshold` is NaN"),
        ("study coefficients --set isolated=true", "key `isolated` goes with kind = \"training\" only"),
    ] {
        let error = session.refused(arguments);
        assert!(error.contains(expected), "rtpg {arguments}: {error}");
    }
}

/// A study whose runs start from a policy makes them again when that is another one.
#[test]
fn runs_are_made_again_from_another_start() {
    let session = Session::new();
    session.run_lqr("start", "");
    session.write(
        "mine.toml",
        "title = \"starts\"\nenvironments = [\"lqr\"]\nruns = 1\nbudget = 20\n[settings.environment]\nhorizon = 5\n\
         [settings.policy]\nstart = \"start/policy.safetensors\"\n[[algorithm]]\nlabel = \"A\"\nname = \"gpomdp\"\n",
    );
    assert!(session.succeed("study mine.toml").contains("1 runs made, 0 found"));
    assert!(session.succeed("study mine.toml").contains("0 runs made, 1 found"));
    session.run_lqr("other", "--seed 9");
    std::fs::copy(session.path("other/policy.safetensors"), session.path("start/policy.safetensors"))
        .unwrap();
    assert!(session.succeed("study mine.toml").contains("1 runs made, 0 found"));
}

/// Makes a small study into a folder; the command that made it, and the folder of its first run.
fn finished_study(session: &Session, out: &str) -> (String, String) {
    session.write("mine.toml", &examples()[0]);
    let command =
        format!("study mine.toml --runs 1 --set budget=20 --set settings.environment.horizon=10 --out {out}");
    session.succeed(&command);
    let mut runs = std::fs::read_dir(session.path(&format!("{out}/runs"))).unwrap();
    let run = runs.next().unwrap().unwrap().file_name();
    (command, format!("{out}/runs/{}", run.to_str().unwrap()))
}

/// A folder of a study, or the file in it, names the study and where it goes on.
#[test]
fn the_folder_of_a_study_is_the_study() {
    let session = Session::new();
    let (_, run) = finished_study(&session, "results/first");
    for name in ["results/first", "results/first/study.toml"] {
        let printed = session.succeed(&format!("study {name}"));
        assert!(printed.contains("0 runs made, 2 found"), "{printed}");
        assert!(printed.contains("everything is in results/first"), "{printed}");
    }
    // Its runs are not made longer one by one: the study would make them again.
    let error = session.refused(&format!("train --resume {run} --set iterations=9"));
    assert!(error.contains("is a finished run of a study") && error.contains("policy.start="), "{error}");
    assert!(session.succeed("study results/first").contains("0 runs made, 2 found"));
}

/// What a study cannot follow it does not remove either.
#[cfg(unix)]
#[test]
fn a_begun_run_with_a_link_is_left_alone() {
    let session = Session::new();
    let (command, run) = finished_study(&session, "results");
    let run = session.path(&run);
    std::fs::remove_file(run.join("complete.json")).unwrap();
    std::fs::remove_file(run.join("learning_curve.svg")).unwrap();
    session.write("elsewhere.svg", "");
    std::os::unix::fs::symlink(session.path("elsewhere.svg"), run.join("learning_curve.svg")).unwrap();
    std::fs::write(run.join("notes.txt"), "mine").unwrap();
    let output = session.run(&command);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("learning_curve.svg is a symbolic link"), "{error}");
    assert!(run.join("notes.txt").is_file() && run.join("checkpoint/state.safetensors").is_file());
}

//! Studies: resolution, resumption, equality with single runs, and everything that is refused.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::report::report;
use super::*;
use crate::config::{Source, load as load_config};
use crate::device;
use crate::metrics::MetricsRow;
use crate::run_folder::RunFolder;
use crate::training::Trainer;

const SMALL: &str = r#"
title = "small"
environments = ["lqr"]
runs = 2
seed = 11
budget = 60
threshold = -30.0
smoothing = 10
position_label = "window"

[settings.environment]
horizon = 5

[[algorithm]]
label = "RT-PG, 2"
group = "RT-PG"
position = 2
name = "rt-pg"
batch_size = 5
window = 2
baseline = "none"

[[algorithm]]
label = "DEF-PG"
name = "def-pg"
snapshot_size = 20
batch_size = 4
snapshot_probability = 0.2
"#;

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("small.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn study(folder: &Path, text: &str, overrides: &[&str]) -> Result<Plan, StudyError> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let (name, definition) = load(&write(folder, text), &overrides)?;
    Plan::new(&name, &definition)
}

fn workers(count: usize) -> Workers {
    Workers { count, program: None }
}

/// Runs a study, and returns how it went and what was said.
fn make(plan: &Plan, folder: &StudyFolder) -> (Execution, Vec<String>) {
    let notices = Mutex::new(vec![]);
    let observe = |event: Event<'_>| {
        if let Event::Notice(text) = event {
            notices.lock().unwrap().push(text.to_owned());
        }
    };
    let execution = execute(plan, folder, &workers(2), &AtomicBool::new(false), &observe).unwrap();
    (execution, notices.into_inner().unwrap())
}

fn without_times(rows: Vec<MetricsRow>) -> Vec<MetricsRow> {
    rows.into_iter().map(|row| MetricsRow { seconds: 0.0, seconds_total: 0.0, ..row }).collect()
}

#[test]
fn every_built_in_study_resolves() {
    for built_in in built_in() {
        let (name, definition) = load(built_in.name, &[]).unwrap();
        let plan = Plan::new(&name, &definition).unwrap();
        if definition.kind == Kind::Gradient {
            assert!(gradient::trajectories(&name, &definition).unwrap() > 0);
            continue;
        }
        assert_eq!(plan.runs.len(), definition.runs as usize * definition.algorithm.len());
        let budget = |run: &PlannedRun| plan.entry(run).budget.or(definition.budget).unwrap();
        for run in &plan.runs {
            let (taken, budget) = (run.trajectories(), budget(run));
            assert!(taken <= budget && taken * 20 > budget * 19, "{name} {}: {taken} of {budget}", run.name);
        }
    }
}

#[test]
fn names_hashes_and_seeds_tell_runs_apart() {
    let folder = tempfile::tempdir().unwrap();
    let plan = study(folder.path(), SMALL, &[]).unwrap();
    let distinct = |values: Vec<String>| std::collections::BTreeSet::from_iter(values).len();
    assert_eq!(distinct(plan.runs.iter().map(|run| run.hash.clone()).collect()), 4);
    assert_eq!(distinct(plan.runs.iter().map(|run| run.name.clone()).collect()), 4);
    assert_eq!(distinct(plan.runs.iter().map(|run| run.config.seed.to_string()).collect()), 2);
    assert!(plan.runs[0].name.starts_with("rt-pg-2-lqr-000-"), "{}", plan.runs[0].name);
    let more = study(folder.path(), SMALL, &["runs=3"]).unwrap();
    assert_eq!(more.runs[..4], plan.runs[..]);
}

#[test]
fn a_run_of_a_study_equals_the_same_run_alone() {
    let folder = tempfile::tempdir().unwrap();
    let plan = study(folder.path(), SMALL, &[]).unwrap();
    let results = StudyFolder::open(&folder.path().join("out"), &plan.definition).unwrap();
    make(&plan, &results);
    for run in &plan.runs {
        let source = Source::File(results.run(run).join("config.toml"));
        let config = load_config(&source, &[]).unwrap();
        assert_eq!(config, run.config);
        let device = device::select(&config.device).unwrap();
        let mut trainer = Trainer::new(&config, &device).unwrap();
        let alone: Vec<_> = (0..config.iterations).map(|_| trainer.step().unwrap()).collect();
        let (rows, completion) = results.finished(run).unwrap();
        assert_eq!(without_times(rows), without_times(alone));
        assert_eq!(completion.failure, None);
    }
}

#[test]
fn finished_runs_are_never_made_again_and_damaged_ones_are() {
    let folder = tempfile::tempdir().unwrap();
    let plan = study(folder.path(), SMALL, &[]).unwrap();
    let results = StudyFolder::open(&folder.path().join("out"), &plan.definition).unwrap();
    assert_eq!(make(&plan, &results).0, Execution { found: 0, made: 4, left: 0 });
    let rows = |run: usize| results.finished(&plan.runs[run]).unwrap().0;
    let before: Vec<_> = (0..4).map(rows).collect();
    assert_eq!(make(&plan, &results), (Execution { found: 4, made: 0, left: 0 }, vec![]));

    // A changed digit, a cut file, a result without its metrics.
    let metrics = |run: usize| results.run(&plan.runs[run]).join("metrics.csv");
    let text = std::fs::read_to_string(metrics(0)).unwrap();
    std::fs::write(metrics(0), text.replacen('1', "2", 1)).unwrap();
    let text = std::fs::read_to_string(metrics(1)).unwrap();
    std::fs::write(metrics(1), &text[..text.len() / 2]).unwrap();
    std::fs::remove_file(metrics(2)).unwrap();
    let (execution, notices) = make(&plan, &results);
    assert_eq!(execution, Execution { found: 1, made: 3, left: 0 });
    assert_eq!(notices.len(), 3);
    assert!(
        notices[0].contains("metrics.csv is not what the run wrote; the run is made again"),
        "{notices:?}"
    );
    let after: Vec<_> = (0..4).map(rows).collect();
    assert_eq!(before[3], after[3]);
    for run in 0..3 {
        assert_eq!(without_times(before[run].clone()), without_times(after[run].clone()));
    }
}

#[test]
fn a_stopped_study_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let plan = study(folder.path(), SMALL, &[]).unwrap();
    let whole = StudyFolder::open(&folder.path().join("whole"), &plan.definition).unwrap();
    make(&plan, &whole);
    let halves = StudyFolder::open(&folder.path().join("halves"), &plan.definition).unwrap();
    let stop = AtomicBool::new(false);
    let seen = Mutex::new(0);
    let observe = |event: Event<'_>| {
        if let Event::Trajectories(count) = event {
            *seen.lock().unwrap() += count;
            if *seen.lock().unwrap() > 25 {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    let stopped = execute(&plan, &halves, &workers(1), &stop, &observe).unwrap();
    assert_eq!(stopped, Execution { found: 0, made: 0, left: 4 });
    assert!(matches!(halves.state(&plan.runs[0]), folder::State::Begun));
    // What keeps a run from going on now says nothing against what is there of it.
    let mut busy = RunFolder::open(&halves.run(&plan.runs[0])).unwrap();
    busy.lock().unwrap();
    let refused = execute(&plan, &halves, &workers(1), &AtomicBool::new(false), &|_| ()).unwrap_err();
    assert!(matches!(refused, StudyError::Run { .. }), "{refused}");
    assert!(matches!(halves.state(&plan.runs[0]), folder::State::Begun));
    drop(busy);
    let sampled_before = std::mem::take(&mut *seen.lock().unwrap());
    let found = Mutex::new(0);
    let observe = |event: Event<'_>| match event {
        Event::Trajectories(count) => *seen.lock().unwrap() += count,
        Event::Found(count) => *found.lock().unwrap() += count,
        Event::Finished(_) => {}
        Event::Notice(text) => panic!("{text}"),
    };
    let rest = execute(&plan, &halves, &workers(1), &AtomicBool::new(false), &observe).unwrap();
    assert_eq!(rest, Execution { found: 0, made: 4, left: 0 });
    assert_eq!(found.into_inner().unwrap(), sampled_before);
    let total: u64 = plan.runs.iter().map(PlannedRun::trajectories).sum();
    assert_eq!(seen.into_inner().unwrap() + sampled_before, total);
    for run in &plan.runs {
        let rows = |folder: &StudyFolder| without_times(folder.finished(run).unwrap().0);
        assert_eq!(rows(&whole), rows(&halves));
    }
}

#[test]
fn reports_hold_every_point_and_every_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let plan = study(folder.path(), SMALL, &[]).unwrap();
    let results = StudyFolder::open(&folder.path().join("out"), &plan.definition).unwrap();
    assert_eq!(report(&plan, &results).unwrap(), "");
    make(&plan, &results);
    let table = report(&plan, &results).unwrap();
    assert!(table.contains("| RT-PG, 2 | 5 | 2 |"), "{table}");
    assert!(table.contains("| DEF-PG |"), "{table}");
    let points: u32 = plan.runs.iter().map(|run| run.config.iterations).sum();
    let text = std::fs::read_to_string(results.file("results.csv")).unwrap();
    assert_eq!(text.lines().count(), 1 + points as usize);
    for name in ["summary.csv", "summary.md", "curves.svg", "curves.png", "threshold.svg", "sensitivity.svg"]
    {
        assert!(results.file(name).is_file(), "{name}");
    }
    assert_eq!(report(&plan, &results).unwrap(), table);
}

#[test]
fn a_threshold_that_nobody_reaches_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let own_budgets = SMALL.replace("budget = 60\n", "").replace("\nlabel =", "\nbudget = 60\nlabel =");
    let plan = study(folder.path(), &own_budgets, &["threshold=1e6", "runs=1"]).unwrap();
    let results = StudyFolder::open(&folder.path().join("out"), &plan.definition).unwrap();
    make(&plan, &results);
    let table = report(&plan, &results).unwrap();
    assert!(table.contains("| inf, 0 of 1 runs | - |"), "{table}");
    assert!(results.file("threshold.svg").is_file());
}

/// Runs that dropped every batch have no return, and 0 would be the best that this environment knows.
#[test]
fn runs_without_an_update_are_told_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let every_batch_is_bad =
        ["settings.bad_batches=drop", "settings.policy.variance=1e36", "settings.environment.horizon=1000"];
    let plan = study(folder.path(), SMALL, &every_batch_is_bad).unwrap();
    let results = StudyFolder::open(&folder.path().join("out"), &plan.definition).unwrap();
    let plan = plan.only(&["RT-PG, 2".to_owned()]).unwrap();
    make(&plan, &results);
    assert_eq!(report(&plan, &results).unwrap(), "No run made an update: 2 ended without one.\n");
}

#[test]
fn another_study_or_a_stranger_in_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plan = study(folder.path(), SMALL, &[]).unwrap();
    let out = folder.path().join("out");
    StudyFolder::open(&out, &plan.definition).unwrap();
    let more = study(folder.path(), SMALL, &["runs=7", "threshold=-20.0"]).unwrap();
    StudyFolder::open(&out, &more.definition).unwrap();
    let other = study(folder.path(), SMALL, &["budget=80", "settings.policy.variance=0.2"]).unwrap();
    let message = StudyFolder::open(&out, &other.definition).unwrap_err().to_string();
    assert!(
        message.ends_with("another study (they differ in budget, settings); name another --out"),
        "{message}"
    );
    let message = StudyFolder::open(folder.path(), &plan.definition).unwrap_err().to_string();
    assert!(message.contains("not the folder of a study"), "{message}");
}

#[test]
fn wrong_studies_are_refused_with_the_place_and_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, overrides: &[&str]| {
        let error = study(folder.path(), text, overrides).unwrap_err();
        assert!(error.is_input(), "{error}");
        error.to_string()
    };
    let message = load("cartpole-baseline", &[]).unwrap_err().to_string();
    assert!(message.contains("did you mean `cartpole-baselines`?"), "{message}");
    let message = refused(SMALL, &["budget=19"]);
    assert_eq!(
        message,
        "study small: a budget of 19 fresh trajectories does not pay for one iteration of `DEF-PG`, which takes 20"
    );
    let message = refused(&SMALL.replace("\"def-pg\"", "\"defpg\""), &[]);
    assert!(message.starts_with("study small, algorithm `DEF-PG`: key `algorithm.name`"), "{message}");
    assert!(message.contains("did you mean `def-pg`?"), "{message}");
    let message = refused(&SMALL.replace("snapshot_probability", "window"), &[]);
    assert!(
        message.starts_with("study small, algorithm `DEF-PG`: unknown key `algorithm.window`"),
        "{message}"
    );
    let message = refused(&SMALL.replace("DEF-PG", "RT-PG, 2"), &[]);
    assert!(message.contains("two algorithms are labelled `RT-PG, 2`"), "{message}");
    for label in ["", "☃", "a|b", &"x".repeat(101)] {
        let message = refused(&SMALL.replace("RT-PG, 2", label), &[]);
        assert!(message.contains("key `algorithm.label` is"), "{message}");
    }
    let message = refused(&SMALL.replace("horizon", "horzon"), &[]);
    assert!(message.starts_with("study small, settings: unknown key `environment.horzon`"), "{message}");
    let cases = [
        ("runs=0", "key `runs` is 0, expected at least 1"),
        ("smoothing=0", "key `smoothing` is 0, expected at least 1"),
        ("environments=[]", "key `environments` is empty"),
        ("environments=[\"lqr\", \"lqr\"]", "names `lqr` twice"),
        ("algorithm=[]", "key `algorithm` is missing"),
        ("reference=X", "expected one of RT-PG, 2, DEF-PG"),
        ("threshold=nan", "key `threshold` is NaN"),
        ("settings.seed=3", "key `settings.seed` follows from the study's own keys"),
        ("kind=gradient", "key `frozen` is missing"),
        ("frozen.iterations=3", "goes with kind = \"gradient\" only"),
        ("budgt=3", "--set: unknown key `budgt` (did you mean `budget`?)"),
        ("budget=many", "--set: key `budget`: invalid type"),
        ("environments=[\"lq\"]", "unknown preset `lq` (did you mean `lqr`?)"),
    ];
    for (text, expected) in cases {
        let message = refused(SMALL, &[text]);
        assert!(message.contains(expected), "{text}: {message}");
    }
    let message = refused(&SMALL.replace("\nposition = ", "\nage = "), &[]);
    assert!(message.contains("key `position_label` names the axis"), "{message}");
    let message = refused(&SMALL.replacen("\nposition = 2", "\nposition = inf", 1), &[]);
    assert!(message.contains("key `algorithm.position` is inf, expected a finite number"), "{message}");
    let message = refused(&SMALL.replace("budget = 60\n", ""), &[]);
    assert!(message.contains("key `budget` is missing"), "{message}");
}

#[test]
fn an_algorithm_may_have_a_policy_and_an_optimizer_of_its_own() {
    let own = "name = \"def-pg\"\noptimizer = { learning_rate = 0.5 }\npolicy = { hidden = [3], initialization = \"xavier-uniform\" }";
    let folder = tempfile::tempdir().unwrap();
    let text = SMALL.replace("name = \"def-pg\"", own);
    let plan = study(folder.path(), &text, &["settings.policy.variance=0.3"]).unwrap();
    let config = |label: &str| &plan.runs.iter().find(|run| plan.entry(run).label == label).unwrap().config;
    let (theirs, own) = (config("RT-PG, 2"), config("DEF-PG"));
    assert_eq!((theirs.policy.hidden.as_slice(), own.policy.hidden.as_slice()), (&[][..], &[3][..]));
    assert_eq!((theirs.policy.variance, own.policy.variance), (0.3, 0.3));
    assert_ne!(theirs.optimizer, own.optimizer);
    let text = text.replace("hidden = [3]", "hiden = [3]");
    let message = study(folder.path(), &text, &[]).unwrap_err().to_string();
    let expected =
        "study small, algorithm `DEF-PG`: unknown key `policy.hiden` (did you mean `policy.hidden`?)";
    assert!(message.starts_with(expected), "{message}");
}

/// The GPOMDP estimate is unbiased, and its variance falls as 1/N: 800 repetitions each, four times the trajectories. The
/// ratio's standard error is about 0.4; the bound is 1.6 to either side.
#[test]
fn gradient_studies_measure_what_is_known() {
    let text = r#"
        title = "gradients"
        kind = "gradient"
        environments = ["lqr"]
        runs = 800
        [frozen]
        iterations = 2
        reference_size = 4000
        [settings.environment]
        horizon = 3
        [[algorithm]]
        label = "5"
        name = "gpomdp"
        batch_size = 5
        [[algorithm]]
        label = "20"
        name = "gpomdp"
        batch_size = 20
        [[algorithm]]
        label = "window"
        name = "rt-pg"
        batch_size = 5
        window = 2
    "#;
    let folder = tempfile::tempdir().unwrap();
    let (name, definition) = load(&write(folder.path(), text), &[]).unwrap();
    let results = StudyFolder::open(&folder.path().join("out"), &definition).unwrap();
    let stop = AtomicBool::new(false);
    let measure = || gradient::measure(&name, &definition, &results, 2, &stop, &|_| ()).unwrap().unwrap();
    let samples = measure();
    let mut generator = crate::random::Streams::new(0).stream(crate::random::Purpose::Study, 0, 0, 0);
    let measured: Vec<_> =
        samples.iter().map(|samples| gradient::Measurement::new(samples, &mut generator).unwrap()).collect();
    let ratio = measured[0].variance.value / measured[1].variance.value;
    assert!((ratio - 4.0).abs() < 1.6, "{ratio}");
    for measured in &measured[..2] {
        let error = measured.mean_squared_error.value;
        assert!(measured.squared_bias.abs() < 0.05 * error, "{measured:?}");
        let parts = measured.squared_bias + measured.variance.value;
        assert!((parts - error).abs() < 0.01 * error, "{parts} {error}");
    }
    assert_eq!([samples[2].fresh, samples[2].used], [5, 10]);
    assert!(gradient::report(&definition, &results, &samples).unwrap().contains("| window | 5 | 10 |"));

    // What is there is read; what is damaged is taken again, and comes out the same.
    assert_eq!(measure(), samples);
    for file in std::fs::read_dir(results.file("runs")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 20]).unwrap();
    }
    assert_eq!(measure(), samples);
}

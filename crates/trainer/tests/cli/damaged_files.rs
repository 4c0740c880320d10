//! Files that are truncated, foreign or inconsistent: refused by name, and left as they are.

use integration_tests::problems::Recipe;
use trainer::checkpoint::Checkpoint;

use policy_nets::tensor_file::HostTensor;

use crate::session::Session;
use crate::tensors::{self, Tensors, f64s, i64s};

const FORMAT: [(&str, &str); 1] = [("format", "rtpg-policy/1")];

/// A session with a policy of 3 observation and 2 action components and trajectories `[4, 5, 20]` for it.
fn estimate_session() -> (Session, Tensors) {
    let session = Session::new();
    let problem = Recipe::default().problem(1);
    session.write("p.safetensors", tensors::policy_file(&problem.target));
    let logged = tensors::trajectories(&problem);
    session.write("t.safetensors", tensors::file(&logged, &[]));
    (session, logged)
}

const ESTIMATE: &str = "estimate --policy p.safetensors --trajectories t.safetensors";

#[test]
fn truncated_files() {
    let (session, _) = estimate_session();
    session.run_lqr("run", "");
    // With it, the run goes on from there: tests of recovery.
    std::fs::remove_file(session.path("run/checkpoint/previous.safetensors")).unwrap();
    for (file, command) in [
        ("p.safetensors", ESTIMATE),
        ("t.safetensors", ESTIMATE),
        ("run/policy-best.safetensors", "evaluate run"),
        ("run/policy.safetensors", "evaluate run --last"),
        ("run/checkpoint/state.safetensors", "train --resume run"),
    ] {
        let whole = std::fs::read(session.path(file)).unwrap();
        for length in [0, 7, 8, 60, whole.len() / 2, whole.len() - 1] {
            session.write(file, &whole[..length]);
            let error = session.refused(command);
            assert!(error.contains(file) && error.contains("not a complete safetensors file"), "{error}");
        }
        session.write(file, "a text\nof two lines\n");
        assert!(session.refused(command).contains(file));
        session.write(file, &whole);
    }
    session.succeed(ESTIMATE);
    session.succeed("train --resume run");
}

#[test]
fn missing_files_and_folders_in_their_place() {
    let (session, _) = estimate_session();
    std::fs::create_dir(session.path("folder")).unwrap();
    for path in ["absent.safetensors", "folder"] {
        let error = session.refused(&format!("estimate --policy {path} --trajectories t.safetensors"));
        assert!(error.contains(path), "{error}");
        let error = session.refused(&format!("estimate --policy p.safetensors --trajectories {path}"));
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn foreign_and_inconsistent_policies() {
    let (session, _) = estimate_session();
    session.run_lqr("run", "");
    let refusal = |bytes: &[u8]| {
        session.write("p.safetensors", bytes);
        session.refused(ESTIMATE)
    };
    let trajectories = std::fs::read(session.path("t.safetensors")).unwrap();
    assert!(refusal(&trajectories).contains("p.safetensors: no tensor `mean.0.weight`"));
    let checkpoint = std::fs::read(session.path("run/checkpoint/state.safetensors")).unwrap();
    assert!(refusal(&checkpoint).contains("format is `rtpg-checkpoint/2`, expected `rtpg-policy/1`"));
    let weight = |shape: &[usize], value: f64| f64s(shape, &vec![value; shape.iter().product()]);
    let linear = |rows: usize, columns: usize, value: f64| {
        Tensors::from([
            ("mean.0.weight".to_owned(), weight(&[rows, columns], value)),
            ("log_std".to_owned(), weight(&[2], 0.0)),
        ])
    };
    let error = refusal(&tensors::file(&linear(2, 3, f64::NAN), &FORMAT));
    assert!(error.contains("p.safetensors: mean parameter 0 is NaN"), "{error}");
    let error = refusal(&tensors::file(&linear(3, 3, 0.5), &FORMAT));
    assert!(error.contains("tensor `log_std` has shape [2], expected [3]"), "{error}");
    let error = refusal(&tensors::file(&linear(2, 4, 0.5), &FORMAT));
    assert!(error.contains("4 observation components, but the trajectories have 3"), "{error}");
    let mut flat = linear(2, 3, 0.5);
    flat.insert("mean.0.weight".to_owned(), weight(&[6], 0.5));
    assert!(refusal(&tensors::file(&flat, &FORMAT)).contains("shape [6], expected [out, in]"));
    let promise = [("format", "rtpg-policy/1"), ("policy", r#"{"hidden":[8],"bias":false}"#)];
    assert!(
        refusal(&tensors::file(&linear(2, 3, 0.5), &promise)).contains("metadata promises hidden layers [8]")
    );
    let nonsense = [("format", "rtpg-policy/1"), ("policy", "{")];
    assert!(
        refusal(&tensors::file(&linear(2, 3, 0.5), &nonsense))
            .contains("metadata `policy` is not understood")
    );
}

#[test]
fn inconsistent_trajectories() {
    let (session, logged) = estimate_session();
    let zeros = |shape: &[usize]| f64s(shape, &vec![0.0; shape.iter().product()]);
    let with = |name: &str, tensor| {
        let mut changed = logged.clone();
        changed.insert(name.to_owned(), tensor);
        changed
    };
    let without = |names: &[&str]| {
        let mut changed = logged.clone();
        for name in names {
            changed.remove(*name);
        }
        changed
    };
    let mut nan = vec![0.0; 4 * 5 * 20 * 3];
    nan[5 * 20 * 3 + 1] = f64::NAN;
    let mut infinite = vec![0.0; 4 * 5 * 20];
    infinite[20] = f64::INFINITY;
    let lengths = |first: i64| {
        let mut lengths = vec![20; 20];
        lengths[6] = first;
        i64s(&[4, 5], &lengths)
    };
    let cases: Vec<(Tensors, &str)> = vec![
        (without(&["observations"]), "no tensor `observations`"),
        (
            with("observations", zeros(&[4, 5, 20])),
            "`observations` has shape [4, 5, 20], expected [W, N, T, O]",
        ),
        (with("observations", zeros(&[4, 0, 20, 3])), "without an empty axis"),
        (with("observations", f64s(&[4, 5, 20, 3], &nan)), "observations[1, 0, 0, 1] is NaN"),
        (with("actions", zeros(&[4, 5, 19, 2])), "`actions` has shape [4, 5, 19, 2], expected [4, 5, 20, A]"),
        (with("actions", zeros(&[4, 5, 20, 1])), "`behaviour_mean` has shape [4, 5, 20, 2]"),
        (with("rewards", zeros(&[4, 5])), "`rewards` has shape [4, 5], expected [4, 5, 20]"),
        (with("rewards", f64s(&[4, 5, 20], &infinite)), "rewards[0, 1, 0] is inf"),
        (with("lengths", lengths(-1)), "lengths[1, 1] is -1, expected 0 to 20"),
        (with("lengths", lengths(21)), "lengths[1, 1] is 21, expected 0 to 20"),
        (with("lengths", i64s(&[20], &[20; 20])), "`lengths` has shape [20], expected [4, 5]"),
        (with("lengths", zeros(&[4, 5])), "`lengths` has element type F64"),
        (with("rewards", i64s(&[4, 5, 20], &[0; 400])), "`rewards` has element type I64"),
        (with("behaviour_mean", zeros(&[4, 5, 20, 3])), "`behaviour_mean` has shape [4, 5, 20, 3]"),
        (with("behaviour_log_std", zeros(&[2])), "`behaviour_log_std` has shape [2], expected [4, 2]"),
        (without(&["behaviour_log_std"]), "no tensor `behaviour_log_std`"),
        (without(&["behaviour_mean"]), "nothing says how the actions were sampled"),
    ];
    for (tensors, expected) in cases {
        session.write("t.safetensors", tensors::file(&tensors, &[]));
        let error = session.refused(ESTIMATE);
        assert!(
            error.contains("t.safetensors: ") && error.contains(expected),
            "`{expected}` is not in {error}"
        );
    }
}

#[test]
fn estimates_that_do_not_go_together() {
    let (session, mut logged) = estimate_session();
    assert!(
        session.refused(&format!("{ESTIMATE} --weights bh")).contains("one policy for each of the 4 batches")
    );
    let error = session.refused(&format!("{ESTIMATE} --policies p.safetensors"));
    assert!(error.contains("--policies goes with --weights bh only"), "{error}");
    let error = session.refused(&format!("{ESTIMATE} --out absent/estimate.safetensors"));
    assert!(error.contains("absent/estimate.safetensors"), "{error}");
    let error = session.refused(&format!("{ESTIMATE} --device gpu:99"));
    assert!(error.contains("gpu:99"), "{error}");
    logged.remove("behaviour_mean");
    logged.insert("behaviour_log_prob".to_owned(), f64s(&[4, 5], &[-3.0; 20]));
    session.write("t.safetensors", tensors::file(&logged, &[]));
    assert!(session.refused(ESTIMATE).contains("--divergence sample"));
    session.succeed(&format!("{ESTIMATE} --divergence sample"));
}

#[test]
fn foreign_and_inconsistent_checkpoints() {
    let session = Session::new();
    session.run_lqr("run", "");
    let path = session.path("run/checkpoint/state.safetensors");
    let previous = session.path("run/checkpoint/previous.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::copy(session.path("run/policy.safetensors"), &path).unwrap();
    let error = session.refused("train --resume run");
    assert!(error.contains("format is `rtpg-policy/1`, expected `rtpg-checkpoint/2`"), "{error}");
    std::fs::write(&path, &whole).unwrap();

    let changed = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = Checkpoint::load(&path).unwrap();
        change(&mut checkpoint);
        checkpoint.save(&path, &previous).unwrap();
        let error = session.refused("train --resume run --set iterations=5");
        std::fs::write(&path, &whole).unwrap();
        error
    };
    let vector = |values: &[f64]| HostTensor::new([values.len()], values.to_vec());
    let set = |name: &'static str, values: &'static [f64]| {
        changed(&move |checkpoint| drop(checkpoint.tensors.insert(name.to_owned(), vector(values))))
    };
    assert!(set("parameters", &[0.0; 5]).contains("tensor `parameters` has shape [5], expected [4]"));
    assert!(set("parameters", &[0.0, f64::NAN, 0.0, 0.0]).contains("tensor `parameters` holds NaN"));
    for position in [&[3.0, 99.0], &[99.0, 0.0], &[3.0, 3.0], &[-1.0, 0.0], &[2.5, 0.0]] {
        let error = set("window.position", position);
        assert!(error.contains("window.position"), "{error}");
    }
    let error = changed(&|checkpoint| drop(checkpoint.tensors.remove("optimizer.mean")));
    assert!(error.contains("no tensor `optimizer.mean`"), "{error}");
    let error = changed(&|checkpoint| checkpoint.progress.iteration = 4);
    assert!(error.contains("metrics.csv"), "{error}");

    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&previous).unwrap();
    assert!(session.refused("train --resume run").contains("checkpoint/state.safetensors"));
    std::fs::write(&path, &whole).unwrap();
    session.succeed("train --resume run --set iterations=5");
}

/// What defines a run stays as it is: by option and by an edited configuration alike.
#[test]
fn another_configuration_than_the_checkpoint() {
    let session = Session::new();
    session.run_lqr("run", "--set algorithm.window=2");
    for change in ["algorithm.window=3", "seed=1", "environment.name=pendulum", "optimizer.learning_rate=0.1"]
    {
        let error = session.refused(&format!("train --resume run --set iterations=5 --set {change}"));
        let key = change.split('=').next().unwrap();
        assert!(error.contains(&format!("a run that is resumed keeps its `{key}`")), "{error}");
    }
    let config = std::fs::read(session.path("run/config.toml")).unwrap();
    for (line, replacement, expected) in [
        ("batch_size = 20", "batch_size = 7", "`algorithm.batch_size` is 7, and up to iteration"),
        (
            "horizon = 10",
            "horizon = 11",
            "`environment.horizon` is 11, and up to iteration 3 it was 10; set it back",
        ),
        (
            r#"name = "lqr""#,
            r#"name = "pendulum""#,
            "it is of `rt-pg` on `lqr`, not of `rt-pg` on `pendulum`",
        ),
        ("bias = false", "bias = true", "`policy.bias` is true"),
        ("window = 2", "window = 1", "window."),
        ("window = 2", "window = 3", "`algorithm.window` is 3, and up to iteration 3 it was 2"),
        (
            "normalize_observations = false",
            "normalize_observations = true",
            "`policy.normalize_observations`",
        ),
        // What the checkpoint holds would be other policies, returns of another objective, and scores of two kinds.
        (r#"activation = "tanh""#, r#"activation = "relu""#, "`policy.activation` is \"relu\""),
        ("variance = 0.1", "variance = 90.0", "`policy.variance` is 90.0, and up to iteration 3 it was 0.1"),
        ("beta_1 = 0.9", "beta_1 = 0.8", "`optimizer.beta_1` is 0.8, and up to iteration 3 it was 0.9"),
        ("discount = 0.99", "discount = 0.9", "`algorithm.discount` is 0.9"),
        ("interval = 50", "interval = 0", "`evaluation.interval` is 0"),
    ] {
        session.edit_config("run", line, replacement);
        let error = session.refused("train --resume run --set iterations=5");
        assert!(error.contains("does not fit the configuration") && error.contains(expected), "{error}");
        session.write("run/config.toml", &config);
    }
    session.succeed("train --resume run --set iterations=5");
}

#[test]
fn damaged_configurations_and_metrics() {
    let session = Session::new();
    session.run_lqr("run", "");
    for (file, damage) in [
        ("run/config.toml", "iterations = = 3\n"),
        ("run/config.toml", "itertions = 3\n"),
        ("run/metrics.csv", "iteration,return_mean\n1,x\n"),
        ("run/metrics.csv", "iteration,return_mean\n1,2\n"),
        ("run/metrics.csv", "\n\n"),
        ("run/metrics.csv", ""),
    ] {
        let whole = std::fs::read(session.path(file)).unwrap();
        session.write(file, damage);
        for command in ["train --resume run", "plot run"] {
            let error = session.refused(command);
            assert!(error.contains(file), "{error}");
        }
        session.write(file, &whole);
    }
    let rows = std::fs::read_to_string(session.path("run/metrics.csv")).unwrap();
    let mut lines: Vec<&str> = rows.lines().collect();
    lines.remove(2);
    session.write("run/metrics.csv", lines.join("\n") + "\n");
    let error = session.refused("train --resume run --set iterations=5");
    assert!(error.contains("run/metrics.csv") && error.contains("iteration 2"), "{error}");
    std::fs::remove_file(session.path("run/metrics.csv")).unwrap();
    assert!(session.refused("plot run").contains("metrics.csv"));
    assert!(session.refused("train --resume run").contains("metrics.csv"));
}

//! Wrong input: one line that names it, exit code 2, nothing lost.

use crate::session::Session;

/// Every refusal, with what its line must say.
fn assert_refused(session: &Session, cases: &[(&str, &[&str])]) {
    for (arguments, expected) in cases {
        let error = session.refused(arguments);
        assert!(error.matches("unknown environment").count() < 2, "rtpg {arguments}: twice: {error}");
        for part in *expected {
            assert!(error.contains(part), "rtpg {arguments}: `{part}` is not in {error}");
        }
    }
}

#[test]
fn configurations() {
    let session = Session::new();
    session.write("unknown.toml", "preset = \"cartpole\"\n[policy]\nhiden = [4]\n");
    session.write("type.toml", "preset = \"cartpole\"\n[algorithm]\nbatch_size = \"ten\"\n");
    session.write("range.toml", "preset = \"cartpole\"\n[environment]\nname = \"lqr\"\nhorizon = 0\n");
    session.write("syntax.toml", "iterations = 3\nseed = = 4\n");
    session.write("empty.toml", "");
    session.write("study.toml", "[environment]\nname = \"lqr\"\n[[algorithm]]\nname = \"rt-pg\"\n");
    session.write("binary.toml", [0xff, 0xfe, 0x00]);
    assert_refused(
        &session,
        &[
            ("train cartpol", &["unknown preset `cartpol`", "did you mean `cartpole`?", "pendulum"]),
            ("train HalfCheetah-v4", &["unknown preset `HalfCheetah-v4`", "did you mean `half-cheetah`?"]),
            ("train absent.toml", &["absent.toml", "No such file"]),
            (
                "train unknown.toml",
                &["unknown.toml: unknown key `policy.hiden`", "did you mean `policy.hidden`?"],
            ),
            ("train type.toml", &["type.toml: key `algorithm.batch_size`", "expected a whole number"]),
            ("train range.toml", &["range.toml: key `environment.horizon` is 0, expected at least 1"]),
            ("train syntax.toml", &["syntax.toml: not valid TOML: line 2"]),
            (
                "train empty.toml",
                &["empty.toml: key `environment`: missing; name one by environment.name = \"cartpole\""],
            ),
            ("train binary.toml", &["binary.toml", "UTF-8"]),
            ("train study.toml", &["study.toml: key `algorithm`", "this looks like a study"]),
            (
                "study range.toml --set algorithm.name=bh",
                &["key `algorithm`", "this looks like the configuration of a run"],
            ),
            (
                "train --iterations 10",
                &["'--iterations'", "are set by --set KEY=VALUE, such as --set iterations=500"],
            ),
            ("study cartpole-window --lr 3", &["'--lr'", "are set by --set KEY=VALUE"]),
            ("train --set nonsense", &["--set nonsense: expected key=value"]),
            (
                "train --set algorithm.windw=3",
                &["--set: unknown key `algorithm.windw`", "`algorithm.window`?"],
            ),
            (
                "train --set environment.name=cartpoel",
                &["unknown environment `cartpoel`", "did you mean `cartpole`?"],
            ),
            ("train --set environment=[\"cartpole\",5]", &["`environment`", "array, expected a table"]),
            ("train --set checkpoint=[1,2]", &["--set: key `checkpoint`", "expected a table"]),
            (
                "train --set policy.hidden=[4]",
                &["--set: key `policy.initialization` is zero, expected xavier-uniform: hidden layers"],
            ),
            ("train --set algorithm.name=rtpg", &["unknown algorithm `rtpg`", "did you mean `rt-pg`?"]),
            (
                "train --set algorithm.name=bh --set policy.normalize_observations=true",
                &["policy.normalize_observations", "set it to false"],
            ),
        ],
    );
}

#[test]
fn values_out_of_range() {
    let session = Session::new();
    for (setting, expected) in [
        ("algorithm.batch_size=0", "at least 1"),
        ("algorithm.window=0", "at least 1"),
        ("environment.horizon=0", "at least 1"),
        ("iterations=0", "at least 1"),
        ("policy.variance=0.0", "1e-30 to 1e36"),
        ("policy.variance=1e-39", "1e-30 to 1e36"),
        ("policy.variance=nan", "1e-30 to 1e36"),
        ("policy.log_std_bounds.min=-100.0", "-34.5 to 41.4"),
        ("policy.hidden=[0]", "at least 1"),
        ("algorithm.lambda=1.5", "between 0 and 1"),
        ("algorithm.lambda=-0.1", "between 0 and 1"),
        ("algorithm.lambda=nan", "between 0 and 1"),
        ("algorithm.exponent=0.5", "from -1000 to -0.001"),
        ("algorithm.discount=1.01", "between 0 and 1"),
        ("optimizer.learning_rate=-0.1", "at least 1.2e-38"),
        ("optimizer.learning_rate=nan", "at least 1.2e-38"),
        ("algorithm.lambda=0.5", "its default 1.0: algorithm.coefficients is adaptive"),
        ("seed=-1", "whole number"),
    ] {
        let key = setting.split('=').next().unwrap();
        let error = session.refused(&format!("train --out run --set {setting}"));
        assert!(
            error.starts_with(&format!("error: --set: key `{key}")) && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn arguments() {
    let session = Session::new();
    assert_refused(
        &session,
        &[
            ("train --device tpu", &["--device", "unknown device `tpu`", "gpu:N"]),
            ("train --device gpu:99 --out run", &["device `gpu:99` is not there", "rtpg devices"]),
            ("train --set device=tpu", &["key `device`", "unknown device `tpu`"]),
            ("train --seed x", &["--seed", "invalid digit"]),
            ("train --seed -1", &["'-1' for '--seed", "invalid digit"]),
            ("train --force", &["--out"]),
            ("train --resume run --out other", &["--resume", "--out"]),
            ("trian", &["trian", "train"]),
            ("train --sed 3", &["--sed", "--seed"]),
            ("estimate --policy p", &["--trajectories"]),
            ("estimate --policy p --trajectories t --lambda 2", &["--lambda", "between 0 and 1"]),
            (
                "estimate --policy p --trajectories t --exponent 1",
                &["--exponent", "0, or a number from -1000 to -0.001"],
            ),
            ("estimate --policy p --trajectories t --exponent -1e-9", &["--exponent", "to -0.001"]),
            (
                "estimate --policy p --trajectories t --weights miw --exponent -2",
                &["--exponent goes with --weights mpm only"],
            ),
            (
                "estimate --policy p --trajectories t --lambda 0.5",
                &["--lambda goes with --coefficients fixed only"],
            ),
            ("estimate --policy p --trajectories t --discount nan", &["--discount", "between 0 and 1"]),
            ("evaluate run --episodes 0", &["--episodes", "1"]),
            ("evaluate run --trajectories t.safetensors", &["--stochastic"]),
        ],
    );
    #[cfg(not(feature = "cuda"))]
    assert_refused(&session, &[("train --device cuda", &["without the backend `cuda`", "--features cuda"])]);
    let bare = session.run("");
    assert_eq!(bare.status.code(), Some(2), "{bare:?}");
}

#[test]
fn folders() {
    let session = Session::new();
    session.run_lqr("run", "");
    session.write("file", "a file");
    std::fs::create_dir(session.path("foreign")).unwrap();
    session.write("foreign/thesis.txt", "irreplaceable");
    std::fs::create_dir(session.path("namesake")).unwrap();
    session.write("namesake/config.toml", "color = \"red\"");
    std::fs::create_dir(session.path("results")).unwrap();
    session.write("results/metrics.csv", "mine");
    std::fs::create_dir(session.path("empty")).unwrap();
    assert_refused(
        &session,
        &[
            ("train lqr --out run", &["run is not empty", "--resume run", "--force"]),
            ("train lqr --out foreign", &["foreign is not empty"]),
            (
                "train lqr --out foreign --force",
                &["foreign is not the folder of a run", "--force leaves it alone"],
            ),
            ("train lqr --out namesake --force", &["namesake is not the folder of a run"]),
            ("train lqr --out results --force", &["results is not the folder of a run"]),
            ("train run", &["run is a folder", "--resume run", "run/config.toml"]),
            ("train --set preset=lqr", &["key `preset`: is what a file is laid over"]),
            ("train lqr --out new --set algorithm.name=GPOMDP", &["`GPOMDP`", "did you mean `gpomdp`?"]),
            ("evaluate run --stochastic --gif x.gif --trajectories ./x.gif", &["name two files"]),
            (
                "train lqr --out new --set environment.name=lqrr",
                &["key `environment.name`: unknown environment `lqrr`"],
            ),
            ("evaluate run --gif x.png", &["--gif x.png: expected a name that ends in .gif"]),
            ("evaluate run --gif picture", &["--gif picture: expected a name that ends in .gif"]),
            ("evaluate run --gif absent/x.gif", &["--gif absent/x.gif: there is no such folder"]),
            ("train lqr --out file", &["file"]),
            ("train lqr --out file/below", &["file/below"]),
            ("train --resume absent", &["absent is not the folder of a run", "config.toml"]),
            ("train --resume foreign", &["foreign is not the folder of a run"]),
            ("train --resume file", &["file"]),
            ("evaluate absent", &["absent: no such run or policy file"]),
            ("evaluate foreign", &["foreign is not the folder of a run"]),
            ("evaluate run/policy.safetensors", &["say where it acts by --environment"]),
            ("evaluate run --environment cartpole", &["2 observation and 2 action", "cartpole has 4 and 1"]),
            ("evaluate run --environment lqrr", &["unknown environment `lqrr`", "`lqr`?"]),
            ("plot empty", &["empty is not the folder of a run"]),
            ("plot absent", &["absent is not the folder of a run"]),
        ],
    );
}

/// Sizes are multiplied out before anything is allocated from them.
#[test]
fn what_does_not_fit_into_memory() {
    let session = Session::new();
    session.run_lqr("made", "");
    for (setting, advice) in [
        ("policy.hidden=[16777216,16777216] --set policy.initialization=xavier-uniform", "policy.hidden"),
        ("algorithm.window=16777216", "algorithm.window"),
        ("algorithm.batch_size=16777216", "algorithm.window"),
        ("environment.horizon=16777216 --set algorithm.batch_size=1000000", "algorithm.window"),
    ] {
        let error = session.refused(&format!("train --out run --set {setting}"));
        assert!(
            error.contains("the run needs at most about ") && error.contains(" for the window"),
            "{setting}: {error}"
        );
        assert!(error.contains(&format!("are available; lower {advice}")), "{setting}: {error}");
    }
    let large =
        "algorithm.name=svrpg --set algorithm.snapshot_size=16777216 --set environment.horizon=100000";
    let error = session.refused(&format!("train lqr --out run --set {large}"));
    assert!(error.contains("available; lower ") && error.contains("algorithm.snapshot_size"), "{error}");
    assert!(!error.contains("algorithm.window"), "{error}");
    let matrix = "algorithm.name=bh --set algorithm.window=16777216 --set algorithm.batch_size=1 \
                  --set environment.horizon=1";
    let error = session.refused(&format!("train --out run --set {matrix}"));
    assert!(error.contains("the run needs at most about "), "{error}");
    // Evaluations hold a few hundred episodes at a time, for which some machines have room.
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (limit, most) = getrlimit(Resource::RLIMIT_AS).unwrap();
        setrlimit(Resource::RLIMIT_AS, limit.min(1 << 36), most).unwrap();
    }
    let error = session.refused("evaluate made --horizon 16777216 --episodes 1000");
    assert!(error.contains("of memory, but") && error.contains("lower --episodes"), "{error}");
    let error = session.refused("evaluate made --horizon 16777216 --episodes 1 --gif x.gif");
    assert!(error.contains("of memory, drawings included, but"), "{error}");
    let evaluation = "evaluation.episodes=511 --set environment.horizon=16777216 --set algorithm.window=1";
    let error = session.refused(&format!("train --device cpu --out run --set {evaluation}"));
    assert!(error.contains("are available; lower environment.horizon"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn arguments_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let session = Session::new();
    let bytes = std::ffi::OsStr::from_bytes(b"r\xff");
    let output = session.command("").arg(bytes).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    let study = "study cartpole-baselines --runs 1 --only GPOMDP --set budget=200 --out";
    let output = session.command(study).arg(bytes).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // A path that config.toml could not record.
    session.run_lqr("start", "");
    let folder = session.path("").join(bytes);
    std::fs::rename(session.path("start"), folder.join("start")).unwrap();
    let mut command = session.command("train lqr --out run --set policy.start=start");
    let output = command.current_dir(folder).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("not UTF-8"), "{error}");
}

/// Keys of any depth, numbers of any length: refused, whatever a shell lets through.
#[test]
fn settings_without_end() {
    let session = Session::new();
    let deep = "a.".repeat(50_000) + "b=1";
    let nested = format!("seed={}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let long = format!("seed={}", "9".repeat(100_000));
    assert_refused(
        &session,
        &[
            (&format!("train --set {deep}"), &["expected key=value"]),
            (&format!("train --set {nested}"), &["key `seed`"]),
            (&format!("train --set {long}"), &["key `seed`"]),
        ],
    );
}

/// `--force` removes an earlier run only when the one in its place can start.
#[test]
fn a_refused_run_leaves_the_earlier_one_alone() {
    let session = Session::new();
    session.run_lqr("run", "");
    assert_refused(
        &session,
        &[
            ("train lqr --out run --force --set environment.name=cartpoel", &["unknown environment"]),
            (
                "train lqr --out run --force --set algorithm.name=bh --set policy.normalize_observations=true",
                &["bh"],
            ),
            ("train lqr --out run --force --device gpu:99", &["gpu:99"]),
            ("train lqr --out run --force --set iterations=0", &["iterations"]),
        ],
    );
    // A refused run leaves no folder behind, so that the next try needs no --force.
    session.refused("train lqr --out fresh --set environment.name=cartpoel");
    session.run_lqr("fresh", "");
    session.succeed("train lqr --out run --force --set iterations=2 --set evaluation.interval=0");
    assert_eq!(session.metrics("run").len(), 2);
}

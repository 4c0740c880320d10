//! Damaged checkpoints, folders in use, and disks that take no more: one line each, and the run goes on or is kept.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use nix::sys::signal::Signal;
use policy_nets::PolicyState;
use trainer::checkpoint::Checkpoint;

use crate::session::Session;
#[cfg(target_os = "linux")]
use crate::session::signal;

const STATE: &str = "run/checkpoint/state.safetensors";
const PREVIOUS: &str = "run/checkpoint/previous.safetensors";

/// A run of 3 iterations beside an equal one of 6.
fn half_a_run() -> Session {
    let session = Session::new();
    session.run_lqr("run", "--set evaluation.interval=0 --set checkpoint.iterations=2");
    session.run_lqr("whole", "--set evaluation.interval=0 --set iterations=6");
    session
}

fn go_on(session: &Session) -> Output {
    session.run("train --resume run --set iterations=6")
}

/// Lines of warning on standard error.
fn warnings(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

fn assert_whole(session: &Session) {
    assert_eq!(session.metrics("run"), session.metrics("whole"));
    for file in ["policy.safetensors", "policy-best.safetensors"] {
        let read = |run: &str| std::fs::read(session.path(run).join(file)).unwrap();
        assert!(read("run") == read("whole"), "{file}");
    }
}

#[test]
fn the_checkpoint_before_a_damaged_one_is_taken() {
    for (reason, kept) in [
        ("the file is damaged: its bytes do not have the checksum that it states", None),
        ("not a complete safetensors file", Some(100)),
        ("not a complete safetensors file", Some(0)),
    ] {
        let session = half_a_run();
        let mut bytes = std::fs::read(session.path(STATE)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes.truncate(kept.unwrap_or(usize::MAX));
        session.write(STATE, bytes);
        let output = go_on(&session);
        assert!(output.status.success(), "{output:?}");
        let [warning] = &warnings(&output)[..] else { panic!("{output:?}") };
        assert!(warning.contains(&format!("{STATE}: {reason}")), "{warning}");
        assert!(warning.contains("going on from the checkpoint before it, of iteration 2"), "{warning}");
        assert_whole(&session);
    }
    // A missing one is as good as a damaged one.
    let session = half_a_run();
    std::fs::remove_file(session.path(STATE)).unwrap();
    assert!(go_on(&session).status.success());
    assert_whole(&session);
}

#[test]
fn with_both_checkpoints_damaged_the_newest_is_named() {
    let session = half_a_run();
    session.write(STATE, "rubbish");
    session.write(PREVIOUS, "rubbish as well");
    let error = session.refused("train --resume run");
    assert!(error.contains(STATE) && error.contains("not a complete safetensors file"), "{error}");
}

/// A file that is whole and not ours to read is no damage: nothing older is taken in its place.
#[test]
fn a_newer_checkpoint_is_refused_by_its_version() {
    use policy_nets::tensor_file::{StoredFloat, to_sealed_bytes};
    let session = half_a_run();
    let metadata = [("format".to_owned(), "rtpg-checkpoint/3".to_owned())].into();
    let bytes = to_sealed_bytes(std::collections::BTreeMap::new(), &metadata, StoredFloat::F64).unwrap();
    session.write(STATE, bytes);
    let error = session.refused("train --resume run");
    assert!(error.contains("format is `rtpg-checkpoint/3`") && error.contains("newer rtpg"), "{error}");
}

#[test]
fn a_checkpoint_of_another_environment_or_algorithm_is_refused() {
    let session = half_a_run();
    let algorithm = "--set algorithm.name=miw --set algorithm.window=4";
    session.run_lqr("other", &format!("--set evaluation.interval=0 {algorithm}"));
    std::fs::copy(session.path("other/checkpoint/state.safetensors"), session.path(STATE)).unwrap();
    let error = session.refused("train --resume run --set iterations=6");
    assert!(error.contains("it is of `miw` on `lqr`, not of `rt-pg` on `lqr`"), "{error}");
    // Before anything is said about its shapes.
    session.succeed("train cartpole --device cpu --out cart --set iterations=3 --set environment.horizon=5");
    std::fs::copy(session.path("cart/checkpoint/state.safetensors"), session.path(STATE)).unwrap();
    let error = session.refused("train --resume run --set iterations=6");
    assert!(error.contains("it is of `rt-pg` on `cartpole`, not of `rt-pg` on `lqr`"), "{error}");
}

#[test]
fn flipped_bits_of_policies_are_found() {
    let session = half_a_run();
    for file in ["run/policy.safetensors", "run/policy-best.safetensors"] {
        let mut bytes = std::fs::read(session.path(file)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        session.write(file, bytes);
        let error = session.refused(&format!("evaluate {file} --environment lqr"));
        assert!(error.contains(file) && error.contains("the file is damaged"), "{error}");
    }
    // The checkpoint holds both, and going on writes them again.
    assert!(go_on(&session).status.success());
    assert_whole(&session);
}

#[test]
fn changed_metrics_are_told_and_kept() {
    let session = half_a_run();
    let text = std::fs::read_to_string(session.path("run/metrics.csv")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let columns: Vec<&str> = lines[2].split(',').collect();
    lines[2] = lines[2].replacen(columns[4], "-1234.5", 1);
    session.write("run/metrics.csv", lines.join("\n") + "\n");
    let output = go_on(&session);
    assert!(output.status.success(), "{output:?}");
    let [warning] = &warnings(&output)[..] else { panic!("{output:?}") };
    assert!(warning.contains("run/metrics.csv: the rows up to iteration 3 are not those that the run wrote"));
    let made = session.metrics("run");
    assert!(made[1].contains("-1234.5"));
    assert_eq!(made[2..], session.metrics("whole")[2..]);
    // Once.
    assert_eq!(warnings(&session.run("train --resume run --set iterations=6")), Vec::<String>::new());
}

/// Arguments of a run that takes its time.
const LONG: &str = "train lqr --device cpu --out run --set iterations=1000000 --set evaluation.interval=0 \
                    --set checkpoint.iterations=10";

/// Starts a run that takes its time, and waits for its second checkpoint.
fn start_long(session: &Session, command: &mut Command) -> Child {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    let begin = Instant::now();
    while !session.path(PREVIOUS).exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early");
        assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened for a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn long_run(session: &Session) -> Child {
    start_long(session, &mut session.command(LONG))
}

/// A run ends with its state saved when the terminal is closed, and goes on when it was started by `nohup`.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_ends_a_run_unless_it_is_ignored() {
    let session = Session::new();
    let mut child = long_run(&session);
    signal(&child, Signal::SIGHUP);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let made = session.metrics("run").len();
    let output = session.run("train --resume run --set iterations=1");
    assert!(String::from_utf8(output.stderr).unwrap().contains(&format!("has made {made} already")));

    // A terminal and its shell both send one, `timeout` sends two.
    std::fs::remove_dir_all(session.path("run")).unwrap();
    let mut child = long_run(&session);
    signal(&child, Signal::SIGTERM);
    signal(&child, Signal::SIGHUP);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let summary = std::fs::read_to_string(session.path("run/summary.json")).expect("a run that was saved");
    assert!(summary.contains("\"stopped\""), "{summary}");

    std::fs::remove_dir_all(session.path("run")).unwrap();
    let command = session.command(LONG);
    let mut through = Command::new("nohup");
    through.arg(command.get_program()).args(command.get_args()).current_dir(session.path(""));
    let mut child = start_long(&session, &mut through);
    signal(&child, Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "nohup does not help");
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_folder_has_one_writer_at_a_time() {
    let session = Session::new();
    let mut child = long_run(&session);
    let owner = format!("run is in use by process {} on ", child.id());
    for command in ["train --resume run", "train lqr --out run --force"] {
        let output = session.run(command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {error}");
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{command}: {error}");
        assert!(error.contains(&owner), "{command}: {error}");
    }
    // Whoever only reads needs no lock.
    session.succeed("evaluate run --last --episodes 2");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(session.path("run/run.lock").exists());
    let made = session.metrics("run").len();
    session.succeed(&format!("train --resume run --set iterations={}", made + 10));
    assert!(!session.path("run/run.lock").exists());
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_not_followed() {
    let session = half_a_run();
    std::fs::create_dir(session.path("outside")).unwrap();
    for file in ["metrics.csv", "config.toml", "policy.safetensors", "checkpoint"] {
        let (path, outside) = (session.path("run").join(file), session.path("outside").join(file));
        std::fs::rename(&path, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        for command in ["train --resume run", "evaluate run", "plot run"] {
            let error = session.refused(command);
            assert!(error.contains(&format!("run/{file} is a symbolic link")), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&outside, &path).unwrap();
    }
    // Emptying a folder removes a link and not what it leads to.
    session.write("outside/thesis.txt", "irreplaceable");
    std::fs::remove_dir_all(session.path("run/checkpoint")).unwrap();
    std::os::unix::fs::symlink(session.path("outside"), session.path("run/checkpoint")).unwrap();
    session.run_lqr("run", "--force");
    assert!(session.path("outside/thesis.txt").exists());
    assert!(!session.path("run/checkpoint").is_symlink());
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_cannot_be_written_are_refused() {
    let session = Session::new();
    for folder in ["/proc/rtpg-run", "/dev/null/run"] {
        let error = session.refused(&format!("train lqr --out {folder}"));
        assert!(error.contains(folder), "{error}");
    }
    session.run_lqr("run", "");
    let error = session.refused("evaluate run --gif /proc/first.gif");
    assert!(error.contains("--gif /proc/first.gif: nothing can be written there: "), "{error}");
    let curve = session.path("run/learning_curve.svg");
    std::fs::remove_file(&curve).unwrap();
    std::fs::create_dir(&curve).unwrap();
    let error = session.refused("plot run");
    assert!(error.contains("cannot write figure run/learning_curve.svg: "), "{error}");
    // Permissions bind everybody but the administrator.
    let mode = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(session.path("run"), permissions).unwrap();
    };
    mode(0o555);
    let writable = std::fs::write(session.path("run/probe"), "").is_ok();
    if !writable {
        let error = session.refused("train --resume run --set iterations=5");
        assert!(error.contains("run/run.lock"), "{error}");
        let error = session.refused("train lqr --out run --force");
        assert!(error.contains("run/run.lock"), "{error}");
    }
    mode(0o755);
}

/// Runs a script in the session's folder with `$RTPG` as the command.
#[cfg(target_os = "linux")]
fn shell(session: &Session, wrapper: &[&str], script: &str) -> Output {
    let mut words = wrapper.to_vec();
    words.extend(["sh", "-c", script]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("RTPG", env!("CARGO_BIN_EXE_rtpg")).env_remove("RTPG_LOG");
    command.current_dir(session.path("")).output().unwrap()
}

/// No file may grow beyond a limit: the first checkpoints fit, the window's later ones do not. Nowhere else is better.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_leaves_whole_files() {
    let session = Session::new();
    let options = "--device cpu --set iterations=8 --set environment.horizon=10 --set algorithm.window=8 \
                   --set evaluation.interval=0 --set checkpoint.iterations=1";
    session.succeed(&format!("train lqr --out whole {options}"));
    // In blocks of 512 bytes: a batch takes 20 * 10 * 7 numbers of 8 bytes.
    let script = format!("ulimit -f 80; exec $RTPG train lqr --out run {options}");
    let output = shell(&session, &[], &script);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    let last = error.lines().last().unwrap();
    assert!(last.starts_with("error: failed to write run/checkpoint/state.safetensors"), "{error}");
    assert_nothing_half_written(&session.path("run"));
    assert!(!session.path("run-rescued").exists(), "{error}");
    assert!(session.metrics("run").len() > 1);
    session.succeed("evaluate run --episodes 2");
    session.succeed("train --resume run");
    assert_eq!(session.metrics("run"), session.metrics("whole"));
}

#[cfg(target_os = "linux")]
fn assert_nothing_half_written(folder: &Path) {
    for folder in [folder.to_owned(), folder.join("checkpoint")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.') && name != "run.lock", "{name}");
        }
    }
    for name in ["state.safetensors", "previous.safetensors"] {
        Checkpoint::load(&folder.join("checkpoint").join(name)).unwrap();
    }
}

/// A disk that is full: a small one in memory, where the system lets a test have one.
#[cfg(target_os = "linux")]
#[test]
fn a_run_on_a_full_disk_is_rescued_elsewhere() {
    let session = Session::new();
    let options = "--device cpu --set iterations=8 --set environment.horizon=10 --set algorithm.window=8 \
                   --set evaluation.interval=0 --set checkpoint.iterations=1";
    session.succeed(&format!("train lqr --out whole {options}"));
    std::fs::create_dir(session.path("disk")).unwrap();
    std::fs::create_dir(session.path("temporary")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=192k tmpfs disk || exit 77; TMPDIR=$PWD/temporary $RTPG train lqr --out disk/run {options}"
    );
    let output = match Command::new("unshare").arg("--version").output() {
        Ok(_) => shell(&session, &["unshare", "-rm"], &script),
        Err(error) => {
            println!("skipped: there is no unshare: {error}");
            return;
        }
    };
    let error = String::from_utf8(output.stderr).unwrap();
    if output.status.code() != Some(1) || error.starts_with("unshare") {
        assert_ne!(output.status.code(), Some(0), "the disk is too large for the test");
        println!("skipped: no disk of the test's own: {error}");
        return;
    }
    let last = error.lines().last().unwrap();
    let rescued = session.path("temporary/run-rescued");
    assert!(last.starts_with("error: ") && last.contains("No space left on device"), "{error}");
    assert!(last.ends_with(&format!("rtpg train --resume {}", rescued.display())), "{error}");
    session.succeed("train --resume temporary/run-rescued");
    assert_eq!(session.metrics("temporary/run-rescued"), session.metrics("whole"));
}

/// A run may go on with another value, such as a smaller learning rate after it diverged; it says so.
#[test]
fn a_changed_configuration_is_told() {
    let session = Session::new();
    session.run_lqr("run", "");
    session.edit_config("run", "learning_rate = 0.01", "learning_rate = 1e-5");
    session.edit_config("run", "epsilon = 0.00000001", "epsilon = 0.001");
    session.edit_config("run", "interval = 50", "interval = 49");
    // How the run began is no longer to be changed.
    let drawn = r#"initialization = "zero""#;
    session.edit_config("run", drawn, "initialization = \"xavier-uniform\"\nstart = \"absent\"");
    let output = session.run("train --resume run --set iterations=4");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    for key in ["initialization", "start"] {
        let told = error.lines().find(|line| line.contains(&format!("`policy.{key}` is "))).unwrap();
        assert!(told.ends_with("; it says how the run began, and stays as it was"), "{told}");
    }
    let config = std::fs::read_to_string(session.path("run/config.toml")).unwrap();
    assert!(config.contains(drawn) && !config.contains("start = "), "{config}");
    let expected = "`optimizer.learning_rate` is 1e-5, and up to iteration 3 it was 0.01; the run goes on";
    assert!(error.contains(expected) && error.contains("`optimizer.epsilon` is 0.001"), "{error}");
    let output = session.run("train --resume run --set iterations=5");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !error.contains("changed"), "{error}");
}

/// A best policy of iterations that are made again, and then otherwise, is nobody's.
#[test]
fn a_best_policy_of_another_branch_does_not_stay() {
    let session = Session::new();
    session.run_lqr("run", "--set evaluation.interval=0");
    let mut checkpoint = Checkpoint::load(&session.path(STATE)).unwrap();
    checkpoint.tensors.retain(|name, _| !name.starts_with("best."));
    checkpoint.progress.best_score = None;
    // The next iteration fails.
    checkpoint.tensors.get_mut("parameters").unwrap().values.fill(1e30);
    checkpoint.save(&session.path(STATE), &session.path(PREVIOUS)).unwrap();
    assert!(session.path("run/policy-best.safetensors").is_file());
    let output = session.run("train --resume run --set iterations=4");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!session.path("run/policy-best.safetensors").exists());
}

/// Rows behind the checkpoint are work that was done: fewer iterations would lose it.
#[test]
fn rows_behind_the_checkpoint_count_as_made() {
    let session = Session::new();
    session.run_lqr("run", "--set iterations=4");
    let checkpoint = std::fs::read(session.path("run/checkpoint/state.safetensors")).unwrap();
    session.succeed("train --resume run --set iterations=9");
    session.write("run/checkpoint/state.safetensors", checkpoint);
    let rows = session.metrics("run");
    let error = session.refused("train --resume run --set iterations=6");
    assert!(error.contains("iterations is 6, but run has made 9 already"), "{error}");
    assert_eq!(session.metrics("run"), rows);
}

/// What an earlier version of the program allowed is no longer trained, but still evaluated and drawn.
#[test]
fn a_run_with_values_that_are_refused_now_is_still_read() {
    let session = Session::new();
    session.run_lqr("run", "");
    session.edit_config("run", "variance = 0.1", "variance = 1e-40");
    session.succeed("evaluate run --episodes 2");
    session.succeed("plot run");
    let error = session.refused("train --resume run --set iterations=4");
    assert!(error.contains("key `policy.variance` is"), "{error}");
}

/// A run starts from another run's policy, and goes on without its file.
#[test]
fn a_run_starts_from_the_policy_of_a_file() {
    let session = Session::new();
    let network = "--set policy.hidden=[5] --set policy.bias=true --set policy.normalize_observations=true \
                   --set policy.initialization=xavier-uniform";
    session.run_lqr("first", network);
    let start = "--set policy.start=first/policy.safetensors";
    session.run_lqr("of-the-best", &format!("{network} --set policy.start=first"));
    let config = std::fs::read_to_string(session.path("of-the-best/config.toml")).unwrap();
    assert!(config.contains("first/policy-best.safetensors\"\n"), "{config}");
    session.run_lqr("second", &format!("{network} {start} --set optimizer.learning_rate=1e-12"));
    let policy = |run: &str| PolicyState::load(&session.path(run).join("policy.safetensors")).unwrap();
    let (first, second) = (policy("first"), policy("second"));
    for (from, to) in first.mean_parameters.iter().zip(&second.mean_parameters) {
        assert!((from - to).abs() < 1e-9, "{from} {to}");
    }
    let count = |state: &PolicyState| state.normalizer.as_ref().unwrap().count();
    assert_eq!(count(&second), 2.0 * count(&first));

    session.run_lqr("whole", &format!("{network} {start} --set iterations=5"));
    std::fs::remove_file(session.path("first/policy.safetensors")).unwrap();
    let output = session.run("train --resume second --set iterations=5");
    assert!(output.status.success() && warnings(&output).is_empty(), "{output:?}");
    let error = session.refused(&format!("train lqr {network} {start} --out third"));
    assert!(error.contains("policy.start: failed to read first/policy.safetensors"), "{error}");
    // --force does not remove what the run starts from.
    session.run_lqr("again", network);
    let command = format!("train lqr {network} --set policy.start=again --out again --force");
    let error = session.refused(&command);
    assert!(error.contains("--out again holds the policy that policy.start names"), "{error}");
    // A run is repeated from wherever its configuration stands.
    let config = std::fs::read_to_string(session.path("second/config.toml")).unwrap();
    let start = config.lines().find(|line| line.starts_with("start = ")).unwrap();
    assert!(Path::new(start.split('"').nth(1).unwrap()).is_absolute(), "{start}");
    assert!(!session.path("third").exists());
    for (options, expected) in [
        (
            "--set policy.hidden=[6] --set policy.bias=true",
            "is 2 -> 5 -> 2 with tanh and biases, but the configuration asks for 2 -> 6 -> 2",
        ),
        ("--set policy.hidden=[5]", "with tanh and no biases; set policy.hidden"),
        (
            "--set policy.hidden=[5] --set policy.bias=true",
            "standardizes observations; set policy.normalize_observations",
        ),
    ] {
        let start = "--set policy.start=whole/policy.safetensors";
        let error = session.refused(&format!("train lqr {options} {start} --out third"));
        assert!(error.contains(expected), "{error}");
    }
    let error = session.refused("train cartpole --set policy.start=whole/policy.safetensors --out third");
    let expected = "has 2 observation and 2 action components, but cartpole has 4 and 1";
    assert!(error.ends_with(expected), "{error}");
}

//! The command line.

mod devices;
mod doctor;
mod estimate;
mod evaluate;
mod list;
mod mujoco;
mod plot;
mod progress;
mod study;
mod train;

use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use trainer::panics;
use trainer::run_folder::is_exhausted;
use trainer::studies::StudyError;
use trainer::training::TrainError;

/// Train neural Gaussian policies by policy gradient with trajectory reuse.
#[derive(Debug, Parser)]
#[command(name = "rtpg", version, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a policy; without a configuration, the preset `cartpole`
    Train(train::Arguments),
    /// Run episodes with a trained policy
    Evaluate(evaluate::Arguments),
    /// Compare algorithms over many seeds, with tables and figures; goes on where it stopped
    Study(study::Arguments),
    /// Draw the figures of runs again from their recorded metrics
    Plot(plot::Arguments),
    /// Estimate a gradient from logged trajectories
    Estimate(estimate::Arguments),
    /// List the compute devices that this program can use
    Devices,
    /// Check the kernels on this machine against float64 arithmetic
    Doctor(doctor::Arguments),
    /// List presets, studies, environments and algorithms
    List,
    /// Install the library of the MuJoCo environments, or say which one is in use
    #[command(subcommand)]
    Mujoco(mujoco::Command),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a command ended without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong input: exit code 2.
    Input(anyhow::Error),
    /// The work failed: exit code 1.
    Run(anyhow::Error),
    /// The user stopped it: exit code 130.
    Stopped,
}

impl Failure {
    /// Wrong input.
    fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::Input(error.into())
    }

    /// A file that was not written where the user asked for it.
    fn writing(error: std::io::Error) -> Self {
        if is_exhausted(&error) { Self::run(error) } else { Self::input(error) }
    }

    /// Failed work.
    fn run(error: impl Into<anyhow::Error>) -> Self {
        Self::Run(error.into())
    }
}

/// What keeps a command from its work is wrong input, all but the system's refusals; errors of a run's iterations do not come here.
impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        if error.is_input() { Self::input(error) } else { Self::run(error) }
    }
}

impl From<StudyError> for Failure {
    fn from(error: StudyError) -> Self {
        if error.is_input() { Self::input(error) } else { Self::run(error) }
    }
}

type Outcome = Result<(), Failure>;

/// Refuses what cannot be written, before any work is done, and to write over anything but a file of the same kind.
fn check_target(
    path: &Path,
    option: &str,
    kind: &str,
    is_of_kind: impl Fn(&Path) -> bool,
) -> Result<(), Failure> {
    let refuse =
        |reason: String| Err(Failure::input(anyhow::anyhow!("--{option} {}: {reason}", path.display())));
    let there = path.symlink_metadata().is_ok();
    if there && !(path.is_file() && is_of_kind(path)) {
        return refuse(format!("there is something that is no {kind}; name another file"));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return refuse("there is no such folder".to_owned());
    }
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason =
                format!("--{option} {}: nothing can be written there: {}", path.display(), error.kind());
            Err(Failure::writing(std::io::Error::new(error.kind(), reason)))
        }
    }
}

/// Parses the arguments and runs the command.
pub(crate) fn main() -> ExitCode {
    // A simulator's own warnings can be thousands; the run tells of the first and counts the rest.
    let chosen = std::env::var("RTPG_LOG").unwrap_or_default();
    let chosen = if chosen.trim().is_empty() { "warn,trainer=info,rtpg=info,mujoco=error" } else { &chosen };
    let filter = match EnvFilter::try_new(chosen) {
        Ok(filter) => filter,
        Err(error) => {
            let reason =
                anyhow::anyhow!("RTPG_LOG is `{chosen}`: {error}; expected a filter such as warn,rtpg=info");
            return fail(&reason, 2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .with_target(false)
        .without_time()
        .log_internal_errors(false)
        .init();
    silence_panics();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 || error.kind() == HELP_INSTEAD => error.exit(),
        Err(error) => return fail(&anyhow::anyhow!(refusal(&error)), 2),
    };
    #[cfg(unix)]
    ignore_file_size_signal();
    match panics::catch(|| run(arguments.command)) {
        Ok(Ok(())) => match UNPRINTED.get() {
            None => ExitCode::SUCCESS,
            Some(error) => fail(&anyhow::anyhow!("standard output could not be written: {error}"), 1),
        },
        Ok(Err(Failure::Input(error))) => fail(&error, 2),
        Ok(Err(Failure::Run(error))) => fail(&error, 1),
        Ok(Err(Failure::Stopped)) => ExitCode::from(130),
        Err(message) => fail(&anyhow::anyhow!("an error of the program itself: {message}"), 1),
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Study(arguments) => study::run(&arguments),
        Command::Plot(arguments) => plot::run(&arguments),
        Command::Estimate(arguments) => estimate::run(&arguments),
        Command::Devices => {
            devices::run();
            Ok(())
        }
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::List => {
            list::run();
            Ok(())
        }
        Command::Mujoco(command) => mujoco::run(&command),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Arguments::command(), "rtpg", &mut script);
            print_line(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    }
}

/// Panics are caught where something can be saved, and end as one line. `RUST_BACKTRACE=1` shows where they come from.
fn silence_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0") {
        std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    }
}

/// Where the size of files is limited (`ulimit -f`), a write then fails as on a full disk, and a run saves what it has.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the system's interface to signals")]
fn ignore_file_size_signal() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no code runs in the signal's place.
    if let Err(error) = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) } {
        tracing::debug!("SIGXFSZ is not ignored: {error}");
    }
}

/// What follows a first signal so soon belongs to it: a terminal that is closed sends SIGHUP and its shell does, too, and `timeout` sends
/// SIGTERM to a process and to its group.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// Calls `handle` at every Ctrl-C, and when the process is asked to end by SIGTERM or, unless it was started to ignore that
/// (`nohup`), by SIGHUP. Signals within [`SAME_REQUEST`] of the first are one.
fn on_interrupt(mut handle: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    #[cfg(unix)]
    let ignored = ignore_hangup();
    let refused = |error| Failure::run(anyhow::anyhow!("Ctrl-C cannot be listened to: {error}"));
    let mut first: Option<Instant> = None;
    let once = move || {
        if first.is_none_or(|first| first.elapsed() > SAME_REQUEST) {
            first.get_or_insert_with(Instant::now);
            handle();
        }
    };
    ctrlc::set_handler(once).map_err(refused)?;
    #[cfg(unix)]
    if ignored {
        ignore_hangup();
    }
    Ok(())
}

/// Ignores SIGHUP; returns whether it was ignored before.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the system's interface to signals")]
fn ignore_hangup() -> bool {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no code runs in the signal's place.
    let before = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    matches!(before, Ok(SigHandler::SigIgn))
}

/// What clap answers to a command without its arguments: the help, on standard error.
const HELP_INSTEAD: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// Clap's message on one line. Who looks for an option of a run finds how its keys are set, in the place of clap's tip.
fn refusal(error: &clap::Error) -> String {
    let message = one_line(&error.to_string());
    let command = std::env::args_os().nth(1).unwrap_or_default();
    let takes_keys = command == "train" || command == "study";
    if error.kind() != ErrorKind::UnknownArgument || !takes_keys {
        return message;
    }
    let message = message.split("; tip: to pass").next().unwrap_or_default();
    let example = if command == "train" { "iterations=500" } else { "settings.policy.variance=0.1" };
    format!("{message}; keys of the configuration are set by --set KEY=VALUE, such as --set {example}")
}

/// Clap's message and its tips without the usage, on one line.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut joined = String::new();
    for line in
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
    {
        let separator = match joined.chars().last() {
            None => "",
            Some(':' | ',') => " ",
            Some(_) => "; ",
        };
        joined.push_str(separator);
        joined.push_str(line);
    }
    joined
}

/// One line on standard error.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    print_message(format_args!("error: {}", format!("{error:#}").replace('\n', " ")));
    ExitCode::from(code)
}

/// Prints a line on standard error; a run does not end because nobody reads its messages.
pub(crate) fn print_message(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Why something that belongs on standard output is not there.
static UNPRINTED: OnceLock<String> = OnceLock::new();

/// Prints a line on standard output; a closed pipe is no error, a full disk is one at the end.
pub(crate) fn print_line(line: impl std::fmt::Display) {
    use std::io::Write;
    let mut output = std::io::stdout();
    if let Err(error) = writeln!(output, "{line}").and_then(|()| output.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        UNPRINTED.get_or_init(|| error.to_string());
    }
}

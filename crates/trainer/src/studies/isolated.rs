//! Runs in processes of their own.
//!
//! The peak of memory belongs to a process, not to a thread. So a study that asks for it has each run made by
//! `rtpg train`, whose `summary.json` then says how much memory the run took; its results are the same otherwise.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy_nets::files::write_atomically;

use super::execution::{resume, warn};
use super::{Event, PlannedRun, StudyError, StudyFolder};
use crate::device::SelectedDevice;
use crate::metrics;
use crate::run::{Ending, Summary};

/// Time between two looks at a process.
const PAUSE: Duration = Duration::from_millis(20);
/// The variable of a run's environment that holds the number of its study's process.
const STUDY_PROCESS: &str = "RTPG_STUDY_PROCESS";
const SUMMARY: &str = "summary.json";
/// Exit codes of `rtpg train`: it failed; it was stopped and can go on; its input was refused.
const FAILED: i32 = 1;
const STOPPED: i32 = 130;
const REFUSED: i32 = 2;

/// Makes one run or goes on with it; false when it was stopped before its end.
pub(super) fn make(
    program: &Path,
    planned: &PlannedRun,
    folder: &StudyFolder,
    device: &SelectedDevice,
    stop: &AtomicBool,
    told: &Mutex<BTreeSet<String>>,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<bool, StudyError> {
    let path = folder.run(planned);
    // Looked at here first, with the study's configuration: whether it can go on is not decided by what its folder says.
    let resumed = resume(planned, folder, device, observe)?;
    let made = resumed.as_ref().map(|run| planned.trajectories_until(run.trainer().progress().iteration));
    // Gives the folder free.
    drop(resumed);
    // What it says of how the run ended is to be of this attempt.
    if path.join(SUMMARY).is_file() {
        fs_err::remove_file(path.join(SUMMARY))?;
    }
    let (status, message, asked) = if made.is_some() {
        finish(Command::new(program).args(["train", "--resume"]).arg(&path), stop)?
    } else {
        planned.check_start()?;
        let file = path.with_extension("toml");
        write_atomically(&file, planned.config.to_toml().as_bytes())?;
        let outcome = finish(Command::new(program).arg("train").arg(&file).arg("--out").arg(&path), stop);
        fs_err::remove_file(&file)?;
        outcome?
    };
    // What the process itself says of its iterations is not read.
    for row in metrics::read(&path.join("metrics.csv")).unwrap_or_default() {
        warn(planned, &row, told, observe);
    }
    match status.code() {
        Some(0) => {
            folder.complete(planned, None)?;
            let made = made.unwrap_or_default();
            observe(Event::Found(made));
            observe(Event::Trajectories(planned.trajectories() - made));
            Ok(true)
        }
        Some(STOPPED) => Ok(false),
        // Before it could listen to what it was asked.
        None if asked => Ok(false),
        Some(FAILED) if ending(&path) == Some(Ending::Diverged) => {
            observe(Event::Found(planned.trajectories()));
            observe(Event::Notice(&format!("{}: {message}", planned.name)));
            folder.complete(planned, Some(message))?;
            Ok(true)
        }
        _ => {
            let reason = if message.is_empty() { status.to_string() } else { message };
            let input = status.code() == Some(REFUSED);
            Err(StudyError::Isolated { run: planned.name.clone(), reason, input })
        }
    }
}

/// How a run says that it ended.
fn ending(run: &Path) -> Option<Ending> {
    Some(Summary::read(&run.join(SUMMARY))?.ending)
}

/// Runs a command to its end, or asks it to stop when `stop` turns true; returns how it ended, what it says was wrong, and
/// whether it was asked.
fn finish(command: &mut Command, stop: &AtomicBool) -> Result<(ExitStatus, String, bool), StudyError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env(STUDY_PROCESS, std::process::id().to_string());
    // In a group of its own, so that Ctrl-C reaches it once, from here.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child = command.spawn().map_err(|error| {
        let program = Path::new(command.get_program()).display();
        std::io::Error::new(error.kind(), format!("failed to start {program}: {error}"))
    })?;
    let _listed = Listed::new(child.id());
    let mut stderr = child.stderr.take();
    // Read all the time: a full pipe would hold the process.
    let reader = std::thread::spawn(move || {
        let mut text = vec![];
        if let Some(stderr) = &mut stderr {
            // What was read before an error still tells more than nothing.
            let _ = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut asked = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if stop.load(Ordering::Relaxed) && !asked {
            asked = true;
            interrupt(&mut child)?;
        }
        std::thread::sleep(PAUSE);
    };
    let text = reader.join().unwrap_or_default();
    let message = text.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
    Ok((status, message.to_owned(), asked))
}

/// Asks a run to save what it needs and to end; where that cannot be asked, ends it, and it goes on from its last checkpoint.
fn interrupt(child: &mut Child) -> Result<(), StudyError> {
    if !interrupt_process(child.id()) {
        child.kill()?;
    }
    Ok(())
}

#[cfg(unix)]
fn interrupt_process(process: u32) -> bool {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    i32::try_from(process).is_ok_and(|process| kill(Pid::from_raw(process), Signal::SIGINT).is_ok())
}

#[cfg(not(unix))]
fn interrupt_process(_: u32) -> bool {
    false
}

/// The processes of runs that are under way.
static PROCESSES: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn processes() -> MutexGuard<'static, BTreeSet<u32>> {
    PROCESSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that is listed for as long as this value lives.
struct Listed(u32);

impl Listed {
    fn new(process: u32) -> Self {
        processes().insert(process);
        Self(process)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        processes().remove(&self.0);
    }
}

/// Asks every run that has a process of its own to save what it needs and to end, for a study that does not wait for them.
pub fn interrupt_runs() {
    for process in &*processes() {
        interrupt_process(*process);
    }
}

/// Whether this process is a run of a study. Then it is asked to end more than once: by the study, once more when that does not wait
/// for it, and by the system when the study is gone.
pub fn is_run_of_study() -> bool {
    std::env::var_os(STUDY_PROCESS).is_some()
}

/// Has this process, a run of a study, asked by SIGTERM to save what it needs and to end when the study is gone, however that was
/// ended. Only Linux does.
#[cfg(target_os = "linux")]
pub fn end_with_study() {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::{Signal, raise};
    let study = std::env::var(STUDY_PROCESS).ok().and_then(|text| text.parse::<i32>().ok());
    let Some(study) = study else { return };
    let is_gone = || nix::unistd::getppid().as_raw() != study;
    let asked =
        set_pdeathsig(Signal::SIGTERM).and_then(|()| if is_gone() { raise(Signal::SIGTERM) } else { Ok(()) });
    if let Err(error) = asked {
        tracing::debug!("the run does not end with its study: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub fn end_with_study() {}

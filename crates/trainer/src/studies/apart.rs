//! Runs in processes of their own.
//!
//! The peak of memory belongs to a process, not to a thread. So a study that asks for it has each run made by
//! `rtpg train`, whose `summary.json` then says how much memory the run took; its results are the same otherwise.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use policy_nets::tensor_file::write_atomically;

use super::folder::State;
use super::{Event, PlannedRun, StudyError, StudyFolder};
use crate::recovery::recover;
use crate::run_folder::RunFolder;
use crate::training::TrainError;

/// Time between two looks at a process.
const PAUSE: Duration = Duration::from_millis(20);
/// Exit codes of `rtpg train`: it was stopped and can go on; its input was refused.
const STOPPED: i32 = 130;
const REFUSED: i32 = 2;

/// Makes one run or goes on with it; false when it was stopped before its end.
pub(super) fn make(
    program: &Path,
    planned: &PlannedRun,
    folder: &StudyFolder,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<bool, StudyError> {
    let path = folder.run(planned);
    let mut begun = matches!(folder.state(planned), State::Begun);
    if begun
        && let Err(error) = RunFolder::open(&path).map_err(TrainError::from).and_then(|run| recover(&run))
    {
        if !error.is_damage() {
            return Err(StudyError::Run { run: planned.name.clone(), source: Box::new(error) });
        }
        observe(Event::Notice(&format!("{}: {error}; the run is made again", planned.name)));
        folder.remove(planned)?;
        begun = false;
    }
    let (status, message) = if begun {
        finish(Command::new(program).args(["train", "--resume"]).arg(&path), stop)?
    } else {
        let file = path.with_extension("toml");
        write_atomically(&file, planned.config.to_toml().as_bytes())?;
        let outcome = finish(Command::new(program).arg("train").arg(&file).arg("--out").arg(&path), stop);
        fs_err::remove_file(&file)?;
        outcome?
    };
    match status.code() {
        Some(0) => {
            folder.complete(planned, None)?;
            observe(Event::Trajectories(planned.trajectories()));
            Ok(true)
        }
        Some(STOPPED) => Ok(false),
        _ => {
            let reason = if message.is_empty() { status.to_string() } else { message };
            let input = status.code() == Some(REFUSED);
            Err(StudyError::Apart { run: planned.name.clone(), reason, input })
        }
    }
}

/// Runs a command to its end, or asks it to stop when `stop` turns true; returns how it ended, and what it says was wrong.
fn finish(command: &mut Command, stop: &AtomicBool) -> Result<(ExitStatus, String), StudyError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // In a group of its own, so that Ctrl-C reaches it once, from here.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child = command.spawn()?;
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
    Ok((status, message.to_owned()))
}

/// Asks a run to save what it needs and to end; where that cannot be asked, ends it, and it goes on from its last checkpoint.
fn interrupt(child: &mut Child) -> Result<(), StudyError> {
    let asked = Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status();
    if !asked.is_ok_and(|status| status.success()) {
        child.kill()?;
    }
    Ok(())
}

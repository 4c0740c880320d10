//! Making the runs of a study.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use environments::registry;

use super::folder::State;
use super::workers::on_threads;
use super::{Plan, PlannedRun, StudyError, StudyFolder, isolated};
use crate::device::{self, SelectedDevice};
use crate::memory::{self, format_bytes};
use crate::metrics::MetricsRow;
use crate::panics;
use crate::run::{Ending, Run};
use crate::run_folder::RunFolder;
use crate::training::{TrainError, Trainer, memory_need};
use crate::warnings::Flag;

/// How the runs went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// Runs that were there already.
    pub found: usize,
    /// Runs made by this call.
    pub made: usize,
    /// Runs that a stop left unfinished.
    pub left: usize,
}

/// Who makes the runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Runs made at the same time.
    pub count: usize,
    /// The program `rtpg`, when each run is to have a process of its own; else all are made in this one.
    pub program: Option<PathBuf>,
}

/// What happens while a study runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// So many fresh trajectories more, of those that [`PlannedRun::trajectories`] counts.
    Trajectories(u64),
    /// So many of them need not be sampled: an earlier call did, or their run has ended without them.
    Found(u64),
    /// A run is there, made or found.
    Finished(&'a PlannedRun),
    /// Something that the user should know.
    Notice(&'a str),
}

/// Makes every run of the plan that is not there yet, `workers.count` at a time. When `stop` turns true, every run saves
/// what it needs to go on, and the next call continues there.
///
/// A run whose estimate stops being finite is a result like others, and is marked as failed.
///
/// # Errors
/// The first error that another attempt would meet again; runs that are finished stay.
pub fn execute(
    plan: &Plan,
    folder: &StudyFolder,
    workers: &Workers,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Execution, StudyError> {
    let mut pending = vec![];
    let mut execution = Execution::default();
    for run in &plan.runs {
        match folder.state(run) {
            State::Done(..) => {
                execution.found += 1;
                observe(Event::Found(run.trajectories()));
                observe(Event::Finished(run));
                continue;
            }
            State::Closed(error) => return Err(error),
            State::Damaged(reason) => {
                observe(Event::Notice(&format!("{}: {reason}; the run is made again", run.name)));
                folder.remove(run)?;
            }
            State::Begun | State::Absent => {}
        }
        pending.push(run);
    }
    let Some(first) = pending.first() else { return Ok(execution) };
    let device = device::select(&first.config.device)?;
    let count = workers.count.clamp(1, pending.len());
    let count = at_a_time(&pending, count, workers.program.is_some(), &device, observe);

    let next = AtomicUsize::new(0);
    let (made, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let told = Mutex::new(BTreeSet::new());
    let work = || {
        while let Some(run) = pending.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let outcome = panics::catch(|| match &workers.program {
                Some(program) => isolated::make(program, run, folder, &device, stop, &told, observe),
                None => make(run, folder, &device, stop, &told, observe),
            });
            match outcome.unwrap_or_else(|message| Err(panicked(run, message))) {
                Ok(true) => {
                    made.fetch_add(1, Ordering::Relaxed);
                    observe(Event::Finished(run));
                }
                Ok(false) => return,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                    return;
                }
            }
        }
    };
    on_threads(count, work, observe);
    execution.made = made.into_inner();
    execution.left = pending.len() - execution.made;
    match failure.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => Ok(execution),
    }
}

/// How many of `wanted` runs memory has room for at the same time, whichever they are, but one at least: what one alone needs
/// is checked when it starts.
fn at_a_time(
    pending: &[&PlannedRun],
    wanted: usize,
    isolated: bool,
    device: &SelectedDevice,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> usize {
    let Some(available) = memory::available() else { return wanted };
    let need = |run: &&PlannedRun| {
        // A run in an environment that is not there ends when it starts.
        let Ok(entry) = registry::find(&run.config.environment.name) else { return 0.0 };
        let need = memory_need(&run.config, entry, device, run.config.threads);
        if isolated { need.total() } else { need.beside_the_program() }
    };
    let mut needs: Vec<_> = pending.iter().map(need).collect();
    needs.sort_by(|one, other| other.total_cmp(one));
    // A run that starts looks for room for the program as well.
    let room = if isolated { available } else { available - memory::PROGRAM };
    let count = room_for(&needs, wanted, room);
    if count < wanted {
        let together = format_bytes(needs[..wanted].iter().sum());
        observe(Event::Notice(&format!(
            "{count} of {wanted} runs are made at the same time: all need up to {together} of memory together, but {} are \
             available",
            format_bytes(available)
        )));
    }
    count
}

/// How many of the largest needs, which come first, `available` has room for: at most `wanted`, at least 1.
fn room_for(needs: &[f64], wanted: usize, available: f64) -> usize {
    let mut left = available;
    let fitting = needs.iter().take(wanted).take_while(|need| {
        left -= **need;
        left >= 0.0
    });
    fitting.count().max(1)
}

fn panicked(planned: &PlannedRun, message: String) -> StudyError {
    StudyError::Panicked { run: planned.name.clone(), message }
}

/// Tells of each kind of trouble once in a study; every run's own metrics have the rest.
pub(super) fn warn(
    planned: &PlannedRun,
    row: &MetricsRow,
    told: &Mutex<BTreeSet<String>>,
    observe: &(dyn Fn(Event<'_>) + Sync),
) {
    for flag in row.flags.split_whitespace() {
        if told.lock().is_ok_and(|mut told| told.insert(flag.to_owned())) {
            observe(Event::Notice(&format!(
                "{}, iteration {}: {}; other runs that show it are marked by `{flag}` in the column `flags` of their \
                 metrics.csv",
                planned.name,
                row.iteration,
                Flag::from_name(flag).map_or("", Flag::advice)
            )));
        }
    }
}

/// A run that was begun, ready to go on, with the study's configuration in its folder; one that is damaged is removed, since
/// it will be made again.
pub(super) fn resume(
    planned: &PlannedRun,
    folder: &StudyFolder,
    device: &SelectedDevice,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Option<Run>, StudyError> {
    if !matches!(folder.state(planned), State::Begun) {
        return Ok(None);
    }
    let resumed = RunFolder::open(&folder.run(planned)).map_err(TrainError::from).and_then(|run_folder| {
        let mut trainer = Trainer::new(&planned.config, device)?;
        trainer.refuse_changes();
        Run::resume_prepared(trainer, device, run_folder)
    });
    match resumed {
        Ok(run) => Ok(Some(run)),
        Err(error) if error.is_damage() => {
            observe(Event::Notice(&format!("{}: {error}; the run is made again", planned.name)));
            folder.remove(planned)?;
            Ok(None)
        }
        Err(error) => Err(StudyError::Run { run: planned.name.clone(), source: Box::new(error) }),
    }
}

/// Makes one run or goes on with it; false when it was stopped before its end.
fn make(
    planned: &PlannedRun,
    folder: &StudyFolder,
    device: &SelectedDevice,
    stop: &AtomicBool,
    told: &Mutex<BTreeSet<String>>,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<bool, StudyError> {
    let failed = |source: TrainError| StudyError::Run { run: planned.name.clone(), source: Box::new(source) };
    let mut run = if let Some(run) = resume(planned, folder, device, observe)? {
        run
    } else {
        planned.check_start()?;
        let path = folder.run(planned);
        let run_folder = RunFolder::create(&path, false).map_err(TrainError::from).map_err(failed)?;
        Run::start(&planned.config, device, run_folder).map_err(failed)?
    };
    let mut seen = planned.trajectories_until(run.trainer().progress().iteration);
    observe(Event::Found(seen));
    run.keep_quiet();
    let outcome = run.train(stop, |row| {
        warn(planned, row, told, observe);
        let reached = planned.trajectories_until(row.iteration);
        observe(Event::Trajectories(reached - seen));
        seen = reached;
    });
    match outcome {
        Ok(summary) if summary.ending == Ending::Stopped => return Ok(false),
        Ok(_) => folder.complete(planned, None)?,
        Err(error) if error.is_divergence() => {
            observe(Event::Found(planned.trajectories() - seen));
            observe(Event::Notice(&format!("{}: {error}", planned.name)));
            folder.complete(planned, Some(error.to_string()))?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::room_for;

    #[test]
    fn as_many_runs_at_a_time_as_memory_holds() {
        let needs = [4.0, 3.0, 3.0, 1.0];
        for (wanted, available, count) in [(4, 11.0, 4), (4, 10.9, 3), (2, 11.0, 2), (3, 6.9, 1), (3, 1.0, 1)]
        {
            assert_eq!(room_for(&needs, wanted, available), count, "{wanted} in {available}");
        }
    }
}

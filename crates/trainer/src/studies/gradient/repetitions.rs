//! Repetitions of estimates, on several threads, and kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rows::RowFile;
use super::{Event, StudyError};
use crate::config::Config;
use crate::panics;
use crate::studies::workers::on_threads;
use crate::training::TrainError;

/// What a killed process loses at most; one that is stopped loses nothing.
const SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Estimates of one kind, each from trajectories of its own.
pub(super) struct Task {
    /// What messages call it.
    pub(super) name: String,
    /// The configuration of its algorithm.
    pub(super) config: Config,
    /// Parameters that it samples from.
    pub(super) length: usize,
    /// Number of repetitions.
    pub(super) count: u32,
    /// Number of the seed of the first.
    pub(super) first_seed: u32,
    /// Trajectories of each.
    pub(super) trajectories: usize,
    pub(super) kept: Mutex<Kept>,
}

/// Estimates that are there.
pub(super) struct Kept {
    file: RowFile,
    /// Those of the first repetitions.
    rows: Vec<Vec<f64>>,
    /// Those behind one that is under way, by number.
    ahead: BTreeMap<u32, Vec<f64>>,
    /// How many of `rows` are in the file.
    saved: usize,
    /// When they were written.
    saved_at: Instant,
}

impl Task {
    /// Repetitions that are there, of those that are asked for.
    pub(super) fn found(&self) -> u32 {
        self.count.min(lock(&self.kept).rows.len() as u32)
    }

    /// An error in it.
    pub(super) fn failed(&self, source: TrainError) -> StudyError {
        StudyError::Run { run: self.name.clone(), source: Box::new(source) }
    }

    /// Keeps an estimate; writes all of them after the last one, and when it is time to.
    fn keep(&self, repetition: u32, row: Vec<f64>) -> Result<(), StudyError> {
        let mut kept = lock(&self.kept);
        let Kept { rows, ahead, .. } = &mut *kept;
        ahead.insert(repetition, row);
        while let Some(row) = ahead.remove(&(rows.len() as u32)) {
            rows.push(row);
        }
        if kept.rows.len() == self.count as usize || kept.saved_at.elapsed() > SAVE_INTERVAL {
            kept.save()?;
        }
        Ok(())
    }

    /// The estimates that are asked for; `None` when some are missing.
    pub(super) fn estimates(self) -> Option<Vec<Vec<f64>>> {
        let mut rows = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner).rows;
        let complete = rows.len() >= self.count as usize;
        rows.truncate(self.count as usize);
        complete.then_some(rows)
    }
}

impl Kept {
    /// The first estimates, `rows`, as they stand in `file`.
    pub(super) fn new(file: RowFile, rows: Vec<Vec<f64>>) -> Self {
        Self { saved: rows.len(), file, rows, ahead: BTreeMap::new(), saved_at: Instant::now() }
    }

    fn save(&mut self) -> Result<(), StudyError> {
        if self.saved < self.rows.len() {
            self.file.write(&self.rows)?;
            self.saved = self.rows.len();
        }
        self.saved_at = Instant::now();
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the repetitions that are missing, on `jobs` threads; each thread estimates by what `estimator` makes for it. When
/// `stop` turns true, or at an error, those that are under way end, and what is there is written.
///
/// # Errors
/// The error of the first repetition, in the order of the tasks, that has one.
pub(super) fn take<E>(
    tasks: &[Task],
    jobs: usize,
    estimator: impl Fn() -> E + Sync,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<(), StudyError>
where
    E: FnMut(&Task, u32) -> Result<Vec<f64>, StudyError>,
{
    let missing = |task: &Task| task.found()..task.count;
    let count: usize = tasks.iter().map(|task| missing(task).len()).sum();
    let repetitions = tasks.iter().flat_map(|task| missing(task).map(move |repetition| (task, repetition)));
    let next = Mutex::new(repetitions.enumerate());
    let failure: Mutex<Option<(usize, StudyError)>> = Mutex::new(None);
    let work = || {
        let mut estimate = estimator();
        while !stop.load(Ordering::Relaxed) && lock(&failure).is_none() {
            let Some((number, (task, repetition))) = lock(&next).next() else { return };
            let mut attempt = || {
                let row = estimate(task, repetition)?;
                if let Some(component) = row.iter().position(|value| !value.is_finite()) {
                    let (name, value) = (task.name.clone(), row[component]);
                    return Err(StudyError::NotFinite { name, repetition: repetition + 1, component, value });
                }
                task.keep(repetition, row)?;
                observe(Event::Trajectories(task.trajectories as u64));
                Ok(())
            };
            // All before it have begun, so that the first to fail does not depend on the number of threads.
            let panicked = |message| Err(StudyError::Panicked { run: task.name.clone(), message });
            if let Err(error) = panics::catch(&mut attempt).unwrap_or_else(panicked) {
                let mut failure = lock(&failure);
                if failure.as_ref().is_none_or(|(first, _)| number < *first) {
                    *failure = Some((number, error));
                }
            }
        }
    };
    if count > 0 {
        on_threads(jobs.min(count), work, observe);
    }
    let saved: Vec<_> = tasks.iter().map(|task| lock(&task.kept).save()).collect();
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => saved.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Source, load};
    use crate::studies::{StudyFolder, load as load_study};

    /// The folder of a study, and a configuration.
    fn study(path: &Path) -> (StudyFolder, Config) {
        let definition = load_study("coefficients", &[]).unwrap().1;
        let config = load(&Source::Preset("lqr".to_owned()), &[]).unwrap();
        (StudyFolder::open(path, &definition).unwrap(), config)
    }

    fn task(name: &str, config: Config, count: u32, file: RowFile) -> Task {
        let kept = Mutex::new(Kept::new(file, vec![]));
        Task { name: name.to_owned(), config, length: 1, count, first_seed: 0, trajectories: 5, kept }
    }

    #[test]
    fn an_estimate_that_is_not_finite_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, config) = study(scratch.path());
        let file = || RowFile::new(&folder, "label", "lqr", "key");
        let task = task("RT-PG on lqr", config, 9, file());
        let estimator = || |_: &Task, number: u32| Ok(vec![1.0, if number == 3 { f64::NAN } else { 2.0 }]);
        let error = take(&[task], 1, estimator, &AtomicBool::new(false), &|_| ()).unwrap_err();
        let expected =
            "repetition 4 of RT-PG on lqr: component 1 of the gradient is NaN; those before it are kept";
        assert_eq!(error.to_string(), expected);
        assert_eq!(file().read(2, &|event| panic!("{event:?}")).unwrap().len(), 3);
    }

    #[test]
    fn estimates_are_written_in_order_and_from_time_to_time() {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, config) = study(scratch.path());
        let file = || RowFile::new(&folder, "label", "lqr", "key");
        let written = || file().read(1, &|event| panic!("{event:?}")).unwrap();
        let task = task("task", config, 100, file());
        let row = |number: u32| vec![f64::from(number)];
        for number in [0, 2, 3] {
            task.keep(number, row(number)).unwrap();
        }
        assert!(written().is_empty());
        lock(&task.kept).saved_at -= 2 * SAVE_INTERVAL;
        task.keep(4, row(4)).unwrap();
        assert_eq!(written(), [row(0)]);
        task.keep(1, row(1)).unwrap();
        assert_eq!(written(), [row(0)], "it is not yet time");
        lock(&task.kept).save().unwrap();
        assert_eq!(written(), [0, 1, 2, 3, 4].map(row));
        assert_eq!(task.found(), 5);
        assert_eq!(task.estimates(), None);
    }
}

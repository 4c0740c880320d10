//! A run in its folder: metrics, policies, checkpoints, figures, summary.

mod summary;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use policy_nets::PolicyState;
use policy_nets::files::write_atomically;
use policy_nets::tensor_file::StoredFloat;

pub use self::summary::{Ending, Summary};
use crate::config::Config;
use crate::device::SelectedDevice;
use crate::figures;
use crate::memory;
use crate::metrics::{self, MetricsRow};
use crate::panics;
use crate::phases::Phase;
use crate::recovery::{Recovered, recover};
use crate::rescue;
use crate::run_folder::{MetricsWriter, RunFolder};
use crate::training::{TrainError, Trainer};
use crate::warnings::{self, Flag, Watch};

/// Iterations over which the final return is averaged.
pub const FINAL_ITERATIONS: usize = 50;

/// Seconds between checkpoints for each second that one takes, at least, where they are due by time: 2 percent.
const CHECKPOINT_SHARE: f64 = 50.0;

/// A run with its folder open. Its memory does not grow with the iterations.
pub struct Run {
    trainer: Trainer,
    folder: RunFolder,
    writer: MetricsWriter,
    device: String,
    steps_before: u64,
    started: Instant,
    last_checkpoint: (Instant, u32),
    checkpoint_seconds: f64,
    alone: bool,
    watch: Watch,
    speaks: bool,
    unstable_total: u64,
    /// Returns of the last [`FINAL_ITERATIONS`] iterations.
    last_returns: VecDeque<f64>,
    made_again: u32,
}

impl Run {
    /// Starts a run in an empty folder.
    ///
    /// # Errors
    /// What [`Trainer::new`] or the file system refuse.
    pub fn start(config: &Config, device: &SelectedDevice, folder: RunFolder) -> Result<Self, TrainError> {
        let mut trainer = Trainer::new(config, device)?;
        trainer.load_start()?;
        Self::start_prepared(trainer, device, folder)
    }

    /// Starts a run that is prepared already: whoever empties a folder for it knows by then that it can start.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn start_prepared(
        trainer: Trainer,
        device: &SelectedDevice,
        mut folder: RunFolder,
    ) -> Result<Self, TrainError> {
        folder.lock()?;
        folder.write_config(trainer.config())?;
        let mut run = Self::assemble(trainer, device, folder, &[])?;
        // From here on, a run that is killed can go on.
        run.checkpoint()?;
        Ok(run)
    }

    /// Goes on with the run in `folder`; `config` is the folder's own, perhaps with more iterations. A run that was
    /// killed before it recorded anything starts. When the newest checkpoint is damaged, the one before is taken.
    ///
    /// # Errors
    /// A missing or damaged checkpoint without one before it, one of another configuration, or a folder in use.
    pub fn resume(config: &Config, device: &SelectedDevice, folder: RunFolder) -> Result<Self, TrainError> {
        Self::resume_prepared(Trainer::new(config, device)?, device, folder)
    }

    /// Goes on with the run in `folder` with a trainer that has made no iteration yet.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_prepared(
        mut trainer: Trainer,
        device: &SelectedDevice,
        mut folder: RunFolder,
    ) -> Result<Self, TrainError> {
        folder.lock()?;
        if !folder.has_checkpoint()? && folder.records_nothing()? {
            folder.remove_leftovers()?;
            trainer.load_start()?;
            return Self::start_prepared(trainer, device, folder);
        }
        let recovered = recover(&folder)?;
        trainer.restore(&recovered.checkpoint)?;
        let (asked, made) = (trainer.config().iterations, recovered.recorded);
        if asked < made {
            return Err(TrainError::Options(format!(
                "iterations is {asked}, but {} has made {made} already; a run that is resumed can only go on",
                folder.path().display()
            )));
        }
        recovered.accept(&folder)?;
        let Recovered { checkpoint, rows, .. } = recovered;
        let digest = checkpoint.progress.metrics.clone();
        drop(checkpoint);
        // The first version's checkpoints do not hold the best policy.
        if !trainer.has_best_policy()
            && trainer.progress().best_score.is_some()
            && folder.best_policy().is_file()
        {
            trainer.set_best_policy(PolicyState::load(&folder.best_policy())?);
        }
        if let Some(row) = rows.last() {
            trainer.set_last_row(row.clone());
        }
        if !trainer.has_best_policy() && folder.best_policy().is_file() {
            // Of iterations behind the checkpoint, which are made again, perhaps otherwise.
            fs_err::remove_file(folder.best_policy())?;
        }
        folder.remove_leftovers()?;
        folder.write_config(trainer.config())?;
        let mut run = Self::assemble(trainer, device, folder, &rows)?;
        if run.trainer.has_best_policy() {
            run.trainer.best_policy().save(&run.folder.best_policy(), StoredFloat::F32)?;
        }
        if digest != Some(run.writer.digest()) {
            // The rows are written as this version of the program writes them: their hash is another one.
            run.checkpoint()?;
        }
        run.made_again = made - run.trainer.progress().iteration;
        Ok(run)
    }

    /// Recorded iterations that are made again, because the checkpoint that the run goes on from is older.
    pub fn made_again(&self) -> u32 {
        self.made_again
    }

    fn assemble(
        trainer: Trainer,
        device: &SelectedDevice,
        folder: RunFolder,
        rows: &[MetricsRow],
    ) -> Result<Self, TrainError> {
        let progress = trainer.progress().clone();
        let mut watch = Watch::new(trainer.config());
        for row in rows {
            let flags = watch.take(row);
            watch.unseen(&flags);
        }
        let last = rows[rows.len().saturating_sub(FINAL_ITERATIONS)..].iter();
        Ok(Self {
            writer: MetricsWriter::start(&folder.metrics(), rows)?,
            device: format!("{}: {}", device.name, device.reason),
            steps_before: progress.env_steps_total,
            started: Instant::now(),
            last_checkpoint: (Instant::now(), progress.iteration),
            checkpoint_seconds: 0.0,
            alone: false,
            watch,
            speaks: true,
            unstable_total: rows.iter().map(|row| row.unstable).sum(),
            last_returns: last.filter(|row| !row.is_unknown()).map(|row| row.return_mean).collect(),
            made_again: 0,
            trainer,
            folder,
        })
    }

    /// Keeps warnings to the column `flags`, for whoever shows them himself.
    pub fn keep_quiet(&mut self) {
        self.speaks = false;
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Counters and policy.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Says that this process makes no other run, so that its peak of memory is the run's.
    pub fn measure_memory(&mut self) {
        self.alone = true;
    }

    /// Makes the remaining iterations, or stops after the current one when `stop` turns true. Whatever happens, a panic
    /// included, the last good state, the figures and the summary are written before this returns; and when they cannot be,
    /// the state is saved in another folder.
    ///
    /// # Errors
    /// What ended the run.
    pub fn train(
        &mut self,
        stop: &AtomicBool,
        mut observe: impl FnMut(&MetricsRow),
    ) -> Result<Summary, TrainError> {
        self.started = Instant::now();
        let outcome = self.iterate(stop, &mut observe);
        let ending = match &outcome {
            Ok(()) if self.trainer.progress().iteration < self.trainer.config().iterations => Ending::Stopped,
            Ok(()) => Ending::Finished,
            Err(error) if error.is_divergence() => Ending::Diverged,
            Err(_) => Ending::Failed,
        };
        let finished = self.finish(ending);
        let error = match (outcome, finished) {
            (Ok(()), Ok(summary)) => return Ok(summary),
            (Err(error), Ok(_)) => return Err(error),
            (Err(error), Err(_)) | (Ok(()), Err(error)) => error,
        };
        // Whatever could not be written: does the folder hold the state?
        if !self.trainer.is_whole() || self.last_checkpoint.1 == self.trainer.progress().iteration {
            return Err(error);
        }
        Err(self.rescue(error))
    }

    /// Saves the state in another folder; the error then says where.
    fn rescue(&mut self, error: TrainError) -> TrainError {
        let Ok(metrics) = self.writer.contents() else { return error };
        let trainer = &self.trainer;
        let digest = self.writer.digest();
        match panics::catch(|| rescue::save(trainer, self.folder.path(), &metrics, digest)) {
            Ok(Ok(path)) => TrainError::Rescued {
                cause: rescue::describe(&error),
                iteration: trainer.progress().iteration,
                path,
            },
            Ok(Err(_)) | Err(_) => error,
        }
    }

    fn iterate(&mut self, stop: &AtomicBool, observe: &mut dyn FnMut(&MetricsRow)) -> Result<(), TrainError> {
        let (iteration, trainer) = (self.trainer.progress().iteration, &mut self.trainer);
        panics::catch(|| trainer.repeat_failed_evaluation()).unwrap_or_else(|message| {
            Err(TrainError::Panicked { iteration, message: format!("a panic: {message}") })
        })?;
        while self.trainer.progress().iteration < self.trainer.config().iterations {
            let best = self.trainer.progress().best_score;
            let iteration = self.trainer.progress().iteration + 1;
            let trainer = &mut self.trainer;
            let mut row = panics::catch(|| trainer.step()).unwrap_or_else(|message| {
                Err(TrainError::Panicked { iteration, message: format!("a panic: {message}") })
            })?;
            let record = Instant::now();
            let flags = self.watch.take(&row);
            row.flags = warnings::column(&flags);
            self.warn(&row, &flags);
            self.unstable_total += row.unstable;
            if !row.is_unknown() {
                self.last_returns.push_back(row.return_mean);
            }
            if self.last_returns.len() > FINAL_ITERATIONS {
                self.last_returns.pop_front();
            }
            self.writer.append(&row)?;
            if self.trainer.progress().best_score != best {
                self.trainer.best_policy().save(&self.folder.best_policy(), StoredFloat::F32)?;
            }
            observe(&row);
            self.trainer.phases().add(Phase::Record, record.elapsed());
            self.trainer.take_failed_evaluation().map_or(Ok(()), Err)?;
            self.checkpoint_when_due()?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    /// Tells of the first sign of each kind; later ones stand in the metrics only.
    fn warn(&mut self, row: &MetricsRow, flags: &[Flag]) {
        let unseen = self.watch.unseen(flags);
        if !self.speaks {
            return;
        }
        let metrics = self.folder.metrics();
        for flag in unseen {
            tracing::warn!(
                "iteration {}: {}; later iterations that show it are marked by `{}` in the column `flags` of {}",
                row.iteration,
                flag.advice(),
                flag.name(),
                metrics.display()
            );
        }
        if row.unstable > 0 && self.unstable_total == 0 {
            tracing::warn!(
                "iteration {}: {} of {} trajectories ended because their simulation turned unstable; later ones are \
                 counted in the column `unstable` of {} and told of with RTPG_LOG=warn",
                row.iteration,
                row.unstable,
                row.trajectories,
                metrics.display()
            );
        }
        if row.dropped > 0 && self.trainer.progress().dropped_iterations == 1 {
            tracing::warn!(
                "iteration {}: {} trajectories were dropped because of a number that is not finite; later ones are counted \
                 in the column `dropped` of {} and named with RTPG_LOG=debug",
                row.iteration,
                row.dropped,
                metrics.display()
            );
        }
    }

    fn checkpoint_when_due(&mut self) -> Result<(), TrainError> {
        let options = self.trainer.config().checkpoint;
        let iteration = self.trainer.progress().iteration;
        // Where a checkpoint takes long, those that are due by time wait until they take less than a fiftieth of it.
        let interval = options.seconds.max(CHECKPOINT_SHARE * self.checkpoint_seconds);
        let by_time = options.seconds > 0.0 && self.last_checkpoint.0.elapsed().as_secs_f64() >= interval;
        let by_count = options.iterations > 0 && iteration - self.last_checkpoint.1 >= options.iterations;
        if by_time || by_count { self.checkpoint() } else { Ok(()) }
    }

    fn checkpoint(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        self.writer.sync()?;
        let mut checkpoint = self.trainer.checkpoint();
        checkpoint.progress.metrics = Some(self.writer.digest());
        checkpoint.save(&self.folder.checkpoint(), &self.folder.previous_checkpoint())?;
        self.last_checkpoint = (Instant::now(), self.trainer.progress().iteration);
        self.trainer.policy().save(&self.folder.policy(), StoredFloat::F32)?;
        self.checkpoint_seconds = start.elapsed().as_secs_f64();
        self.trainer.phases().add(Phase::Checkpoint, start.elapsed());
        Ok(())
    }

    /// Writes everything that stands at the end of a run, each part whatever becomes of the one before.
    fn finish(&mut self, ending: Ending) -> Result<Summary, TrainError> {
        let wall = self.started.elapsed().as_secs_f64();
        let saved = self.save_state(ending);
        // Before the figures, which may take more than a small run.
        let memory_peak = if self.alone { memory::peak() } else { None };
        let drawn = draw_learning_curve(&self.folder, self.trainer.config());
        let summary = self.summary(ending, wall, memory_peak);
        let written = serde_json::to_string_pretty(&summary)
            .map_err(std::io::Error::other)
            .and_then(|json| write_atomically(&self.folder.summary(), format!("{json}\n").as_bytes()));
        saved?;
        drawn?;
        written?;
        Ok(summary)
    }

    /// Writes the last state and the policies.
    fn save_state(&mut self, ending: Ending) -> Result<(), TrainError> {
        let iteration = self.trainer.progress().iteration;
        let has_failed = matches!(ending, Ending::Failed | Ending::Diverged);
        if self.trainer.is_whole() && (iteration > 0 || has_failed) {
            // A device that is lost may panic when it is read.
            let saved = panics::catch(|| self.checkpoint());
            match saved {
                Ok(saved) => saved?,
                Err(message) if !has_failed => {
                    return Err(TrainError::Panicked { iteration, message: format!("a panic: {message}") });
                }
                Err(_) => {}
            }
        } else {
            // The failed iteration is in the algorithm's memory, so the checkpoint before stays.
            self.writer.sync()?;
            self.trainer.policy().save(&self.folder.policy(), StoredFloat::F32)?;
        }
        // Without one, the last policy is the best known, but for one that ended the run.
        if self.trainer.has_best_policy() || (iteration > 0 && !has_failed) {
            self.trainer.best_policy().save(&self.folder.best_policy(), StoredFloat::F32)?;
        }
        Ok(())
    }

    /// What `summary.json` says, of iterations that took `wall` seconds.
    fn summary(&mut self, ending: Ending, wall: f64, memory_peak: Option<u64>) -> Summary {
        let progress = self.trainer.progress().clone();
        let last = &self.last_returns;
        let config = self.trainer.config();
        let (environment, algorithm, seed) =
            (config.environment.name.clone(), config.algorithm.name().to_owned(), config.seed);
        let threads = self.trainer.thread_count();
        let physics = self.trainer.environment_time().as_secs_f64();
        // A device works while the host goes on, so the time of its roll-outs alone is not known.
        let on_device = self.trainer.rolls_out_on_device();
        let phases = self.trainer.phases();
        let roll_out = if on_device { wall } else { phases.total(Phase::RollOut).as_secs_f64() };
        let steps = progress.env_steps_total - self.steps_before;
        Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ending,
            environment,
            algorithm,
            seed,
            device: self.device.clone(),
            iterations: progress.iteration,
            trajectories_total: progress.trajectories_total,
            env_steps_total: progress.env_steps_total,
            final_return_mean: (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64),
            best_return: progress.best_score,
            seconds_total: progress.seconds_total,
            unstable_total: self.unstable_total,
            dropped_iterations: progress.dropped_iterations,
            env_steps_per_second: if roll_out > 0.0 { steps as f64 / roll_out } else { 0.0 },
            threads,
            physics_seconds: physics,
            physics_share: if wall > 0.0 { physics / (threads as f64 * wall) } else { 0.0 },
            phase_seconds: phases.seconds(),
            memory_need: self.trainer.memory_need().total() as u64,
            memory_peak,
        }
    }
}

/// Draws `learning_curve.svg` and `.png` from the recorded rows; returns whether there are any to draw.
///
/// # Errors
/// Metrics that cannot be read, and what the file system refuses.
pub fn draw_learning_curve(folder: &RunFolder, config: &Config) -> Result<bool, TrainError> {
    let [x, y] = metrics::read_curve(&folder.metrics())?;
    if x.is_empty() {
        return Ok(false);
    }
    let title = format!("{} on {}, seed {}", config.algorithm.name(), config.environment.name, config.seed);
    let figure = figures::learning_curve(&title, &x, &y, FINAL_ITERATIONS);
    figure.write_svg(folder.learning_curve("svg"))?;
    figure.write_png(folder.learning_curve("png"))?;
    Ok(true)
}

#[cfg(test)]
mod tests;

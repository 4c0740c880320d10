//! A run in its folder: metrics, policies, checkpoints, figures, summary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use policy_nets::PolicyState;
use policy_nets::tensor_file::{StoredFloat, write_atomically};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::device::SelectedDevice;
use crate::figures;
use crate::memory;
use crate::metrics::{self, MetricsError, MetricsRow};
use crate::phases::{Phase, PhaseSeconds};
use crate::run_folder::{MetricsWriter, RunFolder};
use crate::training::{TrainError, Trainer};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every iteration was made.
    Finished,
    /// The user asked for a stop; the run can be resumed.
    Stopped,
    /// An error ended the run; the last good state is saved.
    Failed,
}

/// Final figures of a run, `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the program.
    pub version: String,
    /// How the run ended.
    pub ending: Ending,
    /// Environment.
    pub environment: String,
    /// Algorithm.
    pub algorithm: String,
    /// Key of the random streams.
    pub seed: u64,
    /// Device and why it was taken.
    pub device: String,
    /// Iterations made.
    pub iterations: u32,
    /// Fresh trajectories.
    pub trajectories_total: u64,
    /// Environment steps.
    pub env_steps_total: u64,
    /// Mean return of fresh trajectories over the last 50 iterations.
    pub final_return_mean: f64,
    /// Best score so far.
    pub best_return: Option<f64>,
    /// Seconds of all iterations.
    pub seconds_total: f64,
    /// Fresh trajectories that ended because their simulation turned unstable.
    #[serde(default)]
    pub unstable_total: u64,
    /// Environment steps for each second of roll-outs in this process.
    pub env_steps_per_second: f64,
    /// Worker threads.
    #[serde(default)]
    pub threads: usize,
    /// Seconds inside the environments' own resets and steps in this process, summed over threads, evaluation included.
    #[serde(default)]
    pub physics_seconds: f64,
    /// `physics_seconds / (threads * wall-clock seconds of this process's iterations)`: 1 when every thread does nothing but
    /// physics all the time; what the policy, the estimator and idle threads take is missing from it.
    #[serde(default)]
    pub physics_share: f64,
    /// Bytes that the run was reckoned to need: window, batches and estimator.
    #[serde(default)]
    pub memory_need: u64,
    /// The most bytes that the process had at one time, the program included; not known where the system does not tell, and
    /// where several runs share a process.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// Seconds of every phase in this process.
    pub phase_seconds: PhaseSeconds,
}

/// Iterations over which the final return is averaged.
pub const FINAL_ITERATIONS: usize = 50;

/// A run with its folder open.
pub struct Run {
    trainer: Trainer,
    folder: RunFolder,
    rows: Vec<MetricsRow>,
    writer: MetricsWriter,
    device: String,
    steps_before: u64,
    started: Instant,
    last_checkpoint: (Instant, u32),
    alone: bool,
}

impl Run {
    /// Starts a run in an empty folder.
    ///
    /// # Errors
    /// What [`Trainer::new`] or the file system refuse.
    pub fn start(config: &Config, device: &SelectedDevice, folder: RunFolder) -> Result<Self, TrainError> {
        Self::start_prepared(Trainer::new(config, device)?, device, folder)
    }

    /// Starts a run that is prepared already: whoever empties a folder for it knows by then that it can start.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn start_prepared(
        trainer: Trainer,
        device: &SelectedDevice,
        folder: RunFolder,
    ) -> Result<Self, TrainError> {
        folder.write_config(trainer.config())?;
        let mut run = Self::assemble(trainer, device, folder, vec![])?;
        // From here on, a run that is killed can go on.
        run.checkpoint()?;
        Ok(run)
    }

    /// Goes on with the run in `folder`; `config` is the folder's own, perhaps with more iterations. A run that was
    /// killed before it recorded anything starts.
    ///
    /// # Errors
    /// A missing or damaged checkpoint, or one of another configuration.
    pub fn resume(config: &Config, device: &SelectedDevice, folder: RunFolder) -> Result<Self, TrainError> {
        let mut trainer = Trainer::new(config, device)?;
        if !folder.checkpoint().exists() && folder.records_nothing()? {
            return Self::start_prepared(trainer, device, folder);
        }
        let checkpoint = Checkpoint::load(&folder.checkpoint())?;
        trainer.restore(&checkpoint)?;
        if folder.best_policy().is_file() {
            trainer.set_best_policy(PolicyState::load(&folder.best_policy())?);
        }
        let mut rows = metrics::read(&folder.metrics())?;
        let done = checkpoint.progress.iteration;
        rows.retain(|row| row.iteration <= done);
        if let Some(missing) = (1..=done)
            .zip(0..)
            .find(|(iteration, index)| rows.get(*index).is_none_or(|row| row.iteration != *iteration))
        {
            return Err(TrainError::Metrics(MetricsError::Malformed {
                path: folder.metrics(),
                reason: format!(
                    "iteration {} of the {done} that the checkpoint has made is not there",
                    missing.0
                ),
            }));
        }
        folder.remove_leftovers()?;
        folder.write_config(config)?;
        Self::assemble(trainer, device, folder, rows)
    }

    fn assemble(
        trainer: Trainer,
        device: &SelectedDevice,
        folder: RunFolder,
        rows: Vec<MetricsRow>,
    ) -> Result<Self, TrainError> {
        let progress = trainer.progress().clone();
        Ok(Self {
            writer: MetricsWriter::start(&folder.metrics(), &rows)?,
            device: format!("{}: {}", device.name, device.reason),
            steps_before: progress.env_steps_total,
            started: Instant::now(),
            last_checkpoint: (Instant::now(), progress.iteration),
            alone: false,
            trainer,
            folder,
            rows,
        })
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

    /// Makes the remaining iterations, or stops after the current one when `stop` turns true. Whatever happens, the last
    /// good state, the figures and the summary are written before this returns.
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
            Err(_) => Ending::Failed,
        };
        let finished = self.finish(ending);
        outcome?;
        finished
    }

    fn iterate(&mut self, stop: &AtomicBool, observe: &mut dyn FnMut(&MetricsRow)) -> Result<(), TrainError> {
        while self.trainer.progress().iteration < self.trainer.config().iterations {
            let best = self.trainer.progress().best_score;
            let row = self.trainer.step()?;
            let record = Instant::now();
            self.writer.append(&row)?;
            if self.trainer.progress().best_score != best {
                self.trainer.best_policy().save(&self.folder.best_policy(), StoredFloat::F32)?;
            }
            observe(&row);
            self.warn_of_instability(&row);
            self.rows.push(row);
            self.trainer.phases().add(Phase::Record, record.elapsed());
            self.checkpoint_when_due()?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    /// Tells of the first trajectories that turned unstable; later ones are only counted.
    fn warn_of_instability(&self, row: &MetricsRow) {
        if row.unstable > 0 && self.rows.iter().all(|row| row.unstable == 0) {
            tracing::warn!(
                "iteration {}: {} of {} trajectories ended because their simulation turned unstable; later ones are \
                 counted in the column `unstable` of {} and told of with RTPG_LOG=warn",
                row.iteration,
                row.unstable,
                row.trajectories,
                self.folder.metrics().display()
            );
        }
    }

    fn checkpoint_when_due(&mut self) -> Result<(), TrainError> {
        let options = self.trainer.config().checkpoint;
        let iteration = self.trainer.progress().iteration;
        let by_time =
            options.seconds > 0.0 && self.last_checkpoint.0.elapsed().as_secs_f64() >= options.seconds;
        let by_count = options.iterations > 0 && iteration - self.last_checkpoint.1 >= options.iterations;
        if by_time || by_count { self.checkpoint() } else { Ok(()) }
    }

    fn checkpoint(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        self.writer.sync()?;
        self.trainer.checkpoint().save(&self.folder.checkpoint(), StoredFloat::F64)?;
        self.trainer.policy().save(&self.folder.policy(), StoredFloat::F32)?;
        self.last_checkpoint = (Instant::now(), self.trainer.progress().iteration);
        self.trainer.phases().add(Phase::Checkpoint, start.elapsed());
        Ok(())
    }

    /// Writes everything that stands at the end of a run.
    fn finish(&mut self, ending: Ending) -> Result<Summary, TrainError> {
        if ending == Ending::Failed {
            // The failed iteration may already be in the algorithm's memory, so the checkpoint before stays.
            self.writer.sync()?;
            self.trainer.policy().save(&self.folder.policy(), StoredFloat::F32)?;
        } else if self.trainer.progress().iteration > 0 {
            self.checkpoint()?;
            self.trainer.best_policy().save(&self.folder.best_policy(), StoredFloat::F32)?;
        }
        // Before the figures, which may take more than a small run.
        let memory_peak = if self.alone { memory::peak() } else { None };
        draw_learning_curve(&self.folder, &self.rows, self.trainer.config())?;
        let progress = self.trainer.progress().clone();
        let last = &self.rows[self.rows.len().saturating_sub(FINAL_ITERATIONS)..];
        let config = self.trainer.config();
        let (environment, algorithm, seed) =
            (config.environment.name.clone(), config.algorithm.name().to_owned(), config.seed);
        let threads = self.trainer.thread_count();
        let physics = self.trainer.environment_time().as_secs_f64();
        let wall = self.started.elapsed().as_secs_f64();
        // A device works while the host goes on, so the time of its roll-outs alone is not known.
        let on_device = self.trainer.rolls_out_on_device();
        let phases = self.trainer.phases();
        let roll_out = if on_device { wall } else { phases.total(Phase::RollOut).as_secs_f64() };
        let steps = progress.env_steps_total - self.steps_before;
        let summary = Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ending,
            environment,
            algorithm,
            seed,
            device: self.device.clone(),
            iterations: progress.iteration,
            trajectories_total: progress.trajectories_total,
            env_steps_total: progress.env_steps_total,
            final_return_mean: last.iter().map(|row| row.return_mean).sum::<f64>() / last.len().max(1) as f64,
            best_return: progress.best_score,
            seconds_total: progress.seconds_total,
            unstable_total: self.rows.iter().map(|row| row.unstable).sum(),
            env_steps_per_second: if roll_out > 0.0 { steps as f64 / roll_out } else { 0.0 },
            threads,
            physics_seconds: physics,
            physics_share: if wall > 0.0 { physics / (threads as f64 * wall) } else { 0.0 },
            phase_seconds: phases.seconds(),
            memory_need: self.trainer.memory_need().total() as u64,
            memory_peak,
        };
        let json = serde_json::to_string_pretty(&summary).map_err(std::io::Error::other)?;
        write_atomically(&self.folder.summary(), format!("{json}\n").as_bytes())?;
        Ok(summary)
    }
}

/// Draws `learning_curve.svg` and `.png` from recorded rows; without rows there is nothing to draw.
///
/// # Errors
/// What the file system refuses.
pub fn draw_learning_curve(
    folder: &RunFolder,
    rows: &[MetricsRow],
    config: &Config,
) -> Result<(), TrainError> {
    if rows.is_empty() {
        return Ok(());
    }
    let title = format!("{} on {}, seed {}", config.algorithm.name(), config.environment.name, config.seed);
    let x: Vec<f64> = rows.iter().map(|row| row.trajectories_total as f64).collect();
    let y: Vec<f64> = rows.iter().map(|row| row.return_mean).collect();
    let figure = figures::learning_curve(&title, &x, &y, FINAL_ITERATIONS);
    figure.write_svg(folder.learning_curve("svg"))?;
    figure.write_png(folder.learning_curve("png"))?;
    Ok(())
}

//! `rtpg train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trainer::config::{MOST_THREADS, RESUMABLE, Source, load};
use trainer::device::{self, DeviceChoice, SelectedDevice};
use trainer::folder_lock::LockError;
use trainer::run::{Ending, FINAL_ITERATIONS, Run, Summary};
use trainer::run_folder::{RunFolder, RunFolderError, quoted};
use trainer::studies;
use trainer::training::{TrainError, Trainer};

use super::progress::Progress;
use super::{Failure, Outcome, on_interrupt, print_line, print_message};

/// Options of `rtpg train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A preset, or a TOML file (`rtpg list` names the presets; RUN/config.toml repeats a run) [default: cartpole]
    config: Option<String>,
    /// Override a key, such as algorithm.window=4; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Key of every random draw
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(..1 << 63))]
    seed: Option<u64>,
    /// auto, cpu, gpu, gpu:N, or a backend by name
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
    /// Worker threads; 0 takes one for each processor; results do not depend on it
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(..=MOST_THREADS as i64))]
    threads: Option<u32>,
    /// Folder of the run [default: runs/CONFIG-seedS, numbered when it exists]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Remove what an earlier run left in --out
    #[arg(long, requires = "out", conflicts_with = "resume")]
    force: bool,
    /// Go on with the run in DIR
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out", "seed"])]
    resume: Option<PathBuf>,
}

/// Trains, and prints what came of it.
pub(crate) fn run(arguments: Arguments) -> Outcome {
    let mut overrides = arguments.set.clone();
    overrides.extend(arguments.seed.map(|seed| format!("seed={seed}")));
    overrides.extend(arguments.device.as_ref().map(|device| format!("device=\"{device}\"")));
    overrides.extend(arguments.threads.map(|threads| format!("threads={threads}")));

    let stop = Arc::new(AtomicBool::new(false));
    let mut run = match &arguments.resume {
        Some(path) => resume(path, &overrides)?,
        None => start(&arguments, &overrides)?,
    };
    handle_interrupt(&stop)?;
    studies::end_with_study();
    run.measure_memory();

    let total = run.trainer().config().iterations;
    let mut progress = Progress::new(total, run.trainer().progress().iteration);
    let result = run.train(&stop, |row| progress.update(row));
    progress.finish();
    let summary = result.map_err(|error| ended(error, run.folder()))?;
    report(&summary, run.folder());
    if summary.ending == Ending::Stopped { Err(Failure::Stopped) } else { Ok(()) }
}

/// What ended a run before its last iteration, and where its state is.
fn ended(error: TrainError, folder: &RunFolder) -> Failure {
    if error.ends_iterations() {
        let path = folder.path().display();
        return Failure::run(anyhow::anyhow!("{error}; the last good state is saved in {path}"));
    }
    Failure::run(error)
}

fn start(arguments: &Arguments, overrides: &[String]) -> Result<Run, Failure> {
    let text = arguments.config.as_deref().unwrap_or("cartpole");
    if Path::new(text).is_dir() {
        return Err(Failure::input(anyhow::anyhow!(
            "{text} is a folder; go on with a run by --resume {text}, or repeat it by {text}/config.toml"
        )));
    }
    let source = Source::parse(text);
    let config = load(&source, overrides).map_err(Failure::input)?;
    let device = device::select(&config.device).map_err(Failure::input)?;
    // The folder comes last: --force must not empty it for a run that cannot start.
    let mut trainer = Trainer::new(&config, &device)?;
    trainer.load_start()?;
    if let (Some(out), Some(policy)) = (&arguments.out, trainer.start_file())
        && is_inside(&policy, out)
    {
        return Err(Failure::input(anyhow::anyhow!(
            "--out {} holds the policy that policy.start names; name another folder",
            out.display()
        )));
    }
    let folder = match &arguments.out {
        Some(path) => RunFolder::create(path, arguments.force),
        None => default_folder(&source, config.seed),
    };
    let run = Run::start_prepared(trainer, &device, folder.map_err(TrainError::from)?)?;
    announce(&device, &run);
    Ok(run)
}

/// Whether a file that is there lies in a folder, links followed.
fn is_inside(file: &Path, folder: &Path) -> bool {
    match (file.canonicalize(), folder.canonicalize()) {
        (Ok(file), Ok(folder)) => file.starts_with(folder),
        _ => false,
    }
}

fn resume(path: &Path, overrides: &[String]) -> Result<Run, Failure> {
    let folder = RunFolder::open(path).map_err(Failure::input)?;
    if path.join("complete.json").exists() {
        return Err(Failure::input(anyhow::anyhow!(
            "{} is a finished run of a study, which would make it again if it went on; start another run from its policy by \
             --set policy.start={}",
            path.display(),
            quoted(path)
        )));
    }
    check_resumable(overrides)?;
    let config = load(&Source::File(folder.config()), overrides).map_err(Failure::input)?;
    let device = device::select(&config.device).map_err(Failure::input)?;
    let run = Run::resume(&config, &device, folder)?;
    announce(&device, &run);
    let iteration = run.trainer().progress().iteration;
    match run.made_again() {
        0 => tracing::info!("going on after iteration {iteration}"),
        again => tracing::info!(
            "going on after iteration {iteration}, the last that is saved; the {again} recorded after it are made again"
        ),
    }
    Ok(run)
}

fn check_resumable(overrides: &[String]) -> Result<(), Failure> {
    for text in overrides {
        let key = text.split('=').next().unwrap_or_default().trim();
        if !RESUMABLE.contains(&key.split('.').next().unwrap_or_default()) {
            return Err(Failure::input(anyhow::anyhow!(
                "--set {text}: a run that is resumed keeps its `{key}`; only {} may change",
                RESUMABLE.join(", ")
            )));
        }
    }
    Ok(())
}

/// Says which device computes and why, and how much memory the run takes at most.
fn announce(device: &SelectedDevice, run: &Run) {
    tracing::info!("device: {}: {}", device.name, device.reason);
    tracing::info!("memory: {}", run.trainer().memory_need());
}

/// The first free folder of `runs/NAME-seedS`, `runs/NAME-seedS-2`, ...
fn default_folder(source: &Source, seed: u64) -> Result<RunFolder, RunFolderError> {
    let name = match source {
        Source::Preset(name) => name.clone(),
        // RUN/config.toml is named after the run.
        Source::File(path) if path.ends_with("config.toml") => {
            let run = path.parent().and_then(Path::file_name).unwrap_or("config".as_ref());
            without_seed(&run.to_string_lossy()).to_owned()
        }
        Source::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let mut number = 1;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = Path::new("runs").join(format!("{name}-seed{seed}{suffix}"));
        match RunFolder::create(&path, false) {
            Err(RunFolderError::NotEmpty { .. } | RunFolderError::Lock(LockError::InUse { .. })) => {
                number += 1;
            }
            outcome => return outcome,
        }
    }
}

/// The name of a run's folder without what [`default_folder`] added.
fn without_seed(name: &str) -> &str {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once("-seed") {
        Some((front, added))
            if !front.is_empty() && added.split('-').count() <= 2 && added.split('-').all(is_number) =>
        {
            front
        }
        _ => name,
    }
}

/// The first Ctrl-C ends the run after the current iteration; the second ends the process, but for a study's run.
fn handle_interrupt(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let stop = Arc::clone(stop);
    on_interrupt(move || {
        if stop.swap(true, Ordering::Relaxed) {
            if studies::is_run_of_study() {
                return;
            }
            std::process::exit(130);
        }
        print_message("stopping after this iteration; press Ctrl-C again to stop at once");
    })
}

fn report(summary: &Summary, folder: &RunFolder) {
    let ending = match summary.ending {
        Ending::Finished => "finished",
        Ending::Stopped => "stopped",
        Ending::Diverged | Ending::Failed => "failed",
    };
    print_line(format_args!(
        "{ending} after {} iterations, {} trajectories, {:.1} s",
        summary.iterations, summary.trajectories_total, summary.seconds_total
    ));
    let last = FINAL_ITERATIONS.min(summary.iterations as usize);
    if let Some(mean) = summary.final_return_mean {
        print_line(format_args!("mean return of the last {last} iterations: {mean:.2}"));
    }
    if let Some(best) = summary.best_return {
        print_line(format_args!(
            "best return of an evaluation (or, without any, of an iteration): {best:.2}"
        ));
    }
    if summary.unstable_total > 0 {
        print_line(format_args!(
            "{} trajectories ended because their simulation turned unstable",
            summary.unstable_total
        ));
    }
    if summary.dropped_iterations > 0 {
        print_line(format_args!(
            "{} iterations made no update: their batches were dropped because of numbers that are not finite",
            summary.dropped_iterations
        ));
    }
    print_line(format_args!("everything is in {}", folder.path().display()));
    let path = quoted(folder.path());
    if summary.ending == Ending::Stopped {
        print_line(format_args!("go on with: rtpg train --resume {path}"));
    } else {
        print_line(format_args!("look at it with: rtpg evaluate {path}"));
    }
}

#[cfg(test)]
mod tests {
    use super::without_seed;

    #[test]
    fn names_of_runs_lose_their_seed_and_number() {
        for (name, expected) in [
            ("cartpole-seed0", "cartpole"),
            ("half-cheetah-seed17-2", "half-cheetah"),
            ("mine-seed1-2-3", "mine-seed1-2-3"),
            ("mine-seed1-2-final", "mine-seed1-2-final"),
            ("mine-seed", "mine-seed"),
            ("mine-seedling", "mine-seedling"),
            ("-seed3", "-seed3"),
        ] {
            assert_eq!(without_seed(name), expected);
        }
    }
}

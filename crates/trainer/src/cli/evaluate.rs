//! `rtpg evaluate`.

use std::io::Read;
use std::path::{Path, PathBuf};

use environments::drawing::animation;
use environments::registry;
use policy_nets::PolicyState;
use policy_nets::files::write_atomically;
use trainer::config::recorded;
use trainer::evaluation::{Evaluation, Evaluator};
use trainer::logged::Recording;
use trainer::memory::{self, format_bytes};
use trainer::random::Streams;
use trainer::rollout::Mode;
use trainer::run_folder::RunFolder;
use trainer::threads::Threads;
use trainer::trajectories::BatchShape;

use super::{Failure, Outcome, check_target, print_line};

/// Options of `rtpg evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder of a run, or a policy file (then --environment says where it acts)
    #[arg(value_name = "RUN_OR_POLICY")]
    policy: PathBuf,
    /// Number of episodes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Key of the episodes' random draws
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// Sample actions instead of taking their means
    #[arg(long)]
    stochastic: bool,
    /// Take the run's last policy instead of its best one
    #[arg(long)]
    last: bool,
    /// Environment by name; a run knows its own
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// Steps after which an episode is cut off; without it the run's or the environment's own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    horizon: Option<u32>,
    /// With --stochastic: record the trajectories in a file that `rtpg estimate` reads
    #[arg(long, value_name = "FILE", requires = "stochastic")]
    trajectories: Option<PathBuf>,
    /// Draw the first episode as an animated GIF
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

struct Subject {
    path: PathBuf,
    environment: String,
    horizon: Option<usize>,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Document<'a> {
    policy: String,
    environment: &'static str,
    horizon: usize,
    seed: u64,
    stochastic: bool,
    #[serde(flatten)]
    evaluation: Evaluation,
    /// Of every episode, in their order.
    returns: &'a [f64],
}

/// Runs the episodes and prints their returns.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let subject = subject(arguments)?;
    check_targets(arguments)?;
    let policy = PolicyState::load(&subject.path).map_err(Failure::input)?;
    let entry = registry::find(&subject.environment).map_err(Failure::input)?;
    let sizes = (policy.architecture.observation_size, policy.architecture.action_size);
    if sizes != (entry.observation_size, entry.action_size) {
        return Err(Failure::input(anyhow::anyhow!(
            "{}: the policy has {} observation and {} action components, but {} has {} and {}",
            subject.path.display(),
            sizes.0,
            sizes.1,
            entry.name,
            entry.observation_size,
            entry.action_size
        )));
    }
    let horizon =
        arguments.horizon.map(|horizon| horizon as usize).or(subject.horizon).unwrap_or(entry.horizon);
    let shape = BatchShape {
        trajectories: arguments.episodes as usize,
        horizon,
        observation_size: entry.observation_size,
        action_size: entry.action_size,
    };
    let mut needed = memory::of_evaluation(shape, entry.name);
    if arguments.trajectories.is_some() {
        needed += Recording::memory(shape);
    }
    let stride = (FRAME_DURATION / entry.step_duration).round().max(1.0);
    if arguments.gif.is_some() {
        needed += (horizon as f64 / stride).ceil() * FRAME;
    }
    if let Some(available) = memory::available().filter(|available| needed > *available) {
        return Err(Failure::input(anyhow::anyhow!(
            "{} episodes of {horizon} steps take {} of memory{}, but {} are available; lower --episodes or --horizon",
            arguments.episodes,
            format_bytes(needed),
            if arguments.gif.is_some() { ", drawings included" } else { "" },
            format_bytes(available)
        )));
    }
    let threads = Threads::new(0).map_err(Failure::run)?;
    let mut evaluator =
        Evaluator::new(entry, arguments.episodes as usize, horizon, &threads).map_err(Failure::input)?;
    let mode = if arguments.stochastic { Mode::StochasticEvaluation } else { Mode::DeterministicEvaluation };
    let streams = Streams::new(arguments.seed);
    let mut recording = arguments.trajectories.as_ref().map(|_| Recording::new(shape));
    let evaluation = evaluator
        .run_observed(&policy, streams, ITERATION, mode, |episodes| {
            if let Some(recording) = &mut recording {
                recording.push(episodes);
            }
        })
        .map_err(Failure::run)?;
    if arguments.json {
        let document = Document {
            policy: subject.path.display().to_string(),
            environment: entry.name,
            horizon,
            seed: arguments.seed,
            stochastic: arguments.stochastic,
            evaluation,
            returns: evaluator.returns(),
        };
        print_line(serde_json::to_string_pretty(&document).map_err(Failure::run)?);
    } else {
        print(&evaluation, &subject);
    }
    if let (Some(path), Some(recording)) = (&arguments.trajectories, recording) {
        let bytes = recording.into_bytes().map_err(Failure::run)?;
        write_atomically(path, &bytes).map_err(Failure::writing)?;
        if !arguments.json {
            print_line(format_args!("the trajectories are in {}", path.display()));
        }
    }
    if let Some(path) = &arguments.gif {
        let frames = evaluator.film(streams, ITERATION, mode, stride as usize).map_err(Failure::run)?;
        let picture = animation::encode_gif(&frames, 1.0 / (stride * entry.step_duration), PICTURE_SIZE);
        let picture = picture.map_err(Failure::run)?;
        write_atomically(path, &picture).map_err(Failure::writing)?;
        if !arguments.json {
            print_line(format_args!("the first episode is drawn in {}", path.display()));
        }
    }
    Ok(())
}

/// Refuses outputs that cannot be written, or that are one.
fn check_targets(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = arguments.gif.as_deref() {
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("gif")) {
            return Err(Failure::input(anyhow::anyhow!(
                "--gif {}: expected a name that ends in .gif",
                path.display()
            )));
        }
        check_target(path, "gif", "GIF", is_gif)?;
    }
    arguments.trajectories.as_deref().map_or(Ok(()), |path| {
        check_target(path, "trajectories", "recording of trajectories", Recording::is_one)
    })?;
    if let (Some(gif), Some(trajectories)) = (&arguments.gif, &arguments.trajectories)
        && std::path::absolute(gif).map_err(Failure::input)?
            == std::path::absolute(trajectories).map_err(Failure::input)?
    {
        return Err(Failure::input(anyhow::anyhow!(
            "--gif and --trajectories are both {}; name two files",
            gif.display()
        )));
    }
    Ok(())
}

fn is_gif(path: &Path) -> bool {
    let mut start = vec![];
    let read = fs_err::File::open(path).and_then(|file| file.take(4).read_to_end(&mut start));
    read.is_ok() && start == b"GIF8"
}

/// The random streams of evaluations outside a run are keyed with this iteration.
const ITERATION: u32 = 0;

/// Seconds of the simulated world that a picture of an animation stands for, or one step where that is longer.
const FRAME_DURATION: f64 = 0.04;

/// Bytes of a picture while an animation is made, most for Swimmer: its drawing and what it takes in the file, 12 KiB by the peak of memory
/// with and without `--gif` over 3000 steps.
const FRAME: f64 = 16.0 * 1024.0;

/// Width and height of an animation, in pixels.
const PICTURE_SIZE: [u16; 2] = [480, 270];

fn print(evaluation: &Evaluation, subject: &Subject) {
    print_line(format_args!("{} on {}", subject.path.display(), subject.environment));
    let mean = evaluation.return_mean;
    match evaluation.return_interval {
        None => print_line(format_args!("return {mean:.2}")),
        Some(interval) => print_line(format_args!(
            "return {mean:.2} ± {interval:.2} (95 % interval of the mean), standard deviation {:.2}, range {:.2} to {:.2}",
            evaluation.return_std, evaluation.return_min, evaluation.return_max
        )),
    }
    let episodes =
        if evaluation.episodes == 1 { "1 episode" } else { &format!("{} episodes", evaluation.episodes) };
    print_line(format_args!("length {:.1}, {episodes}", evaluation.length_mean));
    if evaluation.unstable > 0 {
        print_line(format_args!("{} episodes ended in an unstable simulation", evaluation.unstable));
    }
}

fn subject(arguments: &Arguments) -> Result<Subject, Failure> {
    let path: &Path = &arguments.policy;
    if path.is_dir() {
        let folder = RunFolder::open(path).map_err(Failure::input)?;
        let config = recorded(&folder.config()).map_err(Failure::input)?;
        let file = if arguments.last { folder.policy() } else { folder.policy_to_take() };
        return Ok(Subject {
            path: file,
            environment: arguments.environment.clone().unwrap_or(config.environment.name),
            horizon: config.environment.horizon,
        });
    }
    if arguments.last && path.is_file() {
        return Err(Failure::input(anyhow::anyhow!(
            "--last goes with the folder of a run, and {} is a policy file; leave it out",
            path.display()
        )));
    }
    match &arguments.environment {
        Some(environment) => {
            Ok(Subject { path: path.to_owned(), environment: environment.clone(), horizon: None })
        }
        None if path.is_file() => Err(Failure::input(anyhow::anyhow!(
            "{} is a policy file: say where it acts by --environment ({})",
            path.display(),
            registry::names().collect::<Vec<_>>().join(", ")
        ))),
        None => Err(Failure::input(anyhow::anyhow!("{}: no such run or policy file", path.display()))),
    }
}

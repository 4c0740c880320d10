//! `rtpg study`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use trainer::device;
use trainer::run_folder::quoted;
use trainer::studies::{self, Event, Execution, Kind, Plan, StudyFolder, Workers, gradient, manifest};

use super::{Failure, Outcome, on_interrupt, print_line, print_message};

/// Options of `rtpg study`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A built-in study (`rtpg list` names them), a TOML file, or the folder of a study, which goes on there
    study: String,
    /// Runs of each algorithm (of a gradient study, repetitions), in place of the study's own number
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=i64::from(studies::MOST_RUNS)))]
    runs: Option<u32>,
    /// Make the runs of the algorithm with this label alone; may be given several times
    #[arg(long, value_name = "LABEL")]
    only: Vec<String>,
    /// Runs made at the same time, each on one thread [default: one for each processor]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Folder of the results; an unfinished study goes on there [default: studies/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the study's TOML and make nothing, as a start for one's own
    #[arg(long)]
    print: bool,
    /// Override a key of the study, such as budget=2000 or settings.policy.variance=0.1; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Arguments {
    /// The command with these arguments, for a shell.
    fn command(&self, out: &Path) -> String {
        let mut words = vec!["rtpg".to_owned(), "study".to_owned(), self.study.clone()];
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if let Some(runs) = self.runs {
            option("--runs", runs.to_string());
        }
        if let Some(jobs) = self.jobs {
            option("--jobs", jobs.to_string());
        }
        self.only.iter().for_each(|label| option("--only", label.clone()));
        self.set.iter().for_each(|setting| option("--set", setting.clone()));
        option("--out", out.display().to_string());
        words.iter().map(|word| quoted(Path::new(word))).collect::<Vec<_>>().join(" ")
    }
}

/// Makes what is not there of the study, and prints its table.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let mut overrides = arguments.set.clone();
    overrides.extend(arguments.runs.map(|runs| format!("runs={runs}")));
    let (study, folder_of_study) = study_of(&arguments.study);
    let (name, definition) = studies::load(&study, &overrides)?;
    if arguments.print {
        // Of a built-in one as it is, with its comments.
        let text =
            studies::built_in().iter().find(|study| overrides.is_empty() && study.name == arguments.study);
        let text = match text {
            Some(study) => study.text.to_owned(),
            None => toml::to_string(&definition).map_err(Failure::run)?,
        };
        print_line(text.trim_end());
        return Ok(());
    }
    let plan = Plan::new(&name, &definition)?;
    if definition.kind == Kind::Gradient && !arguments.only.is_empty() {
        return Err(Failure::input(anyhow::anyhow!(
            "--only goes with studies of the kind `training`; `{name}` compares all its estimates"
        )));
    }
    let asked = if arguments.only.is_empty() { plan.clone() } else { plan.only(&arguments.only)? };
    let total = match definition.kind {
        Kind::Training => asked.runs.iter().map(studies::PlannedRun::trajectories).sum(),
        Kind::Gradient => gradient::trajectories(&name, &definition)?,
    };
    // Before there is a folder of a study that cannot be made.
    let device = match definition.kind {
        Kind::Training => asked.runs.first().map(|run| run.config.device.clone()),
        Kind::Gradient => Some(gradient::device(&name, &definition)?),
    };
    if let Some(device) = device {
        device::select(&device).map_err(Failure::input)?;
    }
    let default_out = || folder_of_study.unwrap_or_else(|| Path::new("studies").join(&name));
    let out = arguments.out.clone().unwrap_or_else(default_out);
    let folder = StudyFolder::open(&out, &definition)?;
    manifest::write(&folder, &plan)?;
    let jobs = arguments
        .jobs
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let program =
        if definition.isolated { Some(std::env::current_exe().map_err(Failure::run)?) } else { None };
    let workers = Workers { count: jobs, program };
    let stop = Arc::new(AtomicBool::new(false));
    handle_interrupt(&stop)?;

    let progress = Progress::new(total, asked.runs.len());
    let observe = |event: Event<'_>| progress.take(event);
    let (table, finished) = match definition.kind {
        Kind::Training => {
            let outcome = studies::execute(&asked, &folder, &workers, &stop, &observe);
            progress.finish();
            let table = studies::report::report(&plan, &folder);
            let execution = outcome?;
            describe(execution);
            match folder.count_others(&plan.runs)? {
                0 => {}
                others => tracing::warn!(
                    "{others} more runs in {} are not counted: --runs counts more of each, and runs of other settings stay \
                     out",
                    folder.file("runs").display()
                ),
            }
            (table?, execution.left == 0)
        }
        Kind::Gradient => {
            let samples = gradient::measure(&name, &definition, &folder, jobs, &stop, &observe);
            progress.finish();
            match samples? {
                Some(samples) => (gradient::report(&definition, &folder, &samples)?, true),
                None => (String::new(), false),
            }
        }
    };
    print_line(table.trim_end());
    print_line(format_args!("everything is in {}", out.display()));
    if finished {
        return Ok(());
    }
    print_line(format_args!("go on with the same command: {}", arguments.command(&out)));
    Err(Failure::Stopped)
}

/// The study that `text` names, and its folder when it is that or the `study.toml` in it.
fn study_of(text: &str) -> (String, Option<PathBuf>) {
    let path = Path::new(text);
    let folder =
        if path.is_dir() { Some(path) } else { path.parent().filter(|_| path.ends_with("study.toml")) };
    match folder.filter(|folder| StudyFolder::is_one(folder)) {
        Some(folder) => (folder.join("study.toml").display().to_string(), Some(folder.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn describe(Execution { found, made, left }: Execution) {
    let unfinished = if left > 0 { format!(", {left} left") } else { String::new() };
    print_line(format_args!("{made} runs made, {found} found{unfinished}"));
}

/// The first Ctrl-C saves every run and ends the study; the second ends the process.
fn handle_interrupt(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let stop = Arc::clone(stop);
    on_interrupt(move || {
        if stop.swap(true, Ordering::Relaxed) {
            studies::interrupt_runs();
            std::process::exit(130);
        }
        print_message("saving the runs that are under way; press Ctrl-C again to stop at once");
    })
}

/// Seconds between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress over all runs, on standard error: a bar on a terminal, elsewhere plain lines.
enum Progress {
    Bar(ProgressBar),
    Lines { total: u64, runs: usize, started: Instant, state: Mutex<Lines> },
}

#[derive(Default)]
struct Lines {
    sampled: u64,
    /// Trajectories that need not be sampled.
    found: u64,
    finished: usize,
    last: Option<Instant>,
}

impl Progress {
    fn new(total: u64, runs: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            let state = Mutex::new(Lines::default());
            return Self::Lines { total, runs, started: Instant::now(), state };
        }
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{bar:30} {percent}% of {len} trajectories  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self::Bar(bar)
    }

    fn take(&self, event: Event<'_>) {
        match (self, event) {
            (Self::Bar(bar), Event::Trajectories(count)) => bar.inc(count),
            (Self::Bar(bar), Event::Found(count)) => {
                bar.inc(count);
                bar.reset_eta();
            }
            (Self::Bar(bar), Event::Notice(text)) => bar.suspend(|| tracing::warn!("{text}")),
            (Self::Lines { .. }, Event::Notice(text)) => tracing::warn!("{text}"),
            (Self::Bar(_), Event::Finished(_)) => {}
            (Self::Lines { total, runs, started, state }, event) => {
                let Ok(mut state) = state.lock() else { return };
                match event {
                    Event::Trajectories(count) => state.sampled += count,
                    Event::Found(count) => state.found += count,
                    _ => state.finished += 1,
                }
                if state.last.unwrap_or(*started).elapsed() >= LINE_INTERVAL {
                    state.last = Some(Instant::now());
                    let done = state.sampled + state.found;
                    let seconds = started.elapsed().as_secs_f64() / state.sampled as f64
                        * total.saturating_sub(done) as f64;
                    let left =
                        if state.sampled > 0 { format!(", {seconds:.0} s left") } else { String::new() };
                    // A gradient study has no runs.
                    let finished = if *runs > 0 {
                        format!("{} of {runs} runs, ", state.finished)
                    } else {
                        String::new()
                    };
                    print_message(format_args!(
                        "{finished}{:.0}% of all trajectories{left}",
                        100.0 * done as f64 / (*total).max(1) as f64
                    ));
                }
            }
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

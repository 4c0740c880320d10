//! `rtpg plot`.

use std::path::PathBuf;

use trainer::config::recorded;
use trainer::run::draw_learning_curve;
use trainer::run_folder::RunFolder;

use super::{Failure, Outcome, print_line};

/// Options of `rtpg plot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folders of runs
    #[arg(required = true, value_name = "DIR")]
    runs: Vec<PathBuf>,
}

/// Draws every run's learning curve.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    for path in &arguments.runs {
        if path.join("study.toml").is_file() {
            return Err(Failure::input(anyhow::anyhow!(
                "{} is the folder of a study, whose figures the same `rtpg study` draws again; its runs are in {}",
                path.display(),
                path.join("runs").display()
            )));
        }
        let folder = RunFolder::open(path).map_err(Failure::input)?;
        let config = recorded(&folder.config()).map_err(Failure::input)?;
        let drawn = draw_learning_curve(&folder, &config)?;
        if !drawn {
            let empty = anyhow::anyhow!(
                "{}: no iteration with a return is recorded: none is made yet, or every batch was dropped",
                folder.metrics().display()
            );
            return Err(Failure::input(empty));
        }
        print_line(folder.learning_curve("svg").display());
        print_line(folder.learning_curve("png").display());
    }
    Ok(())
}

//! `rtpg mujoco`.

use environments::mujoco::{self, LibraryInfo, RECOMMENDED_VERSION};

use super::{Failure, Outcome, print_line};

/// What to do about the MuJoCo library.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Fetch the library with your own pip into the cache folder, checked by its digest
    Install {
        /// The version
        #[arg(long, value_name = "V", default_value = RECOMMENDED_VERSION)]
        version: String,
    },
    /// Say which library is in use, or how to get one
    Info,
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Outcome {
    match command {
        Command::Install { version } => install(version),
        Command::Info => {
            print(mujoco::library_info().map_err(Failure::input)?);
            Ok(())
        }
    }
}

/// Fetches the library and loads it, so that one that does not work on this machine is told of here.
fn install(version: &str) -> Outcome {
    let path = mujoco::install(version)
        .map_err(|error| if error.is_input() { Failure::input(error) } else { Failure::run(error) })?;
    print_line(format_args!("MuJoCo {version} is in {}", path.display()));
    let info = mujoco::library_info().map_err(Failure::input)?;
    if info.path != path {
        print_line(format_args!("{} is set, so another one is in use:", mujoco::VARIABLE));
        print(info);
    }
    Ok(())
}

fn print(info: &LibraryInfo) {
    print_line(format_args!("MuJoCo {} in {}", info.version, info.path.display()));
}

//! The command `rtpg`: arguments in, exit code out.
//!
//! Exit codes: 0 done, 1 the run failed, 2 wrong input, 130 stopped by the user.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

//! What the tests of MuJoCo environments share.

use std::io::Write;

use environments::mujoco::{LibraryInfo, library_info};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The library in use; without one, the test called `test` is reported as skipped, or fails if MuJoCo is required.
pub(crate) fn available(test: &str) -> Option<&'static LibraryInfo> {
    match library_info() {
        Ok(info) => Some(info),
        Err(error) if std::env::var_os("RTPG_REQUIRE_MUJOCO").is_some_and(|value| value == "1") => {
            panic!("{test} needs MuJoCo: {error}")
        }
        Err(error) => {
            // Not `eprintln!`, which the test harness hides when a test passes.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: {error}");
            None
        }
    }
}

/// A generator for calls that draw nothing that matters.
pub(crate) fn no_random() -> impl Rng {
    SmallRng::seed_from_u64(0)
}

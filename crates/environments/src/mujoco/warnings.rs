//! MuJoCo's messages: counted, traced, and handed to the simulation that caused them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The first warning since the last [`take`] on this thread. A simulation steps on one thread from start to end,
    /// so what is here after a step was caused by that step.
    static FIRST: Cell<Option<String>> = const { Cell::new(None) };
}

/// Number of warnings that MuJoCo raised in this process.
pub fn warning_count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Counts and traces a warning and keeps it for [`take`].
pub(super) fn record(message: String) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(target: "mujoco", "{message}");
    FIRST.with(|first| {
        let earlier = first.take();
        first.set(earlier.or(Some(message)));
    });
}

/// Takes the first warning raised on this thread since the last call.
pub(super) fn take() -> Option<String> {
    FIRST.take()
}

/// Ends the process: MuJoCo's fatal errors leave it in a state in which nothing of it may be called again.
pub(super) fn abort(message: &str) -> ! {
    tracing::error!(target: "mujoco", "{message}");
    eprintln!("MuJoCo failed and cannot go on: {message}");
    std::process::abort()
}

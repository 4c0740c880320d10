//! Threads for work that is divided by whoever takes the next piece.

use std::thread::Builder;

/// Calls `work` on `count` threads, this one among them. Where the system gives fewer, those that there are do it all.
pub(super) fn on_threads(count: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for others in 1..count {
            if let Err(error) = Builder::new().spawn_scoped(scope, &work) {
                tracing::warn!(
                    "{others} of {count} threads are used, since the system refuses another: {error}"
                );
                break;
            }
        }
        if count > 0 {
            work();
        }
    });
}

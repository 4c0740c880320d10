//! Threads for work that is divided by whoever takes the next piece.

use std::thread::Builder;

use super::Event;

/// Calls `work` on `count` threads, at least this one. Where the system gives fewer, those that there are do it all.
pub(super) fn on_threads(count: usize, work: impl Fn() + Sync, observe: &(dyn Fn(Event<'_>) + Sync)) {
    std::thread::scope(|scope| {
        for others in 1..count {
            if let Err(error) = Builder::new().spawn_scoped(scope, &work) {
                let used = format!(
                    "{others} of {count} threads are used, since the system refuses another: {error}"
                );
                observe(Event::Notice(&used));
                break;
            }
        }
        work();
    });
}

//! How soon a helper takes part in a computation, and how soon the caller returns from it, after pauses of several lengths.
//!
//! `cargo run --release --workspace --example helper_latency`

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use policy_nets::threads::Threads;

const REPETITIONS: usize = 500;
/// Items of a computation, and how long each takes.
const ITEMS: usize = 100;
const ITEM: Duration = Duration::from_micros(5);

fn main() {
    let threads = Threads::new(2).expect("threads");
    for pause in [0, 20, 80, 1000].map(Duration::from_micros) {
        let (mut joins, mut returns) = (vec![], vec![]);
        for _ in 0..REPETITIONS {
            let (first_of_helper, last) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
            let start = Instant::now();
            threads.for_each(0..ITEMS, |_, thread| {
                if thread == 1 {
                    first_of_helper.fetch_min(nanoseconds(start), Ordering::Relaxed);
                }
                wait(ITEM);
                last.fetch_max(nanoseconds(start), Ordering::Relaxed);
            });
            returns.push(nanoseconds(start) - last.into_inner());
            joins.push(first_of_helper.into_inner());
            wait(pause);
        }
        println!(
            "after {:4} us: the helper joins after {:5.1} us, the caller returns {:4.1} us after the last item (medians)",
            pause.as_micros(),
            median(joins),
            median(returns),
        );
    }
}

fn nanoseconds(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

fn wait(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        spin_loop();
    }
}

/// In microseconds.
fn median(mut nanoseconds: Vec<u64>) -> f64 {
    nanoseconds.sort_unstable();
    nanoseconds[nanoseconds.len() / 2] as f64 / 1e3
}

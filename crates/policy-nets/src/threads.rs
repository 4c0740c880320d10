//! Threads that share the computations of one run.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Looks at whether the other threads are done before this one lets the operating system wake it: some tens of
/// microseconds, about what a wake-up takes.
const LOOKS: usize = 100;

/// How long a helper looks out for more work before it sleeps: longer than the gaps within an iteration.
const LINGER: Duration = Duration::from_micros(100);

/// Waiting that is no wake-up any more: a helper has no processor, or is slow.
const LATE: Duration = Duration::from_millis(1);

/// How many times as long as it waited for late helpers the calling thread then works alone, and the longest that it does.
const ALONE: u32 = 50;
const LONGEST_ALONE: Duration = Duration::from_millis(250);

/// The calling thread and its helpers. Results do not depend on their number.
///
/// The calling thread works as well: while a helper wakes up, the work has begun, and a computation on one thread wakes none.
/// A wake-up takes tens of microseconds, so a helper that has finished looks out for more work for a while.
///
/// A computation ends when every helper has had its turn, and on a processor that others use that is after milliseconds. Where
/// waiting took longer than the calling thread's own work, alone it would have been done; so then it works alone for a while.
/// A clone has the same helpers, and decides this for itself: what it computes may be longer.
#[derive(Debug)]
pub struct Threads {
    helpers: Option<Arc<ThreadPool>>,
    count: usize,
    /// Number of the computations so far, whose change ends the helpers' looking out.
    begun: Arc<AtomicUsize>,
    made: Instant,
    /// Until when the calling thread works alone, in nanoseconds after `made`.
    alone_until: AtomicU64,
}

impl Clone for Threads {
    fn clone(&self) -> Self {
        let Self { helpers, count, begun, made, alone_until: _ } = self;
        Self {
            helpers: helpers.clone(),
            count: *count,
            begun: Arc::clone(begun),
            made: *made,
            alone_until: AtomicU64::default(),
        }
    }
}

impl Threads {
    /// `count` threads; 0 takes one for each processor.
    ///
    /// # Errors
    /// When the operating system refuses the threads.
    pub fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let helpers = ThreadPoolBuilder::new()
            .num_threads(count - 1)
            .thread_name(|index| format!("rtpg-{}", index + 1));
        let helpers = if count > 1 { Some(Arc::new(helpers.build()?)) } else { None };
        Ok(Self { helpers, count, ..Self::one() })
    }

    /// The calling thread alone.
    pub fn one() -> Self {
        Self {
            helpers: None,
            count: 1,
            begun: Arc::default(),
            made: Instant::now(),
            alone_until: AtomicU64::default(),
        }
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` on the calling thread, whose index is 0, and on helpers that are not late, as many as there are other `items`;
    /// each is told its index, below [`count`](Self::count). Any of them has to be able to take over the work of all.
    ///
    /// # Panics
    /// When `work` does.
    pub fn every(&self, items: usize, work: impl Fn(usize) + Sync) {
        let start = self.made.elapsed();
        let count = self.count.min(items);
        let is_alone = count < 2 || nanoseconds(start) < self.alone_until.load(Ordering::Relaxed);
        let helpers = self.helpers.as_ref().filter(|_| !is_alone);
        let Some(helpers) = helpers else {
            work(0);
            return;
        };
        let working = AtomicUsize::new(count - 1);
        self.begun.fetch_add(1, Ordering::Release);
        let done = helpers.in_place_scope(|scope| {
            for index in 1..count {
                let (work, working, begun) = (&work, &working, &self.begun);
                scope.spawn(move |_| {
                    let _done = Done(working);
                    work(index);
                    // The next computation begins when this one has ended, not before.
                    let (begun, own) = (Arc::clone(begun), begun.load(Ordering::Acquire));
                    rayon::spawn(move || linger(&begun, own));
                });
            }
            work(0);
            let done = self.made.elapsed();
            let mut looks = 0;
            while looks < LOOKS && working.load(Ordering::Acquire) > 0 {
                yield_now();
                looks += 1;
            }
            done
        });
        let end = self.made.elapsed();
        let waited = end.saturating_sub(done);
        if waited > LATE.max(done.saturating_sub(start)) {
            let until = end + (ALONE * waited).min(LONGEST_ALONE);
            self.alone_until.store(nanoseconds(until), Ordering::Relaxed);
        }
    }

    /// Applies `work` to every item, and tells it the thread's index. Every thread takes the next item as soon as it is free.
    ///
    /// # Panics
    /// When `work` does.
    pub fn for_each<I>(&self, items: I, work: impl Fn(I::Item, usize) + Sync)
    where
        I: Iterator + Send,
        I::Item: Send,
    {
        let most = items.size_hint().1.unwrap_or(self.count);
        let items = Mutex::new(items);
        self.every(most, |index| {
            loop {
                let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = item else { break };
                work(item, index);
            }
        });
    }

    /// Sizes into which to divide `count` items that lie side by side in memory, for [`for_each`](Self::for_each): large
    /// ones first, so that each thread stays in its own part, and small ones last, so that all end together.
    pub fn shares(&self, count: usize) -> impl Iterator<Item = usize> + Send + use<> {
        let (mut left, parts) = (count, 2 * self.count);
        std::iter::from_fn(move || {
            let size = left.div_ceil(parts);
            left -= size;
            (size > 0).then_some(size)
        })
    }

    /// Applies `work` to every item, divided over the threads; results are in the items' order.
    ///
    /// # Panics
    /// When `work` does.
    pub fn map<T: Send, R: Send>(&self, items: &mut [T], work: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        self.for_each(items.iter_mut().zip(&mut results), |(item, result), _| *result = Some(work(item)));
        results.into_iter().flatten().collect()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// Returns when another computation than that with the number `own` begins, or after [`LINGER`].
fn linger(begun: &AtomicUsize, own: usize) {
    let start = Instant::now();
    while begun.load(Ordering::Acquire) == own && start.elapsed() < LINGER {
        // Whoever waits for the processor gets it.
        yield_now();
    }
}

/// Counts a thread as done, also when it panics.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_taken_once_and_results_are_in_order() {
        for count in [1, 2, 5] {
            let threads = Threads::new(count).unwrap();
            for length in [0, 1, 2, 100] {
                let mut items: Vec<usize> = (0..length).collect();
                let results = threads.map(&mut items, |item| {
                    *item += 1;
                    *item * 2
                });
                assert_eq!(items, (1..=length).collect::<Vec<_>>());
                assert_eq!(results, (1..=length).map(|item| 2 * item).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn shares_make_up_the_whole() {
        for count in [1, 2, 7] {
            let threads = Threads::new(count).unwrap();
            for items in [0, 1, 2, 320] {
                assert_eq!(threads.shares(items).sum::<usize>(), items);
                assert!(threads.shares(items).is_sorted_by(|a, b| a >= b));
            }
        }
    }

    #[test]
    fn the_index_is_that_of_one_thread_at_a_time() {
        let threads = Threads::new(4).unwrap();
        let busy: Vec<Mutex<()>> = (0..4).map(|_| Mutex::new(())).collect();
        threads.for_each(0..200, |_, index| {
            let _alone = busy[index].try_lock().expect("an index that another thread has");
            // Long enough for helpers to wake up.
            std::thread::sleep(Duration::from_micros(100));
        });
    }

    #[test]
    fn late_helpers_are_left_out_for_a_while() {
        let threads = Threads::new(2).unwrap();
        let who = |threads: &Threads| {
            let seen = Mutex::new(vec![]);
            threads.every(2, |index| seen.lock().unwrap().push(index));
            seen.into_inner().unwrap().len()
        };
        assert_eq!(who(&threads), 2);
        threads.alone_until.store(0, Ordering::Relaxed);
        threads.every(2, |index| std::thread::sleep(Duration::from_millis(50 * index as u64)));
        assert!(threads.alone_until.load(Ordering::Relaxed) > 0, "the helper was late");
        // A while that lasts, whatever keeps this test waiting.
        threads.alone_until.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(who(&threads), 1);
        assert_eq!(who(&threads.clone()), 2, "for other computations");
        let now = nanoseconds(threads.made.elapsed());
        threads.alone_until.store(now, Ordering::Relaxed);
        assert_eq!(who(&threads), 2, "the while is over");
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_threads_usable() {
        let threads = Threads::new(3).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            threads.for_each(0..100, |item, _| assert_ne!(item, 50, "the item that fails"));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        threads.for_each(0..100, |item, _| {
            sum.fetch_add(item, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
    }
}

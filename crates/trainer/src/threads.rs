//! Worker threads of one run.

use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The worker threads of one run. Results do not depend on their number.
#[derive(Clone, Debug)]
pub struct Threads {
    pool: Arc<ThreadPool>,
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
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("rtpg-{index}"))
            .build()?;
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Applies `work` to every item, divided over the threads; results are in the items' order.
    pub fn map<T: Send, R: Send>(&self, items: &mut [T], work: impl Fn(&mut T) -> R + Send + Sync) -> Vec<R> {
        if items.len() > 1 && self.count() > 1 {
            self.install(|| items.par_iter_mut().map(&work).collect())
        } else {
            items.iter_mut().map(work).collect()
        }
    }

    /// Runs `work` with these threads for its parallel iterators.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }
}

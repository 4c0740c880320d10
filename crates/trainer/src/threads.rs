//! Worker threads of one run.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The worker threads of one run. With one thread everything runs on the caller's.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    pool: Option<Arc<ThreadPool>>,
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
        if count == 1 {
            return Ok(Self::default());
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("rtpg-{index}"))
            .build()?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Applies `work` to every item, divided over the threads; results are in the items' order.
    pub fn map<T: Send, R: Send>(&self, items: &mut [T], work: impl Fn(&mut T) -> R + Send + Sync) -> Vec<R> {
        use rayon::prelude::*;
        match &self.pool {
            Some(pool) if items.len() > 1 => pool.install(|| items.par_iter_mut().map(&work).collect()),
            _ => items.iter_mut().map(work).collect(),
        }
    }
}

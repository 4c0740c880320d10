//! Data about which nothing can be said.

/// Input of a statistic that has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StatisticsError {
    /// There are no tasks, or a task without runs.
    #[error("no runs to compute a statistic of")]
    NoRuns,
    /// A score is not a number, or minus infinity.
    #[error(
        "score {value} of run {run} in task {task}: expected a number, or plus infinity for a censored one"
    )]
    Score {
        /// Index of the task.
        task: usize,
        /// Index of the run in the task.
        run: usize,
        /// The score.
        value: f64,
    },
    /// Student's interval needs the spread of at least two values.
    #[error("Student's t interval of {0} runs: expected at least two")]
    TooFewRuns(usize),
    /// The confidence is not a probability between 0 and 1.
    #[error("confidence {0}: expected a number above 0 and below 1, as 0.95")]
    Confidence(f64),
    /// There are no bootstrap replicates.
    #[error("a bootstrap interval of 0 replicates: expected at least 1, better some thousands")]
    NoReplicates,
    /// Two algorithms were run on different numbers of tasks.
    #[error("algorithms run on {0} and on {1} tasks cannot be compared: expected the same tasks")]
    Tasks(usize, usize),
    /// Two columns differ in length.
    #[error("{found} values, expected {expected}, one to each horizontal value")]
    Length {
        /// Length of the vertical column.
        found: usize,
        /// Length of the horizontal column.
        expected: usize,
    },
    /// A curve has no points.
    #[error("a curve without points")]
    NoPoints,
    /// The horizontal values of a curve do not increase.
    #[error("horizontal value {value} at index {index} of a curve: expected one above its predecessor")]
    NotIncreasing {
        /// Index of the value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// The window of a running mean is empty.
    #[error("a running mean over 0 values: expected at least 1")]
    EmptyWindow,
}

//! One row for each iteration: `metrics.csv` (docs/metrics.md explains every column).

use std::path::{Path, PathBuf};

use estimator::DiagnosticsReport;
use policy_nets::files::read_regular;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::device_trajectories::BatchSummary;
use crate::trajectories::Trajectories;

/// A row of `metrics.csv`. Columns are only added at the end of their group, never renamed.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct MetricsRow {
    /// Iteration, from 1.
    pub iteration: u32,
    /// Fresh trajectories of this iteration.
    pub trajectories: u64,
    /// Fresh trajectories so far.
    pub trajectories_total: u64,
    /// Environment steps so far.
    pub env_steps_total: u64,
    /// Mean undiscounted return of the fresh trajectories, before the update.
    pub return_mean: f64,
    /// Their standard deviation.
    pub return_std: f64,
    /// Their smallest return.
    pub return_min: f64,
    /// Their largest return.
    pub return_max: f64,
    /// Their mean length.
    pub length_mean: f64,
    /// Mean return of evaluation episodes after the update, when there was an evaluation.
    pub evaluation_return: Option<f64>,
    /// Euclidean norm of the gradient estimate.
    pub gradient_norm: f64,
    /// Euclidean norm of the parameters after the update.
    pub parameter_norm: f64,
    /// Mean standard deviation of the policy after the update.
    pub policy_std: f64,
    /// Batches in the window.
    pub window: usize,
    /// Effective sample size of the weights.
    pub ess: f64,
    /// Effective sample size as a share of the trajectories in the window.
    pub ess_fraction: f64,
    /// Largest weight, in units of `1 / (N omega_k)`.
    pub weight_max: f64,
    /// Share of the newest batch in the sum of all weights.
    pub share_newest: f64,
    /// Mixture coefficient of the newest batch.
    pub alpha_newest: f64,
    /// Mean of `lambda`.
    pub lambda_mean: f64,
    /// Largest `lambda`.
    pub lambda_max: f64,
    /// Mean of `ln D`.
    pub log_second_moment_mean: f64,
    /// Largest `ln D`.
    pub log_second_moment_max: f64,
    /// Fresh trajectories that ended because their simulation turned unstable.
    pub unstable: u64,
    /// Fresh trajectories of a batch that was dropped because of a number that is not finite. The other columns of such a
    /// row repeat the row before, or are NaN when there is none.
    #[serde(default)]
    pub dropped: u64,
    /// Signs of trouble, separated by spaces ([`crate::warnings`]).
    #[serde(default)]
    pub flags: String,
    /// Seconds of this iteration.
    pub seconds: f64,
    /// Seconds of all iterations so far.
    pub seconds_total: f64,
}

impl MetricsRow {
    /// The row before the first: nothing is known.
    pub fn unknown() -> Self {
        Self {
            return_mean: f64::NAN,
            return_std: f64::NAN,
            return_min: f64::NAN,
            return_max: f64::NAN,
            length_mean: f64::NAN,
            gradient_norm: f64::NAN,
            parameter_norm: f64::NAN,
            policy_std: f64::NAN,
            ess: f64::NAN,
            ess_fraction: f64::NAN,
            weight_max: f64::NAN,
            share_newest: f64::NAN,
            alpha_newest: f64::NAN,
            lambda_mean: f64::NAN,
            lambda_max: f64::NAN,
            log_second_moment_mean: f64::NAN,
            log_second_moment_max: f64::NAN,
            ..Self::default()
        }
    }

    /// Whether the row, and every one before it, is of a dropped batch: there is no return.
    pub fn is_unknown(&self) -> bool {
        self.return_mean.is_nan()
    }

    /// Fills in the columns about fresh trajectories.
    pub fn set_returns(&mut self, fresh: &[Trajectories]) {
        let returns: Vec<f64> = fresh.iter().flat_map(Trajectories::returns).collect();
        let count = returns.len() as f64;
        let steps: u64 = fresh.iter().map(Trajectories::steps).sum();
        self.trajectories = returns.len() as u64;
        self.return_mean = returns.iter().sum::<f64>() / count;
        let squares: f64 = returns.iter().map(|value| (value - self.return_mean).powi(2)).sum();
        self.return_std = (squares / count).sqrt();
        self.return_min = returns.iter().copied().fold(f64::INFINITY, f64::min);
        self.return_max = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.length_mean = steps as f64 / count;
    }

    /// Fills in the columns about fresh trajectories that were rolled out on a device.
    pub fn set_summary(&mut self, summary: &BatchSummary) {
        self.trajectories = summary.trajectories;
        self.return_mean = summary.return_mean;
        self.return_std = summary.return_std;
        self.return_min = summary.return_min;
        self.return_max = summary.return_max;
        self.length_mean = summary.steps as f64 / summary.trajectories as f64;
        self.unstable = summary.unstable;
    }

    /// Fills in the columns about weights.
    pub fn set_diagnostics(&mut self, report: &DiagnosticsReport, newest: usize, batch: usize) {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let largest = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.window = report.alpha.len();
        self.ess = report.effective_sample_size;
        self.ess_fraction = report.effective_sample_size / (self.window * batch) as f64;
        self.weight_max = report.largest_weight;
        self.share_newest = report.batch_share[newest];
        self.alpha_newest = report.alpha[newest];
        self.lambda_mean = mean(&report.lambda);
        self.lambda_max = largest(&report.lambda);
        self.log_second_moment_mean = mean(&report.log_second_moment);
        self.log_second_moment_max = largest(&report.log_second_moment);
    }
}

/// Why metrics were not read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A row is not what the format says.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser found, with the line.
        reason: String,
    },
}

/// Reads every row of a metrics file. A last line that was cut off in the middle is left out.
///
/// # Errors
/// A missing file, missing columns, or a damaged row before the last.
pub fn read(path: &Path) -> Result<Vec<MetricsRow>, MetricsError> {
    parse(path, &complete_lines(path)?)
}

/// As [`read`], from the bytes of the file.
pub(crate) fn rows_of(path: &Path, bytes: &[u8]) -> Result<Vec<MetricsRow>, MetricsError> {
    parse(path, &bytes[..length_of_lines(bytes)])
}

/// The learning curve of a metrics file: fresh trajectories so far, and the mean return of each iteration.
///
/// # Errors
/// As [`read`].
pub fn read_curve(path: &Path) -> Result<[Vec<f64>; 2], MetricsError> {
    #[derive(Deserialize)]
    struct Point {
        trajectories_total: f64,
        return_mean: f64,
    }
    let points: Vec<Point> = parse(path, &complete_lines(path)?)?;
    // Batches that were dropped before the first good one have no return.
    let points = points.iter().skip_while(|point| point.return_mean.is_nan());
    let (x, y) = points.map(|point| (point.trajectories_total, point.return_mean)).unzip();
    Ok([x, y])
}

/// The rows of the first `iterations` iterations of a metrics file; the SHA-256 of the bytes that hold them (the header
/// included) in hexadecimal digits; and the number of iterations of all rows. Rows behind those are not looked at, but for
/// their number.
///
/// # Errors
/// As [`read`], and when a row is missing.
pub fn read_first(path: &Path, iterations: u32) -> Result<(Vec<MetricsRow>, String, u32), MetricsError> {
    let mut bytes = complete_lines(path)?;
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1);
    let end = ends.take(iterations as usize + 1).last().unwrap_or_default();
    let behind = bytes[end..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u32;
    bytes.truncate(end);
    let rows: Vec<MetricsRow> = parse(path, &bytes)?;
    let missing = (1..=iterations)
        .zip(0..)
        .find(|(iteration, index)| rows.get(*index).is_none_or(|row| row.iteration != *iteration));
    if let Some((missing, _)) = missing {
        return Err(MetricsError::Malformed {
            path: path.to_owned(),
            reason: format!(
                "iteration {missing} of the {iterations} that the checkpoint has made is not there"
            ),
        });
    }
    Ok((rows, hex::encode(Sha256::digest(&bytes)), iterations + behind))
}

fn complete_lines(path: &Path) -> Result<Vec<u8>, MetricsError> {
    let mut text = read_regular(path, u64::MAX)?;
    text.truncate(length_of_lines(&text));
    Ok(text)
}

/// Bytes up to the end of the last line that has one.
fn length_of_lines(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<Vec<T>, MetricsError> {
    let malformed = |reason: String| MetricsError::Malformed { path: path.to_owned(), reason };
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| malformed(error.to_string()))?;
    if !header.iter().any(|column| column == "iteration") {
        return Err(malformed("the first line names no column `iteration`".to_owned()));
    }
    reader.deserialize().map(|row| row.map_err(|error| malformed(error.to_string()))).collect()
}

/// Rows as CSV, with the header when `header` says so.
///
/// # Errors
/// None for rows of this type; the writer's signature has one.
pub fn to_csv(rows: &[MetricsRow], header: bool) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(vec![]);
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_round_trip_and_a_cut_last_line_is_left_out() {
        let rows = vec![
            MetricsRow { iteration: 1, return_mean: 0.1 + 0.2, ..MetricsRow::default() },
            MetricsRow { iteration: 2, evaluation_return: Some(1.5), ..MetricsRow::default() },
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let bytes = to_csv(&rows, true).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), rows);
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(read(&path).unwrap(), rows[..1]);
    }

    #[test]
    fn rows_without_the_later_columns_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let rows = [MetricsRow { iteration: 1, unstable: 3, ..MetricsRow::default() }];
        let text = String::from_utf8(to_csv(&rows, true).unwrap()).unwrap();
        let older = text.replace(",dropped,flags", "").replace(",3,0,,", ",3,");
        assert_ne!(older, text);
        std::fs::write(&path, older).unwrap();
        assert_eq!(read(&path).unwrap(), rows);
    }

    #[test]
    fn the_first_rows_are_read_with_the_hash_of_their_bytes() {
        let row = |iteration: u32| MetricsRow { iteration, return_mean: 0.1, ..MetricsRow::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        std::fs::write(&path, to_csv(&[row(1), row(2), row(3)], true).unwrap()).unwrap();
        let (rows, digest, recorded) = read_first(&path, 2).unwrap();
        assert_eq!((rows.as_slice(), recorded), ([row(1), row(2)].as_slice(), 3));
        assert_eq!(digest, hex::encode(Sha256::digest(to_csv(&rows, true).unwrap())));
        let message = read_first(&path, 4).unwrap_err().to_string();
        assert!(
            message.ends_with("iteration 4 of the 4 that the checkpoint has made is not there"),
            "{message}"
        );
        assert_eq!(read_first(&path, 0).unwrap().0, []);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("rubbish\n");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_first(&path, 2).unwrap(), (rows, digest, 4), "what stands behind is not read");
    }

    #[test]
    fn a_damaged_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        std::fs::write(&path, "iteration,return_mean\n1,x\n").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("metrics.csv") && message.contains("line"), "{message}");
    }
}

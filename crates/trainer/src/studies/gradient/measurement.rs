//! Bias, variance and mean squared error of gradient estimates, and their tables and figures.

use std::fmt::Write as _;

use rand::Rng;
use serde::Serialize;

use super::{Samples, Truth};
use crate::figures::{Bar, ThresholdBars};
use crate::random::{Purpose, Streams};
use crate::statistics::{Aggregate, Bootstrap, Estimate, Scores, bootstrap_interval};
use crate::studies::plan::slug;
use crate::studies::{Definition, StudyError, StudyFolder};

/// Bias, variance and mean squared error of an algorithm's estimates.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Squared bias, summed over parameters; unbiased, so it may be below zero.
    pub squared_bias: f64,
    /// Variance, summed over parameters.
    pub variance: Estimate,
    /// Mean squared error, the truth's own variance subtracted.
    pub mean_squared_error: Estimate,
    /// Squared norm of the true gradient, to compare with.
    pub squared_norm: f64,
    /// Variance of every component.
    pub component_variance: Vec<f64>,
    /// Bias of every component.
    pub component_bias: Vec<f64>,
}

/// The mean of the rows.
fn mean_vector(rows: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sum.into_iter().map(|sum| sum / rows.len() as f64).collect()
}

/// The variance of the rows around their mean, divisor `n - 1`.
fn variance_vector(rows: &[Vec<f64>], mean: &[f64]) -> Vec<f64> {
    let mut squares = vec![0.0; mean.len()];
    for row in rows {
        squares.iter_mut().zip(row.iter().zip(mean)).for_each(|(sum, (value, mean))| {
            *sum += (value - mean).powi(2);
        });
    }
    squares.into_iter().map(|sum| sum / (rows.len() as f64 - 1.0)).collect()
}

fn squared_distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum()
}

impl Truth {
    /// The mean of estimates from trajectories of their own.
    pub(super) fn new(parts: &[Vec<f64>]) -> Self {
        let gradient = mean_vector(parts);
        let variance = variance_vector(parts, &gradient);
        Self {
            gradient,
            variance: variance.into_iter().map(|variance| variance / parts.len() as f64).collect(),
        }
    }
}

impl Measurement {
    /// Measures `samples`; intervals are bootstrapped over repetitions.
    ///
    /// # Errors
    /// Estimates that are not finite.
    pub fn new(samples: &Samples, generator: &mut impl Rng) -> Result<Self, StudyError> {
        let Samples { estimates, truth, .. } = samples;
        let count = estimates.len() as f64;
        let mean = mean_vector(estimates);
        let component_variance = variance_vector(estimates, &mean);
        let total: f64 = component_variance.iter().sum();
        let noise: f64 = truth.variance.iter().sum();
        let mut interval = |values: Vec<f64>| -> Result<Estimate, StudyError> {
            let scores = Scores::single_task(values)?;
            Ok(bootstrap_interval(&scores, Aggregate::Mean, Bootstrap::default(), generator))
        };
        let spread = estimates.iter().map(|row| squared_distance(row, &mean) * count / (count - 1.0));
        let errors = estimates.iter().map(|row| squared_distance(row, &truth.gradient) - noise);
        Ok(Self {
            squared_bias: squared_distance(&mean, &truth.gradient) - total / count - noise,
            variance: interval(spread.collect())?,
            mean_squared_error: interval(errors.collect())?,
            squared_norm: truth.gradient.iter().map(|value| value * value).sum::<f64>() - noise,
            component_bias: mean.iter().zip(&truth.gradient).map(|(mean, truth)| mean - truth).collect(),
            component_variance,
        })
    }
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    algorithm: &'a str,
    environment: &'a str,
    fresh_trajectories: usize,
    trajectories_used: usize,
    repetitions: usize,
    squared_bias: f64,
    variance: f64,
    variance_lower: f64,
    variance_upper: f64,
    mean_squared_error: f64,
    mean_squared_error_lower: f64,
    mean_squared_error_upper: f64,
    squared_norm: f64,
}

#[derive(Serialize)]
struct ComponentRow<'a> {
    algorithm: &'a str,
    environment: &'a str,
    parameter: usize,
    truth: f64,
    bias: f64,
    variance: f64,
}

/// Writes `summary.csv`, `components.csv`, `summary.md` and a figure for each environment; returns the Markdown table.
///
/// # Errors
/// What the file system refuses, or estimates that are not finite.
pub fn report(definition: &Definition, folder: &StudyFolder, all: &[Samples]) -> Result<String, StudyError> {
    let mut generator = Streams::new(definition.seed).stream(Purpose::Study, u32::MAX, 0, 0);
    let mut summary = csv::Writer::from_writer(vec![]);
    let mut components = csv::Writer::from_writer(vec![]);
    let mut markdown = String::new();
    let mut figures = vec![];
    for (environment, environment_name) in definition.environments.iter().enumerate() {
        let _ = write!(
            markdown,
            "{} ({environment_name})\n\n| algorithm | fresh | used | variance | squared bias | mean squared error | \
             ratio |\n|---|---|---|---|---|---|---|\n",
            definition.title
        );
        let mut bars = vec![];
        let mut measured = vec![];
        for samples in all.iter().filter(|samples| samples.environment == environment) {
            measured.push((samples, Measurement::new(samples, &mut generator)?));
        }
        let label = |samples: &Samples| definition.algorithm[samples.entry].label.as_str();
        let reference = measured.iter().find(|(samples, _)| label(samples) == definition.reference());
        let reference = reference.map_or(f64::NAN, |(_, measured)| measured.mean_squared_error.value);
        for (samples, measured) in &measured {
            let algorithm = label(samples);
            let (variance, error) = (measured.variance, measured.mean_squared_error);
            let _ = writeln!(
                markdown,
                "| {algorithm} | {} | {} | {:.4} [{:.4}, {:.4}] | {:.4} | {:.4} [{:.4}, {:.4}] | {:.3} |",
                samples.fresh,
                samples.used,
                variance.value,
                variance.lower,
                variance.upper,
                measured.squared_bias,
                error.value,
                error.lower,
                error.upper,
                error.value / reference,
            );
            summary.serialize(SummaryRow {
                algorithm,
                environment: environment_name,
                fresh_trajectories: samples.fresh,
                trajectories_used: samples.used,
                repetitions: samples.estimates.len(),
                squared_bias: measured.squared_bias,
                variance: variance.value,
                variance_lower: variance.lower,
                variance_upper: variance.upper,
                mean_squared_error: error.value,
                mean_squared_error_lower: error.lower,
                mean_squared_error_upper: error.upper,
                squared_norm: measured.squared_norm,
            })?;
            for (parameter, truth) in samples.truth.gradient.iter().enumerate() {
                components.serialize(ComponentRow {
                    algorithm,
                    environment: environment_name,
                    parameter,
                    truth: *truth,
                    bias: measured.component_bias[parameter],
                    variance: measured.component_variance[parameter],
                })?;
            }
            let interval = Some((error.lower.max(0.0), error.upper.max(0.0)));
            bars.push(Bar {
                label: algorithm.to_owned(),
                value: error.value.max(0.0),
                interval,
                runs: vec![],
            });
        }
        let norm = measured.first().map_or(f64::NAN, |(_, measured)| measured.squared_norm);
        let _ = write!(markdown, "\nSquared norm of the true gradient: {norm:.4}. ");
        let _ = write!(
            markdown,
            "Over {} repetitions, with 95% bootstrap intervals; sums over parameters. Ratios of mean squared errors are \
             to {}.\n\n",
            definition.runs,
            definition.reference()
        );
        // Against a truth that is too noisy, every error may come out at zero or below.
        if bars.iter().any(|bar| bar.value > 0.0) {
            figures.push((environment_name, figure(definition, bars)));
        }
    }
    let bytes = |writer: csv::Writer<Vec<u8>>| {
        writer.into_inner().map_err(|error| StudyError::Io(std::io::Error::other(error.to_string())))
    };
    folder.write("summary.csv", &bytes(summary)?)?;
    folder.write("components.csv", &bytes(components)?)?;
    folder.write("summary.md", markdown.as_bytes())?;
    for (environment_name, figure) in figures {
        let several = definition.environments.len() > 1;
        let suffix = if several { format!("-{}", slug(environment_name)) } else { String::new() };
        figure.write_svg(folder.file(&format!("error{suffix}.svg")))?;
        figure.write_png(folder.file(&format!("error{suffix}.png")))?;
    }
    Ok(markdown)
}

fn figure(definition: &Definition, bars: Vec<Bar>) -> ThresholdBars {
    ThresholdBars {
        title: definition.title.clone(),
        x_label: "mean squared error of the gradient estimate".to_owned(),
        bars,
        interval_label: "95% bootstrap interval".to_owned(),
        budget: None,
    }
}

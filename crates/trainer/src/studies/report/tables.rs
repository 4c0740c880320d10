//! `results.csv`, `summary.csv` and `summary.md`.

use std::fmt::Write as _;

use rand::Rng;
use serde::Serialize;

use super::Curve;
use crate::statistics::{
    Aggregate, Bootstrap, Estimate, Scores, bootstrap_improvement, bootstrap_interval, mean,
    student_t_interval,
};
use crate::studies::{Definition, Interval, Plan, StudyError};

/// One algorithm on one environment.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) entry: usize,
    pub(super) environment: usize,
    pub(super) label: String,
    pub(super) environment_name: String,
    pub(super) runs: usize,
    pub(super) failures: usize,
    /// Fresh trajectories an iteration.
    pub(super) batch: f64,
    pub(super) final_return: Estimate,
    pub(super) final_returns: Vec<f64>,
    pub(super) area: Estimate,
    pub(super) areas: Vec<f64>,
    /// Fresh trajectories to the threshold: of every run, and their interquartile mean.
    pub(super) to_threshold: Option<(Vec<f64>, Estimate)>,
    /// Probability that a run's area is larger than one of the reference.
    pub(super) improvement: Option<Estimate>,
    pub(super) seconds: f64,
    /// MiB that a run was reckoned to need, and the most that its process had; means over runs.
    pub(super) memory_need: Option<f64>,
    pub(super) memory_peak: Option<Estimate>,
}

/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

/// Statistics of every algorithm on every environment, environments outside.
pub(super) fn summarize(
    plan: &Plan,
    curves: &[Curve<'_>],
    generator: &mut impl Rng,
) -> Result<Vec<Row>, StudyError> {
    let definition = &plan.definition;
    let reference = definition.algorithm.iter().position(|entry| entry.label == definition.reference());
    let mut rows = vec![];
    for (environment, environment_name) in definition.environments.iter().enumerate() {
        let of = |entry: usize| {
            let belongs =
                move |curve: &&Curve<'_>| curve.run.entry == entry && curve.run.environment == environment;
            curves.iter().filter(belongs).collect::<Vec<_>>()
        };
        let areas =
            |runs: &[&Curve<'_>]| runs.iter().map(|curve| curve.area()).collect::<Result<Vec<_>, _>>();
        for (entry, description) in definition.algorithm.iter().enumerate() {
            let runs = of(entry);
            if runs.is_empty() {
                continue;
            }
            let own_areas = areas(&runs)?;
            let improvement = match reference.filter(|reference| *reference != entry) {
                Some(reference) if !of(reference).is_empty() => {
                    let own = Scores::single_task(own_areas.clone())?;
                    let other = Scores::single_task(areas(&of(reference))?)?;
                    Some(bootstrap_improvement(&own, &other, Bootstrap::default(), generator)?)
                }
                _ => None,
            };
            let to_threshold = match definition.threshold {
                None => None,
                Some(threshold) => {
                    let reached = runs.iter().map(|curve| curve.to_threshold(threshold));
                    let scores = Scores::censored(&reached.collect::<Result<Vec<_>, _>>()?)?;
                    let aggregate = Aggregate::InterquartileMean;
                    let estimate = bootstrap_interval(&scores, aggregate, Bootstrap::default(), generator);
                    Some((scores.tasks()[0].clone(), estimate))
                }
            };
            let final_returns: Vec<f64> = runs.iter().map(|curve| curve.final_return()).collect();
            let planned = runs[0].run;
            rows.push(Row {
                entry,
                environment,
                label: description.label.clone(),
                environment_name: environment_name.clone(),
                runs: runs.len(),
                failures: runs.iter().filter(|curve| curve.failure.is_some()).count(),
                batch: planned.trajectories() as f64 / f64::from(planned.config.iterations),
                final_return: estimate(definition.interval, final_returns.clone(), generator)?,
                final_returns,
                area: estimate(definition.interval, own_areas.clone(), generator)?,
                areas: own_areas,
                to_threshold,
                improvement,
                seconds: mean(&runs.iter().map(|curve| curve.seconds()).collect::<Vec<_>>()),
                memory_need: mib(runs.iter().map(|curve| curve.memory.0)).map(|values| mean(&values)),
                memory_peak: match mib(runs.iter().map(|curve| curve.memory.1)) {
                    Some(values) => Some(estimate(definition.interval, values, generator)?),
                    None => None,
                },
            });
        }
    }
    Ok(rows)
}

/// MiB, where every run knows its bytes.
fn mib(bytes: impl Iterator<Item = Option<u64>>) -> Option<Vec<f64>> {
    bytes.map(|bytes| Some(bytes? as f64 / MIB)).collect()
}

/// The study's kind of interval; of a single run, its value alone.
fn estimate(interval: Interval, values: Vec<f64>, generator: &mut impl Rng) -> Result<Estimate, StudyError> {
    match interval {
        Interval::StudentT if values.len() > 1 => Ok(student_t_interval(&values, 0.95)?),
        _ => {
            let scores = Scores::single_task(values)?;
            Ok(bootstrap_interval(&scores, Aggregate::InterquartileMean, Bootstrap::default(), generator))
        }
    }
}

#[derive(Serialize)]
struct ResultsRow<'a> {
    algorithm: &'a str,
    environment: &'a str,
    run: u32,
    seed: u64,
    iteration: u32,
    trajectories_total: u64,
    env_steps_total: u64,
    return_mean: f64,
    evaluation_return: Option<f64>,
    gradient_norm: f64,
    ess_fraction: f64,
    weight_max: f64,
    seconds_total: f64,
    memory_need: Option<u64>,
    memory_peak: Option<u64>,
}

/// `results.csv`: every run, every point.
pub(super) fn results(plan: &Plan, curves: &[Curve<'_>]) -> Result<Vec<u8>, StudyError> {
    let mut writer = csv::Writer::from_writer(vec![]);
    for Curve { run, rows, memory, .. } in curves {
        for row in rows {
            writer.serialize(ResultsRow {
                algorithm: &plan.entry(run).label,
                environment: &plan.definition.environments[run.environment],
                run: run.run,
                seed: run.config.seed,
                iteration: row.iteration,
                trajectories_total: row.trajectories_total,
                env_steps_total: row.env_steps_total,
                return_mean: row.return_mean,
                evaluation_return: row.evaluation_return,
                gradient_norm: row.gradient_norm,
                ess_fraction: row.ess_fraction,
                weight_max: row.weight_max,
                seconds_total: row.seconds_total,
                memory_need: memory.0,
                memory_peak: memory.1,
            })?;
        }
    }
    finish(writer)
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    algorithm: &'a str,
    environment: &'a str,
    measure: &'static str,
    statistic: &'static str,
    interval: &'static str,
    value: f64,
    lower: f64,
    upper: f64,
    runs: usize,
    counted: usize,
}

/// The bootstrapped statistics of `summary.csv`.
const AGGREGATES: [(&str, Aggregate); 3] = [
    ("interquartile mean", Aggregate::InterquartileMean),
    ("mean", Aggregate::Mean),
    ("median", Aggregate::Median),
];
const BOOTSTRAP: &str = "bootstrap";
const STUDENT: &str = "Student's t";

/// `summary.csv`: one row for each algorithm, environment, measure and statistic. Of trajectories to the threshold, `counted`
/// is the number of runs that reached it; an infinite value is censored.
pub(super) fn summary(
    definition: &Definition,
    rows: &[Row],
    generator: &mut impl Rng,
) -> Result<Vec<u8>, StudyError> {
    let mut writer = csv::Writer::from_writer(vec![]);
    for row in rows {
        let mut write = |measure, (statistic, interval): (_, _), estimate: Estimate, counted| {
            let Estimate { value, lower, upper } = estimate;
            writer.serialize(SummaryRow {
                algorithm: &row.label,
                environment: &row.environment_name,
                measure,
                statistic,
                interval,
                value,
                lower,
                upper,
                runs: row.runs,
                counted,
            })
        };
        // The statistic of the Markdown table, with the interval that stands there.
        let main = match definition.interval {
            Interval::Bootstrap => (AGGREGATES[0].0, BOOTSTRAP),
            Interval::StudentT => ("mean", STUDENT),
        };
        let measures =
            [("final_return", row.final_return, &row.final_returns), ("mean_return", row.area, &row.areas)];
        for (measure, estimate, values) in measures {
            write(measure, main, estimate, row.runs)?;
            let scores = Scores::single_task(values.clone())?;
            for (statistic, aggregate) in AGGREGATES {
                let estimate = bootstrap_interval(&scores, aggregate, Bootstrap::default(), generator);
                if (statistic, BOOTSTRAP) != main {
                    write(measure, (statistic, BOOTSTRAP), estimate, row.runs)?;
                }
            }
            if values.len() > 1 && main.1 != STUDENT {
                write(measure, ("mean", STUDENT), student_t_interval(values, 0.95)?, row.runs)?;
            }
        }
        let plain = |value| Estimate { value, lower: value, upper: value };
        if let Some((runs, estimate)) = &row.to_threshold {
            let (measure, counted) = ("trajectories_to_threshold", reached(runs));
            write(measure, (AGGREGATES[0].0, BOOTSTRAP), *estimate, counted)?;
            let scores = Scores::single_task(runs.clone())?;
            let median = bootstrap_interval(&scores, Aggregate::Median, Bootstrap::default(), generator);
            write(measure, ("median", BOOTSTRAP), median, counted)?;
        }
        if let Some(improvement) = row.improvement {
            write("probability_of_improvement", ("probability", BOOTSTRAP), improvement, row.runs)?;
        }
        write("seconds", ("mean", ""), plain(row.seconds), row.runs)?;
        write("failures", ("count", ""), plain(row.failures as f64), row.runs)?;
        if let Some(need) = row.memory_need {
            write("memory_need_mib", ("mean", ""), plain(need), row.runs)?;
        }
        if let Some(peak) = row.memory_peak {
            write("memory_peak_mib", main, peak, row.runs)?;
        }
    }
    finish(writer)
}

fn reached(runs: &[f64]) -> usize {
    runs.iter().filter(|run| run.is_finite()).count()
}

fn finish(writer: csv::Writer<Vec<u8>>) -> Result<Vec<u8>, StudyError> {
    writer.into_inner().map_err(|error| StudyError::Io(std::io::Error::other(error.to_string())))
}

/// `summary.md`: a table for each environment, and what its columns mean.
pub(super) fn markdown(plan: &Plan, rows: &[Row]) -> String {
    let definition = &plan.definition;
    let mut text = String::new();
    for (index, environment) in definition.environments.iter().enumerate() {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.environment == index).collect();
        let reference = rows.iter().find(|row| row.label == definition.reference());
        let _ = write!(text, "{} ({environment})\n\n", definition.title);
        text.push_str("| algorithm | fresh an iteration | runs | final return | mean return ");
        let threshold = definition.threshold;
        if let Some(threshold) = threshold {
            let _ = write!(text, "| trajectories to {threshold} | saving ");
        }
        text.push_str("| P(improvement) | seconds a run ");
        let memory = rows.iter().any(|row| row.memory_peak.is_some());
        text.push_str(if memory { "| peak memory, MiB | reckoned, MiB |\n" } else { "|\n" });
        let columns = 7 + 2 * usize::from(threshold.is_some()) + 2 * usize::from(memory);
        let _ = writeln!(text, "|{}", "---|".repeat(columns));
        for row in &rows {
            let failed = if row.failures > 0 { format!(" ({} failed)", row.failures) } else { String::new() };
            let _ = write!(
                text,
                "| {} | {} | {}{failed} | {} | {} ",
                row.label,
                compact(row.batch),
                row.runs,
                interval(row.final_return, 1),
                interval(row.area, 1),
            );
            if let Some((runs, estimate)) = &row.to_threshold {
                let saving = reference
                    .and_then(|reference| reference.to_threshold.as_ref())
                    .map(|(_, other)| other.value / estimate.value)
                    .filter(|saving| saving.is_finite() && *saving > 0.0);
                let _ = write!(
                    text,
                    "| {}{} | {} ",
                    interval(*estimate, 0),
                    if reached(runs) < runs.len() {
                        format!(", {} of {} runs", reached(runs), runs.len())
                    } else {
                        String::new()
                    },
                    saving.map_or_else(|| "-".to_owned(), |saving| format!("{saving:.2}")),
                );
            }
            let improvement = row.improvement.map_or_else(|| "-".to_owned(), |value| interval(value, 2));
            let _ = write!(text, "| {improvement} | {:.1} |", row.seconds);
            if memory {
                let unknown = || "-".to_owned();
                let peak = row.memory_peak.map_or_else(unknown, |peak| interval(peak, 1));
                let need = row.memory_need.map_or_else(unknown, |need| format!("{need:.1}"));
                let _ = write!(text, " {peak} | {need} |");
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str(&legend(plan));
    text
}

fn legend(plan: &Plan) -> String {
    let definition = &plan.definition;
    let (statistic, kind) = match definition.interval {
        Interval::Bootstrap => ("interquartile mean", "95% bootstrap interval"),
        Interval::StudentT => ("mean", "95% Student interval"),
    };
    let reference = definition.reference();
    let mut text = format!(
        "Over runs: {statistic} [{kind}]. Final return: mean over the last tenth of the iterations, or those of the last \
         {} trajectories where they are more. Mean return: area under the curve over fresh trajectories. \
         P(improvement): that a run's mean return exceeds one of {reference}.",
        definition.smoothing
    );
    if definition.threshold.is_some() {
        let _ = write!(
            text,
            " Trajectories to the threshold: until the mean return of the last {} fresh trajectories reaches it \
             (interquartile mean; inf where too many runs never did). Saving: how many times fewer they are than those of \
             {reference}.",
            definition.smoothing
        );
    }
    text.push('\n');
    text
}

fn interval(Estimate { value, lower, upper }: Estimate, digits: usize) -> String {
    if lower == upper {
        return format!("{value:.digits$}");
    }
    format!("{value:.digits$} [{lower:.digits$}, {upper:.digits$}]")
}

fn compact(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

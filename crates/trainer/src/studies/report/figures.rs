//! The figures of a training study.

use rand::Rng;

use super::Curve;
use super::tables::Row;
use crate::figures::{Bar, Figure, ReferenceLine, Scale, Series, ThresholdBars};
use crate::statistics::{
    Aggregate, Bootstrap, Estimate, bootstrap_curve, common_grid, interpolate, student_t_curve,
};
use crate::studies::{Horizontal, Interval, Plan, StudyError, StudyFolder};

/// Points of a curve.
const POINTS: usize = 200;
/// Resamples behind the bands: they are drawn a pixel wide, and 200 points each take their own.
const BAND_REPLICATES: usize = 2000;

/// Draws curves, threshold bars and sensitivity plots of every environment, as SVG and PNG.
pub(super) fn draw(
    plan: &Plan,
    folder: &StudyFolder,
    curves: &[Curve<'_>],
    rows: &[Row],
    generator: &mut impl Rng,
) -> Result<(), StudyError> {
    let several = plan.definition.environments.len() > 1;
    for (index, name) in plan.definition.environments.iter().enumerate() {
        let suffix = if several { format!("-{}", crate::studies::plan::slug(name)) } else { String::new() };
        let title = if several {
            format!("{}: {name}", plan.definition.title)
        } else {
            plan.definition.title.clone()
        };
        let rows: Vec<&Row> = rows.iter().filter(|row| row.environment == index).collect();
        if rows.is_empty() {
            continue;
        }
        let comparison = comparison(plan, index, &title, curves, generator)?;
        let name = format!("curves{suffix}");
        if comparison.series.is_empty() {
            // One of an earlier report would stand beside tables that it does not show.
            for extension in ["svg", "png"] {
                let _ = fs_err::remove_file(folder.file(&format!("{name}.{extension}")));
            }
        } else {
            write(folder, &name, &comparison)?;
        }
        if let Some(bars) = bars(plan, &title, &rows) {
            bars.write_svg(folder.file(&format!("threshold{suffix}.svg")))?;
            bars.write_png(folder.file(&format!("threshold{suffix}.png")))?;
        }
        if plan.definition.position_label.is_some() {
            let of = |measure: fn(&Row) -> Option<Estimate>, label| {
                sensitivity(plan, &title, &rows, measure, label)
            };
            write(
                folder,
                &format!("sensitivity{suffix}"),
                &of(|row| Some(row.final_return), "final return"),
            )?;
            let reached = of(|row| Some(row.to_threshold.as_ref()?.1), "fresh trajectories to the threshold");
            if reached.series.iter().any(|series| series.y.iter().any(|value| value.is_finite())) {
                write(folder, &format!("sensitivity-threshold{suffix}"), &reached)?;
            }
            let mut memory = of(|row| row.memory_peak, "peak memory of the process, MiB");
            if memory.series.iter().any(|series| !series.y.is_empty()) {
                memory.reference_lines = vec![ReferenceLine::new("", 0.0)];
                write(folder, &format!("sensitivity-memory{suffix}"), &memory)?;
            }
        }
    }
    Ok(())
}

fn write(folder: &StudyFolder, name: &str, figure: &Figure) -> Result<(), StudyError> {
    figure.write_svg(folder.file(&format!("{name}.svg")))?;
    figure.write_png(folder.file(&format!("{name}.png")))?;
    Ok(())
}

fn comparison(
    plan: &Plan,
    environment: usize,
    title: &str,
    curves: &[Curve<'_>],
    generator: &mut impl Rng,
) -> Result<Figure, StudyError> {
    let definition = &plan.definition;
    let mut series = vec![];
    let mut bands = false;
    for (entry, description) in definition.algorithm.iter().enumerate() {
        let runs = curves.iter().filter(|c| c.run.entry == entry && c.run.environment == environment);
        let runs: Vec<_> = runs.map(|curve| curve.points(definition.horizontal)).collect();
        let grid = common_grid(&runs.iter().map(|(x, _)| x.as_slice()).collect::<Vec<_>>(), POINTS);
        if grid.is_empty() {
            if !runs.is_empty() {
                tracing::warn!(
                    "no curve is drawn of `{}` in \"{title}\": no stretch of the horizontal axis lies in all its runs",
                    description.label
                );
            }
            continue;
        }
        let on_grid = runs.iter().map(|(x, y)| interpolate(x, y, &grid));
        let on_grid = on_grid.collect::<Result<Vec<_>, _>>()?;
        let band = match definition.interval {
            Interval::StudentT if on_grid.len() > 1 => student_t_curve(&on_grid, 0.95)?,
            _ => {
                let bootstrap = Bootstrap::new(BAND_REPLICATES, 0.95)?;
                bootstrap_curve(&on_grid, Aggregate::InterquartileMean, bootstrap, generator)?
            }
        };
        let column = |part: fn(&Estimate) -> f64| band.iter().map(part).collect::<Vec<_>>();
        bands |= on_grid.len() > 1;
        let line = Series::line(&description.label, grid, column(|estimate| estimate.value));
        series.push(match on_grid.len() {
            1 => line,
            _ => line.with_band(column(|estimate| estimate.lower), column(|estimate| estimate.upper)),
        });
    }
    let x_label = match definition.horizontal {
        Horizontal::Trajectories => "fresh trajectories",
        Horizontal::Seconds => "seconds",
    };
    let reference_lines = definition
        .threshold
        .map(|threshold| ReferenceLine::new("threshold", threshold))
        .into_iter()
        .collect();
    Ok(Figure {
        title: title.to_owned(),
        x_label: x_label.to_owned(),
        y_label: format!("return (mean of {} trajectories)", definition.smoothing),
        series,
        band_label: if bands { band_label(definition.interval) } else { String::new() },
        reference_lines,
        ..Figure::default()
    })
}

fn band_label(interval: Interval) -> String {
    let kind = match interval {
        Interval::Bootstrap => "95% bootstrap interval",
        Interval::StudentT => "95% Student interval",
    };
    kind.to_owned()
}

fn bars(plan: &Plan, title: &str, rows: &[&Row]) -> Option<ThresholdBars> {
    let threshold = plan.definition.threshold?;
    let bar = |row: &&Row| {
        let (runs, estimate) = row.to_threshold.as_ref()?;
        Some(Bar {
            label: row.label.clone(),
            value: estimate.value,
            interval: Some((estimate.lower, estimate.upper)),
            runs: runs.clone(),
        })
    };
    let bars: Vec<Bar> = rows.iter().filter_map(bar).collect();
    let reached = bars.iter().flat_map(|bar| &bar.runs).any(|run| run.is_finite());
    // Budgets of single algorithms lie at different places; where nobody reached the threshold, the largest tells how far
    // they went.
    let largest = || plan.definition.algorithm.iter().filter_map(|entry| entry.budget).max();
    let budget = plan.definition.budget.or_else(|| largest().filter(|_| !reached));
    Some(ThresholdBars {
        title: title.to_owned(),
        x_label: format!("fresh trajectories to a return of {threshold}"),
        bars,
        interval_label: band_label(Interval::Bootstrap),
        budget: budget.map(|budget| budget as f64),
    })
}

/// A measure over the entries' positions, one series for each group.
fn sensitivity(
    plan: &Plan,
    title: &str,
    rows: &[&Row],
    measure: fn(&Row) -> Option<Estimate>,
    label: &str,
) -> Figure {
    let entries = &plan.definition.algorithm;
    let mut groups: Vec<&str> = vec![];
    for entry in entries.iter().filter(|entry| entry.position.is_some()) {
        let group = entry.group.as_deref().unwrap_or_default();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let series = groups.into_iter().map(|group| {
        let mut points: Vec<(f64, Estimate)> = rows
            .iter()
            .filter(|row| entries[row.entry].group.as_deref().unwrap_or_default() == group)
            .filter_map(|row| Some((entries[row.entry].position?, measure(row)?)))
            .collect();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        let column = |part: fn(&(f64, Estimate)) -> f64| points.iter().map(part).collect::<Vec<_>>();
        Series::points(group, column(|point| point.0), column(|point| point.1.value))
            .with_band(column(|point| point.1.lower), column(|point| point.1.upper))
    });
    let positions = || plan.definition.positions();
    let (least, most) = (positions().fold(f64::INFINITY, f64::min), positions().fold(0.0, f64::max));
    Figure {
        title: title.to_owned(),
        x_scale: if least > 0.0 && most >= 8.0 * least { Scale::Log2 } else { Scale::Linear },
        x_label: plan.definition.position_label.clone().unwrap_or_default(),
        y_label: label.to_owned(),
        series: series.collect(),
        band_label: band_label(plan.definition.interval),
        ..Figure::default()
    }
}

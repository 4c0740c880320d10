//! Threshold bars: how many trajectories each algorithm needs until its return reaches a threshold.

use std::path::Path;

use super::FigureError;
use super::axis::{Axis, compact};
use super::font::Font;
use super::frame::{self, MARGIN, SMALL};
use super::legend::Entry;
use super::marks;
use super::palette::{self, GREY, INK, REFERENCE_LINE};
use super::picture::{Anchor, Fill, Picture, Point, Shape, Stroke};

const WIDTH: f64 = 520.0;
/// Height of a bar with its free space.
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;
/// Labels longer than this are shortened.
const LABEL: f64 = 170.0;
const BAR_OPACITY: f64 = 0.35;

/// Horizontal bars with interval whiskers and the single runs.
///
/// A run that did not reach the threshold is *censored*: its value is `f64::INFINITY`, and so may be the statistic of
/// several runs and the ends of its interval. Censored values are drawn at the budget, as arrows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThresholdBars {
    /// Title above the plot; empty for none.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// The bars, from top to bottom.
    pub bars: Vec<Bar>,
    /// What the whiskers are, for the legend ("95% bootstrap interval"); empty for no such entry.
    pub interval_label: String,
    /// Where the runs ended: the place of censored values. Without it they are drawn beyond all others.
    pub budget: Option<f64>,
}

/// One bar of [`ThresholdBars`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// Label left of the bar.
    pub label: String,
    /// Length of the bar: the statistic of the runs; infinite if it is censored.
    pub value: f64,
    /// Lower and upper end of the whisker; infinite ends are censored.
    pub interval: Option<(f64, f64)>,
    /// The single runs, infinite if censored; may be empty.
    pub runs: Vec<f64>,
}

impl Bar {
    fn values(&self) -> impl Iterator<Item = f64> {
        let interval = self.interval.into_iter().flat_map(|(lower, upper)| [lower, upper]);
        interval.chain([self.value]).chain(self.runs.iter().copied())
    }

    /// "12.3k", "12.3k (4/5)" when one run of five is censored, "> 20k (1/5)" when the statistic is.
    fn annotation(&self, budget: f64) -> String {
        let reached = self.runs.iter().filter(|run| run.is_finite()).count();
        let value = match self.value {
            value if value.is_nan() => "–".to_owned(),
            value if value.is_infinite() => format!("> {}", compact(budget)),
            value => compact(value),
        };
        if reached == self.runs.len() { value } else { format!("{value} ({reached}/{})", self.runs.len()) }
    }
}

/// Where the rows of bars lie.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    axis: Axis,
    budget: f64,
}

impl Plot {
    /// The horizontal place of a value; a censored one lies at the budget.
    fn across(&self, value: f64) -> Option<f64> {
        let value = if value == f64::INFINITY { self.budget } else { value };
        frame::across(self.left, self.right, &self.axis, value)
    }

    fn middle(&self, row: usize) -> f64 {
        self.top + (row as f64 + 0.5) * ROW
    }

    fn draw_bar(&self, picture: &mut Picture, bar: &Bar, row: usize) {
        let colour = palette::colour(row);
        let middle = self.middle(row);
        let Some(end) = self.across(bar.value) else { return };
        let start = self.across(0.0).unwrap_or(self.left);
        let corners = [(start, -0.5), (end, -0.5), (end, 0.5), (start, 0.5)];
        let points: Vec<_> = corners.iter().map(|&(x, side)| Point::new(x, middle + side * BAR)).collect();
        let censored = bar.value.is_infinite();
        // The bar of a censored statistic is open at its end: the statistic lies somewhere beyond.
        let outline =
            if censored { vec![points[1], points[0], points[3], points[2]] } else { points.clone() };
        let opacity = if censored { 0.4 * BAR_OPACITY } else { BAR_OPACITY };
        picture.area(points, Fill { colour, opacity });
        let stroke = Some(Stroke::solid(colour, 1.2));
        picture.push(Shape::Path { points: outline, closed: !censored, fill: None, stroke });
    }

    /// The runs in the lower half of the bar, the whisker in the upper half, so that neither covers the other.
    fn draw_runs(&self, picture: &mut Picture, bar: &Bar, row: usize) {
        let middle = self.middle(row);
        if let Some((lower, upper)) = bar.interval
            && let (Some(from), Some(to)) = (self.across(lower), self.across(upper))
        {
            let height = middle - if bar.runs.is_empty() { 0.0 } else { 0.22 * BAR };
            let (from, to) = (Point::new(from, height), Point::new(to, height));
            picture.shapes.extend(marks::whisker(from, to, INK));
            if upper.is_infinite() {
                picture.push(marks::open_end(to));
            }
        }
        for &run in &bar.runs {
            let Some(x) = self.across(run) else { continue };
            let centre = Point::new(x, middle + 0.25 * BAR);
            picture.push(if run.is_finite() {
                marks::run(centre, palette::colour(row))
            } else {
                marks::censored_run(centre)
            });
        }
    }
}

impl ThresholdBars {
    /// Draws the figure.
    ///
    /// # Errors
    /// [`FigureError`] when there is no bar, or neither a finite value nor a budget.
    pub fn draw(&self) -> Result<Picture, FigureError> {
        if self.bars.is_empty() {
            return Err(FigureError::Empty { title: self.title.clone() });
        }
        let largest =
            self.bars.iter().flat_map(Bar::values).filter(|value| value.is_finite()).fold(0.0, f64::max);
        let budget = self.budget.filter(|budget| budget.is_finite());
        let values = self.bars.iter().flat_map(Bar::values).chain(budget).chain([0.0, 1.06 * largest]);
        let axis = Axis::linear(values, 0.0, true, 5).filter(|_| largest > 0.0 || budget.is_some());
        let axis = axis.ok_or_else(|| FigureError::NothingFinite { title: self.title.clone() })?;
        let budget = budget.unwrap_or_else(|| axis.end());

        let font = Font::embedded()?;
        let mut picture = Picture::new(WIDTH, 0.0, &self.title);
        let labels: Vec<_> = self.bars.iter().map(|bar| font.fit(&bar.label, SMALL, LABEL)).collect();
        let annotations: Vec<_> = self.bars.iter().map(|bar| bar.annotation(budget)).collect();
        let widest = |texts: &[String]| texts.iter().map(|text| font.width(text, SMALL)).fold(0.0, f64::max);
        let left = MARGIN + widest(&labels) + 8.0;
        let right = WIDTH - MARGIN - widest(&annotations) - 14.0;
        let top = frame::draw_header(&mut picture, &font, self.legend(), (MARGIN, WIDTH - MARGIN));
        let bottom = top + ROW * self.bars.len() as f64;
        picture.height = bottom + frame::height_below(&self.x_label);
        let plot = Plot { left, right, top, axis, budget };

        frame::draw_vertical_grid(&mut picture, &plot.axis, (left, right), (top, bottom));
        if let Some(x) = plot.across(budget).filter(|_| self.budget.is_some()) {
            picture.line(vec![Point::new(x, top), Point::new(x, bottom)], REFERENCE_LINE);
        }
        for (row, bar) in self.bars.iter().enumerate() {
            let baseline = plot.middle(row) + 0.36 * SMALL;
            plot.draw_bar(&mut picture, bar, row);
            plot.draw_runs(&mut picture, bar, row);
            picture.text(&labels[row], Point::new(left - 8.0, baseline), SMALL, Anchor::End, INK);
            picture.text(&annotations[row], Point::new(right + 14.0, baseline), SMALL, Anchor::Start, INK);
        }
        picture.line(vec![Point::new(left, top), Point::new(left, bottom)], Stroke::solid(INK, 1.0));
        frame::draw_horizontal_axis(&mut picture, &font, &plot.axis, (left, right), bottom, &self.x_label);
        Ok(picture)
    }

    /// Draws the figure and writes it as SVG; see [`Picture::write_svg`].
    ///
    /// # Errors
    /// As [`ThresholdBars::draw`] and [`Picture::write_svg`].
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<(), FigureError> {
        self.draw()?.write_svg(path)
    }

    /// Draws the figure and writes it as PNG; see [`Picture::write_png`].
    ///
    /// # Errors
    /// As [`ThresholdBars::draw`] and [`Picture::write_png`].
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), FigureError> {
        self.draw()?.write_png(path)
    }

    fn legend(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::horizontal_whisker(&self.interval_label)];
        let runs = || self.bars.iter().flat_map(|bar| &bar.runs);
        if runs().any(|run| run.is_finite()) {
            entries.push(Entry::mark("run", |at| marks::run(at, GREY)));
        }
        if runs().any(|run| run.is_infinite()) {
            entries.push(Entry::mark("not reached", marks::censored_run));
        }
        if self.budget.is_some() {
            entries.push(Entry::plain("budget", REFERENCE_LINE));
        }
        entries
    }
}

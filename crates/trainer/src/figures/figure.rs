//! Curves: one run, comparisons with bands, sensitivity plots.

use std::path::Path;

use super::FigureError;
use super::axis::Axis;
use super::font::Font;
use super::frame::{self, Frame, MARGIN};
use super::legend::Entry;
use super::palette::{INK, REFERENCE_LINE};
use super::picture::{Fill, Picture, Point};
use super::series::{BAND_OPACITY, Drawn, Series, SeriesStyle};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 340.0;
/// The least height of the plot itself; more legend than fits makes the picture higher.
const LEAST_PLOT: f64 = 180.0;
/// Horizontal distance between series of points.
const SHIFT: f64 = 5.0;

/// A plot of one or more series over a common horizontal axis.
///
/// Values that are not finite are gaps. A series without any finite value keeps its place in the legend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Title above the plot; empty for none.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Label of the vertical axis.
    pub y_label: String,
    /// Scale of the horizontal axis.
    pub x_scale: Scale,
    /// The data, later series over earlier ones.
    pub series: Vec<Series>,
    /// What the bands or whiskers are, for the legend ("95% bootstrap interval"); empty for no such entry.
    pub band_label: String,
    /// Horizontal lines for comparison: a threshold, the largest possible return.
    pub reference_lines: Vec<ReferenceLine>,
}

/// Scale of an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances for equal differences.
    #[default]
    Linear,
    /// Equal distances for equal ratios, ticks at powers of two.
    Log2,
}

/// A horizontal line across the plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReferenceLine {
    /// Label in the legend; empty for no entry.
    pub label: String,
    /// Height of the line.
    pub y: f64,
}

impl ReferenceLine {
    /// A line at the height `y`.
    pub fn new(label: impl Into<String>, y: f64) -> Self {
        Self { label: label.into(), y }
    }
}

impl Figure {
    /// Draws the figure.
    ///
    /// # Errors
    /// [`FigureError`] when there is no series, no finite point, when a series' columns differ in length, or when a
    /// logarithmic axis is given a value that is not positive.
    pub fn draw(&self) -> Result<Picture, FigureError> {
        if self.series.is_empty() {
            return Err(FigureError::Empty { title: self.title.clone() });
        }
        self.series.iter().try_for_each(|series| series.check(self.x_scale))?;
        let nothing = || FigureError::NothingFinite { title: self.title.clone() };
        let y = self.vertical_axis().ok_or_else(nothing)?;
        let x = self.horizontal_axis().ok_or_else(nothing)?;

        let font = Font::embedded()?;
        let mut picture = Picture::new(WIDTH, HEIGHT, &self.title);
        let drawn = self.drawn();
        let left = frame::width_left(&font, &y, &self.y_label);
        let right = WIDTH - MARGIN - 8.0;
        let top = frame::draw_header(&mut picture, &font, self.legend(&drawn), (left, right));
        let below = frame::height_below(&self.x_label);
        picture.height = HEIGHT.max(top + LEAST_PLOT + below);
        let frame = Frame { left, top, right, bottom: picture.height - below, x, y };

        frame.draw_grid(&mut picture);
        self.draw_data(&mut picture, &frame, &drawn);
        frame.draw_axes(&mut picture, &font, &self.x_label, &self.y_label);
        Ok(picture)
    }

    /// Draws the figure and writes it as SVG; see [`Picture::write_svg`].
    ///
    /// # Errors
    /// As [`Figure::draw`] and [`Picture::write_svg`].
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<(), FigureError> {
        self.draw()?.write_svg(path)
    }

    /// Draws the figure and writes it as PNG; see [`Picture::write_png`].
    ///
    /// # Errors
    /// As [`Figure::draw`] and [`Picture::write_png`].
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), FigureError> {
        self.draw()?.write_png(path)
    }

    fn vertical_axis(&self) -> Option<Axis> {
        let data: Vec<f64> = self.series.iter().flat_map(Series::heights).collect();
        if !data.iter().any(|value| value.is_finite()) {
            return None;
        }
        let references = self.reference_lines.iter().map(|line| line.y);
        Axis::linear(data.into_iter().chain(references), 0.04, false, 5)
    }

    fn horizontal_axis(&self) -> Option<Axis> {
        let values = self.series.iter().flat_map(|series| series.x.iter().copied());
        let points = self.series.iter().any(|series| series.style == SeriesStyle::Points);
        match self.x_scale {
            Scale::Linear => Axis::linear(values, if points { 0.04 } else { 0.0 }, true, 6),
            Scale::Log2 => Axis::log2(values),
        }
    }

    /// The series with their colours and shifts.
    fn drawn(&self) -> Vec<Drawn<'_>> {
        let is_points = |series: &&Series| series.style == SeriesStyle::Points;
        let last = self.series.iter().filter(is_points).count().saturating_sub(1);
        let mut shift = -0.5 * SHIFT * last as f64;
        let mut index = 0;
        let drawn = self.series.iter().map(|series| {
            let drawn = Drawn { series, index, shift: if is_points(&series) { shift } else { 0.0 } };
            shift += if is_points(&series) { SHIFT } else { 0.0 };
            index += usize::from(series.style != SeriesStyle::Raw);
            drawn
        });
        drawn.collect()
    }

    fn draw_data(&self, picture: &mut Picture, frame: &Frame, drawn: &[Drawn<'_>]) {
        let styled = |style| drawn.iter().filter(move |drawn| drawn.series.style == style);
        for drawn in styled(SeriesStyle::Line).chain(styled(SeriesStyle::Raw)) {
            drawn.draw_band(picture, frame);
        }
        for drawn in styled(SeriesStyle::Raw) {
            drawn.draw_curve(picture, frame);
        }
        for y in self.reference_lines.iter().filter_map(|line| frame.height(line.y)) {
            picture.line(vec![Point::new(frame.left, y), Point::new(frame.right, y)], REFERENCE_LINE);
        }
        for drawn in styled(SeriesStyle::Line) {
            drawn.draw_curve(picture, frame);
        }
        for drawn in styled(SeriesStyle::Points) {
            drawn.draw_whiskers(picture, frame);
        }
        for drawn in styled(SeriesStyle::Points) {
            drawn.draw_curve(picture, frame);
        }
    }

    fn legend(&self, drawn: &[Drawn<'_>]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = drawn.iter().map(Drawn::legend_entry).collect();
        entries.push(if self.series.iter().all(|series| series.style == SeriesStyle::Points) {
            Entry::vertical_whisker(&self.band_label)
        } else {
            Entry::band(&self.band_label, Fill { colour: INK, opacity: BAND_OPACITY })
        });
        let references = self.reference_lines.iter();
        entries.extend(references.map(|line| Entry::plain(&line.label, REFERENCE_LINE)));
        entries
    }
}

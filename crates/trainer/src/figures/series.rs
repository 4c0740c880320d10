//! One series of a figure and how it is drawn.

use super::decimate::decimate;
use super::frame::Frame;
use super::legend::Entry;
use super::picture::{Fill, Picture, Point, Shape, Stroke};
use super::{FigureError, Scale, marks, palette};

pub(super) const BAND_OPACITY: f64 = 0.2;
const RAW_OPACITY: f64 = 0.35;
const MARKER: f64 = 4.2;

/// One series of a [`Figure`](super::Figure).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Label in the legend; empty for no entry.
    pub label: String,
    /// Horizontal values.
    pub x: Vec<f64>,
    /// Vertical values, as many as in `x`.
    pub y: Vec<f64>,
    /// Interval around `y`.
    pub band: Option<Band>,
    /// How the series is drawn.
    pub style: SeriesStyle,
}

/// An interval around every point of a series: a band around a line, whiskers at points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Band {
    /// Lower ends, as many as in the series' `x`.
    pub lower: Vec<f64>,
    /// Upper ends, as many as in the series' `x`.
    pub upper: Vec<f64>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeriesStyle {
    /// A line.
    #[default]
    Line,
    /// A faint thin line in the colour of the next series, of which this one is the raw data.
    Raw,
    /// Markers joined by a thin line. Where a figure has several such series, each is moved a little to the side, so
    /// that their whiskers do not cover each other.
    Points,
}

impl Series {
    /// A line.
    pub fn line(label: impl Into<String>, x: Vec<f64>, y: Vec<f64>) -> Self {
        Self { label: label.into(), x, y, ..Self::default() }
    }

    /// Markers joined by a thin line.
    pub fn points(label: impl Into<String>, x: Vec<f64>, y: Vec<f64>) -> Self {
        Self { style: SeriesStyle::Points, ..Self::line(label, x, y) }
    }

    /// The faint raw data of the series that follows.
    pub fn raw(label: impl Into<String>, x: Vec<f64>, y: Vec<f64>) -> Self {
        Self { style: SeriesStyle::Raw, ..Self::line(label, x, y) }
    }

    /// The series with an interval from `lower` to `upper` around every point.
    #[must_use]
    pub fn with_band(self, lower: Vec<f64>, upper: Vec<f64>) -> Self {
        Self { band: Some(Band { lower, upper }), ..self }
    }

    pub(super) fn check(&self, scale: Scale) -> Result<(), FigureError> {
        let expected = self.x.len();
        let mut columns = vec![("y", self.y.len())];
        if let Some(band) = &self.band {
            columns.extend([("lower", band.lower.len()), ("upper", band.upper.len())]);
        }
        if let Some(&(column, found)) = columns.iter().find(|(_, length)| *length != expected) {
            return Err(FigureError::Length { series: self.label.clone(), column, found, expected });
        }
        match self.x.iter().find(|x| scale == Scale::Log2 && **x <= 0.0) {
            Some(&value) => Err(FigureError::NotPositive { series: self.label.clone(), value }),
            None => Ok(()),
        }
    }

    /// The vertical values and the ends of the band.
    pub(super) fn heights(&self) -> impl Iterator<Item = f64> {
        let band = self.band.iter().flat_map(|band| band.lower.iter().chain(&band.upper));
        self.y.iter().chain(band).copied()
    }
}

/// A series with what tells it from the others.
pub(super) struct Drawn<'a> {
    pub(super) series: &'a Series,
    /// Index of colour, dash pattern and marker.
    pub(super) index: usize,
    /// How far the series is moved to the right, in CSS pixels.
    pub(super) shift: f64,
}

impl Drawn<'_> {
    /// The stretches of the curve without a gap, in places of the picture.
    fn stretches(&self, frame: &Frame, y: &[f64]) -> Vec<Vec<Point>> {
        let places: Vec<_> = self.series.x.iter().zip(y).map(|(&x, &y)| self.place(frame, x, y)).collect();
        let stretches = places.split(Option::is_none).filter(|stretch| !stretch.is_empty());
        stretches.map(|stretch| decimate(&stretch.iter().flatten().copied().collect::<Vec<_>>())).collect()
    }

    fn place(&self, frame: &Frame, x: f64, y: f64) -> Option<Point> {
        Some(frame.place(x, y)?.moved(self.shift, 0.0))
    }

    pub(super) fn draw_band(&self, picture: &mut Picture, frame: &Frame) {
        let Some(band) = &self.series.band else { return };
        // A gap in either end is a gap in both, so that the two have the same stretches.
        let ends = band.lower.iter().zip(&band.upper).map(|(&lower, &upper)| {
            if lower.is_finite() && upper.is_finite() { (lower, upper) } else { (f64::NAN, f64::NAN) }
        });
        let (lower, upper): (Vec<_>, Vec<_>) = ends.unzip();
        let fill = Fill { colour: palette::colour(self.index), opacity: BAND_OPACITY };
        let above = self.stretches(frame, &upper);
        for (mut outline, below) in above.into_iter().zip(self.stretches(frame, &lower)) {
            outline.extend(below.into_iter().rev());
            picture.area(outline, fill);
        }
    }

    pub(super) fn draw_whiskers(&self, picture: &mut Picture, frame: &Frame) {
        let Some(band) = &self.series.band else { return };
        let colour = palette::colour(self.index);
        for ((&x, &lower), &upper) in self.series.x.iter().zip(&band.lower).zip(&band.upper) {
            if let (Some(from), Some(to)) = (self.place(frame, x, lower), self.place(frame, x, upper)) {
                picture.shapes.extend(marks::whisker(from, to, colour));
            }
        }
    }

    pub(super) fn draw_curve(&self, picture: &mut Picture, frame: &Frame) {
        let stroke = self.stroke();
        let Series { x, y, style, .. } = self.series;
        for stretch in self.stretches(frame, y) {
            // A point between two gaps has no line to it, so it is shown as a dot.
            match stretch.as_slice() {
                [centre] if *style != SeriesStyle::Points => picture.push(Shape::Circle {
                    centre: *centre,
                    radius: 1.2 * stroke.width,
                    fill: Some(Fill { colour: stroke.colour, opacity: stroke.opacity }),
                    stroke: None,
                }),
                _ => picture.line(stretch, stroke),
            }
        }
        if *style == SeriesStyle::Points {
            let places = x.iter().zip(y).filter_map(|(&x, &y)| self.place(frame, x, y));
            picture.shapes.extend(places.map(|place| marks::marker(self.index, place, MARKER)));
        }
    }

    fn stroke(&self) -> Stroke {
        let line = |width| Stroke::solid(palette::colour(self.index), width);
        match self.series.style {
            SeriesStyle::Line => line(1.8).dashed(palette::dash(self.index)),
            SeriesStyle::Points => line(1.2).dashed(palette::dash(self.index)),
            SeriesStyle::Raw => Stroke { opacity: RAW_OPACITY, ..line(0.8) },
        }
    }

    pub(super) fn legend_entry(&self) -> Entry {
        let points = self.series.style == SeriesStyle::Points;
        let mark = points.then_some(|at| marks::marker(self.index, at, MARKER));
        Entry::line(&self.series.label, self.stroke(), mark)
    }
}

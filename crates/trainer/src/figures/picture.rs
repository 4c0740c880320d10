//! The drawing itself: a list of shapes, encoded as SVG or PNG.

use std::path::Path;

use policy_nets::files::write_atomically;

use super::{FigureError, font::Font, raster, svg};

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour(pub(super) u8, pub(super) u8, pub(super) u8);

/// A place in the picture: right and down from the upper left corner, in CSS pixels (1/96 inch).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Point {
    pub(super) const fn new(x: f64, y: f64) -> Self {
        Self { x, y }
    }

    pub(super) fn moved(self, dx: f64, dy: f64) -> Self {
        Self::new(self.x + dx, self.y + dy)
    }
}

/// How the inside of a shape is painted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fill {
    pub(super) colour: Colour,
    pub(super) opacity: f64,
}

impl Fill {
    pub(super) const fn solid(colour: Colour) -> Self {
        Self { colour, opacity: 1.0 }
    }
}

/// How an outline is painted. An empty dash pattern is a solid line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stroke {
    pub(super) colour: Colour,
    pub(super) width: f64,
    pub(super) opacity: f64,
    pub(super) dash: &'static [f64],
}

impl Stroke {
    pub(super) const fn solid(colour: Colour, width: f64) -> Self {
        Self { colour, width, opacity: 1.0, dash: &[] }
    }

    pub(super) const fn dashed(self, dash: &'static [f64]) -> Self {
        Self { dash, ..self }
    }
}

/// Which point of a text its position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// One element of a picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Path {
        points: Vec<Point>,
        closed: bool,
        fill: Option<Fill>,
        stroke: Option<Stroke>,
    },
    Circle {
        centre: Point,
        radius: f64,
        fill: Option<Fill>,
        stroke: Option<Stroke>,
    },
    /// `at` lies on the baseline; a vertical text reads from the bottom to the top.
    Text {
        text: String,
        at: Point,
        size: f64,
        anchor: Anchor,
        vertical: bool,
        colour: Colour,
    },
}

/// A finished drawing, from [`Figure::draw`](super::Figure::draw) or [`ThresholdBars::draw`](super::ThresholdBars::draw).
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) title: String,
    pub(super) shapes: Vec<Shape>,
}

impl Picture {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: title.to_owned(), shapes: Vec::new() }
    }

    pub(super) fn push(&mut self, shape: Shape) {
        self.shapes.push(shape);
    }

    pub(super) fn line(&mut self, points: Vec<Point>, stroke: Stroke) {
        self.push(Shape::Path { points, closed: false, fill: None, stroke: Some(stroke) });
    }

    pub(super) fn area(&mut self, points: Vec<Point>, fill: Fill) {
        self.push(Shape::Path { points, closed: true, fill: Some(fill), stroke: None });
    }

    pub(super) fn text(&mut self, text: &str, at: Point, size: f64, anchor: Anchor, colour: Colour) {
        self.push(Shape::Text { text: text.to_owned(), at, size, anchor, vertical: false, colour });
    }

    /// The picture as an SVG document.
    pub fn to_svg(&self) -> String {
        svg::encode(self)
    }

    /// The picture as a PNG file, three pixels to a CSS pixel (288 to the inch).
    ///
    /// # Errors
    /// [`FigureError::TooLarge`] beyond 128 Mi pixels.
    pub fn to_png(&self) -> Result<Vec<u8>, FigureError> {
        raster::encode(self, &Font::embedded()?)
    }

    /// Writes the picture as SVG; the file is there in full or not at all.
    ///
    /// # Errors
    /// [`FigureError::Write`] with the path.
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<(), FigureError> {
        write(path.as_ref(), self.to_svg().as_bytes())
    }

    /// Writes the picture as PNG; the file is there in full or not at all.
    ///
    /// # Errors
    /// As [`Picture::to_png`], and [`FigureError::Write`] with the path.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), FigureError> {
        write(path.as_ref(), &self.to_png()?)
    }
}

fn write(path: &Path, contents: &[u8]) -> Result<(), FigureError> {
    write_atomically(path, contents).map_err(|source| FigureError::Write { path: path.to_owned(), source })
}

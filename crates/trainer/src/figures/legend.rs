//! The legend: rows of keys and labels above the plot, where they cover no data.

use super::font::Font;
use super::frame::SMALL;
use super::marks::whisker;
use super::palette::INK;
use super::picture::{Anchor, Fill, Picture, Point, Shape, Stroke};

/// Width of the key of a line.
const LINE: f64 = 26.0;
/// Width of the key of a mark.
const MARK: f64 = 10.0;
const KEY_GAP: f64 = 5.0;
const ENTRY_GAP: f64 = 14.0;
const ROW: f64 = 17.0;

/// A key and its label.
pub(super) struct Entry {
    label: String,
    /// Drawn between (0, 0) and (`width`, 0).
    key: Vec<Shape>,
    width: f64,
}

impl Entry {
    /// The key of a line, with a mark at its middle if there is one.
    pub(super) fn line(label: &str, stroke: Stroke, mark: Option<impl Fn(Point) -> Shape>) -> Self {
        let points = vec![Point::new(0.0, 0.0), Point::new(LINE, 0.0)];
        let mut key = vec![Shape::Path { points, closed: false, fill: None, stroke: Some(stroke) }];
        key.extend(mark.map(|mark| mark(Point::new(0.5 * LINE, 0.0))));
        Self { label: label.to_owned(), key, width: LINE }
    }

    /// The key of a plain line.
    pub(super) fn plain(label: &str, stroke: Stroke) -> Self {
        Self::line(label, stroke, None::<fn(Point) -> Shape>)
    }

    /// The key of a mark without a line.
    pub(super) fn mark(label: &str, mark: impl Fn(Point) -> Shape) -> Self {
        Self { label: label.to_owned(), key: vec![mark(Point::new(0.5 * MARK, 0.0))], width: MARK }
    }

    /// The key of a band.
    pub(super) fn band(label: &str, fill: Fill) -> Self {
        let points = [(0.0, -5.0), (LINE, -5.0), (LINE, 5.0), (0.0, 5.0)].map(|(x, y)| Point::new(x, y));
        let key = Shape::Path { points: points.to_vec(), closed: true, fill: Some(fill), stroke: None };
        Self { label: label.to_owned(), key: vec![key], width: LINE }
    }

    /// The key of a vertical whisker.
    pub(super) fn vertical_whisker(label: &str) -> Self {
        let middle = 0.5 * MARK;
        let key = whisker(Point::new(middle, -6.0), Point::new(middle, 6.0), INK);
        Self { label: label.to_owned(), key, width: MARK }
    }

    /// The key of a horizontal whisker.
    pub(super) fn horizontal_whisker(label: &str) -> Self {
        let key = whisker(Point::new(2.0, 0.0), Point::new(LINE - 2.0, 0.0), INK);
        Self { label: label.to_owned(), key, width: LINE }
    }
}

/// Draws the `entries` with a label from `top` downwards in rows that fit between `left` and `right`; returns where the legend ends.
pub(super) fn draw(
    picture: &mut Picture,
    font: &Font,
    entries: Vec<Entry>,
    (left, right): (f64, f64),
    top: f64,
) -> f64 {
    let (mut x, mut bottom) = (left, top);
    for entry in entries.into_iter().filter(|entry| !entry.label.is_empty()) {
        let label = font.fit(&entry.label, SMALL, right - left - entry.width - KEY_GAP);
        let width = entry.width + KEY_GAP + font.width(&label, SMALL);
        if bottom == top || x + width > right {
            x = left;
            bottom += ROW;
        }
        let middle = bottom - 0.5 * ROW;
        for shape in entry.key {
            picture.push(moved(shape, x, middle));
        }
        let baseline = Point::new(x + entry.width + KEY_GAP, middle + 0.36 * SMALL);
        picture.text(&label, baseline, SMALL, Anchor::Start, INK);
        x += width + ENTRY_GAP;
    }
    bottom
}

/// `shape` moved right and down.
fn moved(shape: Shape, dx: f64, dy: f64) -> Shape {
    match shape {
        Shape::Path { points, closed, fill, stroke } => {
            let points = points.into_iter().map(|point| point.moved(dx, dy)).collect();
            Shape::Path { points, closed, fill, stroke }
        }
        Shape::Circle { centre, radius, fill, stroke } => {
            Shape::Circle { centre: centre.moved(dx, dy), radius, fill, stroke }
        }
        Shape::Text { text, at, size, anchor, vertical, colour } => {
            Shape::Text { text, at: at.moved(dx, dy), size, anchor, vertical, colour }
        }
    }
}

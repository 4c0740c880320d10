//! What surrounds the data: title, axes with ticks and labels, grid.

use super::axis::Axis;
use super::font::Font;
use super::legend::{self, Entry};
use super::palette::{GRID, INK};
use super::picture::{Anchor, Picture, Point, Shape, Stroke};

/// Size of the title's letters, in CSS pixels. In a column of half the width these are 7, 6.5 and 6 points.
const TITLE: f64 = 14.0;
/// Size of the axis labels' letters.
const NORMAL: f64 = 13.0;
/// Size of the letters of ticks, legends and annotations.
pub(super) const SMALL: f64 = 12.0;
/// Free space at the edges of the picture.
pub(super) const MARGIN: f64 = 10.0;

const AXIS: Stroke = Stroke::solid(INK, 1.0);
const GRID_LINE: Stroke = Stroke::solid(GRID, 0.8);
const TICK: f64 = 4.0;
const TICK_GAP: f64 = 4.0;

/// Space the horizontal axis needs below the plot.
pub(super) fn height_below(x_label: &str) -> f64 {
    let label = if x_label.is_empty() { 0.0 } else { NORMAL + 6.0 };
    TICK + TICK_GAP + SMALL + label + MARGIN
}

/// Space the vertical axis needs left of the plot.
pub(super) fn width_left(font: &Font, y: &Axis, y_label: &str) -> f64 {
    let label = if y_label.is_empty() { 0.0 } else { NORMAL + 6.0 };
    let ticks = y.ticks.iter().map(|(_, label)| font.width(label, SMALL)).fold(0.0, f64::max);
    MARGIN + label + ticks + TICK_GAP + TICK
}

/// Draws title and legend at the top; returns where they end.
pub(super) fn draw_header(
    picture: &mut Picture,
    font: &Font,
    legend: Vec<Entry>,
    (left, right): (f64, f64),
) -> f64 {
    let mut top = MARGIN;
    if !picture.title.is_empty() {
        let title = font.fit(&picture.title, TITLE, right - left);
        top += TITLE;
        picture.text(&title, Point::new(left, top - 1.0), TITLE, Anchor::Start, INK);
        top += 4.0;
    }
    legend::draw(picture, font, legend, (left, right), top) + 6.0
}

/// The rectangle of the plot with its two axes.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Frame {
    /// Where (`x`, `y`) lies in the picture; `None` if it has no place on an axis.
    pub(super) fn place(&self, x: f64, y: f64) -> Option<Point> {
        Some(Point::new(across(self.left, self.right, &self.x, x)?, self.height(y)?))
    }

    /// The height of `y` in the picture; `None` if it has no place on the axis.
    pub(super) fn height(&self, y: f64) -> Option<f64> {
        Some(self.bottom - self.y.fraction(y)? * (self.bottom - self.top))
    }

    /// Draws the grid, to be called before the data.
    pub(super) fn draw_grid(&self, picture: &mut Picture) {
        draw_vertical_grid(picture, &self.x, (self.left, self.right), (self.top, self.bottom));
        for y in self.y.ticks.iter().filter_map(|(value, _)| self.height(*value)) {
            picture.line(vec![Point::new(self.left, y), Point::new(self.right, y)], GRID_LINE);
        }
    }

    /// Draws axes, ticks and labels, to be called after the data.
    pub(super) fn draw_axes(&self, picture: &mut Picture, font: &Font, x_label: &str, y_label: &str) {
        draw_horizontal_axis(picture, font, &self.x, (self.left, self.right), self.bottom, x_label);
        picture.line(vec![Point::new(self.left, self.top), Point::new(self.left, self.bottom)], AXIS);
        for (value, label) in &self.y.ticks {
            let Some(y) = self.height(*value) else { continue };
            let end = Point::new(self.left, y);
            picture.line(vec![end.moved(-TICK, 0.0), end], AXIS);
            let baseline = end.moved(-TICK - TICK_GAP, 0.36 * SMALL);
            picture.text(label, baseline, SMALL, Anchor::End, INK);
        }
        if !y_label.is_empty() {
            // A label longer than the axis may use the whole height of the picture.
            let height = self.bottom - self.top;
            let wanted = font.width(y_label, NORMAL);
            let middle = if wanted <= height { 0.5 * (self.top + self.bottom) } else { 0.5 * picture.height };
            let text = font.fit(y_label, NORMAL, picture.height - 2.0 * MARGIN);
            let at = Point::new(MARGIN + 0.8 * NORMAL, middle);
            let (size, anchor, colour) = (NORMAL, Anchor::Middle, INK);
            picture.push(Shape::Text { text, at, size, anchor, vertical: true, colour });
        }
    }
}

/// Where `value` lies on a horizontal axis between `left` and `right`.
pub(super) fn across(left: f64, right: f64, axis: &Axis, value: f64) -> Option<f64> {
    Some(left + axis.fraction(value)? * (right - left))
}

/// Draws the grid line of every tick of a horizontal axis.
pub(super) fn draw_vertical_grid(
    picture: &mut Picture,
    axis: &Axis,
    (left, right): (f64, f64),
    (top, bottom): (f64, f64),
) {
    for (value, _) in &axis.ticks {
        let Some(x) = across(left, right, axis, *value) else { continue };
        picture.line(vec![Point::new(x, top), Point::new(x, bottom)], GRID_LINE);
    }
}

/// Draws a horizontal axis at the height `y` with ticks and labels below.
pub(super) fn draw_horizontal_axis(
    picture: &mut Picture,
    font: &Font,
    axis: &Axis,
    (left, right): (f64, f64),
    y: f64,
    label: &str,
) {
    picture.line(vec![Point::new(left, y), Point::new(right, y)], AXIS);
    let baseline = y + TICK + TICK_GAP + 0.75 * SMALL;
    for (value, label) in &axis.ticks {
        let Some(x) = across(left, right, axis, *value) else { continue };
        picture.line(vec![Point::new(x, y), Point::new(x, y + TICK)], AXIS);
        picture.text(label, Point::new(x, baseline), SMALL, Anchor::Middle, INK);
    }
    if !label.is_empty() {
        let wanted = font.width(label, NORMAL);
        let middle = if wanted <= right - left { 0.5 * (left + right) } else { 0.5 * picture.width };
        let text = font.fit(label, NORMAL, picture.width - 2.0 * MARGIN);
        picture.text(&text, Point::new(middle, baseline + NORMAL + 7.0), NORMAL, Anchor::Middle, INK);
    }
}

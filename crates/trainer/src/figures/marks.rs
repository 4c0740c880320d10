//! Small shapes that stand for a value: markers, whiskers, the runs of a bar.

use super::palette::{self, INK, PAPER};
use super::picture::{Colour, Fill, Point, Shape, Stroke};

/// The marker of the `index`-th series at `centre`: disc, square, triangle, diamond, ring, cross.
pub(super) fn marker(index: usize, centre: Point, radius: f64) -> Shape {
    let colour = palette::colour(index);
    let fill = Some(Fill::solid(colour));
    let outline = Some(Stroke::solid(PAPER, 0.8));
    let polygon = |corners: &[(f64, f64)]| Shape::Path {
        points: corners.iter().map(|&(x, y)| centre.moved(radius * x, radius * y)).collect(),
        closed: true,
        fill,
        stroke: outline,
    };
    match index % 6 {
        0 => Shape::Circle { centre, radius, fill, stroke: outline },
        1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => polygon(&[(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)]),
        3 => polygon(&[(0.0, -1.3), (1.2, 0.0), (0.0, 1.3), (-1.2, 0.0)]),
        4 => {
            let ring = Some(Stroke::solid(colour, 1.5));
            Shape::Circle { centre, radius: 0.85 * radius, fill: Some(Fill::solid(PAPER)), stroke: ring }
        }
        _ => polygon(&CROSS),
    }
}

/// An upright cross with arms of a third of its width.
const CROSS: [(f64, f64); 12] = [
    (-0.4, -1.2),
    (0.4, -1.2),
    (0.4, -0.4),
    (1.2, -0.4),
    (1.2, 0.4),
    (0.4, 0.4),
    (0.4, 1.2),
    (-0.4, 1.2),
    (-0.4, 0.4),
    (-1.2, 0.4),
    (-1.2, -0.4),
    (-0.4, -0.4),
];

/// A whisker from `from` to `to`, horizontal or vertical.
pub(super) fn whisker(from: Point, to: Point, colour: Colour) -> Vec<Shape> {
    const CAP: f64 = 3.5;
    let stroke = Some(Stroke::solid(colour, 1.3));
    let (dx, dy) = if from.y == to.y { (0.0, CAP) } else { (CAP, 0.0) };
    let across = |end: Point| [end.moved(-dx, -dy), end.moved(dx, dy)];
    let lines = [[from, to], across(from), across(to)];
    lines.map(|line| Shape::Path { points: line.to_vec(), closed: false, fill: None, stroke }).to_vec()
}

/// One run of a bar.
pub(super) fn run(centre: Point, colour: Colour) -> Shape {
    let stroke = Some(Stroke::solid(PAPER, 0.7));
    Shape::Circle { centre, radius: 2.6, fill: Some(Fill::solid(colour)), stroke }
}

/// A run that ended at `at` without reaching its aim.
pub(super) fn censored_run(at: Point) -> Shape {
    arrow(at, PAPER)
}

/// The end of a whisker that goes on beyond `at`.
pub(super) fn open_end(at: Point) -> Shape {
    arrow(at, INK)
}

/// A triangle pointing to larger values.
fn arrow(at: Point, inside: Colour) -> Shape {
    let points = vec![at.moved(-2.5, -3.6), at.moved(4.0, 0.0), at.moved(-2.5, 3.6)];
    let (fill, stroke) = (Some(Fill::solid(inside)), Some(Stroke::solid(INK, 1.1)));
    Shape::Path { points, closed: true, fill, stroke }
}

//! From a scene to pixels.

use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform,
};

use super::{Backdrop, Point, Role, Scene, Shape};

const BACKGROUND: [u8; 3] = [0xfb, 0xfa, 0xf7];
const GROUND: [u8; 3] = [0xe6, 0xe2, 0xd8];
const MARK: [u8; 3] = [0xcd, 0xc6, 0xb7];
/// Drawn around every part, so that overlapping ones stay apart.
const OUTLINE: [u8; 3] = BACKGROUND;
const OUTLINE_WIDTH: f64 = 0.006;

const fn colour(role: Role) -> [u8; 3] {
    match role {
        Role::Trunk => [0x26, 0x46, 0x53],
        Role::Limb => [0x2a, 0x9d, 0x8f],
        Role::FarLimb => [0x9c, 0xc9, 0xc2],
        Role::Joint => [0xfb, 0xfa, 0xf7],
        Role::Target => [0xe9, 0xb9, 0x49],
        Role::Track => [0x9a, 0x93, 0x86],
    }
}

fn paint([red, green, blue]: [u8; 3]) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 0xff);
    paint
}

/// Draws `scene` with the camera at `centre`; `None` when the size is zero.
pub(super) fn draw(scene: &Scene, centre: Point, [width, height]: [u16; 2]) -> Option<Pixmap> {
    let mut pixels = Pixmap::new(width.into(), height.into())?;
    let [red, green, blue] = BACKGROUND;
    pixels.fill(Color::from_rgba8(red, green, blue, 0xff));
    // World to picture: metres to pixels, y downwards, the camera in the middle.
    let scale = f64::from(height) / scene.height();
    let half = [f64::from(width) / (2.0 * scale), f64::from(height) / (2.0 * scale)];
    let transform = Transform::from_row(
        scale as f32,
        0.0,
        0.0,
        -scale as f32,
        ((half[0] - centre[0]) * scale) as f32,
        ((half[1] + centre[1]) * scale) as f32,
    );
    let mut canvas = Canvas { pixels, transform };
    let lower = [centre[0] - half[0], centre[1] - half[1]];
    let upper = [centre[0] + half[0], centre[1] + half[1]];
    canvas.backdrop(scene.backdrop(), lower, upper);
    for (role, shape) in scene.shapes() {
        canvas.shape(colour(*role), shape);
    }
    Some(canvas.pixels)
}

struct Canvas {
    pixels: Pixmap,
    transform: Transform,
}

impl Canvas {
    fn backdrop(&mut self, backdrop: Backdrop, lower: Point, upper: Point) {
        /// The multiples of `spacing` between two bounds.
        fn multiples(spacing: f64, from: f64, to: f64) -> impl Iterator<Item = f64> {
            ((from / spacing).floor() as i64..=(to / spacing).ceil() as i64)
                .map(move |index| index as f64 * spacing)
        }
        match backdrop {
            Backdrop::Plain => {}
            Backdrop::Ground { height } => {
                let below = Rect::from_ltrb(lower[0] as f32, lower[1] as f32, upper[0] as f32, height as f32);
                if let Some(below) = below {
                    self.fill(&PathBuilder::from_rect(below), GROUND);
                }
                for x in multiples(1.0, lower[0], upper[0]) {
                    self.lines(&[[x, height - 0.03], [x - 0.15, height - 0.18]], 0.03, MARK);
                }
                self.lines(&[[lower[0], height], [upper[0], height]], 0.02, MARK);
            }
            Backdrop::Grid { spacing } => {
                for x in multiples(spacing, lower[0], upper[0]) {
                    self.lines(&[[x, lower[1]], [x, upper[1]]], 0.02, GROUND);
                }
                for y in multiples(spacing, lower[1], upper[1]) {
                    self.lines(&[[lower[0], y], [upper[0], y]], 0.02, GROUND);
                }
            }
        }
    }

    fn shape(&mut self, colour: [u8; 3], shape: &Shape) {
        match shape {
            Shape::Capsule { ends, radius } => {
                self.lines(ends, 2.0 * (radius + OUTLINE_WIDTH), OUTLINE);
                self.lines(ends, 2.0 * radius, colour);
            }
            Shape::Path { points, width } => self.lines(points, *width, colour),
            Shape::Box { centre, half, angle } => {
                let (sin, cos) = angle.sin_cos();
                let corner = |[x, y]: Point| {
                    let [x, y] = [x * half[0], y * half[1]];
                    [centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y]
                };
                let corners = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]].map(corner);
                if let Some(path) = polyline(&corners, true) {
                    self.fill(&path, colour);
                }
            }
            Shape::Circle { centre, radius } => {
                let [x, y] = centre.map(|coordinate| coordinate as f32);
                if let Some(path) = PathBuilder::from_circle(x, y, *radius as f32) {
                    self.fill(&path, colour);
                }
            }
        }
    }

    fn fill(&mut self, path: &Path, colour: [u8; 3]) {
        self.pixels.fill_path(path, &paint(colour), FillRule::Winding, self.transform, None);
    }

    fn lines(&mut self, points: &[Point], width: f64, colour: [u8; 3]) {
        let stroke = Stroke {
            width: width as f32,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        if let Some(path) = polyline(points, false) {
            self.pixels.stroke_path(&path, &paint(colour), &stroke, self.transform, None);
        }
    }
}

fn polyline(points: &[Point], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (index, point) in points.iter().enumerate() {
        let [x, y] = point.map(|coordinate| coordinate as f32);
        if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    if closed {
        path.close();
    }
    path.finish()
}

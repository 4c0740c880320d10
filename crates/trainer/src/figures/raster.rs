//! A picture as a PNG file.

use tiny_skia::{FillRule, LineJoin, Paint, Path, PathBuilder, Pixmap, StrokeDash, Transform};
use ttf_parser::OutlineBuilder;

use super::FigureError;
use super::font::Font;
use super::palette::PAPER;
use super::picture::{Anchor, Colour, Fill, Picture, Shape, Stroke};

/// Pixels to a CSS pixel: 288 pixels to the inch, enough for print.
pub(super) const PIXEL_RATIO: f64 = 3.0;

/// The largest picture: half a gigabyte of pixels, some hundreds of bars.
const LARGEST: f64 = 128.0 * 1024.0 * 1024.0;

/// Rasterises `picture` and encodes it as PNG with its resolution noted.
pub(super) fn encode(picture: &Picture, font: &Font) -> Result<Vec<u8>, FigureError> {
    let (width, height) = ((picture.width * PIXEL_RATIO).round(), (picture.height * PIXEL_RATIO).round());
    let pixels = if width * height <= LARGEST { Pixmap::new(width as u32, height as u32) } else { None };
    let mut pixels = pixels.ok_or(FigureError::TooLarge { width, height })?;
    let Colour(red, green, blue) = PAPER;
    pixels.fill(tiny_skia::Color::from_rgba8(red, green, blue, 255));
    for shape in &picture.shapes {
        draw(&mut pixels, shape, font);
    }
    // The background is opaque, so every pixel is, and its premultiplied colour is its colour.
    let colours: Vec<u8> =
        pixels.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, pixels.width(), pixels.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let pixels_per_metre = (96.0 * PIXEL_RATIO / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: pixels_per_metre,
        yppu: pixels_per_metre,
        unit: png::Unit::Meter,
    }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()?;
    Ok(file)
}

fn draw(pixels: &mut Pixmap, shape: &Shape, font: &Font) {
    let (path, fill, stroke) = match shape {
        Shape::Path { points, closed, fill, stroke } => {
            let mut builder = PathBuilder::new();
            for (index, point) in points.iter().enumerate() {
                let (x, y) = (point.x as f32, point.y as f32);
                if index == 0 {
                    builder.move_to(x, y);
                } else {
                    builder.line_to(x, y);
                }
            }
            if *closed {
                builder.close();
            }
            (builder.finish(), *fill, *stroke)
        }
        Shape::Circle { centre, radius, fill, stroke } => {
            (PathBuilder::from_circle(centre.x as f32, centre.y as f32, *radius as f32), *fill, *stroke)
        }
        Shape::Text { text, at, size, anchor, vertical, colour } => {
            let back = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => 0.5,
                Anchor::End => 1.0,
            };
            let start = -back * font.width(text, *size);
            let turn = if *vertical { -90.0 } else { 0.0 };
            let mut outline = Outline { builder: PathBuilder::new(), unit: font.scale(*size), origin: start };
            font.outline(text, &mut outline, |outline, offset| {
                outline.origin = start + offset * outline.unit;
            });
            let placed = Transform::from_rotate(turn).post_translate(at.x as f32, at.y as f32);
            let path = outline.builder.finish().and_then(|path| path.transform(placed));
            (path, Some(Fill::solid(*colour)), None)
        }
    };
    // A path without extent (no points, or a single one) has nothing to paint.
    let Some(path) = path else { return };
    if let Some(fill) = fill {
        let paint = paint(fill.colour, fill.opacity);
        pixels.fill_path(&path, &paint, FillRule::Winding, to_pixels(), None);
    }
    if let Some(stroke) = stroke {
        draw_outline(pixels, &path, stroke);
    }
}

fn draw_outline(pixels: &mut Pixmap, path: &Path, stroke: Stroke) {
    let dash = stroke.dash.iter().map(|&length| length as f32).collect();
    let style = tiny_skia::Stroke {
        width: stroke.width as f32,
        line_join: LineJoin::Round,
        dash: StrokeDash::new(dash, 0.0),
        ..tiny_skia::Stroke::default()
    };
    pixels.stroke_path(path, &paint(stroke.colour, stroke.opacity), &style, to_pixels(), None);
}

fn to_pixels() -> Transform {
    Transform::from_scale(PIXEL_RATIO as f32, PIXEL_RATIO as f32)
}

fn paint(Colour(red, green, blue): Colour, opacity: f64) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, (255.0 * opacity).round() as u8);
    paint
}

/// Collects glyph outlines (font units, y upwards) into one path (pixels, y downwards).
struct Outline {
    builder: PathBuilder,
    unit: f64,
    origin: f64,
}

impl Outline {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        ((self.origin + f64::from(x) * self.unit) as f32, (-f64::from(y) * self.unit) as f32)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.builder.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.builder.close();
    }
}

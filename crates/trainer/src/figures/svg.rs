//! A picture as an SVG document.

use std::fmt::{self, Display, Write};

use super::font::FAMILIES;
use super::palette::PAPER;
use super::picture::{Anchor, Colour, Fill, Picture, Shape, Stroke};

/// Encodes `picture` as SVG. Text stays text, so that it can be searched and read aloud.
pub(super) fn encode(picture: &Picture) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = write_document(&mut svg, picture);
    svg
}

fn write_document(svg: &mut String, picture: &Picture) -> fmt::Result {
    let (width, height) = (Number(picture.width), Number(picture.height));
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" role=\"img\" font-family=\"{FAMILIES}\" stroke-linejoin=\"round\">"
    )?;
    writeln!(svg, "<title>{}</title>", Escaped(&picture.title))?;
    writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"{PAPER}\"/>")?;
    for shape in &picture.shapes {
        write_shape(svg, shape)?;
    }
    writeln!(svg, "</svg>")
}

fn write_shape(svg: &mut String, shape: &Shape) -> fmt::Result {
    match shape {
        Shape::Path { points, closed, fill, stroke } => {
            write!(svg, "<{} points=\"", if *closed { "polygon" } else { "polyline" })?;
            for (index, point) in points.iter().enumerate() {
                let separator = if index == 0 { "" } else { " " };
                write!(svg, "{separator}{},{}", Number(point.x), Number(point.y))?;
            }
            write!(svg, "\"{}{}", FillAttributes(*fill), StrokeAttributes(*stroke))?;
            writeln!(svg, "/>")
        }
        Shape::Circle { centre, radius, fill, stroke } => writeln!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{}{}/>",
            Number(centre.x),
            Number(centre.y),
            Number(*radius),
            FillAttributes(*fill),
            StrokeAttributes(*stroke),
        ),
        Shape::Text { text, at, size, anchor, vertical, colour } => {
            let (x, y) = (Number(at.x), Number(at.y));
            write!(svg, "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" fill=\"{colour}\"", Number(*size))?;
            match anchor {
                Anchor::Start => {}
                Anchor::Middle => write!(svg, " text-anchor=\"middle\"")?,
                Anchor::End => write!(svg, " text-anchor=\"end\"")?,
            }
            if *vertical {
                write!(svg, " transform=\"rotate(-90 {x} {y})\"")?;
            }
            writeln!(svg, ">{}</text>", Escaped(text))
        }
    }
}

impl Display for Colour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }
}

/// A number with at most two decimals, the precision of a 300th of a CSS pixel being beyond any printer's.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        formatter.write_str(if text == "-0" { "0" } else { text })
    }
}

/// Text with XML's special characters escaped; control characters, which XML forbids, become spaces.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                _ if character.is_control() => formatter.write_char(' ')?,
                _ => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

struct FillAttributes(Option<Fill>);

impl Display for FillAttributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Fill { colour, opacity }) = self.0 else { return formatter.write_str(" fill=\"none\"") };
        write!(formatter, " fill=\"{colour}\"")?;
        if opacity < 1.0 {
            write!(formatter, " fill-opacity=\"{}\"", Number(opacity))?;
        }
        Ok(())
    }
}

struct StrokeAttributes(Option<Stroke>);

impl Display for StrokeAttributes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Stroke { colour, width, opacity, dash }) = self.0 else { return Ok(()) };
        write!(formatter, " stroke=\"{colour}\" stroke-width=\"{}\"", Number(width))?;
        if opacity < 1.0 {
            write!(formatter, " stroke-opacity=\"{}\"", Number(opacity))?;
        }
        for (index, length) in dash.iter().enumerate() {
            write!(
                formatter,
                "{}{}",
                if index == 0 { " stroke-dasharray=\"" } else { " " },
                Number(*length)
            )?;
        }
        if dash.is_empty() { Ok(()) } else { formatter.write_char('"') }
    }
}

//! The embedded font: a subset of `DejaVu Sans` with ASCII, Latin-1, Greek and the signs of formulas.

use ttf_parser::{Face, GlyphId, OutlineBuilder};

use super::FigureError;

static BYTES: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/fonts/DejaVuSans-subset.ttf"));

/// Font families of SVG text: the embedded one, then those whose letters are as wide.
pub(super) const FAMILIES: &str = "DejaVu Sans, Bitstream Vera Sans, Verdana, sans-serif";

/// Measures text and gives its outlines.
pub(super) struct Font {
    face: Face<'static>,
}

impl Font {
    pub(super) fn embedded() -> Result<Self, FigureError> {
        Ok(Self { face: Face::parse(BYTES, 0)? })
    }

    /// The glyph of `character`; a character outside the subset shows as the font's empty box.
    fn glyph(&self, character: char) -> GlyphId {
        self.face.glyph_index(character).unwrap_or(GlyphId(0))
    }

    /// Pixels to a font unit at `size` pixels to the em.
    pub(super) fn scale(&self, size: f64) -> f64 {
        size / f64::from(self.face.units_per_em())
    }

    fn advance(&self, glyph: GlyphId) -> f64 {
        f64::from(self.face.glyph_hor_advance(glyph).unwrap_or(0))
    }

    /// Width of `text` in pixels.
    pub(super) fn width(&self, text: &str, size: f64) -> f64 {
        text.chars().map(|character| self.advance(self.glyph(character))).sum::<f64>() * self.scale(size)
    }

    /// `text`, or as much of its beginning as fits into `width` pixels with an ellipsis.
    pub(super) fn fit(&self, text: &str, size: f64, width: f64) -> String {
        if self.width(text, size) <= width {
            return text.to_owned();
        }
        let room = width - self.width("…", size);
        let mut used = 0.0;
        let kept = text.chars().take_while(|&character| {
            used += self.advance(self.glyph(character)) * self.scale(size);
            used <= room
        });
        let kept: String = kept.collect();
        format!("{}…", kept.trim_end())
    }

    /// Hands the outline of every character to `builder` in font units, y upwards; before each, `place` is called
    /// with the builder and the horizontal offset of the character in font units.
    pub(super) fn outline<B: OutlineBuilder>(
        &self,
        text: &str,
        builder: &mut B,
        mut place: impl FnMut(&mut B, f64),
    ) {
        let mut offset = 0.0;
        for character in text.chars() {
            let glyph = self.glyph(character);
            place(builder, offset);
            self.face.outline_glyph(glyph, builder);
            offset += self.advance(glyph);
        }
    }

    /// Whether the subset has `character`.
    #[cfg(test)]
    pub(super) fn has(&self, character: char) -> bool {
        self.face.glyph_index(character).is_some()
    }
}

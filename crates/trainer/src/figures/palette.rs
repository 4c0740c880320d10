//! Colours and dash patterns by which series are told apart; their markers are in [`marks`](super::marks).
//!
//! Colours: Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is too light for a line on white.
//! Colours, dashes and markers repeat with periods 7, 5 and 6, so 210 series pass before one looks like another.

use super::picture::{Colour, Stroke};

/// Text, axes and whatever carries no data.
pub(super) const INK: Colour = Colour(0x26, 0x26, 0x26);
/// Reference lines, and keys that stand for every series.
pub(super) const GREY: Colour = Colour(0x70, 0x70, 0x70);
/// The grid.
pub(super) const GRID: Colour = Colour(0xE4, 0xE4, 0xE4);
/// The background.
pub(super) const PAPER: Colour = Colour(0xFF, 0xFF, 0xFF);

const COLOURS: [Colour; 7] = [
    Colour(0x00, 0x72, 0xB2), // blue
    Colour(0xD5, 0x5E, 0x00), // vermilion
    Colour(0x00, 0x9E, 0x73), // bluish green
    Colour(0xCC, 0x79, 0xA7), // reddish purple
    Colour(0xE6, 0x9F, 0x00), // orange
    Colour(0x56, 0xB4, 0xE9), // sky blue
    Colour(0x00, 0x00, 0x00), // black
];

const DASHES: [&[f64]; 5] =
    [&[], &[7.0, 2.5], &[1.8, 1.8], &[9.0, 2.5, 1.8, 2.5], &[4.0, 2.0, 1.2, 2.0, 1.2, 2.0]];

/// Reference lines.
pub(super) const REFERENCE_LINE: Stroke = Stroke::solid(GREY, 1.2).dashed(&[3.0, 3.0]);

/// Colour of the `index`-th series.
pub(super) fn colour(index: usize) -> Colour {
    COLOURS[index % COLOURS.len()]
}

/// Dash pattern (lengths of line and gap in turn) of the `index`-th series; empty is a solid line.
pub(super) fn dash(index: usize) -> &'static [f64] {
    DASHES[index % DASHES.len()]
}

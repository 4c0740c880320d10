//! What can go wrong while a figure is drawn or written.

use std::io;
use std::path::PathBuf;

/// A figure that cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FigureError {
    /// The figure has no series or no bar.
    #[error("figure \"{title}\" has nothing to show: expected at least one series or bar")]
    Empty {
        /// Title of the figure.
        title: String,
    },
    /// No point of any series is finite.
    #[error("figure \"{title}\" has no finite value to show")]
    NothingFinite {
        /// Title of the figure.
        title: String,
    },
    /// Two columns of a series differ in length.
    #[error("series \"{series}\": {column} has {found} values, expected {expected} as in x")]
    Length {
        /// Label of the series.
        series: String,
        /// The column of the wrong length.
        column: &'static str,
        /// Its length.
        found: usize,
        /// The length of x.
        expected: usize,
    },
    /// A logarithmic axis was given a value that has no logarithm.
    #[error("series \"{series}\": x = {value} has no place on a logarithmic axis, expected a positive value")]
    NotPositive {
        /// Label of the series.
        series: String,
        /// The value.
        value: f64,
    },
    /// The picture has too many pixels for a PNG.
    #[error(
        "a picture of {width} x {height} pixels is too large for PNG: show fewer bars or series, or write SVG"
    )]
    TooLarge {
        /// Width in pixels.
        width: f64,
        /// Height in pixels.
        height: f64,
    },
    /// The embedded font cannot be read.
    #[error("the embedded font cannot be read")]
    Font(#[from] ttf_parser::FaceParsingError),
    /// The pixels cannot be encoded.
    #[error("the picture cannot be encoded as PNG")]
    Encoding(#[from] png::EncodingError),
    /// The file cannot be written.
    #[error("cannot write figure {}", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// The reason, with the path of the file or folder it concerns.
        source: io::Error,
    },
}

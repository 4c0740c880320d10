//! Figures: learning curves, comparisons with bands, threshold bars and sensitivity plots, as SVG and PNG.
//!
//! Nothing here depends on the machine: the font is embedded, no system library is asked, and equal input gives
//! equal bytes. A figure is described by plain data ([`Figure`], [`ThresholdBars`]), drawn once into a [`Picture`] (a
//! list of shapes), and the picture is encoded as SVG or rasterised as PNG; so both formats show the same drawing.
//!
//! ```no_run
//! # use trainer::figures::{Figure, ReferenceLine, Series};
//! # fn main() -> Result<(), trainer::figures::FigureError> {
//! let figure = Figure {
//!     title: "CartPole".into(),
//!     x_label: "fresh trajectories".into(),
//!     y_label: "return".into(),
//!     series: vec![Series::line("RT-PG", vec![10.0, 20.0, 30.0], vec![22.0, 60.0, 180.0])],
//!     reference_lines: vec![ReferenceLine::new("threshold", 195.0)],
//!     ..Figure::default()
//! };
//! figure.write_svg("curve.svg")?;
//! figure.write_png("curve.png")
//! # }
//! ```
//!
//! Colours are those of Okabe and Ito (2008), which readers with the common colour-vision deficiencies tell apart;
//! every series has its own dash pattern and marker besides, for print without colour.

mod axis;
mod bars;
mod decimate;
mod error;
mod figure;
mod font;
mod frame;
mod learning_curve;
mod legend;
mod marks;
mod palette;
mod picture;
mod raster;
mod series;
mod svg;

pub use bars::{Bar, ThresholdBars};
pub use error::FigureError;
pub use figure::{Figure, ReferenceLine, Scale};
pub use learning_curve::learning_curve;
pub use picture::Picture;
pub use series::{Band, Series, SeriesStyle};

#[cfg(test)]
mod tests;

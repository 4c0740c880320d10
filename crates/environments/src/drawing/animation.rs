//! Animated pictures.

use std::io;
use std::path::{Path, PathBuf};

use gif::{Encoder, Frame, Repeat};
use tiny_skia::Pixmap;

use super::palette::Palette;
use super::raster;
use super::{Point, Scene};

/// How long the camera averages over the motion that it follows, s; it sees the future as well as the past, so it
/// does not lag behind.
const CAMERA_TIME: f64 = 0.6;

/// Frames whose colours make the palette; the others have the same.
const PALETTE_FRAMES: usize = 16;

/// Why an animation was not written.
#[derive(Debug, thiserror::Error)]
pub enum AnimationError {
    /// There is nothing to show.
    #[error("{path:?}: an animation needs at least one frame")]
    NoFrames {
        /// The file asked for.
        path: PathBuf,
    },
    /// The pictures would have no pixels.
    #[error("{path:?}: the size of an animation is {width}x{height} pixels, expected at least 1x1")]
    NoPixels {
        /// The file asked for.
        path: PathBuf,
        /// The width asked for.
        width: u16,
        /// The height asked for.
        height: u16,
    },
    /// The frame rate cannot be expressed.
    #[error("{path:?}: the frame rate is {frames_per_second}, expected a number above 0 and at most 50")]
    FrameRate {
        /// The file asked for.
        path: PathBuf,
        /// The rate asked for.
        frames_per_second: f64,
    },
    /// The encoder failed.
    #[error("{path:?}: {source}")]
    Encoding {
        /// The file asked for.
        path: PathBuf,
        /// Its error.
        source: gif::EncodingError,
    },
    /// The file could not be written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes `frames` as an animated GIF of `[width, height]` pixels that repeats for ever.
///
/// GIF counts in hundredths of a second, so the rate is rounded to the next one possible; players slow down above 50.
/// The camera follows the centres of the scenes smoothly. The file appears under its name only when it is complete.
///
/// # Errors
/// When there is no frame, the size or the rate are out of range, or the file cannot be written.
pub fn write_gif(
    path: &Path,
    frames: &[Scene],
    frames_per_second: f64,
    size: [u16; 2],
) -> Result<(), AnimationError> {
    let [width, height] = size;
    if frames.is_empty() {
        return Err(AnimationError::NoFrames { path: path.to_owned() });
    }
    if !(frames_per_second > 0.0 && frames_per_second <= 50.0) {
        return Err(AnimationError::FrameRate { path: path.to_owned(), frames_per_second });
    }
    let centres = smooth(frames, (CAMERA_TIME * frames_per_second).round() as usize / 2);
    let picture = |index: usize| {
        raster::draw(&frames[index], centres[index], size).ok_or_else(|| AnimationError::NoPixels {
            path: path.to_owned(),
            width,
            height,
        })
    };
    let sample = (0..frames.len()).step_by(frames.len().div_ceil(PALETTE_FRAMES));
    let sample = sample.map(picture).collect::<Result<Vec<Pixmap>, _>>()?;
    let palette = Palette::of(&sample);

    let encoding = |source| AnimationError::Encoding { path: path.to_owned(), source };
    let mut encoder = Encoder::new(Vec::new(), width, height, &palette.bytes()).map_err(encoding)?;
    encoder.set_repeat(Repeat::Infinite).map_err(encoding)?;
    for index in 0..frames.len() {
        let mut frame = Frame::from_indexed_pixels(width, height, palette.indices(&picture(index)?), None);
        frame.delay = (100.0 / frames_per_second).round().max(2.0) as u16;
        encoder.write_frame(&frame).map_err(encoding)?;
    }
    let bytes = encoder.into_inner().map_err(encoding)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = fs_err::write(&partial, bytes).and_then(|()| fs_err::rename(&partial, path));
    if written.is_err() {
        let _ = fs_err::remove_file(&partial);
    }
    Ok(written?)
}

/// The camera's path: the mean of the centres up to `reach` frames before and after. A jump of more than half a
/// picture, as at a reset, is a cut: the camera does not average across it.
fn smooth(frames: &[Scene], reach: usize) -> Vec<Point> {
    let is_cut = |pair: &[Scene]| {
        let [from, to] = [pair[0].centre(), pair[1].centre()];
        (from[0] - to[0]).hypot(from[1] - to[1]) > 0.5 * pair[1].height()
    };
    let mut path = Vec::with_capacity(frames.len());
    let mut begin = 0;
    while begin < frames.len() {
        let end = frames[begin..].windows(2).position(is_cut).map_or(frames.len(), |index| begin + index + 1);
        let shot = &frames[begin..end];
        path.extend((0..shot.len()).map(|index| {
            // As far back as ahead, so that the camera stays with a body at the ends of a shot.
            let reach = reach.min(index).min(shot.len() - 1 - index);
            let near = &shot[index - reach..=index + reach];
            [0, 1].map(|axis| near.iter().map(|scene| scene.centre()[axis]).sum::<f64>() / near.len() as f64)
        }));
        begin = end;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::Role;

    fn moving(x: f64) -> Scene {
        let mut scene = Scene::new();
        scene.look_at([x, 0.5], 2.0);
        scene.ground(0.0);
        scene.capsule(Role::Trunk, [x, 0.5], [x + 0.5, 0.5], 0.1);
        scene
    }

    #[test]
    fn every_frame_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("motion.gif");
        let frames: Vec<Scene> = (0..7).map(|index| moving(0.1 * f64::from(index))).collect();
        write_gif(&path, &frames, 25.0, [64, 48]).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(fs_err::File::open(&path).unwrap()).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (64, 48));
        let mut count = 0;
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!(frame.delay, 4);
            count += 1;
        }
        assert_eq!(count, 7);
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1, "the partial file is gone");
    }

    #[test]
    fn the_camera_follows_straight_motion_exactly_and_cuts_at_a_jump() {
        let mut frames: Vec<Scene> = (0..20).map(|index| moving(0.1 * f64::from(index))).collect();
        frames.extend((0..20).map(|index| moving(50.0 + 0.1 * f64::from(index))));
        for (scene, centre) in frames.iter().zip(smooth(&frames, 7)) {
            assert!((scene.centre()[0] - centre[0]).abs() < 1e-9, "{scene:?} {centre:?}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let path = Path::new("unwritten.gif");
        assert!(matches!(write_gif(path, &[], 25.0, [8, 8]), Err(AnimationError::NoFrames { .. })));
        let frames = [moving(0.0)];
        assert!(matches!(write_gif(path, &frames, 25.0, [0, 8]), Err(AnimationError::NoPixels { .. })));
        for rate in [0.0, -1.0, f64::NAN, 51.0] {
            assert!(matches!(write_gif(path, &frames, rate, [8, 8]), Err(AnimationError::FrameRate { .. })));
        }
    }
}

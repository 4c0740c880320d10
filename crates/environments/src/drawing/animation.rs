//! Animated pictures.

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

/// Why an animation was not made.
#[derive(Debug, thiserror::Error)]
pub enum AnimationError {
    /// There is nothing to show.
    #[error("an animation needs at least one frame")]
    NoFrames,
    /// The pictures would have no pixels.
    #[error("the size of an animation is {width}x{height} pixels, expected at least 1x1")]
    NoPixels {
        /// The width asked for.
        width: u16,
        /// The height asked for.
        height: u16,
    },
    /// The frame rate cannot be expressed.
    #[error("the frame rate is {frames_per_second}, expected a number above 0 and at most 50")]
    FrameRate {
        /// The rate asked for.
        frames_per_second: f64,
    },
    /// The encoder failed.
    #[error(transparent)]
    Encoding(#[from] gif::EncodingError),
}

/// `frames` as the bytes of an animated GIF of `[width, height]` pixels that repeats for ever.
///
/// GIF counts in hundredths of a second, so the rate is rounded to the next one possible; players slow down above 50.
/// The camera follows the centres of the scenes smoothly.
///
/// # Errors
/// When there is no frame, or the size or the rate are out of range.
pub fn encode_gif(
    frames: &[Scene],
    frames_per_second: f64,
    size: [u16; 2],
) -> Result<Vec<u8>, AnimationError> {
    let [width, height] = size;
    if frames.is_empty() {
        return Err(AnimationError::NoFrames);
    }
    if !(frames_per_second > 0.0 && frames_per_second <= 50.0) {
        return Err(AnimationError::FrameRate { frames_per_second });
    }
    let centres = smooth(frames, (CAMERA_TIME * frames_per_second).round() as usize / 2);
    let picture = |index: usize| {
        let picture = raster::draw(&frames[index], centres[index], size);
        picture.ok_or(AnimationError::NoPixels { width, height })
    };
    let sample = (0..frames.len()).step_by(frames.len().div_ceil(PALETTE_FRAMES));
    let sample = sample.map(picture).collect::<Result<Vec<Pixmap>, _>>()?;
    let palette = Palette::of(&sample);

    let mut encoder = Encoder::new(Vec::new(), width, height, &palette.bytes())?;
    encoder.set_repeat(Repeat::Infinite)?;
    for index in 0..frames.len() {
        let mut frame = Frame::from_indexed_pixels(width, height, palette.indices(&picture(index)?), None);
        frame.delay = (100.0 / frames_per_second).round().max(2.0) as u16;
        encoder.write_frame(&frame)?;
    }
    Ok(encoder.into_inner()?)
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
        let frames: Vec<Scene> = (0..7).map(|index| moving(0.1 * f64::from(index))).collect();
        let bytes = encode_gif(&frames, 25.0, [64, 48]).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        assert_eq!((decoder.width(), decoder.height()), (64, 48));
        let mut count = 0;
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!(frame.delay, 4);
            count += 1;
        }
        assert_eq!(count, 7);
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
        assert!(matches!(encode_gif(&[], 25.0, [8, 8]), Err(AnimationError::NoFrames)));
        let frames = [moving(0.0)];
        assert!(matches!(encode_gif(&frames, 25.0, [0, 8]), Err(AnimationError::NoPixels { .. })));
        for rate in [0.0, -1.0, f64::NAN, 51.0] {
            assert!(matches!(encode_gif(&frames, rate, [8, 8]), Err(AnimationError::FrameRate { .. })));
        }
    }
}

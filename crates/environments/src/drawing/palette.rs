//! At most 256 colours for a whole animation.
//!
//! The pictures are made of few flat colours and their blends along the edges, so the most frequent colours, found
//! with five bits a channel, leave nothing to be seen of the reduction.

use std::collections::HashMap;

use tiny_skia::Pixmap;

/// Bits kept of a channel when colours are counted.
const BITS: u32 = 5;
const BUCKETS: usize = 1 << (3 * BITS);

/// The colours of an animation.
pub(super) struct Palette {
    colours: Vec<[u8; 3]>,
    /// Index of the nearest colour of each bucket.
    nearest: Vec<u8>,
}

fn colours(picture: &Pixmap) -> impl Iterator<Item = [u8; 3]> {
    picture.pixels().iter().map(|pixel| [pixel.red(), pixel.green(), pixel.blue()])
}

fn bucket(colour: [u8; 3]) -> usize {
    colour.iter().fold(0, |index, &channel| (index << BITS) | usize::from(channel >> (8 - BITS)))
}

/// The colour in the middle of a bucket.
fn centre(bucket: usize) -> [u8; 3] {
    let half = 1 << (7 - BITS);
    [2 * BITS, BITS, 0].map(|shift| ((bucket >> shift << (8 - BITS)) as u8) | half)
}

fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
    one.iter().zip(other).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

impl Palette {
    /// The colours that are most frequent in `pictures`.
    pub(super) fn of<'a>(pictures: impl IntoIterator<Item = &'a Pixmap>) -> Self {
        let mut counts: HashMap<[u8; 3], u64> = HashMap::new();
        for picture in pictures {
            for colour in colours(picture) {
                *counts.entry(colour).or_default() += 1;
            }
        }
        // One colour a bucket: the most frequent one, with the weight of them all.
        let mut buckets: HashMap<usize, ([u8; 3], u64, u64)> = HashMap::new();
        for (&colour, &count) in &counts {
            let (best, most, total) = buckets.entry(bucket(colour)).or_insert((colour, 0, 0));
            *total += count;
            if (count, colour) > (*most, *best) {
                (*best, *most) = (colour, count);
            }
        }
        let mut ranked: Vec<_> = buckets.values().map(|&(colour, _, total)| (total, colour)).collect();
        ranked.sort_unstable_by(|one, other| other.cmp(one));
        let colours: Vec<_> = ranked.into_iter().map(|(_, colour)| colour).take(256).collect();

        // Pictures that were not counted may have colours of any bucket: its centre stands for them.
        let nearest = (0..BUCKETS).map(|bucket| {
            let colour = buckets.get(&bucket).map_or_else(|| centre(bucket), |&(colour, ..)| colour);
            let best = (0..colours.len()).min_by_key(|&index| distance(colours[index], colour));
            best.unwrap_or_default() as u8
        });
        Self { nearest: nearest.collect(), colours }
    }

    /// Red, green and blue of every colour in turn.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.colours.concat()
    }

    /// The picture as indices of colours.
    pub(super) fn indices(&self, picture: &Pixmap) -> Vec<u8> {
        colours(picture).map(|colour| self.nearest[bucket(colour)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use tiny_skia::Color;

    use super::*;

    #[test]
    fn flat_colours_are_kept_exactly_however_many_blends_surround_them() {
        let mut picture = Pixmap::new(64, 64).unwrap();
        picture.fill(Color::from_rgba8(0xfb, 0xfa, 0xf7, 0xff));
        // A different shade in every pixel of the first rows, many of them in the bucket of the flat colour.
        for (index, pixel) in picture.data_mut().chunks_exact_mut(4).take(1024).enumerate() {
            pixel.copy_from_slice(&[(index % 256) as u8, (index / 4) as u8, 0xf7, 0xff]);
        }
        let palette = Palette::of([&picture]);
        let last = *palette.indices(&picture).last().unwrap();
        assert_eq!(palette.bytes()[3 * usize::from(last)..][..3], [0xfb, 0xfa, 0xf7]);
        assert!(palette.bytes().len() <= 3 * 256);
    }

    #[test]
    fn a_colour_that_was_not_counted_becomes_the_nearest_one() {
        let filled = |red: u8, green: u8, blue: u8| {
            let mut picture = Pixmap::new(4, 4).unwrap();
            picture.fill(Color::from_rgba8(red, green, blue, 0xff));
            picture
        };
        let pictures = [filled(250, 250, 250), filled(250, 250, 250), filled(200, 0, 0), filled(0, 0, 200)];
        let palette = Palette::of(&pictures);
        for (other, expected) in [([180, 20, 20], [200, 0, 0]), ([9, 30, 170], [0, 0, 200])] {
            let [red, green, blue] = other;
            let index = usize::from(palette.indices(&filled(red, green, blue))[0]);
            assert_eq!(palette.bytes()[3 * index..][..3], expected, "{other:?}");
        }
    }
}

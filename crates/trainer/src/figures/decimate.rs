//! Thinning out curves with more points than the picture has pixels.

use super::picture::Point;

/// Columns to a CSS pixel; two are finer than the eye and the PNG's pixels can show in a line of normal width.
const COLUMNS: f64 = 2.0;

/// The same curve with at most four points to a column: its first, lowest, highest and last there, in their order.
///
/// What is drawn stays the same to a column's width, and the size of the file no longer grows with the run.
pub(super) fn decimate(points: &[Point]) -> Vec<Point> {
    let column = |point: &Point| (point.x * COLUMNS).floor();
    let mut kept = Vec::new();
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        if group.len() <= 4 {
            kept.extend_from_slice(group);
            continue;
        }
        let (mut low, mut high) = (0, 0);
        for (index, point) in group.iter().enumerate() {
            if point.y < group[low].y {
                low = index;
            }
            if point.y > group[high].y {
                high = index;
            }
        }
        let mut indices = [0, low, high, group.len() - 1];
        indices.sort_unstable();
        kept.extend(indices.chunk_by(|a, b| a == b).map(|same| group[same[0]]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_ends_and_extremes() {
        let points: Vec<Point> =
            (0..10_000).map(|i| Point::new(f64::from(i) / 100.0, f64::from(i * 7919 % 1000))).collect();
        let kept = decimate(&points);
        assert!(kept.len() <= 4 * 200);
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        let highest = |points: &[Point]| points.iter().map(|point| point.y).fold(0.0, f64::max);
        assert_eq!(highest(&kept), highest(&points));
        assert!(kept.windows(2).all(|pair| pair[0].x < pair[1].x));
    }

    #[test]
    fn leaves_sparse_curves_alone() {
        let points: Vec<Point> = (0..100).map(|i| Point::new(f64::from(i), 1.0)).collect();
        assert_eq!(decimate(&points), points);
    }
}

//! Axes: the range of the data, round tick values and their labels.

use super::Scale;

/// Spans narrower than this, relative to the values or in all, are widened: the data are constant.
const NARROWEST: f64 = 1e-12;
/// Values are drawn as if they were no larger than this, so that differences stay finite.
const LARGEST: f64 = 1e300;

/// An axis: a range and its ticks.
#[derive(Debug)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Values at which there is a tick, with their labels.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis over the finite ones of `values`, or `None` without any.
    ///
    /// `padding` is the share of the range to leave free at both ends, but not below zero if nothing lies there; with
    /// `from_zero` the axis also starts at zero if the values come near it. About `ticks` values get a tick.
    pub(super) fn linear(
        values: impl Iterator<Item = f64>,
        padding: f64,
        from_zero: bool,
        ticks: usize,
    ) -> Option<Self> {
        let (least, largest) = bounds(values)?;
        let (mut low, mut high) = widen(least, largest);
        if from_zero && least >= 0.0 && low < 0.25 * high {
            low = 0.0;
        }
        let margin = padding * (high - low);
        high += margin;
        low = if least >= 0.0 { (low - margin).max(0.0) } else { low - margin };
        let step = round_step((high - low) / ticks as f64);
        // A tolerance of a millionth of a step keeps ticks on the very ends of the axis.
        let first = (low / step - 1e-6).ceil();
        let count = ((high / step + 1e-6).floor() - first).max(0.0) as usize;
        let ticks = (0..=count).map(|index| (first + index as f64) * step);
        let ticks = ticks.map(|value| (value, label(value, step))).collect();
        Some(Self { scale: Scale::Linear, low, high, ticks })
    }

    /// A base-2 logarithmic axis over the positive, finite ones of `values`, or `None` without any.
    pub(super) fn log2(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (least, largest) = bounds(values.filter(|&value| value > 0.0).map(f64::log2))?;
        let margin = 0.05 * (largest - least) + 0.2;
        let (low, high) = if largest - least < 1.0 {
            (least.floor() - 0.5, largest.ceil() + 0.5)
        } else {
            (least - margin, largest + margin)
        };
        let (first, last) = (low.ceil() as i32, high.floor() as i32);
        let stride = (last - first) as usize / 10 + 1;
        let ticks = (first..=last).step_by(stride).map(|power| {
            let value = f64::from(power).exp2();
            let written = (-9..20).contains(&power);
            (value, if written { value.to_string() } else { format!("2^{power}") })
        });
        Some(Self { scale: Scale::Log2, low, high, ticks: ticks.collect() })
    }

    /// Where `value` lies between the axis's two ends, as 0 to 1; `None` if it has no place on the axis.
    pub(super) fn fraction(&self, value: f64) -> Option<f64> {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log2 => value.log2(),
        };
        let value = value.is_finite().then(|| limited(value))?;
        Some((value - self.low) / (self.high - self.low))
    }

    /// The value at the axis's upper end.
    pub(super) fn end(&self) -> f64 {
        match self.scale {
            Scale::Linear => self.high,
            Scale::Log2 => self.high.exp2(),
        }
    }
}

fn limited(value: f64) -> f64 {
    value.clamp(-LARGEST, LARGEST)
}

/// The least and the largest finite value.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).map(limited).fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// A range of some width around constant values; other ranges as they are.
fn widen(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > NARROWEST * size && high - low > f64::MIN_POSITIVE / NARROWEST {
        return (low, high);
    }
    let half = if size > f64::MIN_POSITIVE / NARROWEST { 0.05 * size } else { 1.0 };
    (low - half, high + half)
}

/// The least of 1, 2, 2.5, 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let multiple = [1.0, 2.0, 2.5, 5.0].into_iter().find(|multiple| multiple * power >= step * (1.0 - 1e-9));
    multiple.unwrap_or(10.0) * power
}

/// The label of a tick on an axis whose ticks are `step` apart: 500, 1k, 1.5k, 2M, −0.25.
fn label(value: f64, step: f64) -> String {
    let size = value.abs();
    if size < 1e-6 * step {
        return "0".to_owned();
    }
    if step < 1e-4 || size >= 1e12 {
        return signed(format!("{:e}", format!("{value:.6e}").parse().unwrap_or(value)));
    }
    // A unit that would need more than two decimals is no help.
    let unit = UNITS.into_iter().find(|(unit, _)| size >= 0.999_999 * unit && step >= unit / 40.0);
    let (unit, suffix) = unit.unwrap_or((1.0, ""));
    let decimals = (1.0 - (step / unit).log10().floor()).max(0.0) as usize;
    signed(format!("{}{suffix}", trimmed(value / unit, decimals)))
}

/// `value` with three significant digits and a unit: 0.125, 38.2, 195, 1.25k, 12.3k, 2M.
pub(super) fn compact(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() {
        return signed(value.to_string());
    }
    if !(1e-3..1e12).contains(&size) {
        return signed(format!("{value:.2e}"));
    }
    let unit = UNITS.into_iter().find(|(unit, _)| size >= 0.9995 * unit);
    let (unit, suffix) = unit.unwrap_or((1.0, ""));
    let digits_before_point = (size / unit).log10().floor() + 1.0;
    let decimals = (3.0 - digits_before_point).max(0.0) as usize;
    signed(format!("{}{suffix}", trimmed(value / unit, decimals)))
}

const UNITS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];

/// `value` with at most `decimals` decimals.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// The typographer's minus sign for the hyphen.
fn signed(text: String) -> String {
    if text.contains('-') { text.replace('-', "\u{2212}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::linear(values.iter().copied(), 0.0, true, 5).unwrap();
        axis.ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_short() {
        assert_eq!(labels(&[0.0, 10_000.0]), ["0", "2k", "4k", "6k", "8k", "10k"]);
        assert_eq!(labels(&[10.0, 2000.0]), ["0", "500", "1k", "1.5k", "2k"]);
        assert_eq!(labels(&[0.0, 1_250_000.0]), ["0", "250k", "500k", "750k", "1M", "1.25M"]);
        assert_eq!(labels(&[-0.5, 0.5]), ["−0.4", "−0.2", "0", "0.2", "0.4"]);
        assert_eq!(labels(&[1998.0, 2002.0]), ["1998", "1999", "2000", "2001", "2002"]);
        assert_eq!(labels(&[0.0, 2e-5]), ["0", "5e−6", "1e−5", "1.5e−5", "2e−5"]);
    }

    #[test]
    fn extreme_ranges_have_few_ticks() {
        let extremes = [f64::MAX, f64::MIN, 0.0, 5e-324, 1.0, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY];
        for a in extremes {
            for b in extremes {
                let Some(axis) = Axis::linear([a, b].into_iter(), 0.04, false, 5) else { continue };
                assert!((1..20).contains(&axis.ticks.len()), "{a} {b}: {:?}", axis.ticks);
                assert!(axis.high > axis.low, "{a} {b}");
                for (value, _) in &axis.ticks {
                    let fraction = axis.fraction(*value).unwrap();
                    assert!((-0.001..=1.001).contains(&fraction), "{a} {b}: {fraction}");
                }
            }
        }
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_two() {
        let axis = Axis::log2([2.0, 16.0, -1.0, f64::NAN].into_iter()).unwrap();
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["2", "4", "8", "16"]);
        assert!(axis.fraction(0.0).is_none());
        let single = Axis::log2([3.0].into_iter()).unwrap();
        assert_eq!(single.ticks.len(), 2);
        assert!(Axis::log2([0.0].into_iter()).is_none());
    }

    #[test]
    fn compact_numbers_have_three_digits() {
        let numbers = [0.0, 0.125, 38.24, 195.0, 999.6, 1250.0, 12_345.0, 2e6, -4.0];
        let texts = numbers.map(compact);
        assert_eq!(texts, ["0", "0.125", "38.2", "195", "1k", "1.25k", "12.3k", "2M", "−4"]);
    }
}

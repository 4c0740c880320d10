//! What metrics need of a batch, added up on the device.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Units of the only cube.
pub(super) const UNITS: usize = 256;

/// Writes the numbers of [`crate::device_trajectories::BatchSummary`] in the order in which it reads them. `summaries`
/// and `lengths` are those of the roll-out.
#[cube(launch_unchecked)]
pub(super) fn summarize(summaries: &[f32], lengths: &[i32], summary: &mut [f32]) {
    let unit = UNIT_POS as usize;
    let count = lengths.len();
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    let mut unstable = Shared::<[f32]>::new_slice(UNITS);
    let mut smallest = Shared::<[f32]>::new_slice(UNITS);
    let mut largest = Shared::<[f32]>::new_slice(UNITS);
    let mut steps = Shared::<[u32]>::new_slice(UNITS);

    let mut sum = f32::new(0.0);
    let mut bad = f32::new(0.0);
    let mut low = summaries[0];
    let mut high = summaries[0];
    let mut length = u32::new(0);
    let mut index = unit;
    while index < count {
        let value = summaries[index * 2];
        sum += value;
        bad += summaries[index * 2 + 1];
        low = min(low, value);
        high = max(high, value);
        length += lengths[index] as u32;
        index += UNITS;
    }
    sums[unit] = sum;
    unstable[unit] = bad;
    smallest[unit] = low;
    largest[unit] = high;
    steps[unit] = length;
    sync_cube();

    // Every unit adds all partial sums up in the same order, and so has the same mean.
    let trajectories = f32::cast_from(count as u32);
    let mean = total(&sums) / trajectories;
    sync_cube();
    let mut squares = f32::new(0.0);
    let mut index = unit;
    while index < count {
        let difference = summaries[index * 2] - mean;
        squares += difference * difference;
        index += UNITS;
    }
    sums[unit] = squares;
    sync_cube();

    if unit == 0 {
        let mut length = steps[0];
        for index in 1..UNITS {
            low = min(low, smallest[index]);
            high = max(high, largest[index]);
            length += steps[index];
        }
        summary[0] = mean;
        summary[1] = (total(&sums) / trajectories).sqrt();
        summary[2] = low;
        summary[3] = high;
        // In two parts, so that both are exact.
        summary[4] = f32::cast_from(length >> 16u32);
        summary[5] = f32::cast_from(length & 0xffffu32);
        summary[6] = total(&unstable);
    }
}

/// The sum of all numbers, with what rounding takes away carried along.
#[cube]
fn total(numbers: &Shared<[f32]>) -> f32 {
    let mut sum = f32::new(0.0);
    let mut lost = f32::new(0.0);
    for index in 0..UNITS {
        let addend = numbers[index] - lost;
        let next = sum + addend;
        lost = (next - sum) - addend;
        sum = next;
    }
    sum
}

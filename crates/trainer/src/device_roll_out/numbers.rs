//! Checks of the random numbers and functions that kernels use.

use burn::tensor::Device;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::server::Handle;
use kernels::KernelDevice;
use kernels::numeric::{log, tanh};
use rand::Rng;

use super::NotCovered;
use super::functions::sin_cos;
use super::random::{normal_pair, philox4x32_10, unit_uniform};
use crate::random::{Purpose, Streams};

/// Replaces counters `[count, 4]` by their blocks.
#[cube(launch)]
fn blocks(words: &mut [u32], key_low: u32, key_high: u32) {
    if ABSOLUTE_POS < words.len() / 4 {
        let place = ABSOLUTE_POS * 4;
        let mut block = Array::<u32>::new(4usize);
        for index in 0..4usize {
            block[index] = words[place + index];
        }
        philox4x32_10(&mut block, key_low, key_high);
        for index in 0..4usize {
            words[place + index] = block[index];
        }
    }
}

/// From words `[count, 2]` to a uniform number, two normal ones, and functions of the uniform one, `[count, 7]`.
#[cube(launch)]
fn numbers(words: &[u32], out: &mut [f32]) {
    if ABSOLUTE_POS < words.len() / 2 {
        let first = words[ABSOLUTE_POS * 2];
        let second = words[ABSOLUTE_POS * 2 + 1];
        let place = ABSOLUTE_POS * 7;
        let uniform = unit_uniform(first, second);
        let (a, b) = normal_pair(first, second);
        let (sine, cosine) = sin_cos(uniform * 128.0_f32 - 64.0_f32);
        out[place] = uniform;
        out[place + 1] = a;
        out[place + 2] = b;
        out[place + 3] = log(uniform * 0.75_f32 + 0.25_f32);
        out[place + 4] = sine;
        out[place + 5] = cosine;
        out[place + 6] = tanh(uniform * 16.0_f32 - 8.0_f32);
    }
}

const COUNT: usize = 4096;
const UNITS: u32 = 64;

/// Name, largest error allowed, and largest error of what a device's kernels draw and compute.
pub fn number_errors(device: &Device) -> Vec<(&'static str, f64, Result<f64, NotCovered>)> {
    let device = KernelDevice::of(device);
    let found = device.map(|device| (block_error(device.client()), function_errors(device.client())));
    let error = |of: fn(&(f64, [f64; 5])) -> f64| found.as_ref().map(of).ok_or(NotCovered::Device);
    vec![
        ("Philox blocks", 0.0, error(|found| found.0)),
        ("uniform numbers", 1e-7, error(|found| found.1[0])),
        ("normal numbers", 2e-6, error(|found| found.1[1])),
        ("logarithm", 5e-7, error(|found| found.1[2])),
        ("sine and cosine", 5e-7, error(|found| found.1[3])),
        ("hyperbolic tangent", 1e-6, error(|found| found.1[4])),
    ]
}

/// Words that differ from those of the host.
fn block_error(client: &Client) -> f64 {
    let streams = Streams::new(0x1234_5678_9abc_def0);
    let [low, high] = streams.key();
    let counter = |index: u32| {
        let block = Purpose::Action as u32 + (index % 3) * crate::random::BLOCK;
        [block, index.wrapping_mul(2_654_435_761), index, !index]
    };
    let counters: Vec<u32> = (0..COUNT as u32).flat_map(counter).collect();
    let handle = client.create_from_slice(u32::as_bytes(&counters));
    blocks::launch(client, cubes(), CubeDim::new_1d(UNITS), buffer(&handle, counters.len()), low, high);
    let found = client.read_one_unchecked(handle);
    let expected =
        (0..COUNT as u32).flat_map(|index| rand_philox::philox4x32_10(counter(index), [low, high]));
    u32::from_bytes(&found).iter().zip(expected).filter(|(found, expected)| **found != *expected).count()
        as f64
}

/// Largest errors of uniform numbers, normal numbers, logarithm, sine and cosine, hyperbolic tangent.
fn function_errors(client: &Client) -> [f64; 5] {
    let streams = Streams::new(3);
    let words: Vec<u32> = (0..COUNT as u32)
        .flat_map(|index| {
            let mut stream = streams.stream(Purpose::Action, 0, index, 0);
            [stream.next_u32(), stream.next_u32()]
        })
        .collect();
    let handle = client.create_from_slice(u32::as_bytes(&words));
    let out = client.empty(COUNT * 7 * size_of::<f32>());
    let dimension = CubeDim::new_1d(UNITS);
    numbers::launch(client, cubes(), dimension, buffer(&handle, words.len()), buffer(&out, COUNT * 7));
    let out = client.read_one_unchecked(out);
    let mut largest = [0.0_f64; 5];
    for (index, found) in f32::from_bytes(&out).chunks_exact(7).enumerate() {
        let word = u64::from(words[2 * index + 1]) << 32 | u64::from(words[2 * index]);
        let mut noise = [0.0; 2];
        streams.normals(Purpose::Action, 0, index as u32, 0, &mut noise);
        // The functions' arguments as the kernel had them; a product and a sum by powers of two are exact or nearly so.
        let uniform = found[0];
        let expected = [
            (0, word as f64 / 2.0_f64.powi(64)),
            (1, f64::from(noise[0])),
            (1, f64::from(noise[1])),
            (2, f64::from(uniform * 0.75 + 0.25).ln()),
            (3, f64::from(uniform * 128.0 - 64.0).sin()),
            (3, f64::from(uniform * 128.0 - 64.0).cos()),
            (4, f64::from(uniform * 16.0 - 8.0).tanh()),
        ];
        for (found, (kind, expected)) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs() / expected.abs().max(1.0);
            largest[kind] = if error.is_nan() { f64::INFINITY } else { largest[kind].max(error) };
        }
    }
    largest
}

fn cubes() -> CubeCount {
    CubeCount::Static((COUNT as u32).div_ceil(UNITS), 1, 1)
}

fn buffer(handle: &Handle, length: usize) -> BufferArg {
    #[expect(unsafe_code, reason = "a kernel trusts the length; it is the one that the memory was made with")]
    unsafe {
        BufferArg::from_raw_parts(handle.clone(), length)
    }
}

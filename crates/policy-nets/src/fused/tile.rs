//! The matrix products of a perceptron on small row-major matrices.
//!
//! All products of a layer `y = W x + b` over a block of samples have the same form: one factor is read as single
//! numbers, each multiplied with vectors of the other factor's row, and a tile of sums stays in registers.
//!
//! | product | single numbers | vectors | function |
//! |---|---|---|---|
//! | `Y[s, o] = b[o] + sum_i X[s, i] W[o, i]` | X | W transposed, in panels | [`rows_times_panels`] |
//! | `dX[s, i] = sum_o dY[s, o] W[o, i]` | dY | W, in panels | [`rows_times_panels`] |
//! | `dW[o, i] += sum_s X[s, i] dY[s, o]` | X, or dY | dY, or X | [`accumulate_outer`] |
//!
//! Every element of the first two is one sum over the inner index in ascending order, whatever tile it falls into: so
//! the result of a row depends neither on its position nor on the number of rows.

use std::marker::PhantomData;

use super::vectors::{Kernel, Vectors};

/// Vectors in a row of a tile and of a panel; the last of a matrix has one when the number of vectors is odd.
pub(super) const PANEL_VECTORS: usize = 2;

/// Steps of the inner sum between two updates of the rows' addresses: integer instructions compete with vector
/// instructions for the processor's execution ports.
const UNROLL: usize = 4;

/// Most rows of a tile of [`rows_times_panels`]. With [`PANEL_VECTORS`] columns its sums fill 12 of 16 registers, or 16 of
/// 32, beside two vectors and a single number. Twice 8 sums hide the latency of the multiply-add, and 8 rows have 8
/// addresses, which fit into the registers for integers.
const fn panel_rows<V: Vectors>() -> usize {
    if V::REGISTERS >= 32 { 8 } else { 6 }
}

/// Most rows of a tile of [`accumulate_outer`], whose single numbers have one address.
const fn outer_rows<V: Vectors>() -> usize {
    if V::REGISTERS >= 32 { 12 } else { 6 }
}

/// Calls a function whose second but last parameter is the number of a tile's rows, at most `$most`, and that at least 6.
macro_rules! tile_of_height {
    ($height:expr, $most:ident, $tile:ident::<$vectors:ident $(, $store:ident)?; $columns:ident> $arguments:tt) => {
        match $height {
            1 if const { 1 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 1, $columns> $arguments,
            2 if const { 2 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 2, $columns> $arguments,
            3 if const { 3 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 3, $columns> $arguments,
            4 if const { 4 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 4, $columns> $arguments,
            5 if const { 5 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 5, $columns> $arguments,
            7 if const { 7 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 7, $columns> $arguments,
            8 if const { 8 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 8, $columns> $arguments,
            9 if const { 9 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 9, $columns> $arguments,
            10 if const { 10 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 10, $columns> $arguments,
            11 if const { 11 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 11, $columns> $arguments,
            12 if const { 12 <= $most::<$vectors>() } => $tile::<$vectors $(, $store)?, 12, $columns> $arguments,
            _ => $tile::<$vectors $(, $store)?, 6, $columns> $arguments,
        }
    };
}

/// What happens to a finished sum.
pub(super) trait Store {
    /// Writes `sum` over `target`, which still holds its previous value.
    fn store<V: Vectors>(simd: V, target: &mut V::Vector, sum: V::Vector);
}

/// Plain assignment.
pub(super) struct Assign;

impl Store for Assign {
    #[inline(always)]
    fn store<V: Vectors>(_: V, target: &mut V::Vector, sum: V::Vector) {
        *target = sum;
    }
}

/// A row-major matrix that is read: rows begin `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// The matrix without its first columns, or rows.
    #[inline(always)]
    fn skip(self, elements: usize) -> Self {
        Self { values: &self.values[elements..], ..self }
    }

    /// The first `count` elements of a row.
    #[inline(always)]
    fn row(self, index: usize, count: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..count]
    }
}

/// Splits `count` into the fewest parts of at most `most`, equal to within one, as `(start, size)`: no part is so
/// small that it waits for latencies.
#[inline(always)]
pub(super) fn even_parts(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    let (size, larger) = (count / parts.max(1), count % parts.max(1));
    (0..parts).map(move |part| (part * size + part.min(larger), size + usize::from(part < larger)))
}

/// `out[s, n] = store(initial[n] + sum_k a[s, k] b[k, n])` for `k < depth`, with `b` in panels: for every two
/// vectors of columns (the last time one or two) a contiguous `[depth, columns]` matrix.
/// `initial` and the rows of `out` have the same number of whole vectors.
#[inline(always)]
pub(super) fn rows_times_panels<V: Vectors, E: Store>(
    simd: V,
    a: Rows<'_>,
    depth: usize,
    panels: &[f32],
    initial: &[f32],
    out: &mut [f32],
) {
    simd.outlined(RowsTimesPanels::<E> { a, depth, panels, initial, out, store: PhantomData });
}

struct RowsTimesPanels<'a, E> {
    a: Rows<'a>,
    depth: usize,
    panels: &'a [f32],
    initial: &'a [f32],
    out: &'a mut [f32],
    store: PhantomData<E>,
}

impl<E: Store> Kernel for RowsTimesPanels<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { a, depth, panels, initial, out, .. } = self;
        let (initial, panels, out) = (V::vectors(initial), V::vectors(panels), V::vectors_mut(out));
        let stride = initial.len();
        let (pairs, single) = initial.as_chunks::<PANEL_VECTORS>();
        let (pair_panels, single_panel) = panels.split_at(pairs.len() * PANEL_VECTORS * depth);
        let (pair_panels, _) = pair_panels.as_chunks::<PANEL_VECTORS>();
        for (index, initial) in pairs.iter().enumerate() {
            let panel = &pair_panels[index * depth..][..depth];
            let out = &mut out[index * PANEL_VECTORS..];
            rows_times_panel::<V, E, PANEL_VECTORS>(simd, a, panel, initial, out, stride);
        }
        if let Some(initial) = single.first_chunk::<1>() {
            let panel = &single_panel.as_chunks::<1>().0[..depth];
            let out = &mut out[pairs.len() * PANEL_VECTORS..];
            rows_times_panel::<V, E, 1>(simd, a, panel, initial, out, stride);
        }
    }
}

#[inline(always)]
fn rows_times_panel<V: Vectors, E: Store, const N: usize>(
    simd: V,
    a: Rows<'_>,
    panel: &[[V::Vector; N]],
    initial: &[V::Vector; N],
    out: &mut [V::Vector],
    stride: usize,
) {
    for (row, height) in even_parts(out.len().div_ceil(stride), panel_rows::<V>()) {
        let (a, out) = (a.skip(row * a.stride), &mut out[row * stride..]);
        tile_of_height!(height, panel_rows, rows_tile::<V, E; N>(simd, a, panel, initial, out, stride));
    }
}

#[inline(always)]
fn rows_tile<V: Vectors, E: Store, const M: usize, const N: usize>(
    simd: V,
    a: Rows<'_>,
    panel: &[[V::Vector; N]],
    initial: &[V::Vector; N],
    out: &mut [V::Vector],
    stride: usize,
) {
    let (panel_parts, panel_rest) = panel.as_chunks::<UNROLL>();
    let mut parts: [&[[f32; UNROLL]]; M] = [&[]; M];
    let mut rests: [&[f32]; M] = [&[]; M];
    for m in 0..M {
        let (part, rest) = a.row(m, panel.len()).as_chunks();
        parts[m] = &part[..panel_parts.len()];
        rests[m] = &rest[..panel_rest.len()];
    }
    let mut sums = [*initial; M];
    for (part, steps) in panel_parts.iter().enumerate() {
        for (k, vectors) in steps.iter().enumerate() {
            for m in 0..M {
                let factor = simd.splat(parts[m][part][k]);
                for n in 0..N {
                    sums[m][n] = simd.mul_add(factor, vectors[n], sums[m][n]);
                }
            }
        }
    }
    for (k, vectors) in panel_rest.iter().enumerate() {
        for m in 0..M {
            let factor = simd.splat(rests[m][k]);
            for n in 0..N {
                sums[m][n] = simd.mul_add(factor, vectors[n], sums[m][n]);
            }
        }
    }
    for m in 0..M {
        let targets = &mut out[m * stride..][..N];
        for n in 0..N {
            E::store(simd, &mut targets[n], sums[m][n]);
        }
    }
}

/// `sums[m, n] += sum_s a[s, m] b[s, n]` over `rows` samples. Rows of `sums` are `width` numbers, whole vectors; where `b`
/// has fewer columns, it is read beyond, and the rest of the sums means nothing.
#[inline(always)]
pub(super) fn accumulate_outer<V: Vectors>(
    simd: V,
    rows: usize,
    a: Rows<'_>,
    b: Rows<'_>,
    width: usize,
    sums: &mut [f32],
) {
    simd.outlined(AccumulateOuter { rows, a, b, width, sums });
}

struct AccumulateOuter<'a> {
    rows: usize,
    a: Rows<'a>,
    b: Rows<'a>,
    width: usize,
    sums: &'a mut [f32],
}

impl Kernel for AccumulateOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { rows, a, b, width, sums } = self;
        let sums = V::vectors_mut(sums);
        let stride = width / V::LANES;
        for column in (0..stride).step_by(PANEL_VECTORS) {
            let (b, sums) = (b.skip(column * V::LANES), &mut sums[column..]);
            if stride - column >= PANEL_VECTORS {
                outer_strip::<V, PANEL_VECTORS>(simd, rows, a, b, sums, stride);
            } else {
                outer_strip::<V, 1>(simd, rows, a, b, sums, stride);
            }
        }
    }
}

#[inline(always)]
fn outer_strip<V: Vectors, const N: usize>(
    simd: V,
    rows: usize,
    a: Rows<'_>,
    b: Rows<'_>,
    sums: &mut [V::Vector],
    stride: usize,
) {
    for (row, height) in even_parts(sums.len().div_ceil(stride), outer_rows::<V>()) {
        let (a, sums) = (a.skip(row), &mut sums[row * stride..]);
        tile_of_height!(height, outer_rows, outer_tile::<V; N>(simd, rows, a, b, sums, stride));
    }
}

#[inline(always)]
fn outer_tile<V: Vectors, const M: usize, const N: usize>(
    simd: V,
    rows: usize,
    a: Rows<'_>,
    b: Rows<'_>,
    totals: &mut [V::Vector],
    stride: usize,
) {
    let mut sums = [[simd.splat(0.0); N]; M];
    for row in 0..rows {
        let factors = a.row(row, M);
        let vectors = V::vectors(b.row(row, N * V::LANES));
        for m in 0..M {
            let factor = simd.splat(factors[m]);
            for n in 0..N {
                sums[m][n] = simd.mul_add(factor, vectors[n], sums[m][n]);
            }
        }
    }
    for m in 0..M {
        let totals = &mut totals[m * stride..][..N];
        for n in 0..N {
            totals[n] = simd.add(totals[n], sums[m][n]);
        }
    }
}

/// `sums[n] += sum_s b[s, n]` over `rows` samples. `sums` are whole vectors; where `b` has fewer columns, it is read
/// beyond, and the rest of the sums means nothing.
#[inline(always)]
pub(super) fn accumulate_rows<V: Vectors>(simd: V, rows: usize, b: Rows<'_>, sums: &mut [f32]) {
    for (n, total) in V::vectors_mut(sums).iter_mut().enumerate() {
        let b = b.skip(n * V::LANES);
        let mut sum = simd.splat(0.0);
        for row in 0..rows {
            sum = simd.add(sum, V::load(b.row(row, V::LANES)));
        }
        *total = simd.add(*total, sum);
    }
}

//! The matrix products of a perceptron on small row-major matrices.
//!
//! All three products of a layer `y = W x + b` over a block of samples have the same form: one factor is read as
//! single numbers, each multiplied with vectors of the other factor's row, and a tile of sums stays in registers.
//!
//! | product | single numbers | vectors | function |
//! |---|---|---|---|
//! | `Y[s, o] = b[o] + sum_i X[s, i] W[o, i]` | X | W transposed, in panels | [`rows_times_panels`] |
//! | `dX[s, i] = sum_o dY[s, o] W[o, i]` | dY | W, in panels | [`rows_times_panels`] |
//! | `dW[o, i] += sum_s X[s, i] dY[s, o]` | X | dY | [`accumulate_outer`] |
//!
//! Every element of the first two is one sum over the inner index in ascending order, whatever tile it falls into: so
//! the result of a row depends neither on its position nor on the number of rows.

use pulp::Simd;

/// Rows of a register tile. With [`PANEL_VECTORS`] columns its sums fill 12 registers; 2 more hold vectors and 1 a
/// single number, out of the 16 of AVX2.
const TILE_ROWS: usize = 6;

/// Vectors in a row of a tile and of a panel; the last of a matrix has one when the number of vectors is odd.
pub(super) const PANEL_VECTORS: usize = 2;

/// What happens to a finished sum.
pub(super) trait Store {
    /// Writes `sum` over `target`, which still holds its previous value.
    fn store<S: Simd>(simd: S, target: &mut S::f32s, sum: S::f32s);
}

/// Plain assignment.
pub(super) struct Assign;

impl Store for Assign {
    #[inline(always)]
    fn store<S: Simd>(_: S, target: &mut S::f32s, sum: S::f32s) {
        *target = sum;
    }
}

/// A row-major matrix that is read: rows begin `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) values: &'a [T],
    pub(super) stride: usize,
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
pub(super) fn rows_times_panels<S: Simd, E: Store>(
    simd: S,
    a: Rows<'_, f32>,
    depth: usize,
    panels: &[f32],
    initial: &[f32],
    out: &mut [f32],
) {
    let (initial, panels, out) =
        (S::as_simd_f32s(initial).0, S::as_simd_f32s(panels).0, S::as_mut_simd_f32s(out).0);
    let stride = initial.len();
    let (pairs, single) = initial.as_chunks::<PANEL_VECTORS>();
    let (pair_panels, single_panel) = panels.split_at(pairs.len() * PANEL_VECTORS * depth);
    let (pair_panels, _) = pair_panels.as_chunks::<PANEL_VECTORS>();
    for (index, initial) in pairs.iter().enumerate() {
        let panel = &pair_panels[index * depth..][..depth];
        rows_times_panel::<S, E, PANEL_VECTORS>(
            simd,
            a,
            panel,
            initial,
            &mut out[index * PANEL_VECTORS..],
            stride,
        );
    }
    if let Some(initial) = single.first_chunk::<1>() {
        let panel = &single_panel.as_chunks::<1>().0[..depth];
        rows_times_panel::<S, E, 1>(simd, a, panel, initial, &mut out[pairs.len() * PANEL_VECTORS..], stride);
    }
}

#[inline(always)]
fn rows_times_panel<S: Simd, E: Store, const N: usize>(
    simd: S,
    a: Rows<'_, f32>,
    panel: &[[S::f32s; N]],
    initial: &[S::f32s; N],
    out: &mut [S::f32s],
    stride: usize,
) {
    for (row, height) in even_parts(out.len().div_ceil(stride), TILE_ROWS) {
        let a = Rows { values: &a.values[row * a.stride..], stride: a.stride };
        let out = &mut out[row * stride..];
        match height {
            1 => rows_tile::<S, E, 1, N>(simd, a, panel, initial, out, stride),
            2 => rows_tile::<S, E, 2, N>(simd, a, panel, initial, out, stride),
            3 => rows_tile::<S, E, 3, N>(simd, a, panel, initial, out, stride),
            4 => rows_tile::<S, E, 4, N>(simd, a, panel, initial, out, stride),
            5 => rows_tile::<S, E, 5, N>(simd, a, panel, initial, out, stride),
            _ => rows_tile::<S, E, TILE_ROWS, N>(simd, a, panel, initial, out, stride),
        }
    }
}

#[inline(always)]
fn rows_tile<S: Simd, E: Store, const M: usize, const N: usize>(
    simd: S,
    a: Rows<'_, f32>,
    panel: &[[S::f32s; N]],
    initial: &[S::f32s; N],
    out: &mut [S::f32s],
    stride: usize,
) {
    let mut rows: [&[f32]; M] = [&[]; M];
    for (m, row) in rows.iter_mut().enumerate() {
        *row = &a.values[m * a.stride..][..panel.len()];
    }
    let mut sums = [*initial; M];
    for (k, vectors) in panel.iter().enumerate() {
        for m in 0..M {
            let factor = simd.splat_f32s(rows[m][k]);
            for n in 0..N {
                sums[m][n] = simd.mul_add_e_f32s(factor, vectors[n], sums[m][n]);
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

/// `sums[m, n] += sum_s a[s, m] b[s, n]` for the columns `m < inputs`; rows of `b` and of `sums` have `width` numbers,
/// whole vectors.
#[inline(always)]
pub(super) fn accumulate_outer<S: Simd>(
    simd: S,
    a: Rows<'_, f32>,
    inputs: usize,
    b: &[f32],
    width: usize,
    sums: &mut [f32],
) {
    let (b, sums) = (S::as_simd_f32s(b).0, S::as_mut_simd_f32s(sums).0);
    let stride = width / S::F32_LANES;
    for column in (0..stride).step_by(PANEL_VECTORS) {
        let b = Rows { values: &b[column..], stride };
        if stride - column >= PANEL_VECTORS {
            outer_strip::<S, PANEL_VECTORS>(simd, a, inputs, b, &mut sums[column..]);
        } else {
            outer_strip::<S, 1>(simd, a, inputs, b, &mut sums[column..]);
        }
    }
}

#[inline(always)]
fn outer_strip<S: Simd, const N: usize>(
    simd: S,
    a: Rows<'_, f32>,
    inputs: usize,
    b: Rows<'_, S::f32s>,
    sums: &mut [S::f32s],
) {
    for (row, height) in even_parts(inputs, TILE_ROWS) {
        let a = Rows { values: &a.values[row..], stride: a.stride };
        let sums = &mut sums[row * b.stride..];
        match height {
            1 => outer_tile::<S, 1, N>(simd, a, b, sums),
            2 => outer_tile::<S, 2, N>(simd, a, b, sums),
            3 => outer_tile::<S, 3, N>(simd, a, b, sums),
            4 => outer_tile::<S, 4, N>(simd, a, b, sums),
            5 => outer_tile::<S, 5, N>(simd, a, b, sums),
            _ => outer_tile::<S, TILE_ROWS, N>(simd, a, b, sums),
        }
    }
}

#[inline(always)]
fn outer_tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    a: Rows<'_, f32>,
    b: Rows<'_, S::f32s>,
    totals: &mut [S::f32s],
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    for (factors, vectors) in a.values.chunks(a.stride).zip(b.values.chunks(b.stride)) {
        let (Some(factors), Some(vectors)) = (factors.first_chunk::<M>(), vectors.first_chunk::<N>()) else {
            break;
        };
        for m in 0..M {
            let factor = simd.splat_f32s(factors[m]);
            for n in 0..N {
                sums[m][n] = simd.mul_add_e_f32s(factor, vectors[n], sums[m][n]);
            }
        }
    }
    for m in 0..M {
        let totals = &mut totals[m * b.stride..][..N];
        for n in 0..N {
            totals[n] = simd.add_f32s(totals[n], sums[m][n]);
        }
    }
}

/// `sums[n] += sum_s b[s, n]`, rows of the length of `sums`.
#[inline(always)]
pub(super) fn accumulate_rows<S: Simd>(simd: S, b: &[f32], sums: &mut [f32]) {
    let (b, sums) = (S::as_simd_f32s(b).0, S::as_mut_simd_f32s(sums).0);
    let stride = sums.len();
    for (n, total) in sums.iter_mut().enumerate() {
        let mut sum = simd.splat_f32s(0.0);
        for row in b.chunks_exact(stride) {
            sum = simd.add_f32s(sum, row[n]);
        }
        *total = simd.add_f32s(*total, sum);
    }
}

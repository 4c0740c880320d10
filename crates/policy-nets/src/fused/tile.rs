//! The matrix products of a perceptron over blocks of samples.
//!
//! All products of a layer `y = W x + b` have the same form: one factor is read as single numbers, each multiplied with
//! vectors of the other factor's row, and a tile of sums stays in registers.
//!
//! | product | single numbers | vectors | function |
//! |---|---|---|---|
//! | `Y[s, o] = b[o] + sum_i X[s, i] W[o, i]` | X | W transposed | [`rows_times_panels`] |
//! | `dX[s, i] = sum_o dY[s, o] W[o, i]` | dY | W | [`rows_times_panels`] |
//! | `dW[o, i] = sum_s X[s, i] dY[s, o]` | X, or dY | dY, or X | [`accumulate_outer`] |
//!
//! Every element of the first two is one sum over the inner index in an order that depends on the layer alone: so the
//! result of a row depends neither on its position nor on the number of rows.
//!
//! # Layout
//! Matrices lie in *panels*: for every [`PANEL_VECTORS`] vectors of columns a contiguous matrix of all rows. A row of a panel
//! has the same length in every matrix over samples, so all numbers of a tile lie at constant distances from one address,
//! and the integer instructions, which share execution ports with the vector ones, are few.

use std::marker::PhantomData;

use super::vectors::{Kernel, Vectors};

/// Vectors in a row of a panel.
pub(super) const PANEL_VECTORS: usize = 2;

/// Steps of a sum from one jump to the next: integer instructions take execution ports from vector instructions. With more,
/// compilers unroll the loop altogether, and the code leaves the processor's cache of decoded instructions.
const UNROLL: usize = 4;

/// A row of a panel over samples; of the last panel of an odd number of vectors, only the first vector is used.
pub(super) type PanelRow<V> = [<V as Vectors>::Vector; PANEL_VECTORS];

/// Numbers in a row of a panel.
pub(super) const fn panel_columns(lanes: usize) -> usize {
    PANEL_VECTORS * lanes
}

/// Panels of a matrix with so many vectors in a row.
pub(super) const fn panel_count(vectors: usize) -> usize {
    vectors.div_ceil(PANEL_VECTORS)
}

/// Most rows of a tile: with [`PANEL_VECTORS`] columns its sums fill 24 of 32 registers, or 12 of 16, beside two vectors and
/// a single number. They are more than the eight that hide the latency of two multiply-adds a cycle, and few tiles lose
/// little where one ends and the next begins. With 28 of 32 registers, compilers move sums to memory in some of the loops.
const fn most_rows<V: Vectors>() -> usize {
    if V::REGISTERS >= 32 { 12 } else { 6 }
}

/// Calls a method with the number of a tile's rows, at most `most_rows`, as its last constant parameter.
macro_rules! tile_of_height {
    ($height:expr, $vectors:ident, $tile:ident::<$($parameter:tt),*> $arguments:tt) => {
        match $height {
            1 => $tile::<$($parameter,)* 1> $arguments,
            2 => $tile::<$($parameter,)* 2> $arguments,
            3 => $tile::<$($parameter,)* 3> $arguments,
            4 => $tile::<$($parameter,)* 4> $arguments,
            5 => $tile::<$($parameter,)* 5> $arguments,
            7 if const { 7 <= most_rows::<$vectors>() } => $tile::<$($parameter,)* 7> $arguments,
            8 if const { 8 <= most_rows::<$vectors>() } => $tile::<$($parameter,)* 8> $arguments,
            9 if const { 9 <= most_rows::<$vectors>() } => $tile::<$($parameter,)* 9> $arguments,
            10 if const { 10 <= most_rows::<$vectors>() } => $tile::<$($parameter,)* 10> $arguments,
            11 if const { 11 <= most_rows::<$vectors>() } => $tile::<$($parameter,)* 11> $arguments,
            12 if const { 12 <= most_rows::<$vectors>() } => $tile::<$($parameter,)* 12> $arguments,
            _ => $tile::<$($parameter,)* 6> $arguments,
        }
    };
}

/// What happens to finished sums.
pub(super) trait Store {
    /// Takes over the sums of the rows from `row` on in the columns of the panel with this index.
    fn store<V: Vectors, const N: usize, const M: usize>(
        &mut self,
        simd: V,
        row: usize,
        panel: usize,
        sums: &[[V::Vector; N]; M],
    );
}

/// What happens to a finished sum where a matrix over samples has its place.
pub(super) trait Combine {
    /// The number that becomes of `previous`, which has been there, and `sum`.
    fn combine<V: Vectors>(simd: V, previous: V::Vector, sum: V::Vector) -> V::Vector;
}

/// Writes to a matrix of so many rows in panels.
pub(super) struct ToPanels<'a, C> {
    values: &'a mut [f32],
    rows: usize,
    combine: PhantomData<C>,
}

impl<'a, C: Combine> ToPanels<'a, C> {
    #[inline(always)]
    pub(super) fn new(values: &'a mut [f32], rows: usize) -> Self {
        Self { values, rows, combine: PhantomData }
    }
}

impl<C: Combine> Store for ToPanels<'_, C> {
    #[inline(always)]
    fn store<V: Vectors, const N: usize, const M: usize>(
        &mut self,
        simd: V,
        row: usize,
        panel: usize,
        sums: &[[V::Vector; N]; M],
    ) {
        let (values, _) = V::vectors_mut(self.values).as_chunks_mut::<PANEL_VECTORS>();
        let targets = &mut values[panel * self.rows + row..][..M];
        for m in 0..M {
            for n in 0..N {
                targets[m][n] = C::combine(simd, targets[m][n], sums[m][n]);
            }
        }
    }
}

/// Plain assignment.
pub(super) struct Assign;

impl Combine for Assign {
    #[inline(always)]
    fn combine<V: Vectors>(_: V, _: V::Vector, sum: V::Vector) -> V::Vector {
        sum
    }
}

/// Writes to rows of `columns` numbers without gaps.
pub(super) struct ToRows<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) columns: usize,
}

impl Store for ToRows<'_> {
    #[inline(always)]
    fn store<V: Vectors, const N: usize, const M: usize>(
        &mut self,
        simd: V,
        row: usize,
        panel: usize,
        sums: &[[V::Vector; N]; M],
    ) {
        for (m, sums) in sums.iter().enumerate() {
            for (n, &sum) in sums.iter().enumerate() {
                let before = panel * panel_columns(V::LANES) + n * V::LANES;
                let count = (self.columns - before).min(V::LANES);
                simd.save_part(sum, &mut self.values[(row + m) * self.columns + before..][..count]);
            }
        }
    }
}

/// Copies rows of `columns` numbers without gaps to panels, with zeros behind every row's end in its last vector.
#[inline(always)]
pub(super) fn rows_to_panels<V: Vectors>(simd: V, values: &[f32], columns: usize, panels: &mut [f32]) {
    let rows = values.len() / columns;
    if rows == 0 {
        return;
    }
    let (panels, _) = V::vectors_mut(panels).as_chunks_mut::<PANEL_VECTORS>();
    for (panel, targets) in panels.chunks_exact_mut(rows).enumerate() {
        let from = panel * panel_columns(V::LANES);
        if from >= columns {
            break;
        }
        let count = (columns - from).min(panel_columns(V::LANES));
        let (first, second) = (count.min(V::LANES), count.saturating_sub(V::LANES));
        let mut start = from;
        for target in targets {
            let row = &values[start..];
            target[0] = simd.load_first(row, first);
            if second > 0 {
                target[1] = simd.load_first(&row[V::LANES..], second);
            }
            start += columns;
        }
    }
}

/// Splits `count` into the fewest parts of at most `most`, equal to within one, as `(start, size)`: no part is so
/// small that it waits for latencies.
#[inline(always)]
pub(super) fn even_parts(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    let (size, larger) = (count / parts.max(1), count % parts.max(1));
    // Counted on, since a start computed from `part` may be computed again wherever it is used, in the innermost loops.
    let mut next = 0;
    (0..parts).map(move |part| {
        let (start, size) = (next, size + usize::from(part < larger));
        next += size;
        (start, size)
    })
}

/// `store(initial[n] + sum_k a[s, k] b[k, n])` for `k < depth` and every row of `a`, a matrix over `rows` samples in panels.
///
/// `b` lies in panels of `depth` rows, the last of one vector where `initial` has an odd number of vectors. When `group` is
/// more than 1, `initial` is one vector, and `b` has instead a vector for each `group` steps of the sum: number
/// `group n + k` of it belongs to column `n` and the step `k` of the group.
#[inline(always)]
pub(super) fn rows_times_panels<V: Vectors, S: Store>(
    simd: V,
    a: (&[f32], usize),
    depth: usize,
    (b, group): (&[f32], usize),
    initial: &[f32],
    store: S,
) {
    let (values, rows) = a;
    simd.outlined(RowsTimesPanels { values, rows, depth, b, group, initial, store });
}

struct RowsTimesPanels<'a, S> {
    values: &'a [f32],
    rows: usize,
    depth: usize,
    b: &'a [f32],
    group: usize,
    initial: &'a [f32],
    store: S,
}

impl<S: Store> Kernel for RowsTimesPanels<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { values, rows, depth, b, group, initial, mut store } = self;
        let (a, _) = V::vectors(values).as_chunks::<PANEL_VECTORS>();
        let (b, initial) = (V::vectors(b), V::vectors(initial));
        let store = &mut store;
        let (pairs, single) = initial.as_chunks::<PANEL_VECTORS>();
        let (pair_panels, single_panel) = b.split_at(pairs.len() * PANEL_VECTORS * depth);
        let (pair_panels, _) = pair_panels.as_chunks::<PANEL_VECTORS>();
        for (panel, initial) in pairs.iter().enumerate() {
            let b = &pair_panels[panel * depth..][..depth];
            rows_times_panel::<V, S, 1, PANEL_VECTORS>(simd, (a, rows), b, initial, panel, store);
        }
        if let Some(initial) = single.first_chunk::<1>() {
            let b = &single_panel.as_chunks::<1>().0[..depth.div_ceil(group)];
            let panel = pairs.len();
            match group {
                2 if const { V::MOST_GROUP >= 2 } => {
                    rows_times_panel::<V, S, 2, 1>(simd, (a, rows), b, initial, panel, store);
                }
                4 if const { V::MOST_GROUP >= 4 } => {
                    rows_times_panel::<V, S, 4, 1>(simd, (a, rows), b, initial, panel, store);
                }
                8 if const { V::MOST_GROUP >= 8 } => {
                    rows_times_panel::<V, S, 8, 1>(simd, (a, rows), b, initial, panel, store);
                }
                _ => rows_times_panel::<V, S, 1, 1>(simd, (a, rows), b, initial, panel, store),
            }
        }
    }
}

/// [`rows_times_panels`] in the columns of one panel of `N` vectors, with groups of `G`.
#[inline(always)]
fn rows_times_panel<V: Vectors, S: Store, const G: usize, const N: usize>(
    simd: V,
    (a, rows): (&[PanelRow<V>], usize),
    b: &[[V::Vector; N]],
    initial: &[V::Vector; N],
    panel: usize,
    store: &mut S,
) {
    for (row, height) in even_parts(rows, most_rows::<V>()) {
        tile_of_height!(height, V, rows_tile::<V, S, G, N>(simd, (a, rows), b, initial, (row, panel), store));
    }
}

#[inline(always)]
fn rows_tile<V: Vectors, S: Store, const G: usize, const N: usize, const M: usize>(
    simd: V,
    (a, rows): (&[PanelRow<V>], usize),
    b: &[[V::Vector; N]],
    initial: &[V::Vector; N],
    (row, panel): (usize, usize),
    store: &mut S,
) {
    let mut sums = if G == 1 { [*initial; M] } else { [[simd.splat(0.0); N]; M] };
    // No `chunks_exact(rows)`, which divides.
    for (index, b) in b.chunks(panel_columns(V::LANES) / G).enumerate() {
        if let Some(a) = a[index * rows + row..].first_chunk() {
            accumulate_rows_tile::<V, G, N, M>(simd, a, b, &mut sums);
        }
    }
    if G > 1 {
        for sums in &mut sums {
            for n in 0..N {
                sums[n] = simd.add(simd.sum_groups::<G>(sums[n]), initial[n]);
            }
        }
    }
    store.store(simd, row, panel, &sums);
}

/// `sums[m, n] += sum_k a[m, k] b[k, n]` over the rows of `b`, at most as many as `a` has columns. With groups as
/// [`rows_times_panels`] describes them, and the sums apart for the steps of a group.
#[inline(always)]
fn accumulate_rows_tile<V: Vectors, const G: usize, const N: usize, const M: usize>(
    simd: V,
    a: &[PanelRow<V>; M],
    b: &[[V::Vector; N]],
    sums: &mut [[V::Vector; N]; M],
) {
    let (parts, rest) = b.as_chunks::<UNROLL>();
    for (index, part) in parts.iter().enumerate() {
        for (step, b) in part.iter().enumerate() {
            accumulate_step::<V, G, N, M>(simd, a, index * UNROLL + step, b, sums);
        }
    }
    for (step, b) in rest.iter().enumerate() {
        accumulate_step::<V, G, N, M>(simd, a, parts.len() * UNROLL + step, b, sums);
    }
}

#[inline(always)]
fn accumulate_step<V: Vectors, const G: usize, const N: usize, const M: usize>(
    simd: V,
    a: &[PanelRow<V>; M],
    k: usize,
    b: &[V::Vector; N],
    sums: &mut [[V::Vector; N]; M],
) {
    for m in 0..M {
        let (groups, _) = numbers::<V>(&a[m]).as_chunks::<G>();
        let factor = simd.splat_group(&groups[k & (panel_columns(V::LANES) / G - 1)]);
        for n in 0..N {
            sums[m][n] = simd.mul_add(factor, b[n], sums[m][n]);
        }
    }
}

/// The numbers of a row of a panel.
#[inline(always)]
fn numbers<V: Vectors>(row: &PanelRow<V>) -> &[f32] {
    pulp::bytemuck::cast_slice(row.as_slice())
}

/// `sums[m, n] = sum_s a[s, m] b[s, n]` over `rows` samples, or that added to `sums` unless it is the `first`. `a` and `b` lie
/// in panels, and `a` has `columns` columns. Rows of `sums` are `width` numbers, whole vectors; where `b` has fewer columns,
/// the rest of the sums means nothing.
#[inline(always)]
pub(super) fn accumulate_outer<V: Vectors>(
    simd: V,
    rows: usize,
    (a, columns): (&[f32], usize),
    (b, width): (&[f32], usize),
    sums: &mut [f32],
    first: bool,
) {
    simd.outlined(AccumulateOuter { rows, a, columns, b, width, sums, first });
}

struct AccumulateOuter<'a> {
    rows: usize,
    a: &'a [f32],
    columns: usize,
    b: &'a [f32],
    width: usize,
    sums: &'a mut [f32],
    first: bool,
}

impl Kernel for AccumulateOuter<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, simd: V) {
        let Self { rows, a, columns, b, width, sums, first } = self;
        let (a, _) = V::vectors(a).as_chunks::<PANEL_VECTORS>();
        let (b, _) = V::vectors(b).as_chunks::<PANEL_VECTORS>();
        let (sums, stride) = (V::vectors_mut(sums), width / V::LANES);
        let most_columns = panel_columns(V::LANES);
        for column in (0..stride).step_by(PANEL_VECTORS) {
            let b = &b[column / PANEL_VECTORS * rows..][..rows];
            for panel in 0..columns.div_ceil(most_columns) {
                let a = &a[panel * rows..][..rows];
                let before = panel * most_columns;
                for (start, height) in even_parts((columns - before).min(most_columns), most_rows::<V>()) {
                    let sums = &mut sums[(before + start) * stride + column..];
                    if stride - column >= PANEL_VECTORS {
                        tile_of_height!(
                            height,
                            V,
                            outer_tile::<V, PANEL_VECTORS>(simd, a, start, b, sums, stride, first)
                        );
                    } else {
                        tile_of_height!(
                            height,
                            V,
                            outer_tile::<V, 1>(simd, a, start, b, sums, stride, first)
                        );
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn outer_tile<V: Vectors, const N: usize, const M: usize>(
    simd: V,
    a: &[PanelRow<V>],
    start: usize,
    b: &[PanelRow<V>],
    totals: &mut [V::Vector],
    stride: usize,
    first: bool,
) {
    assert!(start + M <= panel_columns(V::LANES), "columns of one panel");
    let mut sums = [[simd.splat(0.0); N]; M];
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<UNROLL>(), b.as_chunks::<UNROLL>());
    for (a, b) in a.iter().zip(b) {
        for row in 0..UNROLL {
            accumulate_outer_step::<V, N, M>(simd, &a[row], start, &b[row], &mut sums);
        }
    }
    for (a, b) in last_a.iter().zip(last_b) {
        accumulate_outer_step::<V, N, M>(simd, a, start, b, &mut sums);
    }
    for m in 0..M {
        let totals = &mut totals[m * stride..][..N];
        for n in 0..N {
            totals[n] = if first { sums[m][n] } else { simd.add(totals[n], sums[m][n]) };
        }
    }
}

#[inline(always)]
fn accumulate_outer_step<V: Vectors, const N: usize, const M: usize>(
    simd: V,
    a: &PanelRow<V>,
    start: usize,
    b: &PanelRow<V>,
    sums: &mut [[V::Vector; N]; M],
) {
    let factors = &numbers::<V>(a)[start..][..M];
    for m in 0..M {
        let factor = simd.splat(factors[m]);
        for n in 0..N {
            sums[m][n] = simd.mul_add(factor, b[n], sums[m][n]);
        }
    }
}

/// `sums[n] = sum_s b[s, n]` over `rows` samples, or that added to `sums` unless it is the `first`. `b` lies in panels; `sums`
/// are whole vectors, and where `b` has fewer columns, the rest of them means nothing.
#[inline(always)]
pub(super) fn accumulate_rows<V: Vectors>(simd: V, rows: usize, b: &[f32], sums: &mut [f32], first: bool) {
    let (b, _) = V::vectors(b).as_chunks::<PANEL_VECTORS>();
    for (n, total) in V::vectors_mut(sums).iter_mut().enumerate() {
        let mut sum = simd.splat(0.0);
        for row in &b[n / PANEL_VECTORS * rows..][..rows] {
            sum = simd.add(sum, row[n % PANEL_VECTORS]);
        }
        *total = if first { sum } else { simd.add(*total, sum) };
    }
}

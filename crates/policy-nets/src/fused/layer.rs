//! One affine layer with its parameters packed for the micro-kernels.

use std::ops::Range;

use super::{
    aligned::Aligned,
    tile::{Combine, Store, ToPanels, accumulate_outer, accumulate_rows, panel_columns, rows_times_panels},
    vectors::Vectors,
};

/// `y = W x + b` with `W` of shape `[outputs, inputs]`.
///
/// | field | shape | content |
/// |---|---|---|
/// | `forward` | panels of `[inputs, 2 lanes]`, the last `[inputs, 1 or 2 lanes]` | W transposed, zeros beyond `outputs`; with groups `[inputs / group, outputs, group]` |
/// | `backward` | panels of `[outputs, 2 lanes]`, the last `[outputs, 1 or 2 lanes]` | W, zeros beyond `inputs`; empty in the first layer |
/// | `bias` | `[width]` | b, zeros beyond `outputs` and without biases |
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// `outputs` rounded up to whole vectors.
    pub(super) width: usize,
    /// Inputs that one vector of `forward` takes together, so that few outputs fill it; 1 unless the outputs fill at most
    /// half a vector.
    group: usize,
    lanes: usize,
    has_bias: bool,
    forward: Aligned,
    backward: Aligned,
    bias: Aligned,
    zeros: Aligned,
    /// This layer's part of a packed gradient: the gradient of W in rows of whole vectors, then `[width]`, that of b, when
    /// there are biases.
    packed: Range<usize>,
    /// Whether the gradient of W lies there as it is, `[outputs, input width]`, and not transposed, `[inputs, width]`. The
    /// shorter of the two has fewer numbers that only fill vectors.
    upright: bool,
}

impl Layer {
    /// A layer of zeros whose packed gradient begins at `packed_start`. The `first` layer needs no backward product. Vectors
    /// have `lanes` numbers, and groups at most `most_group`.
    pub(super) fn new(
        (inputs, outputs): (usize, usize),
        has_bias: bool,
        first: bool,
        (lanes, most_group): (usize, usize),
        packed_start: usize,
    ) -> Self {
        let mut group = most_group;
        while group > 1 && (outputs * group > lanes || inputs <= group / 2) {
            group /= 2;
        }
        let width = outputs.next_multiple_of(lanes);
        let input_width = if first { 0 } else { inputs.next_multiple_of(lanes) };
        let upright = !first && outputs * input_width < inputs * width;
        let weights = if upright { outputs * input_width } else { inputs * width };
        let biases = if has_bias { width } else { 0 };
        Self {
            lanes,
            inputs,
            outputs,
            width,
            group,
            has_bias,
            forward: Aligned::zeros(inputs.div_ceil(group) * width),
            backward: Aligned::zeros(outputs * input_width),
            bias: Aligned::zeros(width),
            zeros: Aligned::zeros(input_width),
            packed: packed_start..packed_start + weights + biases,
            upright,
        }
    }

    /// Number of parameters.
    pub(super) fn parameter_count(&self) -> usize {
        self.outputs * (self.inputs + usize::from(self.has_bias))
    }

    /// End of this layer's part of a packed gradient.
    pub(super) fn packed_end(&self) -> usize {
        self.packed.end
    }

    /// Packs this layer's parameters in flat order: W row-major, then b.
    pub(super) fn load(&mut self, parameters: &[f32]) {
        let (weight, bias) = parameters.split_at(self.outputs * self.inputs);
        let (panel, zeros) = (panel_columns(self.lanes), self.zeros.len());
        for (output, row) in weight.chunks_exact(self.inputs).enumerate() {
            if self.group > 1 {
                for (vector, values) in self.forward.chunks_exact_mut(self.lanes).zip(row.chunks(self.group))
                {
                    vector[output * self.group..][..values.len()].copy_from_slice(values);
                }
            } else {
                let (start, column) = panel_place(panel, self.inputs, output);
                let columns = self.forward[start..].chunks_exact_mut(panel.min(self.width - output + column));
                for (target, &value) in columns.zip(row) {
                    target[column] = value;
                }
            }
            for (index, values) in row.chunks(panel).enumerate().take(zeros.div_ceil(panel)) {
                let columns = panel.min(zeros - index * panel);
                let start = index * panel * self.outputs + output * columns;
                self.backward[start..][..values.len()].copy_from_slice(values);
            }
        }
        self.bias[..bias.len()].copy_from_slice(bias);
    }

    /// `store(b[o] + sum_i x[s, i] W[o, i])` for `rows` samples.
    #[inline(always)]
    pub(super) fn forward<V: Vectors>(&self, simd: V, x: &[f32], rows: usize, store: impl Store) {
        rows_times_panels(simd, (x, rows), self.inputs, (&self.forward, self.group), &self.bias, store);
    }

    /// `inputs[s, i] = combine(inputs[s, i], sum_o delta[s, o] W[o, i])` for `rows` samples.
    #[inline(always)]
    pub(super) fn backward<V: Vectors, C: Combine>(
        &self,
        simd: V,
        delta: &[f32],
        rows: usize,
        inputs: &mut [f32],
    ) {
        let store = ToPanels::<C>::new(inputs, rows);
        rows_times_panels(simd, (delta, rows), self.outputs, (&self.backward, 1), &self.zeros, store);
    }

    /// Writes the gradient of the parameters, given the layer's inputs for `rows` samples and the gradient `delta` of its
    /// outputs, to a packed gradient, or adds it to that unless it is the `first`.
    #[inline(always)]
    pub(super) fn accumulate<V: Vectors>(
        &self,
        simd: V,
        rows: usize,
        (x, delta): (&[f32], &[f32]),
        packed: &mut [f32],
        first: bool,
    ) {
        let biases = if self.has_bias { self.width } else { 0 };
        let packed = &mut packed[self.packed.clone()];
        let (weight, bias) = packed.split_at_mut(packed.len() - biases);
        if self.upright {
            accumulate_outer(simd, rows, (delta, self.outputs), (x, self.zeros.len()), weight, first);
        } else {
            accumulate_outer(simd, rows, (x, self.inputs), (delta, self.width), weight, first);
        }
        if self.has_bias {
            accumulate_rows(simd, rows, delta, bias, first);
        }
    }

    /// Adds this layer's part of a packed gradient to its part of a flat one.
    pub(super) fn unpack<T: Copy + Into<f64>>(&self, packed: &[T], flat: &mut [f64]) {
        let (weight, bias) = flat.split_at_mut(self.outputs * self.inputs);
        let packed = &packed[self.packed.clone()];
        let biases = if self.has_bias { self.width } else { 0 };
        let (packed_weight, packed_bias) = packed.split_at(packed.len() - biases);
        if self.upright {
            let rows = packed_weight.chunks_exact(self.zeros.len());
            for (target, row) in weight.chunks_exact_mut(self.inputs).zip(rows) {
                for (target, &value) in target.iter_mut().zip(row) {
                    *target += value.into();
                }
            }
        } else {
            for (input, row) in packed_weight.chunks_exact(self.width).enumerate() {
                for (output, &value) in row[..self.outputs].iter().enumerate() {
                    weight[output * self.inputs + input] += value.into();
                }
            }
        }
        for (target, &value) in bias.iter_mut().zip(packed_bias) {
            *target += value.into();
        }
    }
}

/// Where the panel of a column begins in a matrix of `depth` rows in panels of `panel` columns, and the column within the panel.
fn panel_place(panel: usize, depth: usize, column: usize) -> (usize, usize) {
    (column / panel * panel * depth, column % panel)
}

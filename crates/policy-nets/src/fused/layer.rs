//! One affine layer with its parameters packed for the micro-kernels.

use std::ops::Range;

use pulp::Simd;

use super::tile::{PANEL_VECTORS, Rows, Store, accumulate_outer, accumulate_rows, rows_times_panels};

/// `y = W x + b` with `W` of shape `[outputs, inputs]`.
///
/// | field | shape | content |
/// |---|---|---|
/// | `forward` | panels of `[inputs, 2 lanes]`, the last `[inputs, 1 or 2 lanes]` | W transposed, zeros beyond `outputs` |
/// | `backward` | panels of `[outputs, 2 lanes]`, the last `[outputs, 1 or 2 lanes]` | W, zeros beyond `inputs`; empty in the first layer |
/// | `bias` | `[width]` | b, zeros beyond `outputs` and without biases |
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Length of the rows of this layer's outputs in scratch memory: `outputs` rounded up to whole vectors.
    pub(super) width: usize,
    lanes: usize,
    has_bias: bool,
    forward: Vec<f32>,
    backward: Vec<f32>,
    bias: Vec<f32>,
    zeros: Vec<f32>,
    /// This layer's part of a packed gradient: `[inputs, width]`, the gradient of W transposed, then `[width]`, that
    /// of b, when there are biases.
    packed: Range<usize>,
}

impl Layer {
    /// A layer of zeros whose packed gradient begins at `packed_start`. The `first` layer needs no backward product.
    pub(super) fn new(
        (inputs, outputs): (usize, usize),
        has_bias: bool,
        first: bool,
        lanes: usize,
        packed_start: usize,
    ) -> Self {
        let width = outputs.next_multiple_of(lanes);
        let input_width = if first { 0 } else { inputs.next_multiple_of(lanes) };
        Self {
            lanes,
            inputs,
            outputs,
            width,
            has_bias,
            forward: vec![0.0; inputs * width],
            backward: vec![0.0; outputs * input_width],
            bias: vec![0.0; width],
            zeros: vec![0.0; input_width],
            packed: packed_start..packed_start + (inputs + usize::from(has_bias)) * width,
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
        let panel = PANEL_VECTORS * self.lanes;
        for (output, row) in weight.chunks_exact(self.inputs).enumerate() {
            for (input, &value) in row.iter().enumerate() {
                self.forward[panel_index(panel, self.inputs, self.width, input, output)] = value;
                if !self.backward.is_empty() {
                    self.backward[panel_index(panel, self.outputs, self.zeros.len(), output, input)] = value;
                }
            }
        }
        self.bias[..bias.len()].copy_from_slice(bias);
    }

    /// `out[s, o] = store(b[o] + sum_i x[s, i] W[o, i])`, rows of length `width`.
    #[inline(always)]
    pub(super) fn forward<S: Simd, E: Store>(&self, simd: S, x: Rows<'_, f32>, out: &mut [f32]) {
        rows_times_panels::<S, E>(simd, x, self.inputs, &self.forward, &self.bias, out);
    }

    /// `out[s, i] = store(sum_o delta[s, o] W[o, i])`, rows of the length of the previous layer's `width`.
    #[inline(always)]
    pub(super) fn backward<S: Simd, E: Store>(&self, simd: S, delta: &[f32], out: &mut [f32]) {
        let delta = Rows { values: delta, stride: self.width };
        rows_times_panels::<S, E>(simd, delta, self.outputs, &self.backward, &self.zeros, out);
    }

    /// Adds the gradient of the parameters, given the layer's inputs and the gradient `delta` of its outputs, to a
    /// packed gradient.
    #[inline(always)]
    pub(super) fn accumulate<S: Simd>(&self, simd: S, x: Rows<'_, f32>, delta: &[f32], packed: &mut [f32]) {
        let (weight, bias) = packed[self.packed.clone()].split_at_mut(self.inputs * self.width);
        accumulate_outer(simd, x, self.inputs, delta, self.width, weight);
        if self.has_bias {
            accumulate_rows(simd, delta, bias);
        }
    }

    /// Adds this layer's part of a packed gradient to its part of a flat one.
    pub(super) fn unpack<T: Copy + Into<f64>>(&self, packed: &[T], flat: &mut [f64]) {
        let (weight, bias) = flat.split_at_mut(self.outputs * self.inputs);
        let mut rows = packed[self.packed.clone()].chunks_exact(self.width);
        for (input, row) in rows.by_ref().take(self.inputs).enumerate() {
            for (output, &value) in row[..self.outputs].iter().enumerate() {
                weight[output * self.inputs + input] += value.into();
            }
        }
        for (target, &value) in bias.iter_mut().zip(rows.flatten()) {
            *target += value.into();
        }
    }
}

/// Position of element `(row, column)` of a `[depth, width]` matrix in panels of `panel` columns, the last of what is
/// left.
fn panel_index(panel: usize, depth: usize, width: usize, row: usize, column: usize) -> usize {
    let start = column / panel * panel;
    start * depth + row * panel.min(width - start) + column - start
}

//! Layers and products of matrices, as the kernels see them.

use crate::plan::FOUR;

/// One layer, as the kernels see it. Positions in shared memory count vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LayerPlan {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Place of the weight `[outputs, inputs]` in the flat parameter vector.
    pub(crate) weight: usize,
    /// Place of the bias.
    pub(crate) bias: Option<usize>,
    /// Sums of the outputs over the inputs.
    pub(crate) forward: Product,
    /// Gradients with respect to the inputs, sums over those of the outputs.
    pub(crate) backward: Product,
    /// Units that share a tile of the weight gradient, each with its part of the rows.
    pub(crate) parts: usize,
    /// Place of the tile among those that a unit keeps in registers from block to block.
    pub(crate) kept: Option<usize>,
    /// Place of the inputs `[inputs, stride]` among the activations.
    pub(crate) input: usize,
    /// Place of the outputs `[outputs, stride]`.
    pub(crate) output: usize,
    /// Whether the nonlinearity follows.
    pub(crate) hidden: bool,
}

impl LayerPlan {
    /// Tiles of the weight gradient across and down, and numbers of one across and down.
    pub(crate) fn gradient_tiles(&self) -> [usize; 4] {
        let (wide, high) = (self.inputs.min(FOUR), self.outputs.min(FOUR));
        [self.inputs.div_ceil(wide), self.outputs.div_ceil(high), wide, high]
    }
}

/// One way through a layer's weights: sums over features, for other features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    /// Features that are summed over, and features that come out.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Place of the first weight in the flat parameter vector, and numbers from there to the next feature's that is summed over
    /// and to the next one's that comes out.
    pub(crate) weight: usize,
    pub(crate) from_stride: usize,
    pub(crate) to_stride: usize,
    /// Place among the weights in shared memory, `[from, to / 4]`, or `[to, from / 4]` of a narrow product.
    pub(crate) shared: Option<usize>,
    /// Vectors of features that a unit computes together.
    pub(crate) columns: usize,
    /// Whether a unit computes one feature alone, because vectors of them would leave most units idle.
    pub(crate) narrow: bool,
}

impl Product {
    /// Vectors of features that come out.
    pub(crate) fn vectors(&self) -> usize {
        self.to.div_ceil(FOUR)
    }

    /// Vectors of weights in a line: of a feature that is summed over, or of a narrow product's feature that comes out.
    pub(crate) fn across(&self) -> usize {
        if self.narrow { self.from.div_ceil(FOUR) } else { self.vectors() }
    }

    /// Vectors of all weights.
    pub(crate) fn size(&self) -> usize {
        self.across() * if self.narrow { self.to } else { self.from }
    }

    /// Features that a unit computes together.
    pub(crate) fn features(&self) -> usize {
        if self.narrow { 1 } else { FOUR * self.columns }
    }

    /// Tiles of a block with so many vectors of rows.
    pub(crate) fn tiles(&self, groups: usize) -> usize {
        groups * if self.narrow { self.to } else { self.vectors().div_ceil(self.columns) }
    }
}

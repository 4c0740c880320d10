//! How a network is laid out in a cube's shared memory.
//!
//! A cube works on a block of `rows` steps at a time. Activations stand feature by feature, four rows in a
//! vector and an odd number of vectors from one feature to the next: neighbouring units read neighbouring rows in the forward
//! pass and neighbouring features in the backward pass, both without bank conflicts. Weights stand beside them, four in a
//! vector, too, when there is room, else they are read from global memory, which caches them.

use policy_nets::{Activation, Architecture};

use crate::device::{Buffer, length};
use crate::layer_plan::{LayerPlan, Product};
use crate::statistics::SUMS;
use crate::window::WindowBuffers;

/// Numbers of a vector.
pub(crate) const FOUR: usize = 4;
/// Units of a cube. A multiple of every plane size, and half of what WebGPU guarantees.
pub(crate) const UNITS: usize = 128;
/// Cubes with a backward pass that a processor runs together, given their registers.
const RESIDENT: usize = 4;
/// Bytes of shared memory that CUDA takes for itself in every cube.
const RESERVED_BYTES: usize = 1024;
/// So many cubes are taken to run at the same time on a device that does not tell its processors.
const MANY_CUBES: usize = 512;
/// Bytes of shared memory up to which several cubes share a processor.
const COMFORTABLE_BYTES: usize = 48 * 1024;
/// Bytes up to which two do, where a device has so many.
const LARGEST_BYTES: usize = 100 * 1024;
/// Most rows of a block, and of a large one.
const USUAL_ROWS: usize = 64;
const MANY_ROWS: usize = 128;
/// Units of a cube that runs a forward pass over one.
const MANY_UNITS: usize = 2 * UNITS;
/// Vectors in which units exchange their parts of a weight gradient.
const EXCHANGE: usize = FOUR * UNITS;
/// Layers whose weight gradients a unit can keep in registers.
const MOST_KEPT: usize = 4;
/// Buffers of the kernel with the most but for the sweep's, and one for its sizes.
const BINDINGS: usize = 11;
/// Buffers of the sweep's kernel, and one for its sizes.
const SWEEP_BINDINGS: usize = 12;
/// Numbers for every action component: constants of the density.
const PER_ACTION: usize = 5;

/// What a device allows a cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of shared memory.
    pub shared_bytes: usize,
    /// Units of a cube.
    pub units: usize,
    /// Buffers of a kernel.
    pub bindings: usize,
    /// Processors that run cubes at the same time, where the device tells.
    pub processors: Option<usize>,
}

impl Limits {
    /// The most bytes of shared memory with which [`RESIDENT`] cubes share a processor.
    fn shared_by_resident(&self) -> usize {
        ((self.shared_bytes + RESERVED_BYTES) / RESIDENT).saturating_sub(RESERVED_BYTES)
    }
}

/// Why the kernels do not run a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// Not even the smallest block of steps fits.
    #[error(
        "layers of {numbers} numbers in all do not fit into {shared_bytes} bytes of shared memory, four steps at a time"
    )]
    TooWide {
        /// Widths of all layers together, input and output included.
        numbers: usize,
        /// What the device has.
        shared_bytes: usize,
    },
    /// The device runs fewer units in a cube than the kernels are written for.
    #[error("the device runs {units} units together, and the kernels need {}", crate::reduce::UNITS)]
    TooFewUnits {
        /// What the device runs.
        units: usize,
    },
    /// The device hands fewer buffers to a kernel.
    #[error("the device gives a kernel {bindings} buffers, and one of ours needs {needed}")]
    TooFewBindings {
        /// What the device gives.
        bindings: usize,
        /// What is needed.
        needed: usize,
    },
}

/// A network in shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NetworkPlan {
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) activation: Activation,
    pub(crate) observation_size: usize,
    pub(crate) action_size: usize,
    /// Numbers of the flat vector that belong to the mean network.
    pub(crate) mean_parameters: usize,
    /// Whether `ln sigma` follows them.
    pub(crate) learned: bool,
    /// Units of a cube.
    pub(crate) units: usize,
    /// Steps of a block, a multiple of [`FOUR`].
    pub(crate) rows: usize,
    /// Whether every row of a block says if it is kept.
    flagged: bool,
    /// Numbers of the units' sums of statistics.
    sum_numbers: usize,
    /// Vectors from one feature's rows to the next's.
    pub(crate) stride: usize,
    /// Place of every row's gradient with respect to a learned `ln sigma`, `[action, stride]`.
    pub(crate) deviation: usize,
    /// Tiles of weight gradients that a unit keeps in registers.
    pub(crate) kept: usize,
    /// Vectors of activations.
    pub(crate) activations: usize,
    /// Vectors of weights, at least one.
    pub(crate) weights: usize,
    /// Single numbers: `[PER_ACTION, action]`, the units' sums, the rows' coefficients, and which rows are kept, as far as the pass has them.
    pub(crate) numbers: usize,
}

/// What a plan is for. That decides which activations are kept, and whose steps a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Forward over each trajectory of at most `horizon` steps.
    Statistics { horizon: usize },
    /// Forward and backward over steps in a row, whosever they are.
    Gradient,
    /// Forward and backward over each trajectory of at most `horizon` steps, in large blocks where that is asked for and they fit.
    Sweep { horizon: usize, large: bool },
}

impl Pass {
    /// Whether activations of all layers are needed to the end.
    fn goes_back(self) -> bool {
        !matches!(self, Self::Statistics { .. })
    }
}

impl NetworkPlan {
    /// The plan for a pass; `learned` says whether `ln sigma` stands at the end of the flat parameters.
    ///
    /// # Errors
    /// [`NotCovered`] when the network does not fit.
    pub(crate) fn new(
        architecture: &Architecture,
        learned: bool,
        pass: Pass,
        limits: Limits,
    ) -> Result<Self, NotCovered> {
        // Sums of partial gradients take the most.
        if limits.units < crate::reduce::UNITS {
            return Err(NotCovered::TooFewUnits { units: limits.units });
        }
        let needed = if matches!(pass, Pass::Sweep { .. }) { SWEEP_BINDINGS } else { BINDINGS };
        if limits.bindings < needed {
            return Err(NotCovered::TooFewBindings { bindings: limits.bindings, needed });
        }
        let comfortable = limits.shared_bytes.min(COMFORTABLE_BYTES);
        let largest = limits.shared_bytes.min(LARGEST_BYTES);
        // Blocks of many rows first, then weights beside them, then whatever fits. A forward pass takes so many rows that a
        // trajectory is soon done; with the registers of a backward pass there would be too few cubes of so many units at work.
        let many = match pass {
            Pass::Statistics { horizon } if horizon > USUAL_ROWS && limits.units >= MANY_UNITS => {
                Some((MANY_ROWS, MANY_UNITS, true, comfortable))
            }
            Pass::Sweep { horizon, large: true } if horizon > USUAL_ROWS => {
                let bytes = limits.processors.map_or(comfortable, |_| limits.shared_by_resident());
                Some((MANY_ROWS, UNITS, true, bytes))
            }
            _ => None,
        };
        let preferences = [
            (USUAL_ROWS, UNITS, true, comfortable),
            (32, UNITS, true, comfortable),
            (USUAL_ROWS, UNITS, true, largest),
            (USUAL_ROWS, UNITS, false, comfortable),
            (32, UNITS, false, comfortable),
            (16, UNITS, false, limits.shared_bytes),
            (8, UNITS, false, limits.shared_bytes),
            (4, UNITS, false, limits.shared_bytes),
        ];
        many.into_iter()
            .chain(preferences)
            .map(|(most_rows, units, weights, bytes)| {
                (Self::lay_out(architecture, learned, [most_rows, units], pass, weights), bytes)
            })
            .find(|(plan, bytes)| plan.bytes() <= *bytes)
            .map(|(plan, _)| plan)
            .ok_or_else(|| NotCovered::TooWide {
                numbers: architecture.observation_size
                    + architecture.layers().iter().map(|(_, outputs)| outputs).sum::<usize>(),
                shared_bytes: limits.shared_bytes,
            })
    }

    fn lay_out(
        architecture: &Architecture,
        learned: bool,
        [most_rows, units]: [usize; 2],
        pass: Pass,
        share_weights: bool,
    ) -> Self {
        let rows = match pass {
            // Blocks that go on from one trajectory to the next.
            Pass::Gradient => most_rows,
            // Blocks of one trajectory, of even size: 1000 steps are eight of 128, 150 are two of 76.
            Pass::Statistics { horizon } | Pass::Sweep { horizon, .. } => {
                let blocks = horizon.div_ceil(most_rows).max(1);
                horizon.div_ceil(blocks).next_multiple_of(FOUR).max(FOUR)
            }
        };
        let groups = rows / FOUR;
        let stride = groups | 1;
        let sizes = architecture.layers();
        let widest = sizes.iter().map(|(inputs, outputs)| *inputs.max(outputs)).max().unwrap_or(0);

        let mut layers: Vec<LayerPlan> = vec![];
        let (mut parameters, mut weights, mut kept) = (0, 0, 0);
        let goes_back = pass.goes_back();
        let mut input = 0;
        // Forward alone, two areas take turns.
        let mut end = if goes_back { architecture.observation_size } else { 2 * widest } * stride;
        for (index, &(inputs, outputs)) in sizes.iter().enumerate() {
            let output = if goes_back { end } else { (1 - index % 2) * widest * stride };
            if goes_back {
                end += outputs * stride;
            }
            let weight = parameters;
            parameters += inputs * outputs;
            let bias = architecture.bias.then_some(parameters);
            parameters += if architecture.bias { outputs } else { 0 };
            let mut product = |[from, to]: [usize; 2], [from_stride, to_stride]: [usize; 2], shares: bool| {
                let columns = columns(units, groups, to);
                // Where all features one by one are two tiles for each unit at most, and weights are at hand.
                let narrow = shares && groups * to <= 2 * units;
                let mut product =
                    Product { from, to, weight, from_stride, to_stride, shared: None, columns, narrow };
                if shares {
                    product.shared = Some(weights);
                    weights += product.size();
                }
                product
            };
            let forward = product([inputs, outputs], [1, inputs], share_weights);
            let backward = product([outputs, inputs], [inputs, 1], share_weights && goes_back && index > 0);
            let mut layer = LayerPlan {
                inputs,
                outputs,
                weight,
                bias,
                forward,
                backward,
                parts: 1,
                kept: None,
                input,
                output,
                hidden: index + 1 < sizes.len(),
            };
            let [across, down, ..] = layer.gradient_tiles();
            if goes_back && across * down <= units && kept < MOST_KEPT {
                layer.parts = (units / (across * down)).min(groups);
                layer.kept = Some(kept);
                kept += 1;
            }
            layers.push(layer);
            input = output;
        }
        let sum_numbers = if pass == Pass::Gradient { 0 } else { SUMS * units };
        // A coefficient, and across trajectories, whether the row is kept.
        let per_row = match pass {
            Pass::Statistics { .. } => 0,
            Pass::Sweep { .. } => 1,
            Pass::Gradient => 2,
        };
        let deviation = end;
        if learned && goes_back {
            end += architecture.action_size * stride;
        }
        if kept > 0 {
            end = end.max(EXCHANGE);
        }
        Self {
            layers,
            activation: architecture.activation,
            observation_size: architecture.observation_size,
            action_size: architecture.action_size,
            mean_parameters: parameters,
            learned,
            units,
            rows,
            flagged: pass == Pass::Gradient,
            sum_numbers,
            stride,
            deviation,
            kept,
            activations: end,
            weights: weights.max(1),
            numbers: PER_ACTION * architecture.action_size + sum_numbers + per_row * rows,
        }
    }

    /// Cubes that the device runs at the same time.
    pub(crate) fn cubes_at_once(&self, limits: Limits) -> usize {
        let together = (limits.shared_bytes + RESERVED_BYTES) / (self.bytes() + RESERVED_BYTES);
        limits.processors.map_or(MANY_CUBES, |processors| processors * together.clamp(1, RESIDENT))
    }

    /// Bytes of shared memory.
    fn bytes(&self) -> usize {
        (FOUR * (self.activations + self.weights) + self.numbers) * size_of::<f32>()
    }

    /// Place of the units' sums of statistics, behind the numbers for every action component.
    pub(crate) fn sums(&self) -> usize {
        PER_ACTION * self.action_size
    }

    /// Place of the rows' coefficients.
    pub(crate) fn coefficients(&self) -> usize {
        self.sums() + self.sum_numbers
    }

    /// Place of what says which rows of a block are kept, where it is not the first ones.
    pub(crate) fn row_flags(&self) -> Option<usize> {
        self.flagged.then(|| self.coefficients() + self.rows)
    }

    /// Numbers of the flat parameter vector.
    pub(crate) fn parameter_count(&self) -> usize {
        self.mean_parameters + if self.learned { self.action_size } else { 0 }
    }

    /// Checks that buffers have the sizes on which the kernels rely.
    ///
    /// # Panics
    /// When they have not.
    pub(crate) fn check(&self, parameters: &Buffer, log_std: &Buffer, window: &WindowBuffers) {
        assert!(length(parameters) >= self.parameter_count(), "parameters of the network");
        assert!(
            self.learned || length(log_std) >= self.action_size,
            "a deviation for every action component"
        );
        window.check(window.filled, self.observation_size, self.action_size);
    }

    /// Vectors of rows of a block.
    pub(crate) fn groups(&self) -> usize {
        self.rows / FOUR
    }

    /// The layer with the means as outputs.
    pub(crate) fn last(&self) -> LayerPlan {
        self.layers[self.layers.len() - 1]
    }
}

/// Vectors of features that a unit computes together: two where one would leave more tiles than units.
fn columns(units: usize, groups: usize, features: usize) -> usize {
    let vectors = features.div_ceil(FOUR);
    if groups * vectors <= units { 1 } else { 2.min(vectors) }
}

#[cfg(test)]
mod tests;

//! How a network is laid out in a cube's shared memory.
//!
//! A cube works on a block of `rows` steps of one trajectory at a time. Activations stand feature by feature, each
//! feature's rows together with an odd stride: neighbouring units read neighbouring rows in the forward pass and
//! neighbouring features in the backward pass, both without bank conflicts. Weights stand beside them when there is
//! room, else they are read from global memory, which caches them.

use policy_nets::{Activation, Architecture};

/// Rows that a unit computes together, and columns where there are as many.
pub(crate) const TILE: usize = 4;
/// Units of a cube. A multiple of every plane size, and half of what WebGPU guarantees.
pub(crate) const UNITS: usize = 128;
/// Bytes of shared memory up to which several cubes share a processor.
const COMFORTABLE_BYTES: usize = 32 * 1024;
/// Numbers that reductions over a cube need.
const REDUCTION: usize = 4 * UNITS;
/// Buffers of the kernel with the most, and one for its sizes.
const BINDINGS: usize = 11;
/// Numbers for every action component: constants of the density, or sums.
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
    #[error("the device runs {units} units together, and the kernels need {UNITS}")]
    TooFewUnits {
        /// What the device runs.
        units: usize,
    },
    /// The device hands fewer buffers to a kernel.
    #[error("the device gives a kernel {bindings} buffers, and one of ours needs {BINDINGS}")]
    TooFewBindings {
        /// What the device gives.
        bindings: usize,
    },
}

/// One layer, as the kernels see it. Positions in shared memory count numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LayerPlan {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Place of the weight `[outputs, inputs]` in the flat parameter vector.
    pub(crate) weight: usize,
    /// Place of the bias.
    pub(crate) bias: Option<usize>,
    /// Place of the weight's copy in shared memory, with rows of `weight_stride`.
    pub(crate) shared_weight: Option<usize>,
    pub(crate) weight_stride: usize,
    /// Place of the inputs `[inputs, stride]` in shared memory.
    pub(crate) input: usize,
    /// Place of the outputs `[outputs, stride]`.
    pub(crate) output: usize,
    /// Whether the nonlinearity follows.
    pub(crate) hidden: bool,
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
    /// Steps of a block, a multiple of [`TILE`].
    pub(crate) rows: usize,
    /// Numbers from one feature's rows to the next's.
    pub(crate) stride: usize,
    /// Place of the numbers for every action component, `[PER_ACTION, action]`.
    pub(crate) per_action: usize,
    /// Place of every row's gradient with respect to a learned `ln sigma`, `[action, stride]`.
    pub(crate) deviation: usize,
    /// Numbers of shared memory in all.
    pub(crate) memory: usize,
}

/// Which activations a pass needs to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Those of the last layer: forward.
    Last,
    /// Those of every layer: forward and backward.
    All,
}

impl NetworkPlan {
    /// The plan for trajectories of at most `horizon` steps; `learned` says whether `ln sigma` stands at the end of the
    /// flat parameters.
    ///
    /// # Errors
    /// [`NotCovered`] when the network does not fit.
    pub(crate) fn new(
        architecture: &Architecture,
        horizon: usize,
        learned: bool,
        keep: Keep,
        limits: Limits,
    ) -> Result<Self, NotCovered> {
        if limits.units < UNITS {
            return Err(NotCovered::TooFewUnits { units: limits.units });
        }
        if limits.bindings < BINDINGS {
            return Err(NotCovered::TooFewBindings { bindings: limits.bindings });
        }
        let comfortable = limits.shared_bytes.min(COMFORTABLE_BYTES);
        // Long blocks first, then weights beside them, then whatever fits.
        let preferences = [
            (128, true, comfortable),
            (64, true, comfortable),
            (32, true, comfortable),
            (64, false, comfortable),
            (32, false, comfortable),
            (16, false, limits.shared_bytes),
            (8, false, limits.shared_bytes),
            (4, false, limits.shared_bytes),
        ];
        preferences
            .into_iter()
            .map(|(most_rows, weights, bytes)| {
                (Self::lay_out(architecture, learned, most_rows, horizon, keep, weights), bytes)
            })
            .find(|(plan, bytes)| plan.memory * size_of::<f32>() <= *bytes)
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
        most_rows: usize,
        horizon: usize,
        keep: Keep,
        share_weights: bool,
    ) -> Self {
        // Blocks of even size: 100 steps are two of 52, not one of 64 and one of 36.
        let blocks = horizon.div_ceil(most_rows).max(1);
        let rows = horizon.div_ceil(blocks).next_multiple_of(TILE).max(TILE);
        let stride = rows | 1;
        let sizes = architecture.layers();
        let widest = sizes.iter().map(|(inputs, outputs)| *inputs.max(outputs)).max().unwrap_or(0);

        let mut layers = vec![];
        let (mut parameters, mut end) = (0, 0);
        let mut input = 0;
        if keep == Keep::All {
            end = architecture.observation_size * stride;
        }
        for (index, &(inputs, outputs)) in sizes.iter().enumerate() {
            let output = match keep {
                // Two areas that take turns.
                Keep::Last => (1 - index % 2) * widest * stride,
                Keep::All => end,
            };
            let weight = parameters;
            parameters += inputs * outputs;
            let bias = architecture.bias.then_some(parameters);
            parameters += if architecture.bias { outputs } else { 0 };
            let hidden = index + 1 < sizes.len();
            let layer = LayerPlan {
                inputs,
                outputs,
                weight,
                bias,
                shared_weight: None,
                weight_stride: inputs,
                input,
                output,
                hidden,
            };
            layers.push(layer);
            input = output;
            end = match keep {
                // Sums over the cube take the place of the activations, and of nothing else.
                Keep::Last => (2 * widest * stride).max(REDUCTION),
                Keep::All => output + outputs * stride,
            };
        }
        let per_action = end;
        end += PER_ACTION * architecture.action_size;
        let deviation = end;
        if learned && keep == Keep::All {
            end += architecture.action_size * stride;
        }
        if share_weights {
            for layer in &mut layers {
                layer.shared_weight = Some(end);
                layer.weight_stride = layer.inputs | 1;
                end += layer.outputs * layer.weight_stride;
            }
        }
        Self {
            layers,
            activation: architecture.activation,
            observation_size: architecture.observation_size,
            action_size: architecture.action_size,
            mean_parameters: parameters,
            learned,
            rows,
            stride,
            per_action,
            deviation,
            memory: end,
        }
    }

    /// Numbers of the flat parameter vector.
    pub(crate) fn parameter_count(&self) -> usize {
        self.mean_parameters + if self.learned { self.action_size } else { 0 }
    }

    /// The layer with the means as outputs.
    pub(crate) fn last(&self) -> LayerPlan {
        self.layers[self.layers.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: Limits = Limits { shared_bytes: 16 * 1024, units: 256, bindings: 16 };
    const LARGE: Limits = Limits { shared_bytes: 227 * 1024, units: 1024, bindings: 64 };

    fn architecture(sizes: &[usize], bias: bool) -> Architecture {
        Architecture {
            observation_size: sizes[0],
            action_size: sizes[sizes.len() - 1],
            hidden: sizes[1..sizes.len() - 1].to_vec(),
            activation: Activation::Tanh,
            bias,
        }
    }

    fn ranges(plan: &NetworkPlan, keep: Keep) -> Vec<(usize, usize)> {
        let mut ranges = vec![(plan.per_action, PER_ACTION * plan.action_size)];
        for layer in &plan.layers {
            if keep == Keep::All {
                ranges.push((layer.output, layer.outputs * plan.stride));
            }
            ranges.extend(layer.shared_weight.map(|at| (at, layer.outputs * layer.weight_stride)));
        }
        if keep == Keep::All {
            ranges.push((plan.layers[0].input, plan.observation_size * plan.stride));
            ranges.push((plan.deviation, plan.action_size * plan.stride));
        }
        ranges
    }

    #[test]
    fn areas_do_not_overlap_and_fit_what_every_webgpu_device_has() {
        for sizes in [&[4, 1][..], &[17, 32, 32, 6], &[64, 64, 64, 64], &[3, 33, 7, 5, 2], &[1, 1]] {
            for bias in [false, true] {
                for horizon in [1, 7, 100, 1000] {
                    for keep in [Keep::Last, Keep::All] {
                        for limits in [SMALLEST, LARGE] {
                            let plan =
                                NetworkPlan::new(&architecture(sizes, bias), horizon, true, keep, limits)
                                    .unwrap_or_else(|error| panic!("{sizes:?}: {error}"));
                            assert!(plan.memory * 4 <= limits.shared_bytes);
                            assert!(plan.rows.is_multiple_of(TILE) && plan.stride % 2 == 1);
                            assert!(keep == Keep::All || plan.per_action >= REDUCTION);
                            let mut ranges = ranges(&plan, keep);
                            ranges.sort_unstable();
                            for pair in ranges.windows(2) {
                                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} in {plan:?}");
                            }
                            let (start, length) = ranges[ranges.len() - 1];
                            assert!(start + length <= plan.memory);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_layer_never_writes_what_it_reads() {
        let plan = NetworkPlan::new(&architecture(&[5, 40, 3, 9, 2], true), 50, false, Keep::Last, SMALLEST)
            .unwrap();
        for layer in &plan.layers {
            let (input, output) = (layer.input, layer.output);
            let apart =
                input + layer.inputs * plan.stride <= output || output + layer.outputs * plan.stride <= input;
            assert!(apart, "{layer:?}");
        }
        for pair in plan.layers.windows(2) {
            assert_eq!(pair[0].output, pair[1].input);
        }
    }

    #[test]
    fn a_network_that_is_too_wide_is_refused() {
        let wide = architecture(&[4, 5000, 1], false);
        let refused = NetworkPlan::new(&wide, 200, false, Keep::All, SMALLEST).unwrap_err();
        assert_eq!(refused, NotCovered::TooWide { numbers: 5005, shared_bytes: 16 * 1024 });
        let few =
            NetworkPlan::new(&wide, 200, false, Keep::All, Limits { units: 64, ..SMALLEST }).unwrap_err();
        assert_eq!(few, NotCovered::TooFewUnits { units: 64 });
        let limits = Limits { bindings: 8, ..SMALLEST };
        let few = NetworkPlan::new(&wide, 200, false, Keep::All, limits).unwrap_err();
        assert_eq!(few, NotCovered::TooFewBindings { bindings: 8 });
    }
}

//! Layouts: areas, blocks, tiles, and what is refused.

use super::*;

const SMALLEST: Limits = Limits { shared_bytes: 16 * 1024, units: 256, bindings: 16, processors: None };
/// An NVIDIA H100.
const LARGE: Limits = Limits { shared_bytes: 227 * 1024, units: 1024, bindings: 64, processors: Some(132) };

fn passes(horizon: usize) -> [Pass; 4] {
    [
        Pass::Statistics { horizon },
        Pass::Gradient,
        Pass::Sweep { horizon, large: false },
        Pass::Sweep { horizon, large: true },
    ]
}

fn architecture(sizes: &[usize], bias: bool) -> Architecture {
    Architecture {
        observation_size: sizes[0],
        action_size: sizes[sizes.len() - 1],
        hidden: sizes[1..sizes.len() - 1].to_vec(),
        activation: Activation::Tanh,
        bias,
    }
}

/// Areas among the activations, and among the weights.
fn ranges(plan: &NetworkPlan, pass: Pass) -> [Vec<(usize, usize)>; 2] {
    let (mut activations, mut weights) = (vec![], vec![]);
    for layer in &plan.layers {
        if pass.goes_back() {
            activations.push((layer.output, layer.outputs * plan.stride));
        }
        let products = [layer.forward, layer.backward].into_iter();
        weights.extend(products.filter_map(|product| Some((product.shared?, product.size()))));
    }
    if pass.goes_back() {
        activations.push((plan.layers[0].input, plan.observation_size * plan.stride));
        activations.push((plan.deviation, plan.action_size * plan.stride));
    }
    [activations, weights]
}

#[test]
fn areas_do_not_overlap_and_fit_what_every_webgpu_device_has() {
    for sizes in [&[4, 1][..], &[17, 32, 32, 6], &[64, 64, 64, 64], &[3, 33, 7, 5, 2], &[1, 1]] {
        for bias in [false, true] {
            for horizon in [1, 7, 100, 1000] {
                for pass in passes(horizon) {
                    for limits in [SMALLEST, LARGE] {
                        let plan = NetworkPlan::new(&architecture(sizes, bias), true, pass, limits)
                            .unwrap_or_else(|error| panic!("{sizes:?}: {error}"));
                        assert!(plan.bytes() <= limits.shared_bytes);
                        assert!(plan.rows.is_multiple_of(FOUR) && plan.stride % 2 == 1);
                        assert!(plan.stride * FOUR >= plan.rows && plan.units <= limits.units);
                        let sizes = [plan.activations, plan.weights];
                        for (mut ranges, size) in ranges(&plan, pass).into_iter().zip(sizes) {
                            ranges.sort_unstable();
                            for pair in ranges.windows(2) {
                                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?} in {plan:?}");
                            }
                            assert!(ranges.last().is_none_or(|(start, length)| start + length <= size));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_unit_has_at_most_one_part_of_a_kept_tile() {
    for sizes in [&[4, 1][..], &[17, 32, 32, 6], &[64, 64, 64], &[9; 9]] {
        let plan = NetworkPlan::new(&architecture(sizes, false), false, Pass::Gradient, LARGE).unwrap();
        for layer in &plan.layers {
            let [across, down, wide, high] = layer.gradient_tiles();
            assert!(across * wide >= layer.inputs && down * high >= layer.outputs);
            assert!(layer.kept.is_none() || across * down * layer.parts <= UNITS, "{layer:?}");
            assert!(layer.kept.is_some() || layer.parts == 1, "{layer:?}");
        }
        assert!(plan.kept <= MOST_KEPT);
        assert!(plan.layers.iter().filter_map(|layer| layer.kept).eq(0..plan.kept));
        assert!(plan.kept == 0 || plan.activations >= EXCHANGE);
    }
}

#[test]
fn few_features_are_computed_one_by_one() {
    let plan = NetworkPlan::new(&architecture(&[17, 32, 32, 6], false), false, Pass::Gradient, LARGE);
    let plan = plan.unwrap();
    let tiles = |product: &Product| product.tiles(plan.groups());
    let [forward, backward] = [plan.last().forward, plan.last().backward];
    assert!(forward.narrow && (forward.features(), tiles(&forward)) == (1, 96));
    assert!(!backward.narrow && (backward.features(), tiles(&backward)) == (4, 128));
}

#[test]
fn a_large_block_is_a_whole_trajectory_where_that_leaves_four_cubes_a_processor() {
    let network = architecture(&[17, 32, 32, 6], false);
    let plan = |large, horizon, limits| {
        NetworkPlan::new(&network, false, Pass::Sweep { horizon, large }, limits).unwrap()
    };
    let large = plan(true, 100, LARGE);
    assert_eq!((large.rows, large.units), (100, UNITS));
    for layer in &large.layers[..2] {
        assert_eq!((layer.forward.columns, layer.forward.tiles(large.groups())), (2, 100));
    }
    assert!(large.last().forward.narrow);
    for horizon in 1..=1000 {
        let plan = plan(true, horizon, LARGE);
        assert_eq!(plan.cubes_at_once(LARGE), 4 * 132, "{horizon}: {} bytes", plan.bytes());
    }
    // Two blocks of 60 steps, where one of 120 would be too large.
    assert_eq!([99, 116, 120, 1000].map(|horizon| plan(true, horizon, LARGE).rows), [100, 116, 60, 64]);
    assert_eq!([60, 100].map(|horizon| plan(false, horizon, LARGE).rows), [60, 52]);
    assert!(plan(true, 100, SMALLEST).rows < 64);
}

#[test]
fn large_networks_leave_room_for_fewer_cubes() {
    let plan = |sizes: &[usize]| {
        NetworkPlan::new(&architecture(sizes, false), false, Pass::Gradient, LARGE).unwrap()
    };
    assert_eq!(plan(&[4, 1]).cubes_at_once(LARGE), 4 * 132);
    assert_eq!(plan(&[17, 64, 64, 6]).cubes_at_once(LARGE), 2 * 132);
    assert_eq!(plan(&[17, 64, 64, 6]).cubes_at_once(SMALLEST), 512);
}

#[test]
fn a_layer_never_writes_what_it_reads() {
    let plan = NetworkPlan::new(
        &architecture(&[5, 40, 3, 9, 2], true),
        false,
        Pass::Statistics { horizon: 50 },
        SMALLEST,
    )
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
    let refused = NetworkPlan::new(&wide, false, Pass::Gradient, SMALLEST).unwrap_err();
    assert_eq!(refused, NotCovered::TooWide { numbers: 5005, shared_bytes: 16 * 1024 });
    let few = NetworkPlan::new(&wide, false, Pass::Gradient, Limits { units: 200, ..SMALLEST }).unwrap_err();
    assert_eq!(few, NotCovered::TooFewUnits { units: 200 });
    assert!(few.to_string().ends_with("need 256"), "{few}");
    let limits = Limits { bindings: 8, ..SMALLEST };
    let few = NetworkPlan::new(&wide, false, Pass::Gradient, limits).unwrap_err();
    assert_eq!(few, NotCovered::TooFewBindings { bindings: 8, needed: 11 });
}

//! Means and gradients of single networks.

use super::{super::Scratch, *};

const ROWS: [usize; 9] = [0, 1, 2, 5, 7, 13, 128, 129, 300];

#[test]
fn means_agree_with_the_oracle() {
    let mut random = Random(2);
    let mut scratch = Scratch::default();
    for architecture in architectures(&mut random, 30) {
        let parameters = parameters(&architecture, &mut random);
        let (size, rows) = (architecture.observation_size, 37);
        let observations = random.numbers(rows * size, 1.5);
        let expected: Vec<f64> = to_f64(&observations)
            .chunks(size)
            .flat_map(|observation| oracle::means(&architecture, &to_f64(&parameters), observation))
            .collect();
        for instructions in InstructionSet::available() {
            let mut means = vec![f32::NAN; rows * architecture.action_size];
            loaded(&architecture, &parameters, instructions).means(&observations, &mut means, &mut scratch);
            let distance = relative_distance(&to_f64(&means), &expected);
            assert!(distance < 1e-6, "{architecture:?}, {instructions:?}: {distance:e}");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_others() {
    let mut random = Random(3);
    let mut scratch = Scratch::default();
    for architecture in architectures(&mut random, 10) {
        let parameters = parameters(&architecture, &mut random);
        let (o, a) = (architecture.observation_size, architecture.action_size);
        for instructions in InstructionSet::available() {
            let network = loaded(&architecture, &parameters, instructions);
            for rows in ROWS {
                let observations = random.numbers(rows * o, 2.0);
                let mut together = vec![f32::NAN; rows * a];
                network.means(&observations, &mut together, &mut scratch);
                let mut alone = vec![f32::NAN; rows * a];
                for (observation, mean) in observations.chunks(o).zip(alone.chunks_mut(a)) {
                    network.means(observation, mean, &mut scratch);
                }
                assert_eq!(together, alone, "{architecture:?}, {rows} rows");
                let split = random.below(rows + 1);
                let mut parts = vec![f32::NAN; rows * a];
                network.means(&observations[..split * o], &mut parts[..split * a], &mut scratch);
                network.means(&observations[split * o..], &mut parts[split * a..], &mut scratch);
                assert_eq!(together, parts, "{architecture:?}, {rows} rows split at {split}");
            }
        }
    }
}

#[test]
fn a_nan_stays_in_its_row() {
    let mut random = Random(4);
    let architecture = architecture(17, &[32, 32], 6, Activation::Tanh, true);
    let parameters = parameters(&architecture, &mut random);
    let mut observations = random.numbers(13 * 17, 1.0);
    observations[5 * 17 + 3] = f32::NAN;
    for instructions in InstructionSet::available() {
        let mut means = vec![0.0; 13 * 6];
        let network = loaded(&architecture, &parameters, instructions);
        network.means(&observations, &mut means, &mut Scratch::default());
        for (row, mean) in means.chunks(6).enumerate() {
            assert!(mean.iter().all(|value| value.is_nan() == (row == 5)), "row {row}: {mean:?}");
        }
    }
}

#[test]
fn gradients_agree_with_the_oracle() {
    let mut random = Random(5);
    let mut scratch = Scratch::default();
    for architecture in architectures(&mut random, 30) {
        let parameters = parameters(&architecture, &mut random);
        let rows = ROWS[random.below(ROWS.len())];
        let observations = random.numbers(rows * architecture.observation_size, 1.5);
        let mean_gradient = random.numbers(rows * architecture.action_size, 1.0);
        let mut expected = vec![0.25; parameters.len()];
        for (observation, direction) in to_f64(&observations)
            .chunks(architecture.observation_size)
            .zip(to_f64(&mean_gradient).chunks(architecture.action_size))
        {
            let parameters = to_f64(&parameters);
            oracle::accumulate_vjp(&architecture, &parameters, observation, direction, &mut expected);
        }
        for instructions in InstructionSet::available() {
            let mut gradient = vec![0.25; parameters.len()];
            let network = loaded(&architecture, &parameters, instructions);
            network.vjp(&observations, &mean_gradient, &mut gradient, &mut scratch);
            let distance = relative_distance(&gradient, &expected);
            assert!(distance < 2e-6, "{architecture:?}, {rows} rows, {instructions:?}: {distance:e}");
        }
    }
}

#[test]
fn many_rows_lose_no_accuracy() {
    let mut random = Random(6);
    let architecture = architecture(4, &[8], 1, Activation::Tanh, true);
    let parameters = parameters(&architecture, &mut random);
    let rows = 40_000;
    let observations = random.numbers(rows * 4, 1.0);
    let mean_gradient = vec![1.0; rows];
    let mut expected = vec![0.0; parameters.len()];
    for observation in to_f64(&observations).chunks(4) {
        oracle::accumulate_vjp(&architecture, &to_f64(&parameters), observation, &[1.0], &mut expected);
    }
    let mut gradient = vec![0.0; parameters.len()];
    let network = loaded(&architecture, &parameters, InstructionSet::detect());
    network.vjp(&observations, &mean_gradient, &mut gradient, &mut Scratch::default());
    let distance = relative_distance(&gradient, &expected);
    assert!(distance < 1e-6, "{distance:e}");
}

#[test]
fn loading_again_replaces_everything() {
    let mut random = Random(7);
    let architecture = architecture(5, &[9, 20], 3, Activation::Tanh, true);
    let (first, second) = (parameters(&architecture, &mut random), parameters(&architecture, &mut random));
    let observations = random.numbers(5 * 11, 1.0);
    let mut scratch = Scratch::default();
    let mut network = loaded(&architecture, &first, InstructionSet::detect());
    network.load(&second);
    let (mut reloaded, mut fresh) = (vec![0.0; 33], vec![0.0; 33]);
    network.means(&observations, &mut reloaded, &mut scratch);
    loaded(&architecture, &second, InstructionSet::detect()).means(&observations, &mut fresh, &mut scratch);
    assert_eq!(reloaded, fresh);
}

#[test]
fn scratch_memory_may_serve_networks_of_any_shape_in_turn() {
    let mut random = Random(8);
    let (mut shared, list) = (Scratch::default(), architectures(&mut random, 5));
    for index in (0..40).map(|_| random.below(list.len())).collect::<Vec<_>>() {
        let (o, a) = (list[index].observation_size, list[index].action_size);
        let network = loaded(&list[index], &parameters(&list[index], &mut random), InstructionSet::detect());
        let (observations, direction) = (random.numbers(19 * o, 1.0), random.numbers(19 * a, 1.0));
        let mut gradients = [vec![0.0; network.parameter_count()], vec![0.0; network.parameter_count()]];
        network.vjp(&observations, &direction, &mut gradients[0], &mut shared);
        network.vjp(&observations, &direction, &mut gradients[1], &mut Scratch::default());
        assert_eq!(gradients[0], gradients[1]);
    }
}

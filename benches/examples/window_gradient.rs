//! Our contender of `benches/peers/window_gradient.py`: `window_gradient FOLDER --gradient FILE --threads N`.
//!
//! Reads `trajectories.safetensors` and `policy.safetensors` of the folder, writes the gradient of the whole window as
//! float64 numbers to the file, and says its version in a line of JSON; then, for every line `SECONDS` of its input, it
//! computes the gradient over and over for so long and prints the seconds of every call.

use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use policy_nets::fused::InstructionSet;
use policy_nets::{GaussianPolicy, PolicyState};
use trainer::algorithms::{Algorithm, FusedReuse};
use trainer::config::{AlgorithmConfig, PowerMeanConfig};
use trainer::device::{self, DeviceChoice};
use trainer::logged::{Behaviour, LoggedTrajectories};
use trainer::phases::Phases;
use trainer::threads::Threads;
use trainer::trajectories::{BatchShape, Trajectories};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, _, gradient_file, _, threads] = arguments.as_slice() else {
        return Err("expected FOLDER --gradient FILE --threads N".into());
    };
    let folder = PathBuf::from(folder);
    let threads = Threads::new(threads.parse()?)?;
    let device = device::select(&DeviceChoice::Cpu)?;
    let state = PolicyState::load(&folder.join("policy.safetensors"))?;
    let policy = GaussianPolicy::from_state(&state, &device.device);
    let logged = LoggedTrajectories::load(&folder.join("trajectories.safetensors"))?;

    let config = AlgorithmConfig::RtPg(PowerMeanConfig {
        window: logged.window,
        batch_size: logged.batch,
        ..PowerMeanConfig::default()
    });
    let shape = BatchShape {
        trajectories: logged.batch,
        horizon: logged.horizon,
        observation_size: logged.observation_size,
        action_size: logged.action_size,
    };
    let parameter_count = state.flat_parameters().len();
    let mut algorithm = FusedReuse::new(&config, shape, parameter_count, &device.device, &threads);
    for batch in batches(&logged, shape)? {
        algorithm.estimate(&policy, &[batch], &mut Phases::default());
    }

    let mut estimate = || {
        let parameters = policy.parameters_on_host();
        algorithm.estimate_on_host(&policy, &parameters, &[], &mut Phases::default()).gradient
    };
    write(Path::new(gradient_file), &estimate())?;
    say(&format!("{{\"version\": \"{}, {:?}\"}}", env!("CARGO_PKG_VERSION"), InstructionSet::detect()));
    for line in std::io::stdin().lock().lines() {
        let (seconds, start) = (line?.trim().parse::<f64>()?, Instant::now());
        let mut times = vec![];
        while start.elapsed().as_secs_f64() < seconds {
            let before = Instant::now();
            std::hint::black_box(estimate());
            times.push(before.elapsed().as_secs_f64());
        }
        say(&format!("{times:?}"));
    }
    Ok(())
}

/// The batches of the file, oldest first.
fn batches(logged: &LoggedTrajectories, shape: BatchShape) -> Result<Vec<Trajectories>, Box<dyn Error>> {
    let Behaviour::Gaussian { mean, log_std } = &logged.behaviour else {
        return Err("the trajectories have no behaviour means".into());
    };
    let batch = |index: usize| {
        let part = |values: &[f64]| {
            let size = values.len() / logged.window;
            values[index * size..][..size].to_vec()
        };
        let single = |values: &[f64]| part(values).into_iter().map(|value| value as f32).collect();
        Trajectories {
            shape,
            observations: single(&logged.observations),
            actions: single(&logged.actions),
            means: single(mean),
            rewards: part(&logged.rewards),
            lengths: logged.lengths[index * logged.batch..][..logged.batch].to_vec(),
            log_std: single(log_std),
        }
    };
    Ok((0..logged.window).map(batch).collect())
}

fn write(path: &Path, values: &[f64]) -> std::io::Result<()> {
    std::fs::write(path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// Prints a line at once; the driver waits for it.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

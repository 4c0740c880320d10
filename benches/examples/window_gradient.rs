//! Our contender of `benches/peers/window_gradient.py`:
//! `window_gradient [--passes 1|2] FOLDER --gradient FILE --threads N --device cpu|wgpu|cuda`.
//!
//! Reads `trajectories.safetensors` and `policy.safetensors` of the folder, writes the gradient of the whole window as
//! float64 numbers to the file, and says its version in a line of JSON; then, for every line `SECONDS` of its input, it
//! computes the gradient over and over for so long and prints the seconds of every call. A call ends when the gradient is
//! in the memory of the device. `--passes` says how often the kernels of a GPU go through the window, instead of what is less work.

use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use policy_nets::fused::InstructionSet;
use policy_nets::{GaussianPolicy, PolicyState};
use trainer::algorithms::{Algorithm, FusedReuse};
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
use trainer::algorithms::{DeviceReuse, Passes};
use trainer::config::{AlgorithmConfig, PowerMeanConfig};
use trainer::device::{self, DeviceChoice, SelectedDevice};
use trainer::logged::{Behaviour, LoggedTrajectories};
use trainer::phases::Phases;
use trainer::threads::Threads;
use trainer::trajectories::{BatchShape, Trajectories};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (passes, arguments) = match arguments.as_slice() {
        [option, passes, rest @ ..] if option == "--passes" => (Some(passes.as_str()), rest),
        all => (None, all),
    };
    let [folder, _, gradient_file, _, threads, _, device] = arguments else {
        return Err("expected [--passes 1|2] FOLDER --gradient FILE --threads N --device NAME".into());
    };
    let folder = PathBuf::from(folder);
    let device = device::select(&device.parse::<DeviceChoice>()?)?;
    let state = PolicyState::load(&folder.join("policy.safetensors"))?;
    let logged = LoggedTrajectories::load(&folder.join("trajectories.safetensors"))?;
    let inputs = Inputs::new(&state, &logged, &device)?;
    if device.is_host() {
        on_host(inputs, &Threads::new(threads.parse()?)?, gradient_file)
    } else {
        on_device(inputs, passes, gradient_file)
    }
}

/// What both ways compute from.
struct Inputs<'a> {
    state: &'a PolicyState,
    policy: GaussianPolicy,
    device: &'a SelectedDevice,
    algorithm: AlgorithmConfig,
    shape: BatchShape,
    batches: Vec<Trajectories>,
}

impl<'a> Inputs<'a> {
    fn new(
        state: &'a PolicyState,
        logged: &LoggedTrajectories,
        device: &'a SelectedDevice,
    ) -> Result<Self, Failure> {
        let algorithm = AlgorithmConfig::RtPg(PowerMeanConfig {
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
        let policy = GaussianPolicy::from_state(state, &device.device);
        Ok(Self { state, policy, device, algorithm, shape, batches: batches(logged, shape)? })
    }
}

/// The fused kernels of the CPU.
fn on_host(inputs: Inputs<'_>, threads: &Threads, gradient_file: &str) -> Result<(), Failure> {
    let Inputs { state, policy, device, algorithm, shape, batches } = inputs;
    let mut reuse = FusedReuse::new(&algorithm, state, shape, &device.device, threads)?;
    for batch in batches {
        reuse.estimate(&policy, &[batch], &mut Phases::default());
    }
    let mut estimate = || {
        let parameters = policy.parameters_on_host();
        reuse.estimate_on_host(&policy, &parameters, &[], &mut Phases::default()).gradient
    };
    write(Path::new(gradient_file), &estimate())?;
    let version = format!("{}, {:?}", env!("CARGO_PKG_VERSION"), InstructionSet::detect());
    take_turns(&version, || {
        std::hint::black_box(estimate());
        Ok(())
    })
}

/// The fused kernels of a GPU.
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion")))]
fn on_device(inputs: Inputs<'_>, passes: Option<&str>, gradient_file: &str) -> Result<(), Failure> {
    let Inputs { state, policy, device, algorithm, shape, batches } = inputs;
    let mut reuse = DeviceReuse::new(&algorithm, state, shape, &device.device)?;
    reuse = match passes {
        Some("1") => reuse.with_passes(Passes::One),
        Some("2") => reuse.with_passes(Passes::Two),
        Some(other) => return Err(format!("1 or 2 passes, not {other}").into()),
        None => reuse,
    };
    for batch in batches {
        reuse.estimate(&policy, &[batch], &mut Phases::default());
    }
    let gradient = reuse.estimate(&policy, &[], &mut Phases::default()).gradient;
    write(Path::new(gradient_file), &gradient.into_data().iter::<f64>().collect::<Vec<_>>())?;
    let version = format!("{}, {}, passes: {:?}", env!("CARGO_PKG_VERSION"), device.name, reuse.passes());
    take_turns(&version, || {
        device::on_its_thread(&device.device, || {
            let estimate = reuse.estimate(&policy, &[], &mut Phases::default());
            device.device.sync().map_err(|error| format!("{error:?}"))?;
            std::hint::black_box(estimate);
            Ok(())
        })
    })
}

#[cfg(not(all(any(feature = "wgpu", feature = "cuda"), not(feature = "fusion"))))]
fn on_device(inputs: Inputs<'_>, _: Option<&str>, _: &str) -> Result<(), Failure> {
    Err(format!("this build has no kernels for {}", inputs.device.name).into())
}

/// Says the version, and computes whenever the driver says for how long.
fn take_turns(version: &str, mut compute: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    say(&format!("{{\"version\": \"{version}\"}}"));
    for line in std::io::stdin().lock().lines() {
        let (seconds, start) = (line?.trim().parse::<f64>()?, Instant::now());
        let mut times = vec![];
        while start.elapsed().as_secs_f64() < seconds {
            let before = Instant::now();
            compute()?;
            times.push(before.elapsed().as_secs_f64());
        }
        say(&format!("{times:?}"));
    }
    Ok(())
}

/// The batches of the file, oldest first.
fn batches(logged: &LoggedTrajectories, shape: BatchShape) -> Result<Vec<Trajectories>, Failure> {
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

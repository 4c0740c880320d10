//! How much memory a run needs, reckoned before it starts.

use std::fmt;

use environments::{cart_pole, linear_quadratic, mountain_car, pendulum};
use policy_nets::Architecture;
use policy_nets::fused::{FusedNetwork, SWEEP_BYTES};

use crate::trajectories::BatchShape;

/// Bytes that a run needs at most, by part: in the memory of this machine, but for [`device`](Self::device).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryNeed {
    /// The program itself, 96 bytes for each parameter (copies, moments, gradients), what every environment takes, and the
    /// threads' own memory where it is more than a little.
    pub program: f64,
    /// The window: `omega N T (O + 2 A + 2)` numbers of 4 bytes.
    pub window: f64,
    /// Fresh trajectories and evaluation episodes: `N T` steps of `4 (O + 2 A) + 8` bytes.
    pub batches: f64,
    /// Work memory of the estimator: with tensor operations, the activations of every layer and as much again for their
    /// gradients; with fused kernels, of the CPU or a GPU, one gradient for each trajectory, at most [`SWEEP_BYTES`].
    pub estimator: f64,
    /// A checkpoint while it is written: the window twice in 8 bytes a number, once as numbers and once as a file.
    pub checkpoint: f64,
    /// In the memory of a GPU: the window, and the estimator's work memory, which are 0 here then.
    pub device: f64,
}

/// What the program takes before it holds a trajectory (measured: docs/reliability.md).
const PROGRAM: f64 = 24.0 * 1_048_576.0;
/// Of that, what is there for threads.
const THREADS: f64 = 2.0 * 1_048_576.0;
const THREAD: f64 = 16.0 * 1024.0;
const PARAMETER: f64 = 96.0;
const COMPUTED_ENVIRONMENT: f64 = 1024.0;
const SIMULATED_ENVIRONMENT: f64 = 160.0 * 1024.0;

impl MemoryNeed {
    /// The need of a run in the environment of the given name, with windows of `window` batches.
    pub fn new(
        shape: BatchShape,
        window: usize,
        episodes: usize,
        architecture: &Architecture,
        fused: bool,
        environment: &str,
    ) -> Self {
        let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
        let step = (observation_size + 2 * action_size) as f64;
        let steps = trajectories as f64 * horizon as f64;
        let window = window as f64;
        let sizes = architecture.layers();
        let parameters: f64 = sizes.iter().map(|(inputs, outputs)| *inputs as f64 * *outputs as f64).sum();
        let widths: usize = architecture.layers().iter().map(|(_, outputs)| outputs).sum();
        let estimator = if fused {
            (window * trajectories as f64 * parameters * 4.0).min(SWEEP_BYTES as f64)
        } else {
            window * steps * 4.0 * (4 * widths + 8 * action_size + observation_size) as f64
        };
        let numbers = window * steps * (step + 2.0);
        let environments = (trajectories + episodes) as f64;
        Self {
            program: PROGRAM + PARAMETER * parameters + environment_memory(environment) * environments,
            window: numbers * 4.0,
            batches: (steps + (episodes * horizon) as f64) * (4.0 * step + 8.0),
            estimator,
            checkpoint: numbers * 16.0,
            device: 0.0,
        }
    }

    /// The same with `threads` threads, each with the activations of a block of samples for what it works on: as many of them
    /// as there are trajectories in a batch, in an evaluation, and in the window.
    #[must_use]
    pub fn with_threads(self, threads: usize, trajectories: [usize; 3], architecture: &Architecture) -> Self {
        let users: usize = trajectories.iter().map(|count| threads.min(*count)).sum();
        let scratch = users as f64 * FusedNetwork::scratch_bytes(architecture);
        let beyond = (threads as f64 * THREAD + scratch - THREADS).max(0.0);
        Self { program: self.program + beyond, ..self }
    }

    /// The same with the window and the estimator in the memory of a GPU.
    #[must_use]
    pub fn on_device(self) -> Self {
        Self { device: self.window + self.estimator, window: 0.0, estimator: 0.0, ..self }
    }

    /// The same with the balance heuristic's matrix of log-ratios and its old policies.
    #[must_use]
    pub fn with_earlier_policies(self, window: usize, batch: usize, parameters: usize) -> Self {
        let window = window as f64;
        let matrix = window * window * batch as f64 + window * parameters as f64;
        Self { estimator: self.estimator + 4.0 * matrix, ..self }
    }

    /// All parts in the memory of this machine together.
    pub fn total(&self) -> f64 {
        self.program + self.window + self.batches + self.estimator + self.checkpoint
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [total, program, window, batches, estimator, checkpoint, device] = [
            self.total(),
            self.program,
            self.window,
            self.batches,
            self.estimator,
            self.checkpoint,
            self.device,
        ]
        .map(format_bytes);
        write!(formatter, "at most about {total}: {program} for the program, ")?;
        if self.device == 0.0 {
            write!(formatter, "{window} for the window, {estimator} for the estimate, ")?;
        }
        write!(
            formatter,
            "{batches} for fresh trajectories, {checkpoint} for a checkpoint while it is written"
        )?;
        if self.device > 0.0 {
            write!(formatter, "; and {device} of the GPU's memory for the window and the estimate")?;
        }
        Ok(())
    }
}

/// Bytes of one environment. One that is not computed here is taken for a simulator's body.
fn environment_memory(name: &str) -> f64 {
    let computed = [cart_pole::NAME, pendulum::NAME, mountain_car::NAME, linear_quadratic::NAME];
    if computed.contains(&name) { COMPUTED_ENVIRONMENT } else { SIMULATED_ENVIRONMENT }
}

/// Bytes of memory that this program can still have, where the system tells: those of the machine, and of the control
/// group (a container) that it runs in.
pub fn available() -> Option<f64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| of_machine(&text));
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<f64>().ok());
    let group = |limit: &str, used: &str| Some((number(limit)? - number(used)?).max(0.0));
    let groups = [
        group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    groups.into_iter().chain([machine]).flatten().reduce(f64::min)
}

/// `MemAvailable` of `/proc/meminfo`.
fn of_machine(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The most bytes of memory that this process has had at one time (resident, its program included), where the system
/// tells.
pub fn peak() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes for people, such as `1.5 GiB`.
pub fn format_bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use policy_nets::Activation;

    use super::*;

    #[test]
    fn the_cheetah_window_is_reckoned_as_by_hand() {
        let architecture = Architecture {
            observation_size: 17,
            action_size: 6,
            hidden: vec![32, 32],
            activation: Activation::Tanh,
            bias: false,
        };
        let shape = BatchShape { trajectories: 40, horizon: 100, observation_size: 17, action_size: 6 };
        let need = MemoryNeed::new(shape, 8, 10, &architecture, true, "half-cheetah");
        assert_eq!(need.window, 32_000.0 * 4.0 * 31.0);
        assert_eq!(need.program, PROGRAM + 96.0 * 1760.0 + 50.0 * SIMULATED_ENVIRONMENT);
        assert_eq!(need.batches, 5_000.0 * 124.0);
        assert_eq!(need.estimator, 320.0 * 1760.0 * 4.0);
        assert_eq!(need.with_threads(2, [40, 10, 320], &architecture), need, "it is in the program's");
        let wide = Architecture { hidden: vec![20_000], ..architecture.clone() };
        let beyond = need.with_threads(64, [40, 10, 320], &wide).program - need.program;
        assert!((113.0..130.0).contains(&(beyond / (24.0 * 20_000.0 * 4.0))), "{beyond}");
        let generic = MemoryNeed::new(shape, 8, 10, &architecture, false, "lqr");
        assert_eq!(generic.estimator, 32_000.0 * 4.0 * (4.0 * 70.0 + 48.0 + 17.0));
        assert_eq!(need.checkpoint, 4.0 * need.window);
        assert!(need.to_string().starts_with("at most about "), "{need}");
        let on_device = need.on_device();
        assert_eq!(on_device.device, need.window + need.estimator);
        assert_eq!(on_device.total() + on_device.device, need.total());
        assert!(on_device.to_string().ends_with("of the GPU's memory for the window and the estimate"));
        assert_eq!(of_machine("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2_097_152.0));
        assert_eq!(format_bytes(1.5 * 1024.0 * 1024.0), "1.5 MiB");
    }
}

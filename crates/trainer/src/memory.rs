//! How much memory a run needs, reckoned before it starts.

use std::fmt;

use environments::{cart_pole, linear_quadratic, mountain_car, pendulum};
use policy_nets::Architecture;
use policy_nets::fused::{FusedNetwork, SWEEP_BYTES};

use crate::evaluation::Evaluator;
use crate::trajectories::BatchShape;

/// Bytes that a run needs at most, by part: in the memory of this machine, but for [`device`](Self::device).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryNeed {
    /// The program itself, 96 bytes for each parameter (copies, moments, gradients), and the threads' own memory where it is
    /// more than a little.
    pub program: f64,
    /// The window: `omega N T (O + 2 A + 2)` numbers of 4 bytes.
    pub window: f64,
    /// Fresh trajectories, `N T` steps of `4 (O + 2 A) + 8` bytes, their environments, and what [`of_evaluation`] says.
    pub batches: f64,
    /// Work memory of the estimator: with tensor operations, the activations of every layer and as much again for their
    /// gradients; with fused kernels of the CPU one gradient for each trajectory, and where they take more than [`SWEEP_BYTES`]
    /// as much as that, or sums for up to sixteen shares of the trajectories; with those of a GPU what
    /// [`with_device_kernels`](Self::with_device_kernels) says.
    pub estimator: f64,
    /// A checkpoint while it is written: the window twice in 8 bytes a number, once as numbers and once as a file.
    pub checkpoint: f64,
    /// In the memory of a GPU: the window, and the estimator's work memory, which are 0 here then.
    pub device: f64,
}

/// What the program takes before it holds a trajectory (measured: docs/reliability.md).
pub(crate) const PROGRAM: f64 = 24.0 * 1_048_576.0;
/// Of that, what is there for threads.
const THREADS: f64 = 2.0 * 1_048_576.0;
const THREAD: f64 = 16.0 * 1024.0;
const PARAMETER: f64 = 96.0;
/// Of two passes over a window: at most so many sums in double precision where they are long, beside their total and the
/// gradient made of it.
const SUMS: f64 = 16.0;
/// A return in a list that grows.
const RETURN: f64 = 16.0;
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
            let count = window * trajectories as f64;
            let (sweep, most) = (count * parameters * 4.0, SWEEP_BYTES as f64);
            if sweep <= most { sweep } else { most.max((count.min(SUMS) + 2.0) * 8.0 * parameters) }
        } else {
            window * steps * 4.0 * (4 * widths + 8 * action_size + observation_size) as f64
        };
        let numbers = window * steps * (step + 2.0);
        Self {
            program: PROGRAM + PARAMETER * parameters,
            window: numbers * 4.0,
            batches: of_steps(shape)
                + environment_memory(environment) * trajectories as f64
                + of_evaluation(BatchShape { trajectories: episodes, ..shape }, environment),
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

    /// The same with the fused kernels of a GPU, which leave a gradient for every block of at least four steps, or several: at most
    /// [`SWEEP_BYTES`] of them, or one.
    #[must_use]
    pub fn with_device_kernels(self, shape: BatchShape, window: usize, parameters: usize) -> Self {
        let row = 4.0 * parameters.next_multiple_of(8) as f64;
        let blocks = window as f64 * shape.trajectories as f64 * shape.horizon.div_ceil(4) as f64;
        Self { estimator: row * blocks.min((SWEEP_BYTES as f64 / row).floor().max(1.0)), ..self }
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

    /// The same without a window, which variance-reduced algorithms do not have: they keep an estimate and a policy.
    #[must_use]
    pub fn without_window(self) -> Self {
        Self { window: 0.0, checkpoint: 0.0, ..self }
    }

    /// The same with the activations of the fresh trajectories, `batch` of the `trajectories` of a large batch, under two policies
    /// at a time.
    #[must_use]
    pub fn with_two_policies(self, batch: usize, trajectories: usize) -> Self {
        let share = 2.0 * batch as f64 / trajectories.max(1) as f64;
        Self { estimator: self.estimator * share.max(1.0), ..self }
    }

    /// The keys that decide about the largest part, for an algorithm whose batches have the sizes of these keys.
    pub fn largest(&self, sizes: &str) -> String {
        let window = self.window + self.checkpoint;
        let parts = [
            (self.program, "policy.hidden or threads".to_owned()),
            (window, format!("{sizes} or environment.horizon")),
            (self.estimator, format!("policy.hidden, {sizes} or environment.horizon")),
            (self.batches, format!("environment.horizon, {sizes} or evaluation.episodes")),
        ];
        let largest = parts.into_iter().reduce(|most, part| if part.0 > most.0 { part } else { most });
        largest.map_or_else(String::new, |(_, keys)| keys)
    }

    /// All parts in the memory of this machine together.
    pub fn total(&self) -> f64 {
        self.program + self.window + self.batches + self.estimator + self.checkpoint
    }

    /// The same without what runs in one process share.
    pub fn beside_the_program(&self) -> f64 {
        self.total() - PROGRAM
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

/// Bytes of the steps of a batch.
fn of_steps(shape: BatchShape) -> f64 {
    let BatchShape { trajectories, horizon, observation_size, action_size } = shape;
    let step = 4 * (observation_size + 2 * action_size) + 8;
    trajectories as f64 * horizon as f64 * step as f64
}

/// Bytes of an evaluation in the environment of the given name: the episodes that are held at a time, the environments that
/// they run in, and the returns of all.
pub fn of_evaluation(shape: BatchShape, environment: &str) -> f64 {
    let held = Evaluator::held(shape.trajectories);
    of_steps(BatchShape { trajectories: held, ..shape })
        + held as f64 * environment_memory(environment)
        + shape.trajectories as f64 * RETURN
}

/// Bytes of one environment. One that is not computed here is taken for a simulator's body.
fn environment_memory(name: &str) -> f64 {
    let computed = [cart_pole::NAME, pendulum::NAME, mountain_car::NAME, linear_quadratic::NAME];
    if computed.contains(&name) { COMPUTED_ENVIRONMENT } else { SIMULATED_ENVIRONMENT }
}

/// Bytes of memory that this program can still have, where the system tells: those of the machine, of the control groups (a
/// container, a job) that it runs in, and of its address space (`ulimit -v`).
pub fn available() -> Option<f64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| of_machine(&text));
    let groups = of_groups(&read("/proc/self/cgroup").unwrap_or_default(), &|path| read(path));
    [machine, groups, of_address_space()].into_iter().flatten().reduce(f64::min)
}

/// What the least generous of the control groups leaves that a process is in, by `/proc/self/cgroup`: its own and all above.
fn of_groups(membership: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<f64> {
    let number = |path: String| read(&path).and_then(|text| text.trim().parse::<f64>().ok());
    // Pages of files that were not read for a while are given back when memory is asked for.
    let reclaimable = |place: &str, key: &str| {
        let text = read(&format!("{place}/memory.stat")).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<f64>().ok());
        value.unwrap_or_default()
    };
    let mut least: Option<f64> = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, limit, used, cache) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "),
            _ if controllers.split(',').any(|name| name == "memory") => {
                let root = "/sys/fs/cgroup/memory";
                (root, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            }
            _ => continue,
        };
        // In a container the group's name is one of outside, and its files are the root's.
        let ancestors = group.match_indices('/').map(|(place, _)| &group[..place]).chain([group]);
        for group in ancestors {
            let place = format!("{root}{}", group.trim_end_matches('/'));
            if let (Some(limit), Some(used)) =
                (number(format!("{place}/{limit}")), number(format!("{place}/{used}")))
            {
                let left = (limit - (used - reclaimable(&place, cache)).max(0.0)).max(0.0);
                least = Some(least.map_or(left, |least| least.min(left)));
            }
        }
    }
    least
}

/// What the limit of the address space leaves.
#[cfg(target_os = "linux")]
fn of_address_space() -> Option<f64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_AS).ok().filter(|(limit, _)| *limit != RLIM_INFINITY)?;
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((limit as f64 - kibibytes * 1024.0).max(0.0))
}

#[cfg(not(target_os = "linux"))]
fn of_address_space() -> Option<f64> {
    None
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
        assert_eq!(need.program, PROGRAM + 96.0 * 1760.0);
        assert_eq!(need.batches, 5_000.0 * 124.0 + 50.0 * SIMULATED_ENVIRONMENT + 160.0);
        let episodes = MemoryNeed::new(shape, 8, 1_000_000, &architecture, true, "half-cheetah").batches;
        let held = 256.0 + 64.0;
        assert_eq!(episodes, (40.0 + held) * (100.0 * 124.0 + SIMULATED_ENVIRONMENT) + 16e6);
        assert_eq!(need.estimator, 320.0 * 1760.0 * 4.0);
        assert_eq!(need.with_threads(2, [40, 10, 320], &architecture), need, "it is in the program's");
        let wide = Architecture { hidden: vec![20_000], ..architecture.clone() };
        let beyond = need.with_threads(64, [40, 10, 320], &wide).program - need.program;
        // A block of 24 samples, and a gradient of 23 numbers for each of the hidden layer's outputs.
        assert!((113.0..130.0).contains(&(beyond / ((24.0 + 23.0) * 20_000.0 * 4.0))), "{beyond}");
        let widest = Architecture { hidden: vec![2048, 2048], ..architecture.clone() };
        let two_passes = MemoryNeed::new(shape, 8, 10, &widest, true, "half-cheetah").estimator;
        let one = BatchShape { trajectories: 10, ..shape };
        let few = MemoryNeed::new(one, 1, 10, &widest, true, "half-cheetah").estimator;
        assert_eq!(few, two_passes / 144.0 * 96.0);
        assert_eq!(two_passes, 144.0 * (17.0 * 2048.0 + 2048.0 * 2048.0 + 2048.0 * 6.0));
        let generic = MemoryNeed::new(shape, 8, 10, &architecture, false, "lqr");
        assert_eq!(generic.estimator, 32_000.0 * 4.0 * (4.0 * 70.0 + 48.0 + 17.0));
        assert_eq!(need.checkpoint, 4.0 * need.window);
        assert!(need.to_string().starts_with("at most about "), "{need}");
        let by_kernels = |trajectories: usize, horizon: usize, parameters: usize| {
            let shape = BatchShape { trajectories, horizon, ..shape };
            need.with_device_kernels(shape, 8, parameters).estimator
        };
        assert_eq!(by_kernels(2, 21, 10), 16.0 * 6.0 * 64.0);
        assert_eq!(by_kernels(40, 1000, 1760), (128.0 * 1_048_576.0 / 7040.0_f64).floor() * 7040.0);
        assert_eq!(by_kernels(40, 1000, 40_000_000), 160e6);
        let on_device = need.on_device();
        assert_eq!(on_device.device, need.window + need.estimator);
        assert_eq!(on_device.total() + on_device.device, need.total());
        assert!(on_device.to_string().ends_with("of the GPU's memory for the window and the estimate"));
        assert_eq!(of_machine("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2_097_152.0));
        assert_eq!(format_bytes(1.5 * 1024.0 * 1024.0), "1.5 MiB");
        assert!(need.largest("algorithm.batch_size").starts_with("policy.hidden or"), "{need}");
        assert_eq!(need.without_window().total(), need.total() - need.window - need.checkpoint);
        assert_eq!(need.with_two_policies(40, 40).estimator, 2.0 * need.estimator);
    }

    #[test]
    fn the_least_generous_control_group_counts() {
        let file = |path: &str| {
            let text = match path {
                "/sys/fs/cgroup/job/memory.max" => "3000\n",
                "/sys/fs/cgroup/job/memory.current" => "1000\n",
                "/sys/fs/cgroup/job/step/memory.max" => "max\n",
                "/sys/fs/cgroup/job/step/memory.current" | "/sys/fs/cgroup/memory.current" => "900\n",
                "/sys/fs/cgroup/job/memory.stat" => "anon 300\ninactive_file 600\nactive_file 100\n",
                "/sys/fs/cgroup/memory/memory.stat" => "inactive_file 1\ntotal_inactive_file 200\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "9000\n",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes" => "500\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(of_groups("0::/job/step\n", &file), Some(2600.0));
        assert_eq!(of_groups("4:cpu,memory:/elsewhere\n2:cpu:/job\n", &file), Some(8700.0));
        assert_eq!(of_groups("0::/\n", &file), None);
    }
}

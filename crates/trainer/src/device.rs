//! Choice of the compute device at run time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// What the user asked for: `auto`, `cpu`, `gpu`, `gpu:N`, or a backend by name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A real GPU when one answers, else the CPU.
    #[default]
    Auto,
    /// The best compiled CPU backend.
    Cpu,
    /// A GPU, by number when given.
    Gpu(Option<usize>),
    /// A backend by name; a software Vulkan adapter counts as a device for `wgpu`.
    Backend(Backend),
}

/// Backends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Burn's `ndarray` backend on the CPU.
    NdArray,
    /// Burn's `flex` backend on the CPU.
    Flex,
    /// WebGPU through wgpu, any adapter.
    Wgpu,
    /// CUDA.
    Cuda,
}

impl Backend {
    const ALL: [Self; 4] = [Self::NdArray, Self::Flex, Self::Wgpu, Self::Cuda];

    /// The name on the command line, also the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::NdArray => "ndarray",
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this program was built with the backend.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Flex => cfg!(feature = "flex"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// The compiled backends.
    pub fn compiled() -> Vec<Self> {
        Self::ALL.into_iter().filter(|backend| backend.is_compiled()).collect()
    }
}

/// A device name that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device `{0}`, expected auto, cpu, gpu, gpu:N, ndarray, flex, wgpu or cuda")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(None)),
            _ => match text.strip_prefix("gpu:") {
                Some(index) => index.parse().map(|index| Self::Gpu(Some(index))).ok(),
                None => Backend::ALL.into_iter().find(|backend| backend.name() == text).map(Self::Backend),
            }
            .ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Gpu(None) => formatter.write_str("gpu"),
            Self::Gpu(Some(index)) => write!(formatter, "gpu:{index}"),
            Self::Backend(backend) => formatter.write_str(backend.name()),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why no device could be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The backend was not compiled in.
    #[error(
        "this program was built without the backend `{name}`; build it with `cargo run --release --features {name}`"
    )]
    NotCompiled {
        /// The backend's name.
        name: &'static str,
    },
    /// No CPU backend was compiled in.
    #[error("this program was built without a CPU backend; build it with `--features ndarray`")]
    NoCpu,
    /// No such adapter answers.
    #[error("device `{choice}` is not there: {reason}; `rtpg devices` lists what is")]
    Absent {
        /// What was asked for.
        choice: String,
        /// What was found.
        reason: String,
    },
}

/// A device in use.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    /// The device, without differentiation.
    pub device: Device,
    /// Its backend.
    pub backend: Backend,
    /// Its name for people, such as `wgpu (NVIDIA H200)`.
    pub name: String,
    /// Why it was taken, for one log line.
    pub reason: String,
    /// Whether it is a GPU's driver that computes on the processor: slow, for tests.
    pub is_software: bool,
}

impl SelectedDevice {
    /// Whether tensors live in the host's own memory.
    pub fn is_host(&self) -> bool {
        matches!(self.backend, Backend::NdArray | Backend::Flex)
    }
}

/// Runs `work` where launches on `device` and waiting for it take least time (the crate `kernels`, `KernelDevice::on_its_thread`); on
/// the CPU and with the feature `fusion`, at once.
///
/// # Panics
/// With the panic of `work`.
#[cfg_attr(
    not(all(feature = "kernels", not(feature = "fusion"))),
    expect(unused_variables, reason = "only devices with kernels have a thread")
)]
pub fn on_its_thread<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    #[cfg(all(feature = "kernels", not(feature = "fusion")))]
    if let Some(device) = kernels::KernelDevice::of(device) {
        return device.on_its_thread(work);
    }
    work()
}

/// Takes the device that `choice` names.
///
/// # Errors
/// [`DeviceError`] when the backend is not compiled in or the adapter is not there. `auto` and `cpu` fail only in a
/// program without a CPU backend.
pub fn select(choice: &DeviceChoice) -> Result<SelectedDevice, DeviceError> {
    match choice {
        DeviceChoice::Cpu => cpu("asked for by --device cpu".to_owned()),
        DeviceChoice::Auto => match gpu::real(None) {
            Ok(selected) => Ok(SelectedDevice { reason: "a GPU answered".to_owned(), ..selected }),
            Err(why) => cpu(why),
        },
        DeviceChoice::Gpu(index) => {
            gpu::real(*index).map_err(|reason| DeviceError::Absent { choice: choice.to_string(), reason })
        }
        DeviceChoice::Backend(backend) if !backend.is_compiled() => {
            Err(DeviceError::NotCompiled { name: backend.name() })
        }
        DeviceChoice::Backend(backend) => match backend {
            Backend::NdArray | Backend::Flex => {
                cpu_backend(*backend, format!("asked for by --device {choice}"))
            }
            Backend::Wgpu | Backend::Cuda => gpu::any(*backend)
                .map_err(|reason| DeviceError::Absent { choice: choice.to_string(), reason }),
        },
    }
}

fn cpu(reason: String) -> Result<SelectedDevice, DeviceError> {
    let backend = [Backend::Flex, Backend::NdArray].into_iter().find(|backend| backend.is_compiled());
    cpu_backend(backend.ok_or(DeviceError::NoCpu)?, reason)
}

fn cpu_backend(backend: Backend, reason: String) -> Result<SelectedDevice, DeviceError> {
    let device = match backend {
        #[cfg(feature = "ndarray")]
        #[expect(deprecated, reason = "the ndarray backend is part of the product while Burn releases it")]
        Backend::NdArray => Device::ndarray(),
        #[cfg(feature = "flex")]
        Backend::Flex => Device::flex(),
        _ => return Err(DeviceError::NotCompiled { name: backend.name() }),
    };
    let name = format!("{} on the CPU", backend.name());
    Ok(SelectedDevice { device, backend, name, reason, is_software: false })
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
mod gpu {
    use super::{Backend, SelectedDevice};

    const NO_GPU: &str = "built without a GPU backend (features wgpu, vulkan, metal, cuda)";

    pub(super) fn real(_index: Option<usize>) -> Result<SelectedDevice, String> {
        Err(NO_GPU.to_owned())
    }

    pub(super) fn any(_backend: Backend) -> Result<SelectedDevice, String> {
        Err(NO_GPU.to_owned())
    }

    pub(super) fn list() -> Vec<String> {
        vec![]
    }
}

/// One line for every device that can be asked for.
pub fn list() -> Vec<String> {
    let mut lines = vec![];
    for backend in [Backend::NdArray, Backend::Flex] {
        if backend.is_compiled() {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            lines.push(format!("{:10} CPU, {threads} threads", backend.name()));
        }
    }
    lines.extend(gpu::list());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_round_trip_through_their_names() {
        for name in ["auto", "cpu", "gpu", "gpu:3", "ndarray", "flex", "wgpu", "cuda"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["", "tpu", "gpu:", "gpu:x", "gpu:-1"] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_and_no_panic() {
        let error = select(&DeviceChoice::Gpu(Some(1000))).unwrap_err();
        assert!(matches!(&error, DeviceError::Absent { choice, .. } if choice == "gpu:1000"), "{error}");
    }

    #[test]
    fn a_backend_that_was_not_built_in_is_told_of() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_compiled()) {
            let error = select(&DeviceChoice::Backend(backend)).unwrap_err();
            assert_eq!(error, DeviceError::NotCompiled { name: backend.name() });
        }
    }

    #[test]
    fn auto_takes_a_device_and_says_why_in_one_line() {
        let selected = select(&DeviceChoice::Auto).unwrap();
        assert!(!selected.reason.is_empty() && !selected.reason.contains('\n'), "{}", selected.reason);
    }
}

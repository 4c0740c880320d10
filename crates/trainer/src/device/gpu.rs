//! GPU devices, found and opened without a panic.
//!
//! Burn initialises a device selector once a process, so whatever is opened here stays open.

use std::sync::OnceLock;

use burn::tensor::Device;
#[cfg(feature = "cuda")]
use burn::tensor::DeviceType;
#[cfg(feature = "wgpu")]
use burn::tensor::{DeviceKind, wgpu::WgpuInitError};

use super::{Backend, SelectedDevice};

/// An adapter that answered.
#[derive(Clone)]
struct Adapter {
    device: Device,
    backend: Backend,
    name: String,
    rank: Rank,
}

/// How an adapter is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// By its number among the GPUs, or by its backend's name.
    Card,
    /// By its backend's name alone, since CUDA reaches the same card.
    Duplicate,
    /// By its backend's name alone, since it computes on the processor.
    Software,
}

impl Adapter {
    fn new(device: Device, backend: Backend) -> Self {
        let name = device.identity().map_or_else(|| "unnamed adapter".to_owned(), |identity| identity.name);
        Self { device, backend, name, rank: Rank::Card }
    }

    fn select(&self) -> SelectedDevice {
        SelectedDevice {
            device: self.device.clone(),
            backend: self.backend,
            name: format!("{} ({})", self.backend.name(), self.name),
            reason: "asked for by --device".to_owned(),
            is_software: self.rank == Rank::Software,
        }
    }
}

/// The real GPU with number `index` (the first when `None`); software adapters do not count.
pub(super) fn real(index: Option<usize>) -> Result<SelectedDevice, String> {
    let adapters: Vec<_> = found().iter().filter(|adapter| adapter.rank == Rank::Card).collect();
    match (adapters.get(index.unwrap_or(0)), adapters.len()) {
        (Some(adapter), _) => Ok(adapter.select()),
        (None, 0) => Err(match software() {
            Some(adapter) => format!(
                "no GPU answers, only {} in software, which --device {} takes",
                adapter.name,
                adapter.backend.name()
            ),
            None => "no GPU answers".to_owned(),
        }),
        (None, 1) => Err("the only GPU is gpu:0".to_owned()),
        (None, count) => Err(format!("the GPUs are gpu:0 to gpu:{}", count - 1)),
    }
}

/// The first device of `backend`, a software adapter where there is no other.
pub(super) fn any(backend: Backend) -> Result<SelectedDevice, String> {
    found()
        .iter()
        .chain(software())
        .find(|adapter| adapter.backend == backend)
        .map(Adapter::select)
        .ok_or_else(|| "no adapter answers".to_owned())
}

/// One line for every adapter.
pub(super) fn list() -> Vec<String> {
    let mut cards = 0;
    let line = |adapter: &Adapter| {
        let Adapter { backend, name, rank, .. } = adapter;
        let (number, note) = match rank {
            Rank::Card => {
                cards += 1;
                (format!("gpu:{}", cards - 1), "")
            }
            Rank::Duplicate => (backend.name().to_owned(), ": only when asked for by name"),
            Rank::Software => (backend.name().to_owned(), ", in software: only when asked for by name"),
        };
        format!("{number:10} {name} through {}{note}", backend.name())
    };
    found().iter().chain(software()).map(line).collect()
}

/// Every adapter but those in software, in the order of their numbers: a card that CUDA and wgpu both reach has its number as
/// CUDA's.
fn found() -> &'static [Adapter] {
    static FOUND: OnceLock<Vec<Adapter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = cuda();
        let through_cuda = found.len();
        for mut adapter in wgpu_cards() {
            if found[..through_cuda].iter().any(|other| is_same_card(&other.device, &adapter.device)) {
                adapter.rank = Rank::Duplicate;
            }
            found.push(adapter);
        }
        found
    })
}

fn is_same_card(left: &Device, right: &Device) -> bool {
    let card = |device: &Device| device.identity().and_then(|identity| identity.physical);
    match (card(left), card(right)) {
        (Some(left), Some(right)) => left.is_same_card(&right),
        _ => false,
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Adapter> {
    let devices = Device::enumerate(DeviceType::Cuda).into_vec();
    devices.into_iter().map(|device| Adapter::new(device, Backend::Cuda)).collect()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Adapter> {
    vec![]
}

#[cfg(feature = "wgpu")]
fn wgpu_cards() -> Vec<Adapter> {
    const KINDS: [fn(usize) -> DeviceKind; 3] =
        [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu];
    let mut found = vec![];
    for kind in KINDS {
        for number in 0.. {
            match open(kind(number)) {
                Ok(adapter) => found.push(adapter),
                Err(WgpuInitError::RequestDevice { message }) => {
                    tracing::warn!("a GPU is passed over, it cannot be opened: {message}");
                }
                Err(error) => {
                    tracing::debug!("{error}");
                    break;
                }
            }
        }
    }
    found
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_cards() -> Vec<Adapter> {
    vec![]
}

/// A Vulkan driver that computes on the processor.
#[cfg(feature = "wgpu")]
fn software() -> Option<&'static Adapter> {
    static SOFTWARE: OnceLock<Option<Adapter>> = OnceLock::new();
    let open = || open(DeviceKind::Cpu).map(|adapter| Adapter { rank: Rank::Software, ..adapter });
    SOFTWARE.get_or_init(|| open().ok()).as_ref()
}

#[cfg(not(feature = "wgpu"))]
fn software() -> Option<&'static Adapter> {
    None
}

#[cfg(feature = "wgpu")]
fn open(kind: DeviceKind) -> Result<Adapter, WgpuInitError> {
    let device = Device::wgpu_options().device_kind(kind).init()?;
    Ok(Adapter::new(device, Backend::Wgpu))
}

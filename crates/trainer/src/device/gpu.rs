//! GPU devices, found without a panic.

use std::sync::OnceLock;

use burn::tensor::{Device, DeviceType};

use super::{Backend, SelectedDevice};

/// The real GPU with number `index` (the first when `None`); software adapters do not count.
pub(super) fn real(index: Option<usize>) -> Result<SelectedDevice, String> {
    let mut devices = physical();
    let wanted = index.unwrap_or(0);
    if wanted < devices.len() {
        return Ok(devices.swap_remove(wanted));
    }
    Err(match (devices.len(), index) {
        (0, _) => match enumerate().len() {
            0 => "no GPU adapter answers".to_owned(),
            count => format!("no real GPU answers ({count} software adapter; ask for it with --device wgpu)"),
        },
        (count, _) => format!("there are {count} GPUs, numbered from 0"),
    })
}

/// The default device of `backend`, a software adapter included.
pub(super) fn any(backend: Backend) -> Result<SelectedDevice, String> {
    match backend {
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => {
            // A selector is initialised once a process.
            static DEFAULT: OnceLock<Result<Device, String>> = OnceLock::new();
            let device = DEFAULT
                .get_or_init(|| Device::wgpu_options().init().map_err(|error| error.to_string()))
                .clone()?;
            Ok(selected(device, backend, "asked for by name".to_owned()))
        }
        #[cfg(feature = "cuda")]
        Backend::Cuda => enumerate()
            .into_iter()
            .find(|(_, found)| *found == backend)
            .map(|(device, _)| selected(device, backend, "asked for by name".to_owned()))
            .ok_or_else(|| "no CUDA device answers".to_owned()),
        _ => Err(format!("{} is not a GPU backend of this program", backend.name())),
    }
}

/// One line for every adapter.
pub(super) fn list() -> Vec<String> {
    let mut real = 0;
    enumerate()
        .into_iter()
        .map(|(device, backend)| {
            let (name, is_real) = describe(&device);
            let number = if is_real {
                real += 1;
                format!("gpu:{}", real - 1)
            } else {
                backend.name().to_owned()
            };
            let kind = if is_real { "" } else { ", software: only when asked for by name" };
            format!("{number:10} {name} through {}{kind}", backend.name())
        })
        .collect()
}

fn physical() -> Vec<SelectedDevice> {
    enumerate()
        .into_iter()
        .filter(|(device, _)| describe(device).1)
        .map(|(device, backend)| selected(device, backend, "asked for by --device".to_owned()))
        .collect()
}

fn enumerate() -> Vec<(Device, Backend)> {
    let mut devices = vec![];
    #[cfg(feature = "cuda")]
    devices.extend(
        Device::enumerate(DeviceType::Cuda).into_vec().into_iter().map(|device| (device, Backend::Cuda)),
    );
    #[cfg(feature = "wgpu")]
    devices.extend(
        Device::enumerate(DeviceType::Wgpu).into_vec().into_iter().map(|device| (device, Backend::Wgpu)),
    );
    devices
}

/// The adapter's own name, and whether there is a card behind it.
fn describe(device: &Device) -> (String, bool) {
    match device.identity() {
        Some(identity) => (identity.name.clone(), identity.physical.is_some()),
        None => ("unnamed adapter".to_owned(), false),
    }
}

fn selected(device: Device, backend: Backend, reason: String) -> SelectedDevice {
    let name = format!("{} ({})", backend.name(), describe(&device).0);
    SelectedDevice { device, backend, name, reason }
}

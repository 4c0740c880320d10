//! `rtpg devices`.

use trainer::device::{self, Backend, DeviceChoice};

use super::print_line;

/// Lists what is there, and what `auto` takes.
pub(crate) fn run() {
    let compiled: Vec<&str> = Backend::compiled().into_iter().map(Backend::name).collect();
    print_line(format_args!("backends in this program: {}", compiled.join(", ")));
    device::list().iter().for_each(print_line);
    match device::select(&DeviceChoice::Auto) {
        Ok(selected) => print_line(format_args!("auto takes {}: {}", selected.name, selected.reason)),
        Err(error) => print_line(error),
    }
}

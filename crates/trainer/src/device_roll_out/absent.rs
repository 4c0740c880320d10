//! In place of the kernels, in a program that was built without them.

use burn::tensor::Device;
use environments::registry::Entry;
use policy_nets::Architecture;

use super::{DeviceSampling, NotCovered};
use crate::device_trajectories::DeviceBatch;
use crate::trajectories::BatchShape;

/// Name, largest error allowed, and largest error of what a device's kernels draw and compute: without kernels, nothing.
pub fn number_errors(_device: &Device) -> Vec<(&'static str, f64, Result<f64, NotCovered>)> {
    vec![]
}

/// Roll-outs of one environment, batch shape and mean network on one device; there are none in this program.
#[derive(Debug)]
pub enum DeviceRollOut {}

impl DeviceRollOut {
    /// Prepares roll-outs by kernels.
    ///
    /// # Errors
    /// Always [`NotCovered::Device`].
    pub fn new(
        _entry: &Entry,
        _shape: BatchShape,
        _architecture: &Architecture,
        _normalized: bool,
        _device: &Device,
    ) -> Result<Self, NotCovered> {
        Err(NotCovered::Device)
    }

    /// Sizes of the batches.
    pub fn shape(&self) -> BatchShape {
        match *self {}
    }

    /// Rolls out a batch.
    pub fn run(&self, _sampling: DeviceSampling) -> DeviceBatch {
        match *self {}
    }
}

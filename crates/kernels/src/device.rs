//! A Burn device on which the kernels run.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::backend::{Cube, DispatchDevice};
use burn::tensor::{Bytes, DType, Device, Int, IntDType, Shape, Tensor};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::prelude::Client;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::plan::Limits;

/// Numbers in a row in the memory of a device.
pub type Buffer = CubeTensor;

/// A device with a compute client.
#[derive(Clone)]
pub struct KernelDevice {
    client: Client,
    device: CubeDevice,
}

impl std::fmt::Debug for KernelDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KernelDevice").field("device", &self.device).finish_non_exhaustive()
    }
}

impl KernelDevice {
    /// The device behind `device`, when kernels can run there.
    pub fn of(device: &Device) -> Option<Self> {
        #[allow(
            unreachable_patterns,
            reason = "which patterns there are depends on the backends compiled in"
        )]
        match device.as_dispatch() {
            DispatchDevice::Cube(device) => Some(Self { client: device.client(), device: device.clone() }),
            _ => None,
        }
    }

    /// Runs `work` on the thread that serves the device, which starts every kernel at once there. Elsewhere launches go into a queue
    /// of that thread, which begins with it when 32 tasks are in it or somebody waits; and waiting is a change of threads and one
    /// back. So what ends with a transfer to the host, or waits for the device, is sooner done in here.
    ///
    /// Nobody else reaches the device meanwhile: `work` must not wait for another thread that does.
    ///
    /// # Panics
    /// With the panic of `work`, and when that thread has ended.
    pub fn on_its_thread<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let mut outcome = None;
        let ran = self.client.exclusive(|| outcome = Some(catch_unwind(AssertUnwindSafe(work))));
        match (outcome, ran) {
            (Some(Ok(value)), _) => value,
            (Some(Err(payload)), _) => resume_unwind(payload),
            (None, ran) => panic!("the thread that serves the device did not run its work: {ran:?}"),
        }
    }

    /// Room for `length` numbers, whose values are whatever was there.
    pub fn empty(&self, length: usize) -> Buffer {
        self.buffer(length, DType::F32)
    }

    /// Room for `length` integers.
    pub fn empty_integers(&self, length: usize) -> Buffer {
        self.buffer(length, DType::I32)
    }

    /// Copies numbers to the device.
    pub fn upload(&self, values: Vec<f32>) -> Buffer {
        let shape = Shape::from([values.len()]);
        let handle = self.client.create(Bytes::from_elems(values));
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape, handle, DType::F32)
    }

    /// Copies `values` over those of `buffer` from `first` on. Kernels that were started before still read the old ones.
    ///
    /// # Panics
    /// When the buffer ends before.
    pub fn write(&self, buffer: &Buffer, first: usize, values: Vec<f32>) {
        self.write_bytes(buffer, first, values.len(), Bytes::from_elems(values));
    }

    /// As [`write`](Self::write), for integers.
    ///
    /// # Panics
    /// When the buffer ends before.
    pub fn write_integers(&self, buffer: &Buffer, first: usize, values: Vec<i32>) {
        self.write_bytes(buffer, first, values.len(), Bytes::from_elems(values));
    }

    /// The numbers of a tensor in single precision on this device, row-major; a copy only when it lies otherwise.
    pub fn buffer_of<const D: usize>(&self, tensor: Tensor<D>) -> Option<Buffer> {
        let primitive = tensor.without_autodiff().try_into_primitive::<Cube>().ok()?;
        self.reaches(&primitive, DType::F32).then(|| into_contiguous(primitive))
    }

    /// As [`buffer_of`](Self::buffer_of), for integers, of 32 bits after a conversion where they are others.
    pub fn integer_buffer_of<const D: usize>(&self, tensor: Tensor<D, Int>) -> Option<Buffer> {
        let primitive = tensor.cast(IntDType::I32).try_into_primitive::<Cube>().ok()?;
        self.reaches(&primitive, DType::I32).then(|| into_contiguous(primitive))
    }

    /// A buffer as a tensor of the given shape, which shares its memory.
    pub fn tensor<const D: usize>(&self, buffer: &Buffer, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_primitive::<Cube>(shaped(buffer, shape))
    }

    /// The first `count` numbers of a buffer as a tensor, which shares its memory.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn part(&self, buffer: &Buffer, count: usize) -> Tensor<1> {
        let length = length(buffer);
        assert!(count <= length, "{count} numbers of {length}");
        let rest = length - count;
        let Buffer { client, handle, device, dtype, .. } = buffer.clone();
        let handle = handle.offset_end((rest * dtype.size()) as u64);
        let part = CubeTensor::new_contiguous(client, device, Shape::from([count]), handle, dtype);
        Tensor::from_primitive::<Cube>(part)
    }

    /// A buffer of integers as a tensor of the given shape, which shares its memory.
    pub fn integers<const D: usize>(&self, buffer: &Buffer, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_primitive::<Cube>(shaped(buffer, shape))
    }

    /// What a cube may use.
    pub fn limits(&self) -> Limits {
        let hardware = &self.client.properties().hardware;
        Limits {
            shared_bytes: hardware.max_shared_memory_size,
            units: hardware.max_units_per_cube.min(hardware.max_cube_dim.0) as usize,
            bindings: hardware.max_bindings as usize,
            processors: hardware.num_streaming_multiprocessors.map(|count| count as usize),
        }
    }

    /// The most bytes of a buffer.
    pub fn largest_buffer(&self) -> u64 {
        self.client.properties().memory.max_page_size
    }

    /// What starts kernels.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Cubes in a row for `count` items, of which a cube takes several when there are more than the device allows.
    pub(crate) fn cubes(&self, count: usize) -> u32 {
        let most = self.client.properties().hardware.max_cube_count.0;
        u32::try_from(count).unwrap_or(most).clamp(1, most)
    }

    fn reaches(&self, tensor: &CubeTensor, dtype: DType) -> bool {
        tensor.device == self.device && tensor.dtype == dtype
    }

    fn buffer(&self, length: usize, dtype: DType) -> Buffer {
        let handle = self.client.empty(length.max(1) * dtype.size());
        let shape = Shape::from([length]);
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape, handle, dtype)
    }

    fn write_bytes(&self, buffer: &Buffer, first: usize, count: usize, values: Bytes) {
        const WORD: usize = 4;
        let length = length(buffer);
        assert!(first + count <= length, "{count} numbers from {first} on do not fit into {length}");
        if count > 0 {
            let rest = length - first - count;
            let place = buffer.handle.clone();
            let place = place.offset_start((first * WORD) as u64).offset_end((rest * WORD) as u64);
            self.client.write(&place, values);
        }
    }
}

/// Numbers in a buffer.
pub(crate) fn length(buffer: &Buffer) -> usize {
    buffer.meta.shape().num_elements()
}

fn shaped<const D: usize>(buffer: &Buffer, shape: [usize; D]) -> Buffer {
    let Buffer { client, handle, device, dtype, .. } = buffer.clone();
    CubeTensor::new_contiguous(client, device, Shape::from(shape), handle, dtype)
}

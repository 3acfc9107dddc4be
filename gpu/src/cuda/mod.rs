//! The CUDA machine: one device, one stream.

mod adopted;
mod borrowed;
mod compile;
mod images;
mod on_device;

/// The crate whose streams and device memory the types of this module are made of. Its feature `f16` lets it fill tensors
/// in bf16.
pub use cudarc;

pub use adopted::DeviceWeights;
pub use borrowed::{CallAddresses, WeightAddresses};
pub use compile::{Compiled, compile, compiler_version};
pub use images::{ARCHITECTURES, architecture_for, prebuilt, source};
pub use on_device::{Captured, DeviceInputs};

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError, sys};
use cudarc::nvrtc::Ptx;

use crate::sources::{Head, heads};
use crate::{Arg, Capabilities, GpuError, Launch, Machine, NamedArg};

const NAME: &str = "cuda";

/// A CUDA device, with the kernels loaded and a stream that everything runs on.
pub struct Cuda {
    stream: Arc<CudaStream>,
    kernels: HashMap<&'static str, Kernel>,
    capabilities: Capabilities,
    /// Whether a kernel may start before the one ahead of it has ended.
    overlaps: bool,
    /// Fills memory whose contents are undefined.
    poison: Option<u32>,
}

/// A kernel of the machine code.
struct Kernel {
    head: Head,
    function: CudaFunction,
    /// The most shared memory that it has been launched with, which has to be allowed first.
    shared: u32,
}

/// Memory of the device.
pub struct CudaBuffer {
    memory: DeviceMemory,
    pointer: sys::CUdeviceptr,
    bytes: usize,
}

/// Whose memory it is.
enum DeviceMemory {
    Own(CudaSlice<u8>),
    /// A tensor that was the caller's, and lives with the buffer.
    Adopted {
        _tensor: Box<dyn Send + Sync>,
    },
    /// The caller's, who sees to it that it lives and is used in order.
    Lent,
}

impl Cuda {
    /// The first device and its default stream.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] where there is no driver, no device, or none that the kernels run on.
    pub fn new() -> Result<Cuda, GpuError> {
        probe()?;
        let context = CudaContext::new(0).map_err(|error| unavailable(&text(error)))?;
        Cuda::on_stream(context.default_stream())
    }

    /// A stream of the caller's choice, and its device.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the kernels do not run on the device.
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Cuda, GpuError> {
        let capability = stream
            .context()
            .compute_capability()
            .map_err(|error| unavailable(&text(error)))?;
        let image = images::load(capability)?;
        // SAFETY: the code is that of this crate's sources: kept, compiled just now, or found in the user's cache under
        // the digest of the sources.
        unsafe { Cuda::with_image(stream, image) }
    }

    /// A stream, and kernels from other machine code, such as that of a source with a planted fault.
    ///
    /// # Safety
    /// The code is trusted: its kernels have the heads of this crate's, and access no memory but their arguments.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the code does not run on the device or lacks a kernel.
    pub unsafe fn with_image(stream: Arc<CudaStream>, image: Vec<u8>) -> Result<Cuda, GpuError> {
        let context = stream.context();
        let module = context
            .load_module(Ptx::from_binary(image))
            .map_err(|error| unavailable(&text(error)))?;
        let load = |head: Head| match module.load_function(head.kernel) {
            Ok(function) => Some(Ok(Kernel {
                head,
                function,
                shared: 0,
            })),
            // Code for other architectures lacks them.
            Err(_) if head.needs_hopper => None,
            Err(error) => Some(Err(unavailable(&text(error)))),
        };
        let kernels = heads().into_iter().filter_map(load);
        let kernels = kernels.map(|kernel| kernel.map(|kernel| (kernel.head.kernel, kernel)));
        let kernels = kernels.collect::<Result<HashMap<_, _>, GpuError>>()?;
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = context
            .attribute(attribute)
            .map_err(|error| unavailable(&text(error)))?;
        let capability = context
            .compute_capability()
            .map_err(|error| unavailable(&text(error)))?;
        Ok(Cuda {
            stream,
            capabilities: Capabilities {
                multiprocessors: multiprocessors.max(1) as u32,
                has_hopper: heads().iter().all(|head| kernels.contains_key(head.kernel)),
            },
            kernels,
            overlaps: capability >= (9, 0),
            poison: None,
        })
    }

    /// The same machine, filling memory whose contents are undefined with a word, such as one of
    /// [`POISONS`](crate::POISONS), so that a read of it shows.
    #[must_use]
    pub fn with_poison(self, poison: u32) -> Cuda {
        Cuda {
            poison: Some(poison),
            ..self
        }
    }

    /// Takes another word from now on, on a machine that fills such memory.
    pub fn set_poison(&mut self, poison: u32) {
        self.poison = self.poison.map(|_| poison);
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// What NVRTC compiles for to run on the device, such as `sm_90a`.
    ///
    /// # Errors
    /// [`GpuError::Driver`], or [`GpuError::Unavailable`] if the device is too old.
    pub fn architecture(&self) -> Result<String, GpuError> {
        let capability = self.stream.context().compute_capability().map_err(driver)?;
        architecture_for(capability).ok_or_else(|| images::too_old(capability))
    }

    /// The device's name and the driver's version.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn description(&self) -> Result<String, GpuError> {
        let name = self.stream.context().name().map_err(driver)?;
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(driver)?;
        Ok(format!(
            "{name}, CUDA driver {}.{}",
            version / 1000,
            version % 1000 / 10
        ))
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda")
            .field("kernels", &self.kernels.len())
            .field("poison", &self.poison)
            .finish()
    }
}

impl std::fmt::Debug for CudaBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaBuffer").field("bytes", &self.bytes).finish()
    }
}

impl Kernel {
    /// Allows launches with so many bytes of shared memory.
    fn allow_shared(&mut self, bytes: u32) -> Result<(), GpuError> {
        if bytes > self.shared {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(attribute, bytes as i32).map_err(driver)?;
            self.shared = bytes;
        }
        Ok(())
    }
}

impl CudaBuffer {
    /// Memory of the caller's, to which kernels alone have access.
    fn lent(pointer: sys::CUdeviceptr, bytes: usize) -> CudaBuffer {
        CudaBuffer {
            memory: DeviceMemory::Lent,
            pointer,
            bytes,
        }
    }

    /// A tensor that was the caller's, to which kernels alone have access.
    fn adopted(pointer: sys::CUdeviceptr, bytes: usize, tensor: Box<dyn Send + Sync>) -> CudaBuffer {
        CudaBuffer {
            memory: DeviceMemory::Adopted { _tensor: tensor },
            pointer,
            bytes,
        }
    }

    /// No transfers: the caller has its own ways.
    fn not_lent(&self) -> GpuError {
        GpuError::Transfer {
            bytes: 0,
            found: self.bytes,
        }
    }

    fn expect(&self, bytes: usize) -> Result<(), GpuError> {
        if bytes <= self.bytes {
            Ok(())
        } else {
            Err(GpuError::Transfer {
                bytes: self.bytes,
                found: bytes,
            })
        }
    }
}

// SAFETY: the one stream orders copies and launches, and the driver runs each.
unsafe impl Machine for Cuda {
    type Buffer = CudaBuffer;

    fn name(&self) -> &'static str {
        NAME
    }

    fn alloc(&mut self, bytes: usize) -> Result<CudaBuffer, GpuError> {
        // SAFETY: bytes of any value are valid, and kernels write a buffer before they read it.
        let slice = unsafe { self.stream.alloc::<u8>(bytes.max(1)) };
        let slice = slice.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => GpuError::OutOfMemory { machine: NAME, bytes },
            _ => driver(error),
        })?;
        let pointer = slice.device_ptr(&self.stream).0;
        Ok(CudaBuffer {
            memory: DeviceMemory::Own(slice),
            pointer,
            bytes,
        })
    }

    fn upload(&mut self, buffer: &mut CudaBuffer, bytes: &[u8]) -> Result<(), GpuError> {
        buffer.expect(bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let not_lent = buffer.not_lent();
        let DeviceMemory::Own(slice) = &mut buffer.memory else {
            return Err(not_lent);
        };
        self.stream
            .memcpy_htod(bytes, &mut slice.slice_mut(..bytes.len()))
            .map_err(driver)
    }

    fn download(&mut self, buffer: &CudaBuffer, first: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        let end = first.saturating_add(bytes.len());
        buffer.expect(end)?;
        if !bytes.is_empty() {
            let DeviceMemory::Own(slice) = &buffer.memory else {
                return Err(buffer.not_lent());
            };
            self.stream
                .memcpy_dtoh(&slice.slice(first..end), bytes)
                .map_err(driver)?;
        }
        self.stream.synchronize().map_err(driver)
    }

    /// Fills the whole buffer: a launch may read beyond what it is given.
    fn discard(&mut self, buffer: &mut CudaBuffer, _used: usize) -> Result<(), GpuError> {
        let Some(poison) = self.poison else { return Ok(()) };
        // The pipeline's arrays are made of words of 32 bits.
        let words = buffer.bytes / size_of::<u32>();
        // SAFETY: the buffer holds that many words and is borrowed mutably; the stream orders the fill.
        unsafe { sys::cuMemsetD32Async(buffer.pointer, poison, words, self.stream.cu_stream()) }
            .result()
            .map_err(driver)
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    unsafe fn launch(&mut self, launch: Launch, args: &[NamedArg<'_, CudaBuffer>]) -> Result<(), GpuError> {
        let failed = |report: String| GpuError::Launch {
            kernel: launch.kernel,
            report,
        };
        let kernel = self
            .kernels
            .get_mut(launch.kernel)
            .ok_or_else(|| failed("there is no such kernel".to_owned()))?;
        kernel.head.check(args).map_err(failed)?;
        kernel.allow_shared(launch.shared)?;
        // Each argument in 8 bytes; the kernel reads as many as its parameter has, from the first.
        let mut values = Vec::with_capacity(args.len());
        for (_, arg) in args {
            values.push(match *arg {
                Arg::Buffer(buffer, bytes) => {
                    buffer.expect(bytes)?;
                    // Its own memory is used on this stream alone, so there is nothing else to wait for.
                    buffer.pointer
                }
                Arg::Null => 0,
                Arg::I64(value) => value as u64,
                Arg::F32(value) => u64::from(value.to_bits()),
            });
        }
        let mut params: Vec<*mut c_void> = values.iter_mut().map(|value| (value as *mut u64).cast()).collect();
        self.stream.context().bind_to_thread().map_err(driver)?;
        // Each kernel begins with a wait for the earlier ones.
        let mut overlap = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: Default::default(),
            value: sys::CUlaunchAttributeValue {
                programmaticStreamSerializationAllowed: 1,
            },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: launch.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: self.stream.cu_stream(),
            attrs: &mut overlap,
            numAttrs: u32::from(self.overlaps),
        };
        // SAFETY: the parameters point to values that live through the call, as many and of the kinds that the kernel's
        // head has, as was checked above. The caller vouches for what they hold, and the one who loaded the code for the
        // kernel. Buffers outlive the kernel, since they are freed in the order of the stream. The attribute lives
        // through the call.
        unsafe {
            sys::cuLaunchKernelEx(
                &config,
                kernel.function.cu_function(),
                params.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .map_err(|error| failed(text(error)))
    }
}

/// Whether there is a driver and a device, without the panic of a missing library.
fn probe() -> Result<(), GpuError> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable("the CUDA driver's library (libcuda) was not found"));
    }
    match CudaContext::device_count() {
        Ok(0) => Err(unavailable("the CUDA driver found no device")),
        Ok(_) => Ok(()),
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => {
            Err(unavailable("the CUDA driver found no device"))
        }
        // The error's own Display asks the driver, which may be the one that does not work.
        Err(error) => Err(unavailable(&format!("the CUDA driver reports {:?}", error.0))),
    }
}

pub(super) fn unavailable(reason: &str) -> GpuError {
    GpuError::Unavailable {
        machine: NAME,
        reason: reason.to_owned(),
    }
}

fn driver(error: DriverError) -> GpuError {
    GpuError::Driver { report: text(error) }
}

fn text(error: DriverError) -> String {
    format!("{:?}", error.0)
}

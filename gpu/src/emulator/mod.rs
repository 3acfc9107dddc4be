//! The emulator: the kernels on the CPU.
//!
//! Built by `build.rs` from `kernels/` and `emulator/` where a C++17 compiler is found.

mod build;
mod interface;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};

use crate::{Arg, Capabilities, GpuError, Launch, Machine, NamedArg, POISONS};

pub use build::EmulatorBuilder;
use interface::{Instance, Interface};

const NAME: &str = "emulator";

/// Runs the kernels on the CPU, one thread at a time, and finds faults that a GPU passes over.
///
/// Every index is checked against its buffer, and shared memory and workspaces start poisoned. Barriers and collectives
/// that not all threads reach end the launch with a report, and so do accesses to integers that no barrier orders.
/// Blocks interleave, and the [`Schedule`] decides in which order threads run, so that a race between floats shows as a
/// difference between seeds.
#[derive(Debug)]
pub struct Emulator {
    schedule: Schedule,
    multiprocessors: u32,
    instance: Instance,
}

/// How the threads of a launch are interleaved, and what memory holds that nothing has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Schedule {
    /// Decides every draw; the same seed gives the same order.
    pub seed: u64,
    /// Blocks that run at the same time; 0: as many as hold 1,024 threads, at least 2.
    pub resident_blocks: u32,
    /// Another thread may run after about so many memory accesses as well; 0: only at barriers, collectives and
    /// atomics.
    pub access_interval: u32,
    /// Fills workspaces before a case and shared memory before a block, word by word.
    pub poison: u32,
}

impl Default for Schedule {
    /// Seed 0, changes of threads at meetings only, and memory that is NaN.
    fn default() -> Schedule {
        Schedule {
            seed: 0,
            resident_blocks: 0,
            access_interval: 0,
            poison: POISONS[0],
        }
    }
}

/// Memory of the emulator. The cells are written through shared references, by kernels on the calling thread.
#[derive(Debug)]
pub struct EmulatorBuffer {
    words: Vec<Cell<u64>>,
    bytes: usize,
}

impl Emulator {
    /// Multiprocessors of an emulator, unless it is given another number: few, so that small problems have several
    /// rounds of tiles.
    pub const MULTIPROCESSORS: u32 = 3;

    /// The emulator with the default schedule.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the crate was built without a C++ compiler.
    pub fn new() -> Result<Emulator, GpuError> {
        Emulator::with_schedule(Schedule::default())
    }

    /// The emulator with a schedule of the caller's choice.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the crate was built without a C++ compiler.
    pub fn with_schedule(schedule: Schedule) -> Result<Emulator, GpuError> {
        let reason = option_env!("EMULATOR_REASON").unwrap_or("built without a C++ compiler");
        let interface = Interface::built_in().ok_or_else(|| unavailable(reason))?;
        // SAFETY: the functions are linked into the program. This crate's kernels reach memory through checked arrays,
        // and have no variables but those of their threads and blocks.
        let instance = unsafe { Instance::new(interface, None) }?;
        Ok(Emulator {
            schedule,
            multiprocessors: Emulator::MULTIPROCESSORS,
            instance,
        })
    }

    /// The same machine with another number of multiprocessors, at least 1.
    #[must_use]
    pub fn with_multiprocessors(self, multiprocessors: u32) -> Emulator {
        Emulator {
            multiprocessors: multiprocessors.max(1),
            ..self
        }
    }

    /// The schedule of the launches to come.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }

    /// Runs a kernel, with arguments of any kind: the machine checks them, and each access to them.
    ///
    /// # Errors
    /// [`GpuError::Launch`] with what it finds, [`GpuError::Transfer`] if an argument is larger than its buffer.
    pub fn launch(&mut self, launch: Launch, args: &[NamedArg<'_, EmulatorBuffer>]) -> Result<(), GpuError> {
        let failed = |report| GpuError::Launch {
            kernel: launch.kernel,
            report,
        };
        let names = args.iter().map(|(name, _)| CString::new(*name));
        let names = names
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(error.to_string()))?;
        let args = args.iter().zip(&names).map(|((_, arg), name)| RawArg::new(name, arg));
        let args = args.collect::<Result<Vec<_>, _>>()?;
        run(&mut self.instance, launch, self.schedule, &args).map_err(failed)
    }

    /// Two words of poison.
    fn fill(&self) -> u64 {
        u64::from(self.schedule.poison) << 32 | u64::from(self.schedule.poison)
    }
}

impl EmulatorBuffer {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn pointer(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast()
    }

    fn expect(&self, bytes: usize) -> Result<(), GpuError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(GpuError::Transfer {
            bytes: self.bytes,
            found: bytes,
        })
    }
}

// SAFETY: buffers are memory of this process, and a launch returns after its kernel.
unsafe impl Machine for Emulator {
    type Buffer = EmulatorBuffer;

    fn name(&self) -> &'static str {
        NAME
    }

    fn alloc(&mut self, bytes: usize) -> Result<EmulatorBuffer, GpuError> {
        let length = bytes.div_ceil(size_of::<u64>());
        let mut words = Vec::new();
        words
            .try_reserve_exact(length)
            .map_err(|_| GpuError::OutOfMemory { machine: NAME, bytes })?;
        words.resize(length, Cell::new(self.fill()));
        Ok(EmulatorBuffer { words, bytes })
    }

    fn upload(&mut self, buffer: &mut EmulatorBuffer, bytes: &[u8]) -> Result<(), GpuError> {
        buffer.expect(bytes.len())?;
        // SAFETY: the buffer holds at least as many bytes; `bytes` cannot overlap what is borrowed mutably.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.pointer(), bytes.len()) };
        Ok(())
    }

    fn download(&mut self, buffer: &EmulatorBuffer, first: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        buffer.expect(first.saturating_add(bytes.len()))?;
        // SAFETY: the buffer holds at least as many bytes from `first` on, all of them initialised; `bytes` is borrowed
        // mutably and so lies elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(buffer.pointer().add(first), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Fills what is used with the schedule's poison: no launch can reach the rest, since it checks every index.
    fn discard(&mut self, buffer: &mut EmulatorBuffer, used: usize) -> Result<(), GpuError> {
        buffer.expect(used)?;
        buffer.words[..used.div_ceil(size_of::<u64>())].fill(Cell::new(self.fill()));
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            multiprocessors: self.multiprocessors,
            has_hopper: true,
        }
    }

    unsafe fn launch(&mut self, launch: Launch, args: &[NamedArg<'_, EmulatorBuffer>]) -> Result<(), GpuError> {
        Emulator::launch(self, launch, args)
    }
}

/// One argument of the C interface in `emulator/launch.cpp`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawArg {
    name: *const c_char,
    kind: u32,
    bits_f32: u32,
    bits_i64: i64,
    pointer: *mut c_void,
    bytes: u64,
}

impl RawArg {
    /// Points to the name and the buffer.
    fn new(name: &CStr, arg: &Arg<'_, EmulatorBuffer>) -> Result<RawArg, GpuError> {
        let null = RawArg {
            name: name.as_ptr(),
            kind: 0,
            bits_f32: 0,
            bits_i64: 0,
            pointer: std::ptr::null_mut(),
            bytes: 0,
        };
        Ok(match *arg {
            Arg::Buffer(buffer, bytes) => {
                buffer.expect(bytes)?;
                RawArg {
                    pointer: buffer.pointer().cast(),
                    bytes: bytes as u64,
                    ..null
                }
            }
            Arg::Null => null,
            Arg::I64(value) => RawArg {
                kind: 1,
                bits_i64: value,
                ..null
            },
            Arg::F32(value) => RawArg {
                kind: 2,
                bits_f32: value.to_bits(),
                ..null
            },
        })
    }
}

fn unavailable(reason: &str) -> GpuError {
    GpuError::Unavailable {
        machine: NAME,
        reason: reason.to_owned(),
    }
}

/// Runs a kernel to its end; the error is its report.
fn run(instance: &mut Instance, launch: Launch, schedule: Schedule, args: &[RawArg]) -> Result<(), String> {
    let kernel = CString::new(launch.kernel).map_err(|error| error.to_string())?;
    let (grid, block) = ([launch.grid, 1, 1], [launch.block, 1, 1]);
    let mut report = [0 as c_char; 1024];
    let (function, state) = instance.launch();
    // SAFETY: the pointers are valid for the call, with the lengths that the interface names. Each buffer argument is
    // memory of an `EmulatorBuffer` that `args` was made from, borrowed for the call, made of cells, so that it may be
    // written, and reached by no other thread, since cells are not `Sync`. The machine checks every access against
    // the buffer's length.
    let status = unsafe {
        function(
            state,
            kernel.as_ptr(),
            grid.as_ptr(),
            block.as_ptr(),
            launch.shared,
            &schedule,
            args.as_ptr(),
            args.len(),
            report.as_mut_ptr(),
            report.len(),
        )
    };
    if status == 0 {
        return Ok(());
    }
    // SAFETY: on failure the report ends with a NUL within the array.
    Err(unsafe { CStr::from_ptr(report.as_ptr()) }
        .to_string_lossy()
        .into_owned())
}

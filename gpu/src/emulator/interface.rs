//! The C interface of `emulator/launch.cpp`: an emulator in C++, created, used and destroyed.

use std::ffi::c_char;
use std::ptr::NonNull;

use libloading::Library;

use super::{RawArg, Schedule, unavailable};
use crate::GpuError;

/// `simt::Emulator`: all that one launch leaves for the next, such as the stacks of its threads.
#[repr(C)]
pub(super) struct State {
    _opaque: [u8; 0],
}

/// The functions of the interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interface {
    create: CreateFunction,
    destroy: DestroyFunction,
    launch: LaunchFunction,
}

type CreateFunction = unsafe extern "C" fn() -> *mut State;

type DestroyFunction = unsafe extern "C" fn(emulator: *mut State);

pub(super) type LaunchFunction = unsafe extern "C" fn(
    emulator: *mut State,
    kernel: *const c_char,
    grid: *const u32,
    block: *const u32,
    shared_bytes: u32,
    schedule: *const Schedule,
    args: *const RawArg,
    n_args: usize,
    report: *mut c_char,
    report_bytes: usize,
) -> i32;

impl Interface {
    /// The functions that the crate was built with.
    #[cfg(emulator_built)]
    pub(super) fn built_in() -> Option<Interface> {
        unsafe extern "C" {
            fn binned_experts_simt_create() -> *mut State;
            fn binned_experts_simt_destroy(emulator: *mut State);
            fn binned_experts_simt_launch(
                emulator: *mut State,
                kernel: *const c_char,
                grid: *const u32,
                block: *const u32,
                shared_bytes: u32,
                schedule: *const Schedule,
                args: *const RawArg,
                n_args: usize,
                report: *mut c_char,
                report_bytes: usize,
            ) -> i32;
        }
        Some(Interface {
            create: binned_experts_simt_create,
            destroy: binned_experts_simt_destroy,
            launch: binned_experts_simt_launch,
        })
    }

    /// None: there was no compiler.
    #[cfg(not(emulator_built))]
    pub(super) fn built_in() -> Option<Interface> {
        None
    }

    /// The functions of a library.
    ///
    /// # Safety
    /// The library must be built from this crate's `launch.cpp`, whose functions have these types.
    pub(super) unsafe fn of(library: &Library) -> Result<Interface, libloading::Error> {
        // SAFETY: the types are those of `launch.cpp`, as the caller promises.
        unsafe {
            Ok(Interface {
                create: *library.get::<CreateFunction>(b"binned_experts_simt_create\0")?,
                destroy: *library.get::<DestroyFunction>(b"binned_experts_simt_destroy\0")?,
                launch: *library.get::<LaunchFunction>(b"binned_experts_simt_launch\0")?,
            })
        }
    }
}

/// An emulator in C++, destroyed when dropped.
#[derive(Debug)]
pub(super) struct Instance {
    state: NonNull<State>,
    interface: Interface,
    /// Holds the functions, where they come from a library. Dropped after the state is destroyed.
    _library: Option<Library>,
}

// SAFETY: the state is reached through this value alone, and nothing in it belongs to a thread of the operating system:
// the one thread-local variable, the kernel's thread that runs, is set by each launch before it is read, and kernels keep
// nothing, as `new` demands. A launch begins and ends on one thread, so that no fiber goes to another one.
unsafe impl Send for Instance {}

impl Instance {
    /// A new emulator.
    ///
    /// # Safety
    /// The functions must be those of `launch.cpp`, and remain callable: for as long as the library is loaded, or for
    /// ever without one. The kernels that they run must stay within their arrays, and keep nothing from one launch to the
    /// next.
    pub(super) unsafe fn new(interface: Interface, library: Option<Library>) -> Result<Instance, GpuError> {
        // SAFETY: the function takes nothing; the caller promises that it can be called.
        let state = unsafe { (interface.create)() };
        Ok(Instance {
            state: NonNull::new(state).ok_or_else(|| unavailable("there is no memory for it"))?,
            interface,
            _library: library,
        })
    }

    /// The function that launches a kernel, and its first argument.
    pub(super) fn launch(&mut self) -> (LaunchFunction, *mut State) {
        (self.interface.launch, self.state.as_ptr())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: `create` made the state, nothing has destroyed it, and it is not used again. The library is still
        // loaded, since fields are dropped after this call.
        unsafe { (self.interface.destroy)(self.state.as_ptr()) };
    }
}

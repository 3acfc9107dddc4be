//! NVRTC: from the kernels' source to machine code.

use std::ffi::{CStr, CString, c_char};

use cudarc::nvrtc::{result, sys};

use super::unavailable;
use crate::GpuError;

/// What the compiler is told besides the architecture. Its log then names registers, spills and warnings.
pub(super) const OPTIONS: [&str; 4] = [
    "--std=c++20",
    "--ptxas-options=-v",
    "--ptxas-options=--warn-on-spills",
    "--fmad=true",
];

/// Machine code and what the compiler says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// A CUBIN.
    pub image: Vec<u8>,
    /// Registers, shared memory, stack and spills of each kernel.
    pub log: String,
}

/// The compiler's version, (major, minor).
///
/// # Errors
/// [`GpuError::Unavailable`] where the library is not found.
pub fn compiler_version() -> Result<(i32, i32), GpuError> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable(
            "the kernels must be compiled for this device, and NVRTC (libnvrtc) was not found",
        ));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are valid for the call.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }
        .result()
        .map_err(|error| unavailable(&format!("NVRTC reports {error:?}")))?;
    Ok((major, minor))
}

/// Compiles a source for a real architecture, such as `sm_90a`.
///
/// # Errors
/// [`GpuError::Unavailable`] where NVRTC is not found, [`GpuError::Compile`] with its log if it refuses the source.
pub fn compile(source: &str, architecture: &str) -> Result<Compiled, GpuError> {
    compiler_version()?;
    let failed = |log: String| GpuError::Compile {
        architecture: architecture.to_owned(),
        log,
    };
    let text = CString::new(source).map_err(|error| failed(error.to_string()))?;
    let program =
        result::create_program(&text, Some(c"binned_experts.cu")).map_err(|error| failed(format!("{error:?}")))?;
    let program = Program(program);
    let mut options: Vec<String> = OPTIONS.iter().map(|option| (*option).to_owned()).collect();
    options.push(format!("--gpu-architecture={architecture}"));
    // SAFETY: the program is alive until it is dropped.
    let outcome = unsafe { result::compile_program(program.0, &options) };
    let log = program.log();
    outcome.map_err(|error| failed(format!("{error:?}\n{log}")))?;
    let image = program.image().map_err(failed)?;
    Ok(Compiled { image, log })
}

/// A program of the compiler, destroyed when dropped.
struct Program(sys::nvrtcProgram);

impl Program {
    fn log(&self) -> String {
        // SAFETY: the program is alive.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        // SAFETY: the log ends with a NUL; an empty one is not read.
        let text = (!log.is_empty()).then(|| unsafe { CStr::from_ptr(log.as_ptr()) });
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn image(&self) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: the program is alive and the pointer valid for the call.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &mut bytes) }
            .result()
            .map_err(|error| format!("{error:?}"))?;
        let mut image = vec![0u8; bytes];
        // SAFETY: the buffer has the size that the compiler asked for.
        unsafe { sys::nvrtcGetCUBIN(self.0, image.as_mut_ptr().cast::<c_char>()) }
            .result()
            .map_err(|error| format!("{error:?}"))?;
        Ok(image)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is alive and not used again; a failure leaves nothing to undo.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

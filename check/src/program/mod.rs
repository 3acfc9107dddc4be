//! Kernels of any language, as programs that read case files and write result files.

mod case_file;
mod client;
mod guard;
mod process;
mod protocol;
mod result_file;
mod serve;

pub use case_file::{
    CaseFile, FileError, case_tensors, parse_case, positions, read_case, read_tensors, write_case, write_tensors,
};
pub use client::{Limits, Program, ProgramError};
pub use protocol::{Answer, Broken};
pub use result_file::{outcome, parse_outcome, read_outcome};
pub use serve::{serve, tensors};

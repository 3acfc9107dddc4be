//! Kernels of any language, as programs that read case files and write result files.

mod case_file;
mod client;
mod file_error;
mod guard;
mod process;
mod protocol;
mod result_file;
mod serve;
mod tensor_file;
mod view_file;
mod weights_file;

pub use case_file::{CaseFile, case_tensors, parse_case, read_case, tensors_of_call, tensors_of_weights, write_case};
pub use client::{Limits, Program, ProgramError};
pub use file_error::FileError;
pub use protocol::{Answer, Broken};
pub use result_file::{outcome, parse_outcome, read_outcome};
pub use serve::{serve, tensors};
pub use tensor_file::{positions, read_tensors, write_tensors};
pub use view_file::Laid;

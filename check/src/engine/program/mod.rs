//! Kernels of any language, as programs that read files of cases and write files of results.

mod client;
mod guard;
mod limits;
mod process;
mod protocol;
mod result_file;
mod serve;

pub use client::{Program, ProgramError};
pub use limits::Limits;
pub use protocol::{Answer, Broken};
pub use result_file::{outcome, parse_outcome, read_outcome};
pub use serve::{serve, tensors};

//! What the pipeline needs of a machine.

use crate::GpuError;

/// A machine that holds buffers and runs kernels on them, in the order of the launches.
///
/// # Safety
/// The methods do what they say: a buffer has the size that was asked for and holds what was last written to it, and
/// each launch runs, in its turn. The pipeline relies on it, since kernels take indices from buffers.
pub unsafe trait Machine {
    /// Memory on the machine.
    type Buffer: std::fmt::Debug;

    /// The machine's name, as errors and reports give it.
    fn name(&self) -> &'static str;

    /// A buffer of `bytes` bytes, aligned for every type, whose contents are undefined. `bytes` may be 0.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    fn alloc(&mut self, bytes: usize) -> Result<Self::Buffer, GpuError>;

    /// Copies to the start of a buffer.
    ///
    /// # Errors
    /// [`GpuError::Transfer`] if the buffer is smaller.
    fn upload(&mut self, buffer: &mut Self::Buffer, bytes: &[u8]) -> Result<(), GpuError>;

    /// Copies from a buffer, from its byte `first` on, once all launches before it are done.
    ///
    /// # Errors
    /// [`GpuError::Transfer`] if the buffer is smaller, or what a launch before it reports.
    fn download(&mut self, buffer: &Self::Buffer, first: usize, bytes: &mut [u8]) -> Result<(), GpuError>;

    /// Declares the contents of a buffer undefined, of which launches will be given the first `used` bytes. A machine that
    /// looks for reads of undefined memory fills what they can reach with values that show.
    ///
    /// # Errors
    /// [`GpuError::Driver`], [`GpuError::Transfer`] if the buffer is smaller.
    fn discard(&mut self, buffer: &mut Self::Buffer, used: usize) -> Result<(), GpuError>;

    /// What the machine runs kernels with.
    fn capabilities(&self) -> Capabilities;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments are what the kernel's head asks for: arrays are as long as it says for the numbers among the
    /// arguments, and what it reads of them has been written, by an upload or by the kernels that come before it.
    ///
    /// # Errors
    /// [`GpuError::Launch`] if it cannot be launched or fails.
    unsafe fn launch(&mut self, launch: Launch, args: &[NamedArg<'_, Self::Buffer>]) -> Result<(), GpuError>;
}

/// What a machine runs kernels with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Number of multiprocessors, at least 1.
    pub multiprocessors: u32,
    /// Whether they run the kernels for Hopper's tensor cores.
    pub has_hopper: bool,
}

/// A kernel and how many threads run it. Grid and block are one-dimensional; neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Number of blocks, below 2^31.
    pub grid: u32,
    /// Threads of each block.
    pub block: u32,
    /// Bytes of shared memory of each block, besides what the kernel declares itself.
    pub shared: u32,
}

/// An argument and the name of its parameter.
pub type NamedArg<'a, B> = (&'static str, Arg<'a, B>);

/// An argument of a kernel.
#[derive(Debug)]
pub enum Arg<'a, B> {
    /// The first bytes of a buffer.
    Buffer(&'a B, usize),
    /// A null pointer, for an optional array.
    Null,
    /// A 64-bit integer.
    I64(i64),
    /// A float.
    F32(f32),
}

impl<B> Clone for Arg<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Arg<'_, B> {}

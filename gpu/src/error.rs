//! Everything that can keep the pipeline from a result.

use binned_experts_reference::Error;

/// Why there is no result. The pipeline can be used again after any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The reference refuses the input as well.
    #[error(transparent)]
    Reference(#[from] Error),
    /// The problem holds other weights than those that the pipeline was made with.
    #[error("the problem holds other weights than the pipeline")]
    OtherWeights,
    /// The kernels do not compute such a layer.
    #[error("layer: expected {expected}, found {found}")]
    Layer {
        /// What they compute.
        expected: &'static str,
        /// What is there instead.
        found: String,
    },
    /// Assignments are numbered in 32 bits on the machine.
    #[error("{tokens} tokens · {top_k} top_k: expected fewer than 2^31 assignments")]
    TooManyAssignments {
        /// T.
        tokens: usize,
        /// K.
        top_k: usize,
    },
    /// Experts are numbered in 32 bits on the machine.
    #[error("expected fewer than 2^31 - 1 experts, found {experts}")]
    TooManyExperts {
        /// E.
        experts: usize,
    },
    /// A kernel would need more blocks than a grid can have.
    #[error("{kernel}: expected fewer than 2^31 blocks, found {blocks}")]
    TooManyBlocks {
        /// The kernel's name.
        kernel: &'static str,
        /// The number of blocks.
        blocks: usize,
    },
    /// The size of a buffer does not fit the address space.
    #[error("{what}: the product of sizes {sizes:?} overflows")]
    SizeOverflow {
        /// What was to be sized.
        what: &'static str,
        /// The factors.
        sizes: Vec<usize>,
    },
    /// The machine has no memory left for a buffer.
    #[error("{machine}: could not allocate {bytes} bytes")]
    OutOfMemory {
        /// The machine's name.
        machine: &'static str,
        /// The size of the buffer.
        bytes: usize,
    },
    /// The machine cannot be had here.
    #[error("{machine}: not available: {reason}")]
    Unavailable {
        /// The machine's name.
        machine: &'static str,
        /// What is missing.
        reason: String,
    },
    /// The driver reports an error.
    #[error("the CUDA driver reports {report}")]
    Driver {
        /// Its name for the error.
        report: String,
    },
    /// The kernels do not compile for a device.
    #[error("the kernels do not compile for {architecture}:\n{log}")]
    Compile {
        /// The architecture.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
    /// A step or a transfer names a buffer that the plan lacks.
    #[error("expected a buffer {name} among those of the plan, found none")]
    NoBuffer {
        /// The buffer's name.
        name: &'static str,
    },
    /// A transfer does not fit its buffer.
    #[error("a transfer of {found} bytes does not fit a buffer of {bytes}")]
    Transfer {
        /// The size of the buffer.
        bytes: usize,
        /// The size of the transfer.
        found: usize,
    },
    /// A tensor on the device has another length.
    #[error("{what}: expected {sizes:?} elements, found {found}")]
    Length {
        /// The tensor's name.
        what: &'static str,
        /// The sizes whose product its length has to be.
        sizes: Vec<usize>,
        /// Its length.
        found: usize,
    },
    /// A tensor is on another device than the pipeline.
    #[error("expected tensors on the pipeline's device, found one on another")]
    OtherDevice,
    /// A path keeps tensors in another element type than the caller's, and takes them from the host alone.
    #[error("{path}: expected tensors in the host's memory, found them on the device")]
    HostOnly {
        /// The path's name.
        path: &'static str,
    },
    /// A kernel failed.
    #[error("{kernel}: {report}")]
    Launch {
        /// The kernel's name.
        kernel: &'static str,
        /// What the machine reports.
        report: String,
    },
    /// The machine's results do not fit one another.
    #[error("{what}: expected at most {limit}, found {found}")]
    Corrupt {
        /// What was read back.
        what: &'static str,
        /// The largest value that is possible.
        limit: usize,
        /// The value found.
        found: i64,
    },
}

/// Indices are 32 bits wide and signed on the machine, and so is the extent of a grid.
pub(crate) const INDEX_LIMIT: usize = 1 << 31;

/// The product of sizes, for which memory could be had.
pub(crate) fn product(what: &'static str, sizes: &[usize]) -> Result<usize, GpuError> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| GpuError::SizeOverflow {
            what,
            sizes: sizes.to_vec(),
        })
}

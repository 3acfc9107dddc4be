//! OpenAI-style (gpt-oss) binned mixture-of-experts as CUDA kernels, in fp32 and bf16, and that of other models: see
//! [`CallLayer`].
//!
//! [`Pipeline`] computes what [`binned_experts_ref`](binned_experts_reference::binned_experts_ref) computes, on a
//! [`Machine`]: a place with buffers that runs kernels by name. [`Cuda`] is a GPU. [`Emulator`] runs them on the CPU, built
//! by a C++ compiler from the very source that a GPU runs, and stricter than a GPU: indices are checked, memory starts
//! poisoned, accesses to integers must be ordered by barriers, and a seed decides how threads and blocks interleave.
//!
//! Symbols, always in this order: T tokens, H hidden, I intermediate, E experts, K top_k, C capacity; R is the number
//! of rows that the capacity keeps.
//!
//! A [`Path`] is a way to compute a forward. [`PORTABLE_FP32`] runs everywhere:
//!
//! | kernel | writes | from |
//! |---|---|---|
//! | `count_assignments` | counts `[tiles,E]` | router_indices `[T,K]` |
//! | `scan_bins` | bins `[E]`, row_starts, tile_starts, panel_starts `[E+1]` | counts |
//! | `rank_assignments` | sorted_indices `[T·K]`, row_of `[T·K]`, assignment_of `[R]` | counts, bins |
//! | `place_order` | row_of, assignment_of | an explicit order in place of the stable one |
//! | `gate_up` | activated `[R,I]`, and gate_up `[R,2I]` if asked for | hidden_states `[T,H]`, gathered |
//! | `down` | expert_output `[R,H]` | activated |
//! | `combine` | output `[T,H]` | expert_output, routing_weights `[T,E]` |
//!
//! [`HOPPER_FP32`] runs on Hopper's tensor cores, where H and I are 32 or more. It has these kernels before `gate_up`:
//!
//! | kernel | writes | from |
//! |---|---|---|
//! | `pack_weights` | the weights as two f16 each, once | gate_up_proj, down_proj |
//! | `split_tokens` | the rows as two f16 each, their scales, the rows that cannot be split | hidden_states, gathered |
//! | `experts` | both products, activations between them as two f16 each | the packed rows and weights |
//! | `mark_fallback_rows` | fallback_rows `[1+R]` | the rows whose tokens, weights or activations cannot be split |
//!
//! `gate_up` and `down` then compute the fallback rows alone. The packed weights take as much memory as the weights,
//! which stay resident beside them.
//!
//! [`HOPPER_BF16`] runs on the same tensor cores for tensors in bf16, where H and I are multiples of 8 and E is at most
//! 512. Sums are f32; activated and expert_output are rounded to bf16 once each. Of the weights it keeps the packed ones
//! alone:
//!
//! | kernel | writes | from |
//! |---|---|---|
//! | `pack_weights_bf16` | the packed weights, once | gate_up_proj, down_proj |
//! | `route_gather_bf16` | row_starts, row_of, packed rows; for few assignments | router_indices, hidden_states |
//! | `gather_bf16` | packed rows, after the kernels that route in [`PORTABLE_FP32`]; for many | hidden_states, row_of |
//! | `experts_bf16` | expert_output `[R,H]` | packed rows and weights |
//! | `combine_bf16` | output `[T,H]` | expert_output, routing_weights |
//!
//! [`PORTABLE_BF16`] takes all other tensors in bf16, with the kernels of [`PORTABLE_FP32`].
//!
//! Nothing returns to the host between the first kernel and the last. From compute capability 9.0 on, each kernel is
//! started before the one ahead of it has ended, and waits for it itself. Sums of floats have one order, whatever the
//! order of the blocks, so two runs on one device give the same bits. Whether a token has the same bits in any batch is
//! [asked for](Pipeline::batch_invariant) in fp32 on Hopper, and holds on all other paths.
//!
//! On a GPU a forward also takes tensors that are there already, and can be captured as a CUDA graph; weights that are
//! there already can be adopted: `forward_on_device`, `capture` and `adopt` in the module `cuda`.
//!
#![cfg_attr(feature = "emulator", doc = "```")]
#![cfg_attr(not(feature = "emulator"), doc = "```ignore")]
//! use binned_experts_gpu::{GpuError, Emulator, Pipeline};
//! use binned_experts_reference::{ExpertWeights, Problem, binned_experts_ref};
//! use ndarray::{Array2, Array3, array};
//!
//! let weights = ExpertWeights::new(
//!     Array3::ones((2, 1, 2)),
//!     Array2::zeros((2, 2)),
//!     Array3::ones((2, 1, 1)),
//!     Array2::zeros((2, 1)),
//! )?;
//! let x = array![[[0.5f32], [1.0]]];
//! let problem = Problem::new(x, array![[0], [1]], Array3::ones((1, 2, 2)), weights, 1)?;
//! let machine = match Emulator::new() {
//!     Err(GpuError::Unavailable { .. }) => return Ok(()), // no C++ compiler
//!     machine => machine?,
//! };
//! let output = Pipeline::new(problem.weights().clone(), machine)?.forward(&problem)?;
//! let expected = binned_experts_ref(&problem)?.output;
//! assert!(output.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() <= 1e-6));
//! # Ok::<(), GpuError>(())
//! ```

#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "emulator")]
mod emulator;
mod error;
mod kernel;
mod layer;
mod machine;
mod memory;
mod path;
mod pipeline;
mod plan;
mod poison;
pub mod sources;

#[cfg(feature = "cuda")]
pub use cuda::Cuda;
#[cfg(feature = "emulator")]
pub use emulator::{Emulator, EmulatorBuffer, EmulatorBuilder, Schedule};
pub use error::GpuError;
pub use layer::CallLayer;
pub use machine::{Arg, Capabilities, Launch, Machine, NamedArg};
pub use path::{HOPPER_BF16, HOPPER_FP32, PORTABLE_BF16, PORTABLE_FP32, Path, PathElement};
pub use pipeline::{Pipeline, Stages, Uploaded};
pub use poison::POISONS;

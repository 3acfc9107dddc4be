//! `binned_experts_ref`: the stages in their order.

use ndarray::{Array1, Array3, CowArray, Ix2};

use crate::{Binned, Element, Error, Problem, activate, binned_gather, binned_scatter, down, gate_up, select_weights};

/// The result of every stage. The order and the bins are those of the [`Problem`].
#[derive(Debug, Clone, PartialEq)]
pub struct Trace<T> {
    /// Kept tokens by expert, width H.
    pub gathered: Binned<T>,
    /// First product and bias, width 2I.
    pub gate_up: Binned<T>,
    /// After the clamped SwiGLU, width I.
    pub activated: Binned<T>,
    /// Second product and bias, width H.
    pub expert_output: Binned<T>,
    /// The weight of each assignment, `[T·K]`.
    pub selected_weights: Array1<T>,
    /// The result, `[B,S,H]`.
    pub output: Array3<T>,
}

/// Computes the PyTorch function `binned_experts_ref` in the same steps, with its rounding after each.
///
/// # Errors
/// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] if an intermediate result is too large.
///
/// ```
/// use binned_experts_reference::{ExpertWeights, Problem, binned_experts_ref};
/// use ndarray::{Array2, Array3, array};
///
/// // One expert with H = I = 1 whose bias alone reaches both clamps: (7 + 1) · 7 · sigmoid(1.702 · 7).
/// let weights = ExpertWeights::new(
///     Array3::zeros((1, 1, 2)),
///     array![[100.0f32, 100.0]],
///     Array3::ones((1, 1, 1)),
///     Array2::zeros((1, 1)),
/// )?;
/// let problem = Problem::new(Array3::zeros((1, 1, 1)), array![[0]], Array3::ones((1, 1, 1)), weights, 1)?;
/// let trace = binned_experts_ref(&problem)?;
/// assert!((trace.output[[0, 0, 0]] - 55.99963).abs() < 1e-5);
/// # Ok::<(), binned_experts_reference::Error>(())
/// ```
pub fn binned_experts_ref<T: Element>(problem: &Problem<T>) -> Result<Trace<T>, Error> {
    let (bins, weights, capacity) = (problem.bins(), problem.weights(), problem.capacity());
    let top_k = problem.dims().top_k;

    let gathered = binned_gather(rows(problem.hidden_states())?.view(), bins, capacity, top_k)?;
    let gate_up = gate_up(&gathered, weights)?;
    let activated = activate(&gate_up, problem.activation())?;
    let expert_output = down(&activated, weights)?;
    let selected_weights = select_weights(rows(problem.routing_weights())?.view(), problem.router_indices())?;
    let output = binned_scatter(&expert_output, bins, &selected_weights, capacity, top_k)?;
    let output = output
        .into_shape_with_order(problem.hidden_states().raw_dim())
        .map_err(|_| Error::SizeOverflow {
            what: "output",
            sizes: problem.hidden_states().shape().to_vec(),
        })?;

    Ok(Trace {
        gathered,
        gate_up,
        activated,
        expert_output,
        selected_weights,
        output,
    })
}

/// `[B,S,width]` as `[B·S,width]`, copied only if the memory layout needs it.
fn rows<T: Clone>(tensor: &Array3<T>) -> Result<CowArray<'_, T, Ix2>, Error> {
    let (batch, sequence, width) = tensor.dim();
    tensor
        .to_shape((batch * sequence, width))
        .map_err(|_| Error::SizeOverflow {
            what: "rows",
            sizes: tensor.shape().to_vec(),
        })
}

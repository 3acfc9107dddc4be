//! `binned_experts_ref`: the stages in their order.

use ndarray::{Array1, Array2, Array3, CowArray, Ix2};

use crate::binned::{scaled_rows, selected_weights};
use crate::{
    Binned, Element, Error, Problem, TensorType, WeightOn, activate, binned_gather, binned_scatter, down, gate_up,
};

/// The result of every stage. The order and the bins are those of the [`Problem`]. Routing weights and output are held in
/// the type that operations compute in, which has the values of the element type too.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace<T: Element> {
    /// Kept tokens by expert, width H.
    pub gathered: Binned<T>,
    /// First product and bias, width 2I, or I where the activation has no ups.
    pub gate_up: Binned<T>,
    /// After the activation, width I.
    pub activated: Binned<T>,
    /// Second product and bias, width H.
    pub expert_output: Binned<T>,
    /// The weight of each assignment, `[T·K]`; 0 where its expert is not local.
    pub selected_weights: Array1<T::Wide>,
    /// What the shared experts give for every token, `[T,H]`; none where the layer has none.
    pub shared_output: Option<Array2<T>>,
    /// The result, `[B,S,H]`, rounded to the layer's type of it.
    pub output: Array3<T::Wide>,
}

/// Computes the PyTorch function `binned_experts_ref` in the same steps, with its rounding after each; for another
/// [`Layer`](crate::Layer), with the operations that it has instead.
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
///     Array3::<f32>::zeros((1, 1, 2)),
///     array![[100.0, 100.0]],
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
    let (top_k, layer) = (problem.dims().top_k, problem.layer());

    let gathered = binned_gather(rows(problem.hidden_states())?.view(), bins, capacity, top_k)?;
    let selected_weights = selected_weights(rows(problem.routing_weights())?.view(), problem.expert_of(), top_k)?;
    let (gate_up, row_weights) = match layer.weight_on {
        WeightOn::Output => (gate_up(&gathered, weights)?, selected_weights.clone()),
        WeightOn::Input => {
            let weighted = scaled_rows(&gathered, bins, &selected_weights, capacity)?;
            let ones = selected_weights.mapv(|_| T::scalar(1.0));
            (gate_up(&weighted, weights)?, ones)
        }
    };
    let activated = activate(&gate_up, layer.activation, problem.activation())?;
    let expert_output = down(&activated, weights)?;
    let shared_output = shared_output(problem)?;
    let routed = routed_output(&expert_output, &row_weights, problem)?;
    let output = match &shared_output {
        None => routed,
        Some(shared) => output_with_shared(routed, shared, layer.output_type),
    };
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
        shared_output,
        output,
    })
}

/// What the shared experts give for every token.
fn shared_output<T: Element>(problem: &Problem<T>) -> Result<Option<Array2<T>>, Error> {
    let Some(shared) = problem.weights().shared() else {
        return Ok(None);
    };
    let all = Binned::of_one(rows(problem.hidden_states())?.into_owned());
    let gate_up = gate_up(&all, shared)?;
    let activated = activate(&gate_up, problem.layer().activation, problem.activation())?;
    Ok(Some(down(&activated, shared)?.into_rows()))
}

/// The sum of what the slots and what the shared experts give, rounded to the type of the output.
fn output_with_shared<T: Element>(
    routed: Array2<T::Wide>,
    shared: &Array2<T>,
    output_type: TensorType,
) -> Array2<T::Wide> {
    let mut output = routed;
    output.zip_mut_with(shared, |sum, shared| {
        let wide = *sum + shared.widen();
        *sum = match output_type {
            TensorType::Element => T::narrow(wide).widen(),
            TensorType::Wide => wide,
        };
    });
    output
}

/// The sum over the slots, rounded to the layer's type of the output.
fn routed_output<T: Element>(
    rows: &Binned<T>,
    weights: &Array1<T::Wide>,
    problem: &Problem<T>,
) -> Result<Array2<T::Wide>, Error> {
    let layer = problem.layer();
    let weight_type = match layer.weight_on {
        WeightOn::Output => layer.routing_weight_type,
        WeightOn::Input => TensorType::Element,
    };
    let sums = match (weight_type, layer.output_type) {
        (TensorType::Element, TensorType::Element) => scaled_sums::<T, T, T>(rows, weights, problem)?,
        (TensorType::Element, TensorType::Wide) => scaled_sums::<T, T, T::Wide>(rows, weights, problem)?,
        (TensorType::Wide, _) => scaled_sums::<T, T::Wide, T::Wide>(rows, weights, problem)?,
    };
    Ok(match layer.output_type {
        TensorType::Element => sums.mapv(|sum| T::narrow(sum).widen()),
        TensorType::Wide => sums,
    })
}

/// The sums over the slots times the factor, with weights of a type W and sums of a type S.
fn scaled_sums<T: Element, W: Element<Wide = T::Wide>, S: Element<Wide = T::Wide>>(
    rows: &Binned<T>,
    weights: &Array1<T::Wide>,
    problem: &Problem<T>,
) -> Result<Array2<T::Wide>, Error> {
    let (bins, capacity, top_k) = (problem.bins(), problem.capacity(), problem.dims().top_k);
    let mut sums: Array2<S> = binned_scatter(rows, bins, &weights.mapv(W::narrow), capacity, top_k)?;
    let scale = problem.layer().scale;
    if scale != 1.0 {
        sums.mapv_inplace(|sum| S::narrow(sum.widen() * S::scalar(scale)));
    }
    Ok(sums.mapv(S::widen))
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

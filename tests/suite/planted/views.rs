//! Engines that are right but for how they read tensors that are views.

use binned_experts_check::case::file::{Laid, case_tensors};
use binned_experts_check::domain::Taken;
use binned_experts_check::{CaseElement, Domain, Fault, Outcome, Tensor};
use binned_experts_reference::{ExpertWeights, Placement, Problem, StoredWeights, View};
use clap::ValueEnum;
use ndarray::{Array, ArrayD, Dimension, IxDyn};

use super::wrong::{Wrong, output_of};

/// A bug that needs a tensor that is a view of a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ViewBug {
    /// A view is read as if it were contiguous
    StridesIgnored,
    /// The offset in the storage is left out
    OffsetIgnored,
    /// The last stride is taken for 1
    LastStrideOne,
    /// Finding H: the last stride of a bias is taken for 1
    BiasStrideOne,
    /// Finding I: ids are read as if they were contiguous
    IdsContiguous,
    /// Rows are as far apart as they are long
    RowsTogether,
    /// A transposed tensor is told by its shape, which does not show it where the last axes are equal
    TransposedViewWhenSquare,
}

impl Wrong for ViewBug {
    fn takes(&self, usual: Domain) -> Domain {
        Domain {
            views: Some(Taken::Any),
            ..usual
        }
    }

    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        output_of(&self.taken_for(problem)?)
    }
}

impl ViewBug {
    /// The problem that it computes.
    fn taken_for<T: CaseElement>(self, problem: &Problem<T>) -> Result<Problem<T>, Fault> {
        let mut tensors = case_tensors(&T::problem(problem.clone()));
        for (name, view) in problem.views() {
            let tensor = &tensors[name];
            let laid = Laid::new(tensor, *view);
            let placement = self.taken(name, tensor.shape(), &laid.placement);
            let read = match laid.storage {
                Tensor::F32(storage) => read(&storage, &laid.shape, &placement).into(),
                Tensor::Bf16(storage) => read(&storage, &laid.shape, &placement).into(),
                Tensor::F16(storage) => read(&storage, &laid.shape, &placement).into(),
                Tensor::I64(storage) => Tensor::I64(read(&storage, &laid.shape, &placement)),
                other => other,
            };
            tensors.insert(name.clone(), read);
        }
        let mut array = |name: &str| {
            let tensor = tensors
                .remove(name)
                .ok_or_else(|| Fault::refused(format!("no {name}")))?;
            T::array(tensor).map_err(|_| Fault::refused(format!("{name}: another type")))
        };
        let weights = StoredWeights {
            gate_up_proj: shaped(array("gate_up_proj")?)?,
            gate_up_proj_bias: Some(shaped(array("gate_up_proj_bias")?.mapv(T::widen))?),
            down_proj: shaped(array("down_proj")?)?,
            down_proj_bias: Some(shaped(array("down_proj_bias")?.mapv(T::widen))?),
        };
        let weights = ExpertWeights::from_stored(weights, problem.layer()).map_err(Fault::refused)?;
        let (hidden_states, routing_weights) = (array("hidden_states")?, array("routing_weights")?);
        let Some(Tensor::I64(ids)) = tensors.remove("router_indices") else {
            return Err(Fault::refused("no router_indices"));
        };
        // An id that is none adds nothing.
        let wrong = Problem::of_rank(
            shaped(hidden_states)?,
            shaped(ids)?,
            shaped(routing_weights.mapv(T::widen))?,
            weights,
            problem.capacity(),
            0,
        );
        Ok(wrong.map_err(Fault::refused)?.with_activation(problem.activation()))
    }

    /// Where it reads a tensor.
    fn taken(self, name: &str, shape: &[usize], placement: &Placement) -> Placement {
        let mut taken = placement.clone();
        let contiguous = View::Contiguous.placement(shape);
        let last = shape.len() - 1;
        let is_square = last > 0 && shape[last - 1] == shape[last];
        match self {
            ViewBug::StridesIgnored => taken.strides = contiguous.strides,
            ViewBug::OffsetIgnored => taken.offset = 0,
            ViewBug::LastStrideOne => taken.strides[last] = 1,
            ViewBug::BiasStrideOne if name.ends_with("_bias") => taken.strides[last] = 1,
            ViewBug::IdsContiguous if name == "router_indices" => taken.strides = contiguous.strides,
            ViewBug::RowsTogether => taken.strides[..last].clone_from_slice(&contiguous.strides[..last]),
            ViewBug::TransposedViewWhenSquare if is_square => taken.strides = contiguous.strides,
            ViewBug::BiasStrideOne | ViewBug::IdsContiguous | ViewBug::TransposedViewWhenSquare => {}
        }
        taken
    }
}

/// What lies there; what would be beyond the end is from the start on.
fn read<A: Copy>(storage: &ArrayD<A>, shape: &[usize], placement: &Placement) -> ArrayD<A> {
    ArrayD::from_shape_fn(IxDyn(shape), |index| {
        let at: usize = (0..shape.len()).map(|axis| index[axis] * placement.strides[axis]).sum();
        storage[(placement.offset + at) % storage.len()]
    })
}

fn shaped<A, D: Dimension>(array: ArrayD<A>) -> Result<Array<A, D>, Fault> {
    array.into_dimensionality().map_err(Fault::refused)
}

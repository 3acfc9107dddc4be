//! Cases as safetensors.
//!
//! A case holds `hidden_states` `[B,S,H]`, `router_indices` `[B·S,K]` (i64), `routing_weights` `[B,S,E]`, `gate_up_proj`
//! `[E,H,2I]`, `gate_up_proj_bias` `[E,2I]`, `down_proj` `[E,I,H]` and `down_proj_bias` `[E,H]`, all but the indices of one
//! element type; the metadata `expert_capacity`; and, where they are not the defaults, the metadata `alpha`, `limit`,
//! `layer` and `first_expert` and the explicit order `sorted_indices` `[B·S·K]` (i64), written where it is not that of a
//! stable sort. Weights and routing weights are in the layout of the layer, which is translated here; biases are left out
//! where it has none, and both have the types that it gives them. A layer of MXFP4 has `gate_up_proj_blocks`
//! `[E,2I,H/32,16]`, `gate_up_proj_scales` `[E,2I,H/32]`, `down_proj_blocks` `[E,H,I/32,16]` and `down_proj_scales`
//! `[E,H,I/32]` (u8) in place of the projections. A tensor that is a view has one axis, its storage; the metadata
//! `views` says where its elements are in it.

mod error;
mod tensors;
mod views;
mod weights;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use binned_experts_reference::{Activation, Layer, Problem, RoutingWeightLayout, Views, weights_by_expert};
use ndarray::Ix2;

pub use error::FileError;
pub(crate) use tensors::{Known, parse_known};
pub use tensors::{positions, read_tensors, write_tensors};
pub use views::Laid;

use self::tensors::{Tensors, decoded_or_bytes, dimensions, missing, parse, read, take, take_typed, write, wrong_type};
use self::views::{gather, lay};
use self::weights::{WEIGHTS, weight_tensors, weights_of};
use super::{AnyProblem, CaseElement, LayerSpec, Tensor};

/// The other tensors of a case.
const OTHERS: [&str; 4] = ["hidden_states", "router_indices", "routing_weights", "sorted_indices"];

/// A case read from a file, and the tensors that are not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFile {
    /// The case.
    pub problem: AnyProblem,
    /// Tensors under other names, such as a golden's results.
    pub others: BTreeMap<String, Tensor>,
}

/// Reads a case.
///
/// # Errors
/// [`FileError`], naming the tensor or the metadata, what was expected and what was found.
pub fn read_case(path: &Path) -> Result<CaseFile, FileError> {
    parse_case(path, &read(path)?)
}

/// Reads a case whose experts' weights are in a file of their own.
///
/// # Errors
/// As [`read_case`].
pub(crate) fn read_case_and_weights(case: &Path, weights: &Path) -> Result<CaseFile, FileError> {
    let mut parts = tensors_of(case, &read(case)?)?;
    let weights = tensors_of(weights, &read(weights)?)?;
    let is_weight = |name: &String| WEIGHTS.contains(&name.as_str());
    parts
        .tensors
        .extend(weights.tensors.into_iter().filter(|(name, _)| is_weight(name)));
    parts
        .views
        .extend(weights.views.into_iter().filter(|(name, _)| is_weight(name)));
    case_of(parts)
}

/// Writes a case. The order is written where it is explicit.
///
/// # Errors
/// [`FileError::Io`] or [`FileError::Format`].
pub fn write_case(path: &Path, problem: &AnyProblem) -> Result<(), FileError> {
    let (mut tensors, metadata) = with_problem!(problem, problem => call_tensors(problem));
    tensors.extend(with_problem!(problem, problem => weight_tensors(problem)));
    write_laid(path, tensors, metadata, problem)
}

/// The tensors of a case by name.
pub fn case_tensors(problem: &AnyProblem) -> BTreeMap<String, Tensor> {
    let mut tensors = tensors_of_call(problem);
    tensors.extend(tensors_of_weights(problem));
    tensors
}

/// The tensors of a case by name, all but the experts' weights.
pub fn tensors_of_call(problem: &AnyProblem) -> BTreeMap<String, Tensor> {
    let (tensors, _) = with_problem!(problem, problem => call_tensors(problem));
    tensors
}

/// The experts' weights of a case by name.
pub fn tensors_of_weights(problem: &AnyProblem) -> BTreeMap<String, Tensor> {
    with_problem!(problem, problem => weight_tensors(problem))
}

/// Writes a case without the experts' weights.
pub(crate) fn write_call(path: &Path, problem: &AnyProblem) -> Result<(), FileError> {
    let (tensors, metadata) = with_problem!(problem, problem => call_tensors(problem));
    write_laid(path, tensors, metadata, problem)
}

/// Writes the experts' weights.
pub(crate) fn write_weights(path: &Path, problem: &AnyProblem) -> Result<(), FileError> {
    let tensors = with_problem!(problem, problem => weight_tensors(problem));
    write_laid(path, tensors, HashMap::new(), problem)
}

/// Writes the storage of those tensors that are views.
fn write_laid(
    path: &Path,
    mut tensors: Tensors,
    mut metadata: HashMap<String, String>,
    problem: &AnyProblem,
) -> Result<(), FileError> {
    metadata.extend(lay(&mut tensors, problem.views()));
    write(path, &tensors, (!metadata.is_empty()).then_some(metadata))
}

/// A case from the bytes of a file; `path` is for messages.
///
/// # Errors
/// As [`read_case`].
pub fn parse_case(path: &Path, bytes: &[u8]) -> Result<CaseFile, FileError> {
    case_of(tensors_of(path, bytes)?)
}

/// What a file has.
struct Parts {
    /// The tensors of a case, and others that can be read.
    tensors: Tensors,
    views: Views,
    metadata: HashMap<String, String>,
}

fn tensors_of(path: &Path, bytes: &[u8]) -> Result<Parts, FileError> {
    // A tensor that is no part of a case may be of any type.
    let (mut tensors, metadata) = parse(path, bytes, |name, view| match decoded_or_bytes(name, view) {
        Err(error) if WEIGHTS.contains(&name) || OTHERS.contains(&name) => Err(error),
        tensor => Ok(tensor.ok().flatten()),
    })?;
    Ok(Parts {
        views: gather(&mut tensors, &metadata)?,
        tensors,
        metadata,
    })
}

fn case_of(parts: Parts) -> Result<CaseFile, FileError> {
    let Parts {
        mut tensors,
        views,
        metadata,
    } = parts;
    let element = match tensors.get("hidden_states") {
        Some(tensor) => tensor
            .element()
            .ok_or_else(|| wrong_type("hidden_states", "f32, f64, bf16 or f16", tensor))?,
        None => return Err(missing("hidden_states", &tensors)),
    };
    let problem = with_element!(element, T => T::problem(problem::<T>(&mut tensors, &metadata)?.with_views(views)));
    Ok(CaseFile {
        problem,
        others: tensors,
    })
}

fn problem<T: CaseElement>(tensors: &mut Tensors, metadata: &HashMap<String, String>) -> Result<Problem<T>, FileError> {
    let hidden_states = take::<T, _>(tensors, "hidden_states", "[B,S,H]")?;
    let router_indices = tensors
        .remove("router_indices")
        .ok_or_else(|| missing("router_indices", tensors))?;
    let router_indices = match router_indices {
        Tensor::I64(array) => dimensions::<i64, Ix2>(array, "router_indices", "[B·S,K]")?,
        other => return Err(wrong_type("router_indices", "i64", &other)),
    };
    let layer = layer_of(metadata)?;
    let first_expert = parsed(metadata, "first_expert", "a whole number")?;
    let weights = weights_of::<T>(tensors, &layer)?;
    let weight_type = layer.routing_weight_type;
    let routing_weights = match layer.routing_weights {
        RoutingWeightLayout::ByExpert => take_typed::<T, _>(tensors, "routing_weights", "[B,S,E]", weight_type)?,
        RoutingWeightLayout::BySlot => {
            let slots = take_typed::<T, Ix2>(tensors, "routing_weights", "[B·S,K]", weight_type)?;
            let (batch, sequence, _) = hidden_states.dim();
            let shape = (batch, sequence, weights.experts());
            weights_by_expert(slots.view(), router_indices.view(), shape, first_expert.unwrap_or(0))?
        }
    };
    let capacity = parsed(metadata, "expert_capacity", "a whole number")?.ok_or(FileError::Metadata {
        key: "expert_capacity",
        expected: "a whole number",
        found: "nothing".to_owned(),
    })?;
    let activation = Activation {
        alpha: parsed(metadata, "alpha", "a number")?.unwrap_or(Activation::GPT_OSS.alpha),
        limit: parsed(metadata, "limit", "a number")?.unwrap_or(Activation::GPT_OSS.limit),
    };
    let problem = match first_expert {
        None => Problem::new(hidden_states, router_indices, routing_weights, weights, capacity)?,
        Some(first) => Problem::of_rank(hidden_states, router_indices, routing_weights, weights, capacity, first)?,
    };
    let problem = problem.with_layer(layer)?;
    can_be_judged(&problem)?;
    let problem = problem.with_activation(activation);
    Ok(match tensors.get("sorted_indices") {
        Some(tensor) => problem.with_order(positions("sorted_indices", tensor)?)?,
        None => problem,
    })
}

/// The layer that the metadata names; without, that of gpt-oss.
fn layer_of(metadata: &HashMap<String, String>) -> Result<Layer, FileError> {
    let Some(text) = metadata.get("layer") else {
        return Ok(Layer::GPT_OSS);
    };
    let layer = serde_json::from_str::<LayerSpec>(text).map_err(|error| FileError::Metadata {
        key: "layer",
        expected: "a table of a layer as JSON, or its name",
        found: format!("{text}: {error}"),
    })?;
    Ok(layer.into())
}

/// Refuses a case whose stages do not fit the memory: a few long rows and many tokens make a small file, and stages of
/// their product.
fn can_be_judged<T: CaseElement>(problem: &Problem<T>) -> Result<(), FileError> {
    // Of each stage the value, the bound, and what an engine shows of it.
    const COPIES: usize = 3;
    let dims = problem.dims();
    let bytes = |rows: usize, intermediate: usize| {
        let width = intermediate.saturating_mul(3).saturating_add(dims.hidden);
        let sizes = [dims.tokens, rows, width, COPIES * size_of::<f64>()];
        let product = |product: usize, size: &usize| product.saturating_mul(*size);
        sizes.iter().fold(1, product)
    };
    let shared = problem.weights().shared();
    let of_shared = shared.map_or(0, |shared| bytes(1, shared.intermediate()));
    let bytes = bytes(dims.top_k, dims.intermediate).saturating_add(of_shared);
    let mut probe: Vec<u8> = Vec::new();
    probe.try_reserve_exact(bytes).map_err(|_| FileError::Memory { bytes })
}

fn parsed<V: std::str::FromStr>(
    metadata: &HashMap<String, String>,
    key: &'static str,
    expected: &'static str,
) -> Result<Option<V>, FileError> {
    let refused = |found: &String| FileError::Metadata {
        key,
        expected,
        found: found.clone(),
    };
    metadata
        .get(key)
        .map(|text| text.parse().map_err(|_| refused(text)))
        .transpose()
}

/// All of a case but the experts' weights, and its metadata.
fn call_tensors<T: CaseElement>(problem: &Problem<T>) -> (Tensors, HashMap<String, String>) {
    let mut tensors = Tensors::from([
        ("hidden_states".to_owned(), problem.hidden_states().clone().into()),
        (
            "router_indices".to_owned(),
            Tensor::I64(problem.router_indices().to_owned().into_dyn()),
        ),
        (
            "routing_weights".to_owned(),
            T::narrowed(problem.stored_routing_weights(), problem.layer().routing_weight_type),
        ),
    ]);
    if let Some(order) = problem.explicit_order() {
        tensors.insert("sorted_indices".to_owned(), Tensor::indices(order));
    }
    let Activation { alpha, limit } = problem.activation();
    let metadata = [("expert_capacity", problem.capacity().to_string())]
        .into_iter()
        .chain((alpha != Activation::GPT_OSS.alpha).then(|| ("alpha", alpha.to_string())))
        .chain((limit != Activation::GPT_OSS.limit).then(|| ("limit", limit.to_string())))
        .chain(layer_text(problem.layer()).map(|layer| ("layer", layer)))
        .chain(problem.first_expert().map(|first| ("first_expert", first.to_string())))
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    (tensors, metadata)
}

/// The table of a layer as JSON; none for that of gpt-oss.
fn layer_text(layer: &Layer) -> Option<String> {
    let spec = LayerSpec::from(*layer);
    let text = serde_json::to_string(&spec).expect("names, a flag and a finite number are JSON");
    (!spec.is_default()).then_some(text)
}

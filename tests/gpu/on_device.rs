//! Forwards on tensors that are on the device already, and as a CUDA graph: the same bits as from the host's memory.

use std::sync::Arc;

use binned_experts_check::case::{Routing, RoutingProfile, ValueProfile};
use binned_experts_check::{AnyProblem, CaseSpec, ElementType};
use binned_experts_gpu::cuda::{DeviceInputs, DeviceWeights};
use binned_experts_gpu::{
    CallLayer, Cuda, GpuError, HOPPER_BF16, PORTABLE_BF16, PORTABLE_FP32, Path, PathElement, Pipeline,
};
use binned_experts_reference::Problem;
use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut};
use half::bf16;
use libtest_mimic::{Failed, Trial};
use ndarray::{Array2, Array3};

use crate::trials::{Need, trial};
use crate::{bf16_cases, f32_cases, of_other_models};

pub(crate) fn trials(gpu: &Need) -> Vec<Trial> {
    vec![
        trial(&[gpu], tensors_on_the_device_give_the_same_bits),
        trial(&[gpu], a_captured_forward_takes_other_routings),
        trial(&[gpu], adopted_weights_give_the_same_bits),
        trial(&[gpu], tensors_that_do_not_fit_are_refused),
    ]
}

fn bytes_of<T: PathElement>(values: impl Iterator<Item = T>) -> Vec<u8> {
    bytemuck::cast_slice(&Vec::from_iter(values)).to_vec()
}

fn bits<T: PathElement>(tensor: &Array3<T>) -> Vec<u8> {
    bytes_of(tensor.iter().copied())
}

/// Bytes on the device, as elements of a type.
fn view<T: PathElement>(bytes: &CudaSlice<u8>) -> CudaView<'_, T> {
    #[expect(unsafe_code, reason = "cudarc does not know bf16 without a feature")]
    // SAFETY: bytes of any value make such an element.
    let view = unsafe { bytes.transmute(bytes.len() / size_of::<T>()) };
    view.expect("as many bytes as the elements have")
}

fn view_mut<T: PathElement>(bytes: &mut CudaSlice<u8>) -> CudaViewMut<'_, T> {
    let elements = bytes.len() / size_of::<T>();
    #[expect(unsafe_code, reason = "cudarc does not know bf16 without a feature")]
    // SAFETY: bytes of any value make such an element.
    let view = unsafe { bytes.transmute_mut(elements) };
    view.expect("as many bytes as the elements have")
}

/// The layer of a problem.
fn layer_of<T: PathElement>(problem: &Problem<T>) -> CallLayer {
    CallLayer {
        kind: problem.layer().activation,
        activation: problem.activation(),
        scale: problem.layer().scale,
        first_expert: problem.first_expert().unwrap_or(0),
    }
}

/// A problem's tensors on the device.
struct OnDevice {
    hidden_states: CudaSlice<u8>,
    router_indices: CudaSlice<i64>,
    routing_weights: CudaSlice<u8>,
}

/// Room for a problem's output.
fn room<T: PathElement>(stream: &Arc<CudaStream>, problem: &Problem<T>) -> Result<CudaSlice<u8>, Failed> {
    Ok(stream.alloc_zeros(size_of::<T>() * problem.hidden_states().len())?)
}

impl OnDevice {
    fn of<T: PathElement>(stream: &Arc<CudaStream>, problem: &Problem<T>) -> Result<OnDevice, Failed> {
        Ok(OnDevice {
            hidden_states: stream.clone_htod(&bits(problem.hidden_states()))?,
            router_indices: stream.clone_htod(&Vec::from_iter(problem.router_indices().iter().copied()))?,
            routing_weights: stream.clone_htod(&bits(&problem.routing_weights().mapv(T::narrow)))?,
        })
    }

    fn inputs<T: PathElement>(&self, problem: &Problem<T>) -> DeviceInputs<'_, T> {
        DeviceInputs {
            hidden_states: view(&self.hidden_states),
            router_indices: self.router_indices.as_view(),
            routing_weights: view(&self.routing_weights),
            top_k: problem.dims().top_k,
            capacity: problem.capacity(),
            layer: layer_of(problem),
        }
    }
}

/// The tensors belong to another stream than the pipeline's, and one pipeline takes problems of all sizes.
///
/// Whether they were compared: the portable path in bf16 takes no such tensors.
fn same_bits_on_device<T: PathElement>(problem: &Problem<T>) -> Result<bool, Failed> {
    if problem.hidden_states().is_empty() || problem.explicit_order().is_some() {
        return Ok(false);
    }
    let machine = Cuda::new()?;
    let other = machine.stream().context().new_stream()?;
    let mut pipeline = Pipeline::new(problem.weights().clone(), machine)?;
    if pipeline.path().name() == PORTABLE_BF16.name() {
        return Ok(false);
    }
    let expected = bits(&pipeline.forward(problem)?);
    let tensors = OnDevice::of(&other, problem)?;
    for run in 0..3 {
        let mut output = room(&other, problem)?;
        pipeline.forward_on_device(&tensors.inputs(problem), &mut view_mut(&mut output))?;
        if other.clone_dtoh(&output)? != expected {
            return Err(format!("run {run} differs from the forward from the host, {:?}", problem.dims()).into());
        }
    }
    Ok(true)
}

/// A tensor on the device that is given away while the stream still writes it.
fn given<T: PathElement>(stream: &Arc<CudaStream>, values: impl Iterator<Item = T>) -> Result<CudaSlice<T>, Failed> {
    let bytes = bytes_of(values);
    let elements = bytes.len() / size_of::<T>();
    // The driver has no memory of no bytes.
    let room = stream.alloc_zeros::<u8>(bytes.len().max(1))?;
    #[expect(unsafe_code, reason = "cudarc does not know bf16 without a feature")]
    // SAFETY: it is an allocation of the stream's of that many elements, of which bytes of any value make one.
    let mut given: CudaSlice<T> = unsafe { stream.upgrade_device_ptr(room.leak(), elements) };
    if !bytes.is_empty() {
        #[expect(unsafe_code, reason = "cudarc does not know bf16 without a feature")]
        // SAFETY: an element has no other bytes.
        let view = unsafe { given.transmute_mut::<u8>(bytes.len()) };
        // Through the tensor itself, which then knows that it is written.
        stream.memcpy_htod(&bytes, &mut view.expect("as many bytes as the elements have"))?;
    }
    Ok(given)
}

fn weights_on_device<T: PathElement>(
    stream: &Arc<CudaStream>,
    problem: &Problem<T>,
) -> Result<DeviceWeights<T>, Failed> {
    let weights = problem.weights();
    Ok(DeviceWeights {
        hidden: problem.dims().hidden,
        gate_up_proj: given(stream, weights.gate_up_proj().iter().copied())?,
        gate_up_proj_bias: given(stream, weights.gate_up_proj_bias().iter().copied().map(T::narrow))?,
        down_proj: given(stream, weights.down_proj().iter().copied())?,
        down_proj_bias: given(stream, weights.down_proj_bias().iter().copied().map(T::narrow))?,
    })
}

/// Weights that another stream still writes are taken in place or packed, and give the bits of those that are uploaded.
fn same_bits_adopted<T: PathElement>(problem: &Problem<T>, path: &'static Path<T>) -> Result<bool, Failed> {
    if problem.hidden_states().is_empty() || problem.explicit_order().is_some() {
        return Ok(false);
    }
    let mut uploaded = Pipeline::with_path(problem.weights().clone(), Cuda::new()?, path)?;
    let expected = bits(&uploaded.forward(problem)?);
    let machine = Cuda::new()?;
    let other = machine.stream().context().new_stream()?;
    let adopted = Pipeline::adopt(weights_on_device(&other, problem)?, machine, path);
    let mut adopted = match adopted {
        Err(GpuError::HostOnly { path }) if path == PORTABLE_BF16.name() => return Ok(false),
        adopted => adopted?,
    };
    if adopted.path().name() != uploaded.path().name() || adopted.has_weights_of(problem) {
        return Err("expected weights of its own along the same path".into());
    }
    let tensors = OnDevice::of(&other, problem)?;
    let mut output = room(&other, problem)?;
    adopted.forward_on_device(&tensors.inputs(problem), &mut view_mut(&mut output))?;
    if other.clone_dtoh(&output)? != expected {
        return Err(format!("differs from uploaded weights, {:?}, {}", problem.dims(), path.name()).into());
    }
    Ok(true)
}

fn adopted_weights_give_the_same_bits() -> Result<(), Failed> {
    let mut compared = [0; 3];
    for seed in 0..40 {
        for plan in [f32_cases(0, Vec::new()), bf16_cases(0, Vec::new())] {
            let spec = CaseSpec::from_seed(seed, &plan.selection);
            match spec.build()? {
                AnyProblem::F32(problem) => {
                    compared[0] += usize::from(same_bits_adopted(&problem, &PORTABLE_FP32)?);
                    compared[1] += usize::from(same_bits_adopted(&problem, f32::fastest())?);
                }
                AnyProblem::Bf16(problem) => compared[2] += usize::from(same_bits_adopted(&problem, bf16::fastest())?),
                other => return Err(format!("expected f32 or bf16, found {}", other.element()).into()),
            }
        }
    }
    if compared[0] < 20 || compared[1] < 20 || compared[2] < 3 {
        return Err(format!("too few compared: {compared:?}").into());
    }
    Ok(())
}

fn tensors_on_the_device_give_the_same_bits() -> Result<(), Failed> {
    let plans = [
        f32_cases(0, Vec::new()),
        bf16_cases(0, Vec::new()),
        of_other_models(f32_cases(0, Vec::new()))?,
        of_other_models(bf16_cases(0, Vec::new()))?,
    ];
    let mut compared = [0; 4];
    for seed in 0..60 {
        for (at, plan) in plans.iter().enumerate() {
            let spec = CaseSpec::from_seed(seed, &plan.selection);
            compared[at] += usize::from(match spec.build()? {
                AnyProblem::F32(problem) => same_bits_on_device(&problem)?,
                AnyProblem::Bf16(problem) => same_bits_on_device(&problem)?,
                other => return Err(format!("expected f32 or bf16, found {}", other.element()).into()),
            });
        }
    }
    if compared.iter().any(|compared| *compared < 40) {
        return Err(format!("expected 40 comparisons of each kind or more, found {compared:?}").into());
    }
    Ok(())
}

const TOKENS: usize = 48;
const TOP_K: usize = 3;
const CAPACITY: usize = 20;

/// The tokens of the case at other places, with experts that depend on the call.
fn with_other_routing<T: PathElement>(problem: &Problem<T>, call: usize) -> Result<Problem<T>, Failed> {
    let dims = problem.dims();
    let ids = Array2::from_shape_fn((TOKENS, TOP_K), |(token, slot)| {
        ((token * (call % 7) + slot * (1 + call % 5) + call) % dims.experts) as i64
    });
    let hidden_states = problem.hidden_states();
    let moved = Array3::from_shape_fn(hidden_states.raw_dim(), |(batch, token, column)| {
        hidden_states[[batch, (token + call) % TOKENS, column]]
    });
    let other = Problem::new(
        moved,
        ids,
        problem.routing_weights().clone(),
        problem.weights().clone(),
        CAPACITY,
    )?;
    Ok(other.with_activation(problem.activation()))
}

fn replay<T: PathElement>(problem: &Problem<T>, calls: usize) -> Result<(), Failed> {
    let mut host = Pipeline::new(problem.weights().clone(), Cuda::new()?)?;
    let stream = host.machine().stream().context().new_stream()?;
    let mut pipeline = Pipeline::new(problem.weights().clone(), Cuda::on_stream(stream.clone())?)?;
    let mut captured = pipeline.capture(TOKENS, TOP_K, CAPACITY, layer_of(problem))?;
    for call in 0..calls {
        let other = with_other_routing(problem, call)?;
        let expected = bits(&host.forward(&other)?);
        let tensors = OnDevice::of(&stream, &other)?;
        stream.memcpy_dtod(&view::<T>(&tensors.hidden_states), &mut captured.hidden_states())?;
        stream.memcpy_dtod(&tensors.router_indices, &mut captured.router_indices())?;
        stream.memcpy_dtod(&view::<T>(&tensors.routing_weights), &mut captured.routing_weights())?;
        captured.launch()?;
        let mut found = room(&stream, problem)?;
        stream.memcpy_dtod(&captured.output(), &mut view_mut::<T>(&mut found))?;
        if stream.clone_dtoh(&found)? != expected {
            return Err(format!("launch {call} of {calls} differs from the forward from the host").into());
        }
    }
    Ok(())
}

fn captured_case(element: ElementType) -> Result<AnyProblem, Failed> {
    let plan = if element == ElementType::F32 {
        f32_cases(0, Vec::new())
    } else {
        bf16_cases(0, Vec::new())
    };
    let spec = CaseSpec {
        element,
        batch: 1,
        sequence: TOKENS,
        hidden: 136,
        intermediate: 200,
        experts: 6,
        top_k: TOP_K,
        capacity: CAPACITY,
        routing: Routing::Profile(RoutingProfile::Uniform),
        values: ValueProfile::Gentle,
        special: None,
        against: None,
        warmup: None,
        larger: None,
        order: None,
        distinct: false,
        ..CaseSpec::from_seed(0, &plan.selection)
    };
    Ok(spec.build()?)
}

fn a_captured_forward_takes_other_routings() -> Result<(), Failed> {
    for element in [ElementType::F32, ElementType::Bf16] {
        match captured_case(element)? {
            AnyProblem::F32(problem) => replay(&problem, 1000)?,
            AnyProblem::Bf16(problem) => replay(&problem, 1000)?,
            other => return Err(format!("expected f32 or bf16, found {}", other.element()).into()),
        }
    }
    Ok(())
}

fn tensors_that_do_not_fit_are_refused() -> Result<(), Failed> {
    let AnyProblem::Bf16(problem) = captured_case(ElementType::Bf16)? else {
        return Err("expected bf16".into());
    };
    let mut pipeline = Pipeline::new(problem.weights().clone(), Cuda::new()?)?;
    let stream = pipeline.machine().stream().clone();
    let tensors = OnDevice::of(&stream, &problem)?;
    let mut output = room(&stream, &problem)?;
    let mut short = stream.alloc_zeros(output.len() - size_of::<bf16>())?;
    let refused = pipeline.forward_on_device(&tensors.inputs(&problem), &mut view_mut(&mut short));
    let expected = "output: expected [48, 136] elements, found 6527";
    if refused.as_ref().err().map(ToString::to_string).as_deref() != Some(expected) {
        return Err(format!("expected {expected}; found {refused:?}").into());
    }
    let mut short = weights_on_device(&stream, &problem)?;
    short.down_proj = given(&stream, problem.weights().down_proj().iter().copied().skip(1))?;
    let refused = Pipeline::adopt(short, Cuda::new()?, &HOPPER_BF16)
        .err()
        .map(|error| error.to_string());
    let weights = problem.weights().down_proj();
    let expected = format!(
        "down_proj: expected {:?} elements, found {}",
        weights.shape(),
        weights.len() - 1
    );
    if refused.as_deref() != Some(&expected[..]) {
        return Err(format!("expected {expected}; found {refused:?}").into());
    }
    // The pipeline stays usable.
    pipeline.forward_on_device(&tensors.inputs(&problem), &mut view_mut(&mut output))?;
    if stream.clone_dtoh(&output)? != bits(&pipeline.forward(&problem)?) {
        return Err("the forward after an error differs".into());
    }
    // The default stream cannot be captured, and the portable path keeps f32.
    let captured = pipeline.capture(TOKENS, TOP_K, CAPACITY, CallLayer::GPT_OSS).err();
    if !matches!(captured, Some(GpuError::Driver { .. })) {
        return Err(format!("expected an error of the driver, found {captured:?}").into());
    }
    let mut portable = Pipeline::with_path(problem.weights().clone(), Cuda::new()?, &PORTABLE_BF16)?;
    match portable.capture(TOKENS, TOP_K, CAPACITY, CallLayer::GPT_OSS).err() {
        Some(GpuError::HostOnly { path: "portable_bf16" }) => Ok(()),
        found => Err(format!("expected the portable path to be refused, found {found:?}").into()),
    }
}

//! A layer on any machine, computed along a path.

use std::sync::Arc;

use bytemuck::Pod;
use half::bf16;
use ndarray::{Array, Array2, Array3, ArrayBase, Data, Dimension};

use binned_experts_reference::{Dims, ExpertWeights, Problem};

use crate::kernel::tiles_bf16::images;
use crate::layer::CallLayer;
use crate::memory::{Memory, run};
use crate::path::buffers::{
    ACTIVATED, ASSIGNMENT_OF, BINS, DOWN_PROJ, DOWN_PROJ_BIAS, EXPERT_OUTPUT, EXPERT_OUTPUT_BF16, FALLBACK_ROWS,
    GATE_UP, GATE_UP_PROJ, GATE_UP_PROJ_BIAS, HIDDEN_STATES, OUTPUT, PACKED_ACTIVATED, ROUTER_INDICES, ROUTING_WEIGHTS,
    ROW_OF, ROW_STARTS, SORTED_INDICES,
};
use crate::path::{Call, Path, PathElement, WeightDims};
use crate::plan::{BufferId, Plan};
use crate::{GpuError, Machine};

/// Binned experts on a machine, with the weights of one layer resident there. Tensors have elements of type `T`: `f32`
/// or `bf16`.
#[derive(Debug)]
pub struct Pipeline<M: Machine, T: PathElement = f32> {
    machine: M,
    wish: &'static Path<T>,
    layer: Layer<M, T>,
    workspace: Memory<M>,
    /// Whether the caller asks for the same bits in any batch.
    is_batch_invariant: bool,
}

/// The weights of a layer, on the machine in the layout of the path that serves them.
#[derive(Debug)]
struct Layer<M: Machine, T: PathElement> {
    /// None if they were on the machine already.
    weights: Option<Arc<ExpertWeights<T>>>,
    dims: WeightDims,
    path: &'static Path<T>,
    memory: Memory<M>,
    packed_bytes: usize,
}

/// What every stage leaves on the machine. R is the number of rows that the capacity keeps.
///
/// [`HOPPER_BF16`](crate::HOPPER_BF16) leaves no `gate_up`; and of the routing, where there are few assignments, `row_of`
/// alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages<T = f32> {
    /// Flat indices of the assignments in sorted order, `[T·K]`; fewer where some experts are not local.
    pub sorted_indices: Option<Vec<i32>>,
    /// Inclusive cumulative counts, `[E]`.
    pub bins: Option<Vec<i32>>,
    /// The row of each assignment, `[T·K]`; -1 for a dropped one, and for one to an expert that is not local.
    pub row_of: Vec<i32>,
    /// The assignment of each row, `[R]`: the gather, which is part of the first product.
    pub assignment_of: Option<Vec<i32>>,
    /// First product and bias, `[R,2I]`.
    pub gate_up: Option<Array2<f32>>,
    /// After the activation, `[R,I]`.
    pub activated: Array2<f32>,
    /// Second product and bias, `[R,H]`.
    pub expert_output: Array2<f32>,
    /// The result, `[B,S,H]`.
    pub output: Array3<T>,
    /// How many rows the tensor cores left to the fallback kernels; none where no tensor cores were used.
    pub fallback_rows: Option<usize>,
}

impl<M: Machine, T: PathElement> Pipeline<M, T> {
    /// Uploads the weights. The path is the fastest that the machine and the sizes allow.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the machine.
    pub fn new(weights: impl Into<Arc<ExpertWeights<T>>>, machine: M) -> Result<Pipeline<M, T>, GpuError> {
        Pipeline::with_path(weights, machine, T::fastest())
    }

    /// Uploads the weights. Weights that the path or the machine rules out take [`PORTABLE_FP32`](crate::PORTABLE_FP32)
    /// or [`PORTABLE_BF16`](crate::PORTABLE_BF16).
    ///
    /// # Errors
    /// [`GpuError::Layer`] if the weights have no ups, [`GpuError::OutOfMemory`], or another error of the machine.
    pub fn with_path(
        weights: impl Into<Arc<ExpertWeights<T>>>,
        mut machine: M,
        path: &'static Path<T>,
    ) -> Result<Pipeline<M, T>, GpuError> {
        let layer = Layer::new(weights.into(), &mut machine, path)?;
        Ok(Pipeline {
            machine,
            wish: path,
            layer,
            workspace: Memory::new(),
            is_batch_invariant: false,
        })
    }

    /// Takes other weights, of any sizes; the workspace is kept.
    ///
    /// # Errors
    /// As [`with_path`](Pipeline::with_path); the pipeline then has the weights it had.
    pub fn load_weights(&mut self, weights: impl Into<Arc<ExpertWeights<T>>>) -> Result<(), GpuError> {
        self.layer = Layer::new(weights.into(), &mut self.machine, self.wish)?;
        Ok(())
    }

    /// With tensors that are on the machine already, which the path that serves them takes as they are.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_machine(
        dims: WeightDims,
        tensors: Memory<M>,
        mut machine: M,
        path: &'static Path<T>,
    ) -> Result<Pipeline<M, T>, GpuError> {
        let layer = Layer::on_machine(dims, tensors, &mut machine, path)?;
        Ok(Pipeline {
            machine,
            wish: path,
            layer,
            workspace: Memory::new(),
            is_batch_invariant: false,
        })
    }

    /// Gives a token's row the same bits in any batch in which nothing of the token is dropped: they then depend on the
    /// token, the weights and the machine alone. Every path but [`HOPPER_FP32`](crate::HOPPER_FP32) does so anyway; that
    /// one then cuts no tiles, and takes longer where its last round of them is short.
    #[must_use]
    pub fn batch_invariant(self) -> Pipeline<M, T> {
        Pipeline {
            is_batch_invariant: true,
            ..self
        }
    }

    /// Whether a token's row has the same bits in any batch.
    pub fn is_batch_invariant(&self) -> bool {
        self.is_batch_invariant || self.wish.is_batch_invariant()
    }

    /// The weights; none if they were on the machine already.
    pub fn weights(&self) -> Option<&Arc<ExpertWeights<T>>> {
        self.layer.weights.as_ref()
    }

    /// Whether a problem shares the weights.
    pub fn has_weights_of(&self, problem: &Problem<T>) -> bool {
        self.weights().is_some_and(|own| Arc::ptr_eq(own, problem.weights()))
    }

    /// The sizes of the weights: H, I and E.
    pub fn weight_sizes(&self) -> [usize; 3] {
        let WeightDims {
            hidden,
            intermediate,
            experts,
        } = self.layer.dims;
        [hidden, intermediate, experts]
    }

    /// The path that serves the present weights.
    pub fn path(&self) -> &'static Path<T> {
        self.layer.path
    }

    /// Memory that the weights take in the path's own layout. Only [`HOPPER_BF16`](crate::HOPPER_BF16) keeps nothing else
    /// of them; other paths keep their tensors beside it.
    pub fn packed_bytes(&self) -> usize {
        self.layer.packed_bytes
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The output of `binned_experts_ref`, `[B,S,H]`.
    ///
    /// # Errors
    /// [`GpuError::OtherWeights`] unless the problem shares the pipeline's weights; [`GpuError::Layer`] if its routing
    /// weights are on what goes into an expert, or its activation is none that the kernels compute; a limit of the
    /// kernels; an error of the machine. The pipeline can be used again.
    pub fn forward(&mut self, problem: &Problem<T>) -> Result<Array3<T>, GpuError> {
        let mut uploaded = self.upload(problem)?;
        uploaded.run()?;
        uploaded.download()
    }

    /// The first part of [`forward`](Pipeline::forward): uploads a problem's inputs, so that running it can be repeated
    /// or timed apart.
    ///
    /// # Errors
    /// As [`forward`](Pipeline::forward).
    pub fn upload<'a>(&'a mut self, problem: &'a Problem<T>) -> Result<Uploaded<'a, M, T>, GpuError> {
        let (_, plan) = self.prepare(problem, false)?;
        Ok(Uploaded {
            pipeline: self,
            problem,
            plan,
        })
    }

    /// As [`forward`](Pipeline::forward), and what each stage computed.
    ///
    /// # Errors
    /// As [`forward`](Pipeline::forward).
    pub fn forward_with_stages(&mut self, problem: &Problem<T>) -> Result<Stages<T>, GpuError> {
        let (call, plan) = self.prepare(problem, true)?;
        self.run(&plan)?;
        let Dims {
            hidden,
            intermediate,
            experts,
            ..
        } = call.dims;
        let row_starts: Vec<i32> = self.read(ROW_STARTS, experts + 1)?;
        let rows = row_starts.last().map_or(-1, |&rows| i64::from(rows));
        let kept = usize::try_from(rows)
            .ok()
            .filter(|&rows| rows <= call.max_rows())
            .ok_or(GpuError::Corrupt {
                what: "rows",
                limit: call.max_rows(),
                found: rows,
            })?;
        let local = problem.bins().sorted_indices().len();
        let of_kept = |id, width| (id, [kept, width]);
        let gate_up = if plan.has(GATE_UP) {
            Some(self.read_rows::<f32>(of_kept(GATE_UP, 2 * intermediate))?)
        } else {
            None
        };
        let activated = if plan.has(ACTIVATED) {
            self.read_rows::<f32>(of_kept(ACTIVATED, intermediate))?
        } else {
            self.read_images(PACKED_ACTIVATED, &row_starts, kept, intermediate)?
        };
        let expert_output = if plan.has(EXPERT_OUTPUT) {
            self.read_rows::<f32>(of_kept(EXPERT_OUTPUT, hidden))?
        } else {
            self.read_rows::<bf16>(of_kept(EXPERT_OUTPUT_BF16, hidden))?
        };
        Ok(Stages {
            sorted_indices: self.read_if(&plan, SORTED_INDICES, local)?,
            bins: self.read_if(&plan, BINS, experts)?,
            row_of: self.read(ROW_OF, call.assignments())?,
            assignment_of: self.read_if(&plan, ASSIGNMENT_OF, kept)?,
            gate_up,
            activated,
            expert_output,
            output: self.read_output(problem)?,
            fallback_rows: self.read_fallback_rows(&call, &plan)?,
        })
    }

    /// The plan of a forward, and a workspace of the right size with the inputs in it.
    fn prepare(&mut self, problem: &Problem<T>, with_stages: bool) -> Result<(Call, Plan), GpuError> {
        if !self.has_weights_of(problem) {
            return Err(GpuError::OtherWeights);
        }
        let call = Call {
            has_order: problem.explicit_order().is_some(),
            with_stages,
            ..self.call(problem.dims(), &CallLayer::of(problem)?)?
        };
        let plan = self.plan(&call, &Memory::new())?;
        self.upload_inputs(problem)?;
        Ok((call, plan))
    }

    /// What a forward is planned for.
    pub(crate) fn call(&self, dims: Dims, layer: &CallLayer) -> Result<Call, GpuError> {
        Ok(Call {
            cuts_tiles: !self.is_batch_invariant,
            ..Call::new(dims, layer, self.machine.capabilities())?
        })
    }

    /// The plan of a forward, and a workspace of the right size for what is not lent.
    pub(crate) fn plan(&mut self, call: &Call, lent: &Memory<M>) -> Result<Plan, GpuError> {
        let plan = (self.layer.path.forward)(call)?;
        self.workspace.prepare(&mut self.machine, &plan, lent)?;
        Ok(plan)
    }

    /// Launches every kernel on inputs that are already there.
    fn run(&mut self, plan: &Plan) -> Result<(), GpuError> {
        self.run_on(plan, &Memory::new())
    }

    /// Launches every kernel, on lent buffers before those of the workspace.
    pub(crate) fn run_on(&mut self, plan: &Plan, lent: &Memory<M>) -> Result<(), GpuError> {
        run(&mut self.machine, plan, &[lent, &self.workspace, &self.layer.memory])
    }

    fn upload_inputs(&mut self, problem: &Problem<T>) -> Result<(), GpuError> {
        let path = self.layer.path;
        let mut upload = |id, bytes: &[u8]| self.workspace.upload(&mut self.machine, id, bytes);
        with_kept_bytes(path, problem.hidden_states(), |bytes| upload(HIDDEN_STATES, bytes))?;
        with_bytes(&problem.router_indices(), |bytes| upload(ROUTER_INDICES, bytes))?;
        with_wide_bytes(path, problem.routing_weights(), |bytes| upload(ROUTING_WEIGHTS, bytes))?;
        if let Some(order) = problem.explicit_order() {
            // Indices below T·K, which is below 2^31.
            let order: Vec<i32> = order.iter().map(|&assignment| assignment as i32).collect();
            upload(SORTED_INDICES, bytemuck::cast_slice(&order))?;
        }
        Ok(())
    }

    fn read<V: Pod>(&mut self, id: BufferId, elements: usize) -> Result<Vec<V>, GpuError> {
        self.read_from(id, 0, elements)
    }

    /// Elements of a buffer, from its byte `first` on.
    fn read_from<V: Pod>(&mut self, id: BufferId, first: usize, elements: usize) -> Result<Vec<V>, GpuError> {
        let mut values = Vec::new();
        values.try_reserve_exact(elements).map_err(|_| GpuError::OutOfMemory {
            machine: "memory of the caller",
            bytes: elements * size_of::<V>(),
        })?;
        values.resize(elements, V::zeroed());
        self.workspace
            .download(&mut self.machine, id, first, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// Integers of a buffer, if it is one of the plan.
    fn read_if(&mut self, plan: &Plan, id: BufferId, elements: usize) -> Result<Option<Vec<i32>>, GpuError> {
        plan.has(id).then(|| self.read(id, elements)).transpose()
    }

    fn read_rows<V: PathElement>(&mut self, (id, shape): (BufferId, [usize; 2])) -> Result<Array2<f32>, GpuError> {
        let values: Vec<V> = self.read(id, shape[0] * shape[1])?;
        let values = values.into_iter().map(V::widen).collect();
        array2(id, shape, values)
    }

    /// The rows of all experts, from their images in bf16, of which lines without a row are not read.
    fn read_images(
        &mut self,
        id: BufferId,
        row_starts: &[i32],
        rows: usize,
        width: usize,
    ) -> Result<Array2<f32>, GpuError> {
        let images = images(row_starts, width).ok_or_else(|| GpuError::Corrupt {
            what: "the first row of an expert",
            limit: rows,
            found: row_starts.iter().copied().min().map_or(0, i64::from),
        })?;
        let mut values = array2(id, [rows, width], vec![0.0; rows * width])?;
        for image in images {
            let lines: Vec<bf16> = self.read_from(id, image.first_byte(), image.elements())?;
            for (row, column, value) in image.values(&lines) {
                if let Some(place) = values.get_mut([row, column]) {
                    *place = value;
                }
            }
        }
        Ok(values)
    }

    fn read_fallback_rows(&mut self, call: &Call, plan: &Plan) -> Result<Option<usize>, GpuError> {
        if !plan.has(FALLBACK_ROWS) || call.max_rows() == 0 {
            return Ok(None);
        }
        let count: Vec<i32> = self.read(FALLBACK_ROWS, 1)?;
        Ok(count.first().and_then(|&count| usize::try_from(count).ok()))
    }

    fn read_output(&mut self, problem: &Problem<T>) -> Result<Array3<T>, GpuError> {
        let elements = problem.hidden_states().len();
        let values = if self.layer.path.widens {
            let wide: Vec<f32> = self.read(OUTPUT, elements)?;
            wide.into_iter().map(T::narrow).collect()
        } else {
            self.read(OUTPUT, elements)?
        };
        let shape = problem.hidden_states().raw_dim();
        Array3::from_shape_vec(shape, values).map_err(|_| GpuError::SizeOverflow {
            what: OUTPUT.0,
            sizes: problem.hidden_states().shape().to_vec(),
        })
    }
}

/// A problem whose inputs are on the machine beside the weights, to run any number of times.
pub struct Uploaded<'a, M: Machine, T: PathElement = f32> {
    pipeline: &'a mut Pipeline<M, T>,
    problem: &'a Problem<T>,
    plan: Plan,
}

impl<M: Machine, T: PathElement> Uploaded<'_, M, T> {
    /// The machine.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.pipeline.machine
    }

    /// Launches every kernel, without waiting for them where the machine runs them beside the caller.
    ///
    /// # Errors
    /// An error of the machine.
    pub fn run(&mut self) -> Result<(), GpuError> {
        self.pipeline.run(&self.plan)
    }

    /// The output of the last run, `[B,S,H]`; undefined before the first.
    ///
    /// # Errors
    /// An error of the machine, or what a kernel reports.
    pub fn download(&mut self) -> Result<Array3<T>, GpuError> {
        self.pipeline.read_output(self.problem)
    }
}

impl<M: Machine, T: PathElement> Layer<M, T> {
    fn new(weights: Arc<ExpertWeights<T>>, machine: &mut M, wish: &'static Path<T>) -> Result<Layer<M, T>, GpuError> {
        if !weights.has_ups() {
            return Err(GpuError::Layer {
                expected: "weights with ups",
                found: "weights without".to_owned(),
            });
        }
        if !weights.has_biases_of_element() {
            return Err(GpuError::Layer {
                expected: "biases of the element type",
                found: "wider ones".to_owned(),
            });
        }
        let (experts, intermediate, hidden) = weights.down_proj().dim();
        let dims = WeightDims {
            hidden,
            intermediate,
            experts,
        };
        let path = wish.serving(machine.capabilities(), dims);
        let plan = (path.weights)(dims)?;
        let mut memory = Memory::new();
        memory.prepare(machine, &plan, &Memory::new())?;
        let mut upload = |id, bytes: &[u8]| memory.upload(machine, id, bytes);
        with_kept_bytes(path, weights.gate_up_proj(), |bytes| upload(GATE_UP_PROJ, bytes))?;
        with_wide_bytes(path, weights.gate_up_proj_bias(), |bytes| {
            upload(GATE_UP_PROJ_BIAS, bytes)
        })?;
        with_kept_bytes(path, weights.down_proj(), |bytes| upload(DOWN_PROJ, bytes))?;
        with_wide_bytes(path, weights.down_proj_bias(), |bytes| upload(DOWN_PROJ_BIAS, bytes))?;
        Layer::packed(Some(weights), dims, path, &plan, memory, machine)
    }

    #[cfg(feature = "cuda")]
    fn on_machine(
        dims: WeightDims,
        tensors: Memory<M>,
        machine: &mut M,
        wish: &'static Path<T>,
    ) -> Result<Layer<M, T>, GpuError> {
        let path = wish.serving(machine.capabilities(), dims);
        let plan = (path.weights)(dims)?;
        let mut memory = tensors;
        let mut packed = Memory::new();
        packed.prepare(machine, &plan, &memory)?;
        memory.append(packed);
        Layer::packed(None, dims, path, &plan, memory, machine)
    }

    /// The tensors in the path's own layout beside those that it keeps.
    fn packed(
        weights: Option<Arc<ExpertWeights<T>>>,
        dims: WeightDims,
        path: &'static Path<T>,
        plan: &Plan,
        mut memory: Memory<M>,
        machine: &mut M,
    ) -> Result<Layer<M, T>, GpuError> {
        run(machine, plan, &[&memory])?;
        memory.release(plan);
        let as_given = [GATE_UP_PROJ, GATE_UP_PROJ_BIAS, DOWN_PROJ, DOWN_PROJ_BIAS];
        let kept = plan.buffers.iter().filter(|buffer| !as_given.contains(&buffer.id));
        Ok(Layer {
            weights,
            dims,
            path,
            memory,
            packed_bytes: kept.map(|buffer| buffer.bytes).sum(),
        })
    }
}

/// As [`with_bytes`], with the elements that a path keeps on the machine.
fn with_kept_bytes<T: PathElement, S: Data<Elem = T>, D: Dimension, R>(
    path: &Path<T>,
    tensor: &ArrayBase<S, D>,
    use_bytes: impl FnOnce(&[u8]) -> Result<R, GpuError>,
) -> Result<R, GpuError> {
    if path.widens {
        with_bytes(&tensor.map(|value| value.widen()), use_bytes)
    } else {
        with_bytes(tensor, use_bytes)
    }
}

/// The same of a tensor that is held wide, and whose values are those of the element type.
fn with_wide_bytes<T: PathElement, D: Dimension, R>(
    path: &Path<T>,
    tensor: &Array<f32, D>,
    use_bytes: impl FnOnce(&[u8]) -> Result<R, GpuError>,
) -> Result<R, GpuError> {
    if path.widens {
        with_bytes(tensor, use_bytes)
    } else {
        with_bytes(&tensor.mapv(T::narrow), use_bytes)
    }
}

/// Calls `use_bytes` with a tensor's elements in row-major order, copied only where its layout asks for it.
fn with_bytes<T: Pod, S: Data<Elem = T>, D: Dimension, R>(
    tensor: &ArrayBase<S, D>,
    use_bytes: impl FnOnce(&[u8]) -> Result<R, GpuError>,
) -> Result<R, GpuError> {
    match tensor.as_slice() {
        Some(elements) => use_bytes(bytemuck::cast_slice(elements)),
        None => {
            let elements: Vec<T> = tensor.iter().copied().collect();
            use_bytes(bytemuck::cast_slice(&elements))
        }
    }
}

fn array2(id: BufferId, shape: [usize; 2], values: Vec<f32>) -> Result<Array2<f32>, GpuError> {
    Array2::from_shape_vec(shape, values).map_err(|_| GpuError::SizeOverflow {
        what: id.0,
        sizes: shape.to_vec(),
    })
}

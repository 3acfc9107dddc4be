//! A layer on any machine, computed along a path.

use std::sync::Arc;

use bytemuck::Pod;
use ndarray::{Array2, Array3, ArrayBase, Data, Dimension};

use binned_experts_reference::{Dims, ExpertWeights, Problem};

use crate::memory::{Memory, run};
use crate::path::buffers::{
    ACTIVATED, ASSIGNMENT_OF, BINS, DOWN_PROJ, DOWN_PROJ_BIAS, EXPERT_OUTPUT, FALLBACK_ROWS, GATE_UP, GATE_UP_PROJ,
    GATE_UP_PROJ_BIAS, HIDDEN_STATES, OUTPUT, ROUTER_INDICES, ROUTING_WEIGHTS, ROW_OF, ROW_STARTS, SORTED_INDICES,
};
use crate::path::{Call, HOPPER_FP32, Path, WeightDims};
use crate::plan::{BufferId, Plan};
use crate::{GpuError, Machine};

/// Binned experts in fp32 on a machine, with the weights of one layer resident there.
#[derive(Debug)]
pub struct Pipeline<M: Machine> {
    machine: M,
    wish: &'static Path,
    layer: Layer<M>,
    workspace: Memory<M>,
}

/// The weights of a layer, on the machine in the layout of the path that serves them.
#[derive(Debug)]
struct Layer<M: Machine> {
    weights: Arc<ExpertWeights<f32>>,
    path: &'static Path,
    memory: Memory<M>,
    packed_bytes: usize,
}

/// What every stage leaves on the machine. R is the number of rows that the capacity keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// Flat indices of the assignments in sorted order, `[T·K]`.
    pub sorted_indices: Vec<i32>,
    /// Inclusive cumulative counts, `[E]`.
    pub bins: Vec<i32>,
    /// The row of each assignment, `[T·K]`; -1 for a dropped one.
    pub row_of: Vec<i32>,
    /// The assignment of each row, `[R]`: the gather, which is part of the first product.
    pub assignment_of: Vec<i32>,
    /// First product and bias, `[R,2I]`.
    pub gate_up: Array2<f32>,
    /// After the clamped SwiGLU, `[R,I]`.
    pub activated: Array2<f32>,
    /// Second product and bias, `[R,H]`.
    pub expert_output: Array2<f32>,
    /// The result, `[B,S,H]`.
    pub output: Array3<f32>,
    /// How many rows the tensor cores left to the fallback kernels; none where no tensor cores were used.
    pub fallback_rows: Option<usize>,
}

impl<M: Machine> Pipeline<M> {
    /// Uploads the weights. The path is the fastest that the machine and the sizes allow.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the machine.
    pub fn new(weights: impl Into<Arc<ExpertWeights<f32>>>, machine: M) -> Result<Pipeline<M>, GpuError> {
        Pipeline::with_path(weights, machine, &HOPPER_FP32)
    }

    /// Uploads the weights. Weights that the path or the machine rules out take [`PORTABLE_FP32`](crate::PORTABLE_FP32).
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the machine.
    pub fn with_path(
        weights: impl Into<Arc<ExpertWeights<f32>>>,
        mut machine: M,
        path: &'static Path,
    ) -> Result<Pipeline<M>, GpuError> {
        let layer = Layer::new(weights.into(), &mut machine, path)?;
        Ok(Pipeline {
            machine,
            wish: path,
            layer,
            workspace: Memory::new(),
        })
    }

    /// Takes other weights, of any sizes; the workspace is kept.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the machine; the pipeline then has the weights it had.
    pub fn load_weights(&mut self, weights: impl Into<Arc<ExpertWeights<f32>>>) -> Result<(), GpuError> {
        self.layer = Layer::new(weights.into(), &mut self.machine, self.wish)?;
        Ok(())
    }

    /// The weights.
    pub fn weights(&self) -> &Arc<ExpertWeights<f32>> {
        &self.layer.weights
    }

    /// The path that serves the present weights.
    pub fn path(&self) -> &'static Path {
        self.layer.path
    }

    /// Memory that the weights take beside their tensors, in the path's own layout.
    pub fn packed_bytes(&self) -> usize {
        self.layer.packed_bytes
    }

    /// The machine.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The output of `binned_experts_ref`, `[B,S,H]`.
    ///
    /// # Errors
    /// [`GpuError::OtherWeights`] unless the problem shares the pipeline's weights; a limit of
    /// the kernels; an error of the machine. The pipeline can be used again.
    pub fn forward(&mut self, problem: &Problem<f32>) -> Result<Array3<f32>, GpuError> {
        let mut uploaded = self.upload(problem)?;
        uploaded.run()?;
        uploaded.download()
    }

    /// The first part of [`forward`](Pipeline::forward): uploads a problem's inputs, so that running it can be repeated
    /// or timed apart.
    ///
    /// # Errors
    /// As [`forward`](Pipeline::forward).
    pub fn upload<'a>(&'a mut self, problem: &'a Problem<f32>) -> Result<Uploaded<'a, M>, GpuError> {
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
    pub fn forward_with_stages(&mut self, problem: &Problem<f32>) -> Result<Stages, GpuError> {
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
        Ok(Stages {
            sorted_indices: self.read(SORTED_INDICES, call.assignments())?,
            bins: self.read(BINS, experts)?,
            row_of: self.read(ROW_OF, call.assignments())?,
            assignment_of: self.read(ASSIGNMENT_OF, kept)?,
            gate_up: self.read_rows(GATE_UP, kept, 2 * intermediate)?,
            activated: self.read_rows(ACTIVATED, kept, intermediate)?,
            expert_output: self.read_rows(EXPERT_OUTPUT, kept, hidden)?,
            output: self.read_output(problem)?,
            fallback_rows: self.read_fallback_rows(&call, &plan)?,
        })
    }

    /// The plan of a forward, and a workspace of the right size with the inputs in it.
    fn prepare(&mut self, problem: &Problem<f32>, with_stages: bool) -> Result<(Call, Plan), GpuError> {
        if !Arc::ptr_eq(problem.weights(), &self.layer.weights) {
            return Err(GpuError::OtherWeights);
        }
        let call = Call::new(problem, with_stages, self.machine.capabilities())?;
        let plan = (self.layer.path.forward)(&call)?;
        self.workspace.prepare(&mut self.machine, &plan)?;
        self.upload_inputs(problem)?;
        Ok((call, plan))
    }

    /// Launches every kernel on inputs that are already there.
    fn run(&mut self, plan: &Plan) -> Result<(), GpuError> {
        run(&mut self.machine, plan, &[&self.workspace, &self.layer.memory])
    }

    fn upload_inputs(&mut self, problem: &Problem<f32>) -> Result<(), GpuError> {
        let mut upload = |id, bytes: &[u8]| self.workspace.upload(&mut self.machine, id, bytes);
        with_bytes(problem.hidden_states(), |bytes| upload(HIDDEN_STATES, bytes))?;
        with_bytes(&problem.router_indices(), |bytes| upload(ROUTER_INDICES, bytes))?;
        with_bytes(problem.routing_weights(), |bytes| upload(ROUTING_WEIGHTS, bytes))?;
        if let Some(order) = problem.explicit_order() {
            // Indices below T·K, which is below 2^31.
            let order: Vec<i32> = order.iter().map(|&assignment| assignment as i32).collect();
            upload(SORTED_INDICES, bytemuck::cast_slice(&order))?;
        }
        Ok(())
    }

    fn read<T: Pod>(&mut self, id: BufferId, elements: usize) -> Result<Vec<T>, GpuError> {
        let mut values = Vec::new();
        values.try_reserve_exact(elements).map_err(|_| GpuError::OutOfMemory {
            machine: "memory of the caller",
            bytes: elements * size_of::<T>(),
        })?;
        values.resize(elements, T::zeroed());
        self.workspace
            .download(&mut self.machine, id, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    fn read_rows(&mut self, id: BufferId, rows: usize, width: usize) -> Result<Array2<f32>, GpuError> {
        let values = self.read(id, rows * width)?;
        Array2::from_shape_vec((rows, width), values).map_err(|_| GpuError::SizeOverflow {
            what: id.0,
            sizes: vec![rows, width],
        })
    }

    fn read_fallback_rows(&mut self, call: &Call, plan: &Plan) -> Result<Option<usize>, GpuError> {
        if !plan.has(FALLBACK_ROWS) || call.max_rows() == 0 {
            return Ok(None);
        }
        let count: Vec<i32> = self.read(FALLBACK_ROWS, 1)?;
        Ok(count.first().and_then(|&count| usize::try_from(count).ok()))
    }

    fn read_output(&mut self, problem: &Problem<f32>) -> Result<Array3<f32>, GpuError> {
        let values = self.read(OUTPUT, problem.hidden_states().len())?;
        let shape = problem.hidden_states().raw_dim();
        Array3::from_shape_vec(shape, values).map_err(|_| GpuError::SizeOverflow {
            what: OUTPUT.0,
            sizes: problem.hidden_states().shape().to_vec(),
        })
    }
}

/// A problem whose inputs are on the machine beside the weights, to run any number of times.
pub struct Uploaded<'a, M: Machine> {
    pipeline: &'a mut Pipeline<M>,
    problem: &'a Problem<f32>,
    plan: Plan,
}

impl<M: Machine> Uploaded<'_, M> {
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
    pub fn download(&mut self) -> Result<Array3<f32>, GpuError> {
        self.pipeline.read_output(self.problem)
    }
}

impl<M: Machine> Layer<M> {
    fn new(weights: Arc<ExpertWeights<f32>>, machine: &mut M, wish: &'static Path) -> Result<Layer<M>, GpuError> {
        let (experts, intermediate, hidden) = weights.down_proj().dim();
        let dims = WeightDims {
            hidden,
            intermediate,
            experts,
        };
        let path = wish.serving(machine.capabilities(), dims);
        let plan = (path.weights)(dims)?;
        let mut memory = Memory::new();
        memory.prepare(machine, &plan)?;
        let mut tensor_bytes = 0;
        let mut upload = |id, bytes: &[u8]| {
            tensor_bytes += bytes.len();
            memory.upload(machine, id, bytes)
        };
        with_bytes(weights.gate_up_proj(), |bytes| upload(GATE_UP_PROJ, bytes))?;
        with_bytes(weights.gate_up_proj_bias(), |bytes| upload(GATE_UP_PROJ_BIAS, bytes))?;
        with_bytes(weights.down_proj(), |bytes| upload(DOWN_PROJ, bytes))?;
        with_bytes(weights.down_proj_bias(), |bytes| upload(DOWN_PROJ_BIAS, bytes))?;
        run(machine, &plan, &[&memory])?;
        Ok(Layer {
            weights,
            path,
            memory,
            packed_bytes: plan.bytes() - tensor_bytes,
        })
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

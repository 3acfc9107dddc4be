//! The stages in their order, on any machine.

use std::sync::Arc;

use bytemuck::Pod;
use ndarray::{Array2, Array3, ArrayBase, Data, Dimension};

use binned_experts_reference::{Dims, ExpertWeights, Problem};

use crate::packed::{Packed, are_taken, down_tiles, gate_up_tiles, whole};
use crate::plan::{Item, Plan};
use crate::workspace::Workspace;
use crate::{Arg, GpuError, Launch, Machine};

/// Binned experts in fp32 on a machine, with the weights of one layer resident there.
#[derive(Debug)]
pub struct Pipeline<M: Machine> {
    machine: M,
    weights: Arc<ExpertWeights<f32>>,
    resident: Resident<M::Buffer>,
    workspace: Workspace<M>,
}

/// The weights on the machine, and their sizes in bytes.
#[derive(Debug)]
struct Resident<B> {
    gate_up_proj: (B, usize),
    gate_up_proj_bias: (B, usize),
    down_proj: (B, usize),
    down_proj_bias: (B, usize),
    /// For the tensor cores.
    packed: Option<Packed<B>>,
}

impl<B> Resident<B> {
    fn new<M: Machine<Buffer = B>>(weights: &ExpertWeights<f32>, machine: &mut M) -> Result<Resident<B>, GpuError> {
        let gate_up_proj = uploaded(machine, weights.gate_up_proj())?;
        let gate_up_proj_bias = uploaded(machine, weights.gate_up_proj_bias())?;
        let down_proj = uploaded(machine, weights.down_proj())?;
        let down_proj_bias = uploaded(machine, weights.down_proj_bias())?;
        let (experts, intermediate, hidden) = weights.down_proj().dim();
        let packs = machine.tensor_cores().is_some() && are_taken(hidden, intermediate) && experts > 0;
        let packed = packs.then(|| {
            let [gate_up, down] = [[&gate_up_proj, &gate_up_proj_bias], [&down_proj, &down_proj_bias]];
            Packed::new(machine, [hidden, intermediate, experts], gate_up, down)
        });
        Ok(Resident {
            packed: packed.transpose()?,
            gate_up_proj,
            gate_up_proj_bias,
            down_proj,
            down_proj_bias,
        })
    }

    /// The packed weights, which are there where a plan uses them.
    fn packed(&self) -> Result<&Packed<B>, GpuError> {
        self.packed.as_ref().ok_or(GpuError::OtherWeights)
    }
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
    /// How many rows the tensor cores left to the exact kernels; none where no tensor cores were used.
    pub exact_rows: Option<usize>,
}

impl<M: Machine> Pipeline<M> {
    /// Uploads the weights.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the machine.
    pub fn new(weights: impl Into<Arc<ExpertWeights<f32>>>, mut machine: M) -> Result<Pipeline<M>, GpuError> {
        let weights = weights.into();
        let resident = Resident::new(&weights, &mut machine)?;
        Ok(Pipeline {
            machine,
            weights,
            resident,
            workspace: Workspace::new(),
        })
    }

    /// Takes other weights, of any sizes; the workspace is kept.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], or another error of the machine; the pipeline then has the weights it had.
    pub fn load_weights(&mut self, weights: impl Into<Arc<ExpertWeights<f32>>>) -> Result<(), GpuError> {
        let weights = weights.into();
        self.resident = Resident::new(&weights, &mut self.machine)?;
        self.weights = weights;
        Ok(())
    }

    /// The weights.
    pub fn weights(&self) -> &Arc<ExpertWeights<f32>> {
        &self.weights
    }

    /// Memory that the weights take a second time, packed for the tensor cores; 0 where they are not.
    pub fn packed_bytes(&self) -> usize {
        self.resident.packed.as_ref().map_or(0, Packed::bytes)
    }

    /// The machine.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The output of `binned_experts_ref`, `[B,S,H]`.
    ///
    /// # Errors
    /// [`GpuError::OtherWeights`] unless the problem shares the pipeline's weights; a limit of
    /// [`Plan::new`]; an error of the machine. The pipeline can be used again.
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
        let plan = self.prepare(problem, false)?;
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
        let plan = self.prepare(problem, true)?;
        self.run(&plan, problem, true)?;
        let Dims {
            hidden,
            intermediate,
            experts,
            ..
        } = plan.dims();
        let row_starts: Vec<i32> = self.read(Item::RowStarts, experts + 1)?;
        let rows = row_starts.last().map_or(-1, |&rows| i64::from(rows));
        let kept = usize::try_from(rows)
            .ok()
            .filter(|&rows| rows <= plan.max_rows())
            .ok_or(GpuError::Corrupt {
                what: "rows",
                limit: plan.max_rows(),
                found: rows,
            })?;
        Ok(Stages {
            sorted_indices: self.read(Item::SortedIndices, plan.assignments())?,
            bins: self.read(Item::Bins, experts)?,
            row_of: self.read(Item::RowOf, plan.assignments())?,
            assignment_of: self.read(Item::AssignmentOf, kept)?,
            gate_up: self.read_rows(Item::GateUp, "gate_up", kept, 2 * intermediate)?,
            activated: self.read_rows(Item::Activated, "activated", kept, intermediate)?,
            expert_output: self.read_rows(Item::ExpertOutput, "expert_output", kept, hidden)?,
            output: self.read_output(&plan, problem)?,
            exact_rows: self.read_exact_rows(&plan)?,
        })
    }

    /// A workspace of the right size, with the inputs in it.
    fn prepare(&mut self, problem: &Problem<f32>, with_stages: bool) -> Result<Plan, GpuError> {
        if !Arc::ptr_eq(problem.weights(), &self.weights) {
            return Err(GpuError::OtherWeights);
        }
        let plan = Plan::new(problem.dims(), self.machine.tensor_cores(), with_stages)?;
        self.workspace.prepare(&mut self.machine, &plan)?;
        self.upload_inputs(problem)?;
        Ok(plan)
    }

    /// Launches every kernel on inputs that are already there.
    fn run(&mut self, plan: &Plan, problem: &Problem<f32>, with_stages: bool) -> Result<(), GpuError> {
        self.route(plan, problem.explicit_order().is_some())?;
        if plan.uses_tensor_cores() {
            self.split_tokens(plan, problem)?;
            self.experts(plan, problem, with_stages)?;
            self.mark_exact_rows(plan)?;
        }
        self.gate_up(plan, problem, with_stages)?;
        self.down(plan)?;
        self.combine(plan)
    }

    fn upload_inputs(&mut self, problem: &Problem<f32>) -> Result<(), GpuError> {
        let (machine, workspace) = (&mut self.machine, &mut self.workspace);
        with_bytes(problem.hidden_states(), |bytes| {
            workspace.upload(machine, Item::HiddenStates, bytes)
        })?;
        with_bytes(&problem.router_indices(), |bytes| {
            workspace.upload(machine, Item::RouterIndices, bytes)
        })?;
        with_bytes(problem.routing_weights(), |bytes| {
            workspace.upload(machine, Item::RoutingWeights, bytes)
        })?;
        if let Some(order) = problem.explicit_order() {
            // Indices below T·K, which is below 2^31.
            let order: Vec<i32> = order.iter().map(|&assignment| assignment as i32).collect();
            workspace.upload(machine, Item::SortedIndices, bytemuck::cast_slice(&order))?;
        }
        Ok(())
    }

    /// The order, the bins and the rows; an explicit order takes the place of the stable one.
    fn route(&mut self, plan: &Plan, has_order: bool) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let Dims { experts, capacity, .. } = plan.dims();
        let assignments = Arg::I64(plan.assignments() as i64);
        let tiles = Arg::I64(plan.route_tiles() as i64);
        let experts = Arg::I64(experts as i64);
        let capacity = Arg::I64(capacity as i64);
        let launches = plan.launches();

        let args = [buffer(Item::RouterIndices), buffer(Item::Counts), assignments, experts];
        launch(&mut self.machine, launches.count_assignments, &args)?;
        let args = [
            buffer(Item::Counts),
            buffer(Item::Bins),
            buffer(Item::RowStarts),
            buffer(Item::TileStarts),
            buffer(Item::PanelStarts),
            tiles,
            experts,
            capacity,
        ];
        launch(&mut self.machine, launches.scan_bins, &args)?;
        if has_order {
            let args = [
                buffer(Item::RouterIndices),
                buffer(Item::Bins),
                buffer(Item::RowStarts),
                buffer(Item::SortedIndices),
                buffer(Item::RowOf),
                buffer(Item::AssignmentOf),
                assignments,
                capacity,
            ];
            launch(&mut self.machine, launches.place_order, &args)
        } else {
            let args = [
                buffer(Item::RouterIndices),
                buffer(Item::Counts),
                buffer(Item::Bins),
                buffer(Item::RowStarts),
                buffer(Item::SortedIndices),
                buffer(Item::RowOf),
                buffer(Item::AssignmentOf),
                assignments,
                experts,
                capacity,
            ];
            launch(&mut self.machine, launches.rank_assignments, &args)
        }
    }

    fn split_tokens(&mut self, plan: &Plan, problem: &Problem<f32>) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let (dims, packed) = (plan.dims(), self.resident.packed()?);
        let args = [
            buffer(Item::HiddenStates),
            buffer(Item::RouterIndices),
            buffer(Item::RowOf),
            buffer(Item::RowStarts),
            buffer(Item::PanelStarts),
            whole(&packed.norms),
            whole(&packed.exact_experts),
            buffer(Item::PackedTokens),
            buffer(Item::RowScales),
            buffer(Item::ExactRows),
            buffer(Item::LargeCounts),
            buffer(Item::Progress),
            Arg::I64(dims.hidden as i64),
            Arg::I64(dims.experts as i64),
            Arg::I64(dims.top_k as i64),
            Arg::F32(problem.activation().alpha as f32),
            Arg::F32(problem.activation().limit as f32),
        ];
        launch(&mut self.machine, plan.launches().split_tokens, &args)
    }

    fn experts(&mut self, plan: &Plan, problem: &Problem<f32>, with_stages: bool) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let stage = |item| if with_stages { buffer(item) } else { Arg::Null };
        let (dims, packed) = (plan.dims(), self.resident.packed()?);
        let args = [
            buffer(Item::PackedTokens),
            whole(&packed.gate_up.packed),
            whole(&packed.gate_up.columns),
            whole(&packed.down.packed),
            whole(&packed.down.columns),
            buffer(Item::RowStarts),
            buffer(Item::PanelStarts),
            buffer(Item::RowScales),
            buffer(Item::Progress),
            buffer(Item::LargeCounts),
            buffer(Item::PackedActivated),
            stage(Item::GateUp),
            stage(Item::Activated),
            buffer(Item::ExpertOutput),
            Arg::I64(dims.hidden as i64),
            Arg::I64(dims.intermediate as i64),
            Arg::I64(dims.experts as i64),
            Arg::I64(gate_up_tiles(dims.intermediate) as i64),
            Arg::I64(down_tiles(dims.hidden) as i64),
            Arg::F32(problem.activation().alpha as f32),
            Arg::F32(problem.activation().limit as f32),
        ];
        launch(&mut self.machine, plan.launches().experts, &args)
    }

    fn mark_exact_rows(&mut self, plan: &Plan) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let dims = plan.dims();
        let args = [
            buffer(Item::RowStarts),
            buffer(Item::LargeCounts),
            buffer(Item::ExactRows),
            Arg::I64(dims.intermediate as i64),
            Arg::I64(dims.experts as i64),
        ];
        launch(&mut self.machine, plan.launches().mark_exact_rows, &args)
    }

    fn gate_up(&mut self, plan: &Plan, problem: &Problem<f32>, with_stages: bool) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let dims = plan.dims();
        let args = [
            buffer(Item::HiddenStates),
            whole(&self.resident.gate_up_proj),
            whole(&self.resident.gate_up_proj_bias),
            buffer(Item::AssignmentOf),
            buffer(Item::RowStarts),
            buffer(Item::TileStarts),
            exact_rows(&self.workspace, plan),
            if with_stages { buffer(Item::GateUp) } else { Arg::Null },
            buffer(Item::Activated),
            Arg::I64(dims.hidden as i64),
            Arg::I64(dims.intermediate as i64),
            Arg::I64(dims.experts as i64),
            Arg::I64(dims.top_k as i64),
            Arg::F32(problem.activation().alpha as f32),
            Arg::F32(problem.activation().limit as f32),
        ];
        launch(&mut self.machine, plan.launches().gate_up, &args)
    }

    fn down(&mut self, plan: &Plan) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let dims = plan.dims();
        let args = [
            buffer(Item::Activated),
            whole(&self.resident.down_proj),
            whole(&self.resident.down_proj_bias),
            buffer(Item::RowStarts),
            buffer(Item::TileStarts),
            exact_rows(&self.workspace, plan),
            buffer(Item::ExpertOutput),
            Arg::I64(dims.hidden as i64),
            Arg::I64(dims.intermediate as i64),
            Arg::I64(dims.experts as i64),
        ];
        launch(&mut self.machine, plan.launches().down, &args)
    }

    fn combine(&mut self, plan: &Plan) -> Result<(), GpuError> {
        let buffer = |item| self.workspace.arg(plan, item);
        let dims = plan.dims();
        let args = [
            buffer(Item::ExpertOutput),
            buffer(Item::RouterIndices),
            buffer(Item::RoutingWeights),
            buffer(Item::RowOf),
            buffer(Item::Output),
            Arg::I64(dims.tokens as i64),
            Arg::I64(dims.hidden as i64),
            Arg::I64(dims.experts as i64),
            Arg::I64(dims.top_k as i64),
        ];
        launch(&mut self.machine, plan.launches().combine, &args)
    }

    fn read<T: Pod>(&mut self, item: Item, elements: usize) -> Result<Vec<T>, GpuError> {
        let mut values = Vec::new();
        values.try_reserve_exact(elements).map_err(|_| GpuError::OutOfMemory {
            machine: "memory of the caller",
            bytes: elements * size_of::<T>(),
        })?;
        values.resize(elements, T::zeroed());
        self.workspace
            .download(&mut self.machine, item, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    fn read_rows(
        &mut self,
        item: Item,
        what: &'static str,
        rows: usize,
        width: usize,
    ) -> Result<Array2<f32>, GpuError> {
        let values = self.read(item, rows * width)?;
        Array2::from_shape_vec((rows, width), values).map_err(|_| GpuError::SizeOverflow {
            what,
            sizes: vec![rows, width],
        })
    }

    fn read_exact_rows(&mut self, plan: &Plan) -> Result<Option<usize>, GpuError> {
        if !plan.uses_tensor_cores() || plan.max_rows() == 0 {
            return Ok(None);
        }
        let count: Vec<i32> = self.read(Item::ExactRows, 1)?;
        Ok(count.first().and_then(|&count| usize::try_from(count).ok()))
    }

    fn read_output(&mut self, plan: &Plan, problem: &Problem<f32>) -> Result<Array3<f32>, GpuError> {
        let values = self.read(Item::Output, plan.dims().tokens * plan.dims().hidden)?;
        let shape = problem.hidden_states().raw_dim();
        Array3::from_shape_vec(shape, values).map_err(|_| GpuError::SizeOverflow {
            what: "output",
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
        self.pipeline.run(&self.plan, self.problem, false)
    }

    /// The output of the last run, `[B,S,H]`; undefined before the first.
    ///
    /// # Errors
    /// An error of the machine, or what a kernel reports.
    pub fn download(&mut self) -> Result<Array3<f32>, GpuError> {
        self.pipeline.read_output(&self.plan, self.problem)
    }
}

fn launch<M: Machine>(machine: &mut M, launch: Option<Launch>, args: &[Arg<'_, M::Buffer>]) -> Result<(), GpuError> {
    launch.map_or(Ok(()), |launch| machine.launch(launch, args))
}

/// The rows that the exact products are computed for; null, all of them, without tensor cores.
fn exact_rows<'a, M: Machine>(workspace: &'a Workspace<M>, plan: &Plan) -> Arg<'a, M::Buffer> {
    if plan.uses_tensor_cores() {
        workspace.arg(plan, Item::ExactRows)
    } else {
        Arg::Null
    }
}

fn uploaded<M: Machine, D: Dimension>(
    machine: &mut M,
    tensor: &ndarray::Array<f32, D>,
) -> Result<(M::Buffer, usize), GpuError> {
    with_bytes(tensor, |bytes| {
        let mut buffer = machine.alloc(bytes.len())?;
        machine.upload(&mut buffer, bytes)?;
        Ok((buffer, bytes.len()))
    })
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

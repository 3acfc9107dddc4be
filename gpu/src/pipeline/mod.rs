//! The stages in their order, on any machine.

mod launches;
mod resident;

use std::sync::Arc;

use bytemuck::Pod;
use ndarray::{Array2, Array3};

use binned_experts_reference::{Dims, ExpertWeights, Problem};

use resident::{Resident, with_bytes};

use crate::packed::Packed;
use crate::plan::{Item, Plan};
use crate::workspace::Workspace;
use crate::{GpuError, Machine};

/// Binned experts in fp32 on a machine, with the weights of one layer resident there.
#[derive(Debug)]
pub struct Pipeline<M: Machine> {
    machine: M,
    weights: Arc<ExpertWeights<f32>>,
    resident: Resident<M::Buffer>,
    workspace: Workspace<M>,
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

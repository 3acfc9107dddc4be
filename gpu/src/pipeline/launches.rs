//! The launch of each stage, with its arguments in the order of the kernel's head.

use binned_experts_reference::{Dims, Problem};

use super::Pipeline;
use crate::packed::{down_tiles, gate_up_tiles, whole};
use crate::plan::{Item, Plan};
use crate::workspace::Workspace;
use crate::{Arg, GpuError, Launch, Machine};

impl<M: Machine> Pipeline<M> {
    /// Launches every kernel on inputs that are already there.
    pub(super) fn run(&mut self, plan: &Plan, problem: &Problem<f32>, with_stages: bool) -> Result<(), GpuError> {
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
            Arg::I64(dims.top_k as i64),
            Arg::I64((plan.bytes(Item::Progress) / size_of::<i32>()) as i64),
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
            buffer(Item::PartSums),
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

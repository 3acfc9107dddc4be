//! Buffers and launches for chosen sizes.

use super::buffers::{ACTIVATED, ASSIGNMENT_OF, COUNTS, GATE_UP, PART_SUMS, PROGRESS, ROUTER_INDICES, ROW_STARTS};
use super::*;
use crate::kernel::experts::DOWN_PARTS;
use crate::plan::{BufferId, Value};

const SMALL: Dims = Dims {
    tokens: 300,
    hidden: 65,
    intermediate: 33,
    experts: 4,
    top_k: 2,
    capacity: 100,
};

fn call(dims: Dims, with_stages: bool) -> Result<Call, GpuError> {
    let call = Call {
        dims,
        activation: Activation::GPT_OSS,
        has_order: false,
        with_stages,
        multiprocessors: 3,
    };
    call.checked()
}

fn portable(dims: Dims, with_stages: bool) -> Result<Plan, GpuError> {
    (PORTABLE_FP32.forward)(&call(dims, with_stages)?)
}

/// The plans of all paths, for each thing that a caller may ask for.
pub(crate) fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for path in [&PORTABLE_FP32, &HOPPER_FP32] {
        for (has_order, with_stages) in [(false, false), (true, false), (false, true)] {
            let call = Call {
                has_order,
                ..call(SMALL, with_stages).unwrap()
            };
            plans.push((path.forward)(&call).unwrap());
        }
    }
    plans
}

/// The plans of all paths for the weights.
pub(crate) fn weight_plans() -> Vec<Plan> {
    let dims = WeightDims {
        hidden: SMALL.hidden,
        intermediate: SMALL.intermediate,
        experts: SMALL.experts,
    };
    [&PORTABLE_FP32, &HOPPER_FP32]
        .map(|path| (path.weights)(dims).unwrap())
        .into()
}

fn grid(plan: &Plan, kernel: &str) -> u32 {
    let mut steps = plan.steps.iter().filter(|step| step.launch.kernel == kernel);
    steps.next().map_or(0, |step| step.launch.grid)
}

fn bytes(plan: &Plan, id: BufferId) -> usize {
    let buffer = plan.buffers.iter().find(|buffer| buffer.id == id);
    buffer.map_or(0, |buffer| buffer.bytes)
}

#[test]
fn every_buffer_of_a_step_is_planned() {
    let weights = weight_plans();
    for plan in plans().iter().chain(&weights) {
        for (name, value) in plan.steps.iter().flat_map(|step| &step.args) {
            if let Value::Buffer(id) = value {
                assert!(plan.has(*id) || weights[1].has(*id), "{name}");
            }
        }
    }
}

#[test]
fn a_path_serves_what_it_takes_where_it_runs() {
    let hopper = Capabilities {
        multiprocessors: 1,
        has_hopper: true,
    };
    let other = Capabilities {
        has_hopper: false,
        ..hopper
    };
    let weights = |hidden, intermediate| WeightDims {
        hidden,
        intermediate,
        experts: 1,
    };
    for (path, capabilities, [hidden, intermediate], serving) in [
        (&HOPPER_FP32, hopper, [32, 32], "hopper_fp32"),
        (&HOPPER_FP32, hopper, [31, 32], "portable_fp32"),
        (&HOPPER_FP32, hopper, [32, 31], "portable_fp32"),
        (&HOPPER_FP32, other, [32, 32], "portable_fp32"),
        (&PORTABLE_FP32, hopper, [32, 32], "portable_fp32"),
        (&PORTABLE_FP32, other, [0, 0], "portable_fp32"),
    ] {
        let found = path.serving(capabilities, weights(hidden, intermediate));
        assert_eq!(
            found.name(),
            serving,
            "{path:?}, {capabilities:?}, {hidden}, {intermediate}"
        );
    }
}

#[test]
fn tiles_are_cut_for_as_many_blocks_as_there_are() {
    let dims = Dims {
        intermediate: 128,
        ..SMALL
    };
    let plan = (HOPPER_FP32.forward)(&call(dims, false).unwrap()).unwrap();
    // 400 rows are at most 8 panels of 4 experts, with 2 and 1 column tiles.
    assert_eq!(grid(&plan, "experts"), 3);
    assert_eq!(bytes(&plan, PROGRESS), (1 + 8 * 3 + 8) * 4);
    assert_eq!(bytes(&plan, PART_SUMS), 2 * DOWN_PARTS * 128 * 192 * 4);
    assert_eq!(grid(&plan, "gate_up"), 12);
}

#[test]
fn grids_and_buffers_follow_the_sizes() {
    let plan = portable(SMALL, true).unwrap();
    assert_eq!(grid(&plan, "count_assignments"), 1);
    assert_eq!(grid(&plan, "rank_assignments"), 1);
    assert_eq!(grid(&plan, "place_order"), 0);
    assert_eq!(grid(&plans()[1], "place_order"), 5);
    assert_eq!(grid(&plan, "gate_up"), (7 + 4) * 2);
    assert_eq!(grid(&plan, "down"), (7 + 4) * 2);
    assert_eq!(grid(&plan, "combine"), 20);
    assert_eq!(bytes(&plan, ROUTER_INDICES), 600 * 8);
    assert_eq!(bytes(&plan, COUNTS), 3 * 4 * 4);
    assert_eq!(bytes(&plan, ROW_STARTS), 5 * 4);
    assert_eq!(bytes(&plan, ASSIGNMENT_OF), 400 * 4);
    assert_eq!(bytes(&plan, GATE_UP), 400 * 66 * 4);
    assert_eq!(bytes(&plan, ACTIVATED), 400 * 33 * 4);
}

#[test]
fn gate_up_is_held_for_stages_only() {
    assert_eq!(bytes(&portable(SMALL, false).unwrap(), GATE_UP), 0);
}

#[test]
fn nothing_to_compute_launches_nothing() {
    let kernels = |dims| {
        let plan = portable(dims, true).unwrap();
        let steps = plan.steps.iter().map(|step| step.launch.kernel);
        steps.collect::<Vec<_>>()
    };
    assert_eq!(kernels(Dims { tokens: 0, ..SMALL }), ["scan_bins"]);
    let route = ["count_assignments", "scan_bins", "rank_assignments"];
    let all_dropped = kernels(Dims { capacity: 0, ..SMALL });
    assert_eq!(all_dropped, [&route[..], &["combine"]].concat());
    let narrow = Dims {
        hidden: 0,
        intermediate: 0,
        ..SMALL
    };
    assert_eq!(kernels(narrow), route);
}

#[test]
fn a_capacity_of_any_size_is_the_number_of_assignments() {
    for capacity in [600, 65_536, usize::MAX] {
        let call = call(Dims { capacity, ..SMALL }, false).unwrap();
        assert_eq!((call.dims.capacity, call.max_rows()), (600, 600));
    }
}

#[test]
fn limits_are_typed_errors() {
    let with = |change: fn(&mut Dims)| {
        let mut dims = SMALL;
        change(&mut dims);
        portable(dims, true)
    };
    assert_eq!(
        with(|dims| dims.tokens = 1 << 30),
        Err(GpuError::TooManyAssignments {
            tokens: 1 << 30,
            top_k: 2
        })
    );
    assert!(matches!(
        with(|dims| dims.tokens = usize::MAX),
        Err(GpuError::TooManyAssignments { .. })
    ));
    assert!(with(|dims| dims.tokens = (1 << 30) - 1).is_ok());
    assert_eq!(
        with(|dims| dims.experts = INDEX_LIMIT - 1),
        Err(GpuError::TooManyExperts {
            experts: INDEX_LIMIT - 1
        })
    );
    assert!(matches!(
        with(|dims| dims.hidden = usize::MAX / 8),
        Err(GpuError::SizeOverflow {
            what: "hidden_states",
            ..
        })
    ));
    assert!(matches!(
        with(|dims| dims.intermediate = usize::MAX),
        Err(GpuError::SizeOverflow { what: "gate_up", .. })
    ));
    assert!(matches!(
        with(|dims| dims.intermediate = 1 << 40),
        Err(GpuError::TooManyBlocks { kernel: "gate_up", .. })
    ));
}

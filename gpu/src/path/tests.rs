//! Buffers and launches for chosen sizes.

use super::buffers::{
    ACTIVATED, ASSIGNMENT_OF, COUNTS, DOWN_PACKED, EXPERT_OUTPUT_BF16, GATE_UP, GATE_UP_PACKED, GATE_UP_PROJ,
    PACKED_ACTIVATED, PACKED_TOKENS, PART_SUMS, PROGRESS, ROUTER_INDICES, ROW_STARTS,
};
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
    let capabilities = Capabilities {
        multiprocessors: 3,
        has_hopper: true,
    };
    Ok(Call {
        with_stages,
        ..Call::new(dims, &CallLayer::GPT_OSS, capabilities)?
    })
}

/// Sizes that the tensor cores take in bf16.
const IN_EIGHTS: Dims = Dims {
    hidden: 72,
    intermediate: 40,
    ..SMALL
};

fn portable(dims: Dims, with_stages: bool) -> Result<Plan, GpuError> {
    (PORTABLE_FP32.forward)(&call(dims, with_stages)?)
}

/// The plans of all paths, for each thing that a caller may ask for.
pub(crate) fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    let paths = [
        (PORTABLE_FP32.forward, SMALL),
        (HOPPER_FP32.forward, SMALL),
        (PORTABLE_BF16.forward, SMALL),
        (HOPPER_BF16.forward, IN_EIGHTS),
    ];
    for (forward, dims) in paths {
        for (has_order, with_stages) in [(false, false), (true, false), (false, true)] {
            let call = Call {
                has_order,
                ..call(dims, with_stages).unwrap()
            };
            plans.push(forward(&call).unwrap());
        }
    }
    plans
}

/// The plans of all paths for the weights.
pub(crate) fn weight_plans() -> Vec<Plan> {
    let plan = |weights: fn(WeightDims) -> Result<Plan, GpuError>, dims: Dims| {
        weights(WeightDims {
            hidden: dims.hidden,
            intermediate: dims.intermediate,
            experts: dims.experts,
        })
        .unwrap()
    };
    vec![
        plan(PORTABLE_FP32.weights, SMALL),
        plan(HOPPER_FP32.weights, SMALL),
        plan(PORTABLE_BF16.weights, SMALL),
        plan(HOPPER_BF16.weights, IN_EIGHTS),
    ]
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
                let of_weights = weights.iter().any(|weights| weights.has(*id));
                assert!(plan.has(*id) || of_weights, "{name}");
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
fn bf16_takes_sizes_in_eights_and_leaves_others_to_the_portable_kernels() {
    let hopper = Capabilities {
        multiprocessors: 1,
        has_hopper: true,
    };
    let serving = |[hidden, intermediate, experts]: [usize; 3], has_hopper| {
        let weights = WeightDims {
            hidden,
            intermediate,
            experts,
        };
        let found = HOPPER_BF16.serving(Capabilities { has_hopper, ..hopper }, weights);
        found.name()
    };
    for sizes in [[8, 8, 1], [2880, 2880, 128], [16, 1160, 512]] {
        assert_eq!(serving(sizes, true), "hopper_bf16", "{sizes:?}");
        assert_eq!(serving(sizes, false), "portable_bf16", "{sizes:?}");
    }
    for sizes in [[4, 8, 1], [8, 12, 1], [0, 8, 1], [8, 0, 1], [8, 8, 513]] {
        assert_eq!(serving(sizes, true), "portable_bf16", "{sizes:?}");
    }
}

#[test]
fn few_assignments_are_routed_and_gathered_at_once() {
    let kernels = |tokens, top_k, has_order| {
        let dims = Dims {
            tokens,
            top_k,
            ..IN_EIGHTS
        };
        let call = Call {
            has_order,
            ..call(dims, false).unwrap()
        };
        let steps = (HOPPER_BF16.forward)(&call).unwrap().steps;
        steps.iter().map(|step| step.launch.kernel).collect::<Vec<_>>()
    };
    let at_once = ["route_gather_bf16", "experts_bf16", "combine_bf16"];
    for (tokens, top_k) in [(1024, 2), (64, 32)] {
        assert_eq!(kernels(tokens, top_k, false), at_once);
    }
    for (tokens, top_k, has_order, order) in [
        (1025, 2, false, "rank_assignments"),
        (10, 33, false, "rank_assignments"),
        (1, 1, true, "place_order"),
    ] {
        let expected = [
            "count_assignments",
            "scan_bins",
            order,
            "gather_bf16",
            "experts_bf16",
            "combine_bf16",
        ];
        assert_eq!(kernels(tokens, top_k, has_order), expected);
    }
}

#[test]
fn bf16_buffers_follow_the_sizes() {
    let plan = (HOPPER_BF16.forward)(&call(IN_EIGHTS, false).unwrap()).unwrap();
    // 400 rows are at most 6 panels of 4 experts, with 1 and 1 line tiles, and each expert's lines are padded.
    assert_eq!(grid(&plan, "route_gather_bf16"), 300);
    assert_eq!(grid(&plan, "experts_bf16"), 3);
    assert_eq!(grid(&plan, "combine_bf16"), (300 * 72 / 8u32).div_ceil(256));
    assert_eq!(bytes(&plan, PROGRESS), (2 + 2 * 6) * 4);
    let lines = (400 + 4 * 15_usize).next_multiple_of(16);
    assert_eq!(bytes(&plan, PACKED_TOKENS), lines * 2 * 128);
    assert_eq!(bytes(&plan, PACKED_ACTIVATED), lines * 128);
    assert_eq!(bytes(&plan, EXPERT_OUTPUT_BF16), 400 * 72 * 2);
    let weights = weight_plans().remove(3);
    assert_eq!(grid(&weights, "pack_weights_bf16"), 4 * 2);
    assert_eq!(bytes(&weights, GATE_UP_PACKED), 4 * 2 * 192 * 128);
    assert_eq!(bytes(&weights, DOWN_PACKED), 4 * 192 * 128);
    let temporary: Vec<_> = weights.buffers.iter().filter(|buffer| buffer.temporary).collect();
    assert_eq!((temporary.len(), temporary[0].id), (4, GATE_UP_PROJ));
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
fn a_layer_without_sense_is_a_typed_error() {
    let capabilities = Capabilities {
        multiprocessors: 1,
        has_hopper: false,
    };
    let error = |layer: CallLayer| Call::new(SMALL, &layer, capabilities).unwrap_err().to_string();
    let with_first = |first_expert| CallLayer {
        first_expert,
        ..CallLayer::GPT_OSS
    };
    let last = i64::MAX as usize - SMALL.experts;
    assert!(Call::new(SMALL, &with_first(last), capabilities).is_ok());
    for first in [last + 1, usize::MAX] {
        let expected = format!("layer: expected ids of experts below 2^63, found 4 of them from {first} on");
        assert_eq!(error(with_first(first)), expected);
    }
    let endless = CallLayer {
        scale: f64::INFINITY,
        ..CallLayer::GPT_OSS
    };
    assert_eq!(error(endless), "scale: expected a finite number, found inf");
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

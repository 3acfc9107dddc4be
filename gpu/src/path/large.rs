//! Plans of calls whose tensors have more than 2^31 elements. Nothing is allocated.

use super::*;
use crate::plan::Value;

/// T·H, E·H·2I, T·E and E·C·2I are all beyond 2^31.
const LARGE: Dims = Dims {
    tokens: (1 << 23) + 5,
    hidden: 4096 + 8,
    intermediate: 5120 + 16,
    experts: 509,
    top_k: 5,
    capacity: 1 << 20,
};

/// Sides that are themselves beyond 2^32.
const LONG_HIDDEN: Dims = Dims {
    tokens: 3,
    hidden: (1 << 33) + 8,
    intermediate: 72,
    experts: 2,
    top_k: 1,
    capacity: 3,
};
const LONG_INTERMEDIATE: Dims = Dims {
    hidden: 72,
    intermediate: (1 << 33) + 8,
    ..LONG_HIDDEN
};

const MULTIPROCESSORS: u32 = 132;
const FIRST_EXPERT: usize = 1 << 40;

/// A path's name, its plan of a forward and of the weights.
type Plans = (
    &'static str,
    fn(&Call) -> Result<Plan, GpuError>,
    fn(WeightDims) -> Result<Plan, GpuError>,
);

const PATHS: [Plans; 4] = [
    (PORTABLE_FP32.name, PORTABLE_FP32.forward, PORTABLE_FP32.weights),
    (PORTABLE_BF16.name, PORTABLE_BF16.forward, PORTABLE_BF16.weights),
    (HOPPER_FP32.name, HOPPER_FP32.forward, HOPPER_FP32.weights),
    (HOPPER_BF16.name, HOPPER_BF16.forward, HOPPER_BF16.weights),
];

fn call(dims: Dims) -> Result<Call, GpuError> {
    let capabilities = Capabilities {
        multiprocessors: MULTIPROCESSORS,
        has_hopper: true,
    };
    let layer = CallLayer {
        first_expert: FIRST_EXPERT,
        ..CallLayer::GPT_OSS
    };
    Call::new(dims, &layer, capabilities)
}

fn weight_dims(dims: Dims) -> WeightDims {
    WeightDims {
        hidden: dims.hidden,
        intermediate: dims.intermediate,
        experts: dims.experts,
    }
}

/// What sizes follow from those of a call, in 128 bits, by the descriptions of buffers and kernels.
#[derive(Clone, Copy)]
struct Exact {
    tokens: u128,
    hidden: u128,
    intermediate: u128,
    experts: u128,
    top_k: u128,
    capacity: u128,
    assignments: u128,
    rows: u128,
    is_bf16: bool,
    with_stages: bool,
}

impl Exact {
    fn new(dims: Dims, path: &str) -> Exact {
        let wide = |size: usize| size as u128;
        let assignments = wide(dims.tokens) * wide(dims.top_k);
        let capacity = wide(dims.capacity).min(assignments);
        Exact {
            tokens: wide(dims.tokens),
            hidden: wide(dims.hidden),
            intermediate: wide(dims.intermediate),
            experts: wide(dims.experts),
            top_k: wide(dims.top_k),
            capacity,
            assignments,
            rows: assignments.min(wide(dims.experts) * capacity),
            is_bf16: path == HOPPER_BF16.name,
            with_stages: false,
        }
    }

    /// Groups of so many rows, of which each expert can have one that is not full.
    fn groups(&self, rows: u128) -> u128 {
        self.rows.min(self.rows.div_ceil(rows) + self.experts)
    }

    fn panels(&self) -> u128 {
        self.groups(if self.is_bf16 { 256 } else { 128 })
    }

    fn gate_up_tiles(&self) -> u128 {
        (2 * self.intermediate.next_multiple_of(64)).div_ceil(192)
    }

    fn down_tiles(&self) -> u128 {
        self.hidden.div_ceil(192)
    }

    /// Blocks of the kernel of both products, of which each multiprocessor has one.
    fn expert_blocks(&self) -> u128 {
        let parts = if self.is_bf16 { 3 } else { 1 };
        (self.panels() * (self.gate_up_tiles() + self.down_tiles()) * parts).min(MULTIPROCESSORS.into())
    }

    fn progress_words(&self) -> u128 {
        if self.is_bf16 {
            2 + 2 * self.panels()
        } else {
            1 + 8 * self.expert_blocks() + self.panels()
        }
    }

    fn bytes(&self, buffer: &str) -> u128 {
        let (tokens, hidden, experts, rows) = (self.tokens, self.hidden, self.experts, self.rows);
        let activations = self.intermediate;
        // Of a value, and of the packed values of a row or a column.
        let value = if self.is_bf16 { 2 } else { 4 };
        let packed = |depth: u128| depth.next_multiple_of(64) * value;
        let packed_rows = if self.is_bf16 {
            (rows + rows.min(experts) * 15).next_multiple_of(16)
        } else {
            self.panels() * 128
        };
        match buffer {
            "hidden_states" | "output" => tokens * hidden * value,
            "routing_weights" => tokens * experts * value,
            "router_indices" => self.assignments * 8,
            "sorted_indices" | "row_of" => self.assignments * 4,
            "assignment_of" | "large_counts" => rows * 4,
            "fallback_rows" => (1 + rows) * 4,
            "row_scales" => rows * 2 * 4,
            "counts" => self.assignments.div_ceil(256) * experts * 4,
            "bins" | "fallback_experts" => experts * 4,
            "row_starts" | "tile_starts" | "panel_starts" => (experts + 1) * 4,
            "norms" => experts * 2 * 4,
            "gate_up" => u128::from(self.with_stages) * rows * 2 * activations * 4,
            "activated" => rows * activations * 4,
            "expert_output" => rows * hidden * value,
            "expert_output_bf16" => rows * hidden * 2,
            "gate_up_proj" => experts * hidden * 2 * activations * value,
            "gate_up_proj_bias" => experts * 2 * activations * value,
            "down_proj" => experts * activations * hidden * value,
            "down_proj_bias" => experts * hidden * value,
            "packed_tokens" => packed_rows * packed(hidden),
            "packed_activated" => packed_rows * packed(activations),
            "gate_up_packed" => experts * self.gate_up_tiles() * 192 * packed(hidden),
            "down_packed" => experts * self.down_tiles() * 192 * packed(activations),
            "gate_up_packed_bias" => experts * self.gate_up_tiles() * 192 * 4,
            "down_packed_bias" => experts * self.down_tiles() * 192 * 4,
            "gate_up_columns" => experts * self.gate_up_tiles() * 192 * 2 * 4,
            "down_columns" => experts * self.down_tiles() * 192 * 2 * 4,
            "progress" => self.progress_words() * 4,
            // One block has no other to cut a tile with.
            "part_sums" => (self.panels() * self.down_tiles()).min(self.expert_blocks() - 1) * 3 * 128 * 192 * 4,
            other => panic!("no size of {other} is known"),
        }
    }

    fn argument(&self, kernel: &str, name: &str, is_first_product: bool) -> u128 {
        let of_first = |first: u128, second: u128| if is_first_product { first } else { second };
        match name {
            "tokens" => self.tokens,
            "hidden" => self.hidden,
            "intermediate" => self.intermediate,
            "experts" | "n_experts" => self.experts,
            "top_k" => self.top_k,
            "capacity" => self.capacity,
            "first_expert" => FIRST_EXPERT as u128,
            "assignments" => self.assignments,
            "tiles" => self.assignments.div_ceil(256),
            "gate_up_tiles" => self.gate_up_tiles(),
            "down_tiles" => self.down_tiles(),
            "column_tiles" | "line_tiles" => of_first(self.gate_up_tiles(), self.down_tiles()),
            "depth" => of_first(self.hidden, self.intermediate),
            "width" => of_first(2 * self.intermediate, self.hidden),
            "cuts_tiles" => 1,
            "gathered_panels" if self.assignments <= 2048 => self.panels(),
            "gathered_panels" => u128::from(MULTIPROCESSORS).div_ceil(8),
            "permutes" => of_first(0, 1),
            "pairs" => of_first(1, 0),
            "progress_words" => self.progress_words(),
            other => panic!("{kernel}: no value of {other} is known"),
        }
    }

    fn blocks(&self, kernel: &str, is_first_product: bool) -> u128 {
        let columns = |width: u128| self.groups(64) * width.div_ceil(64);
        let most = |times: u128| times * u128::from(MULTIPROCESSORS);
        match kernel {
            "count_assignments" | "rank_assignments" => self.assignments.div_ceil(256).div_ceil(4),
            "scan_bins" => 1,
            "gate_up" => columns(2 * self.intermediate),
            "down" => columns(self.hidden),
            "combine" => (self.tokens * self.hidden.div_ceil(4)).div_ceil(256),
            "combine_bf16" => (self.tokens * self.hidden / 8).div_ceil(256),
            "split_tokens" | "route_gather_bf16" => self.tokens,
            "mark_fallback_rows" => self.rows.div_ceil(128),
            "gather_bf16" => self.tokens.div_ceil(16).min(most(3)),
            "experts" | "experts_bf16" => self.expert_blocks(),
            "pack_weights" => self.experts * self.argument(kernel, "column_tiles", is_first_product) * 192 / 64,
            "pack_weights_bf16" => {
                let depth = self.argument(kernel, "depth", is_first_product);
                self.experts * self.argument(kernel, "line_tiles", is_first_product) * depth.div_ceil(64)
            }
            other => panic!("no grid of {other} is known"),
        }
    }

    fn assert_is(&self, plan: &Plan, of: &str) {
        for buffer in &plan.buffers {
            assert_eq!(buffer.bytes as u128, self.bytes(buffer.id.0), "{of}: {}", buffer.id.0);
        }
        for step in &plan.steps {
            let kernel = step.launch.kernel;
            let packs = |name| step.args.iter().any(|(_, value)| *value == Value::Buffer(name));
            let is_first_product = packs(buffers::GATE_UP_PACKED);
            for &(name, value) in &step.args {
                if let Value::I64(value) = value {
                    let expected = self.argument(kernel, name, is_first_product);
                    assert_eq!(u128::try_from(value), Ok(expected), "{of}: {kernel}, {name}");
                }
            }
            let is_fallback = packs(buffers::FALLBACK_ROWS) && matches!(kernel, "gate_up" | "down");
            let blocks = self.blocks(kernel, is_first_product);
            let blocks = if is_fallback {
                blocks.min(4 * u128::from(MULTIPROCESSORS))
            } else {
                blocks
            };
            assert_eq!(u128::from(step.launch.grid), blocks, "{of}: {kernel}");
        }
    }
}

#[test]
fn sizes_beyond_31_bits_are_planned_exactly() {
    let beyond = 1 << 31;
    let Dims {
        tokens,
        hidden,
        intermediate,
        experts,
        capacity,
        ..
    } = LARGE;
    for size in [tokens * hidden, experts * hidden * 2 * intermediate, tokens * experts] {
        assert!(size > beyond);
    }
    assert!(experts * capacity * 2 * intermediate > beyond && call(LARGE).unwrap().max_rows() * hidden > beyond);
    for dims in [LARGE, LONG_HIDDEN, LONG_INTERMEDIATE] {
        for (path, forward, weights) in PATHS {
            let exact = Exact::new(dims, path);
            exact.assert_is(&weights(weight_dims(dims)).unwrap(), path);
            for with_stages in [false, true] {
                let call = Call {
                    with_stages,
                    ..call(dims).unwrap()
                };
                let exact = Exact { with_stages, ..exact };
                exact.assert_is(&forward(&call).unwrap(), path);
            }
        }
    }
}

#[test]
fn what_is_beyond_a_limit_is_a_typed_error_on_every_path() {
    type Is = fn(&GpuError) -> bool;
    let is_blocks: Is = |error| matches!(error, GpuError::TooManyBlocks { .. });
    let is_size: Is = |error| matches!(error, GpuError::SizeOverflow { .. });
    let cases: [(Dims, Is); 6] = [
        (
            Dims {
                tokens: 1 << 29,
                ..LARGE
            },
            |error| matches!(error, GpuError::TooManyAssignments { .. }),
        ),
        (
            Dims {
                experts: INDEX_LIMIT - 1,
                ..LARGE
            },
            |error| matches!(error, GpuError::TooManyExperts { .. }),
        ),
        // The grids of the products, and that of the sum over the slots.
        (
            Dims {
                intermediate: 1 << 34,
                ..LARGE
            },
            is_blocks,
        ),
        (
            Dims {
                tokens: 1 << 28,
                hidden: 1 << 20,
                capacity: 0,
                ..LARGE
            },
            is_blocks,
        ),
        (
            Dims {
                hidden: 1 << 59,
                ..LARGE
            },
            is_size,
        ),
        (
            Dims {
                intermediate: 1 << 59,
                ..LARGE
            },
            is_size,
        ),
    ];
    for (dims, is) in cases {
        for (path, forward, _) in PATHS {
            let error = call(dims).and_then(|call| forward(&call)).unwrap_err();
            assert!(is(&error), "{path}, {dims:?}: {error}");
        }
    }
    for (path, _, weights) in PATHS {
        let error = weights(weight_dims(Dims {
            hidden: 1 << 59,
            ..LARGE
        }))
        .unwrap_err();
        assert!(is_size(&error), "{path}: {error}");
    }
}

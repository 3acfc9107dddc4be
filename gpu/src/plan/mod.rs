//! From the sizes of a problem to buffers and launches. No machine is involved.

mod item;

pub use item::Item;

use binned_experts_reference::Dims;

use crate::packed::{PANEL_COLUMNS, PANEL_ROWS, are_taken, down_tiles, gate_up_tiles, panel_sizes};
use crate::{GpuError, Launch};

/// Assignments of a tile of the route kernels, one warp a tile. As in `kernels/route.cu`.
const ROUTE_TILE: usize = 256;
/// Tiles of a block of the route kernels.
const ROUTE_WARPS: usize = 4;
const ROUTE_THREADS: u32 = 128;
const SCAN_THREADS: u32 = 128;
/// Rows of a tile of the products. As in `kernels/tile.cuh`.
const TILE_ROWS: usize = 64;
/// Columns of a tile of the products.
const TILE_COLUMNS: usize = 64;
const TILE_THREADS: u32 = 128;
/// Threads of a block of combine, four columns each. As in `kernels/combine.cu`.
const COMBINE_THREADS: u32 = 256;
/// Threads of a block of the kernels that prepare rows. As in `kernels/split_tokens.cu`.
const SPLIT_THREADS: u32 = 128;
/// Threads of a block of both products on the tensor cores. As in `kernels/experts.cu`.
const EXPERTS_THREADS: u32 = 384;
/// Warps of such a block that multiply.
const CONSUMER_WARPS: usize = 8;
/// Parts of a tile that is cut, at the most. As in `kernels/queue.cuh`.
const DOWN_PARTS: usize = 3;
/// Slots of that kernel, and bytes of one: 128 lines of rows and 192 of columns.
const STAGES: u32 = 5;
const STAGE_BYTES: u32 = (128 + 192) * 128;
/// The most shared memory that a launch asks for.
pub const MOST_SHARED_BYTES: u32 = STAGES * STAGE_BYTES;
/// Blocks a multiprocessor of the exact kernels, where most of them find nothing to do.
const EXACT_BLOCKS: u32 = 4;

/// Indices are 32 bits wide and signed on the machine, and so is the extent of a grid.
const INDEX_LIMIT: usize = 1 << 31;

/// The kernels of every device by name, in the order of their launches.
pub const KERNELS: [&str; 7] = [
    "count_assignments",
    "scan_bins",
    "rank_assignments",
    "place_order",
    "gate_up",
    "down",
    "combine",
];

/// The kernels of devices with Hopper's tensor cores.
pub const TENSOR_CORE_KERNELS: [&str; 4] = ["pack_weights", "split_tokens", "experts", "mark_exact_rows"];

/// The launches of a forward, in their order; none where there is nothing to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launches {
    /// One warp a tile of assignments.
    pub count_assignments: Option<Launch>,
    /// One block.
    pub scan_bins: Option<Launch>,
    /// As `count_assignments`; for the stable order.
    pub rank_assignments: Option<Launch>,
    /// One thread an assignment; for an explicit order.
    pub place_order: Option<Launch>,
    /// One block a token; for the tensor cores.
    pub split_tokens: Option<Launch>,
    /// One block a multiprocessor; for the tensor cores.
    pub experts: Option<Launch>,
    /// One thread a row; for the tensor cores.
    pub mark_exact_rows: Option<Launch>,
    /// One block a tile of `[R,2I]`, or fewer where the tensor cores leave it rows.
    pub gate_up: Option<Launch>,
    /// One block a tile of `[R,H]`, or fewer likewise.
    pub down: Option<Launch>,
    /// One thread four columns of `[T,H]`.
    pub combine: Option<Launch>,
}

/// Buffers and launches for a problem's sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    dims: Dims,
    assignments: usize,
    max_rows: usize,
    route_tiles: usize,
    uses_tensor_cores: bool,
    bytes: [usize; Item::ALL.len()],
    launches: Launches,
}

impl Plan {
    /// Checks every limit of the kernels. `tensor_cores` is the number of multiprocessors that have them.
    ///
    /// # Errors
    /// [`GpuError::TooManyAssignments`], [`GpuError::TooManyExperts`], [`GpuError::TooManyBlocks`] or
    /// [`GpuError::SizeOverflow`].
    pub fn new(dims: Dims, tensor_cores: Option<u32>, with_stages: bool) -> Result<Plan, GpuError> {
        let Dims {
            tokens,
            hidden,
            intermediate,
            experts,
            top_k,
            capacity,
        } = dims;
        let assignments = tokens
            .checked_mul(top_k)
            .filter(|&assignments| assignments < INDEX_LIMIT)
            .ok_or(GpuError::TooManyAssignments { tokens, top_k })?;
        if experts >= INDEX_LIMIT - 1 {
            return Err(GpuError::TooManyExperts { experts });
        }
        // No expert has more assignments than there are, so a larger capacity means the same.
        let capacity = capacity.min(assignments);
        let max_rows = assignments.min(experts.saturating_mul(capacity));
        let route_tiles = assignments.div_ceil(ROUTE_TILE);
        let gate_up_width = product("gate_up", &[2, intermediate])?;
        let stage_rows = if with_stages { max_rows } else { 0 };
        let tensor_cores = tensor_cores.filter(|_| are_taken(hidden, intermediate));
        // Every expert can end in a tile or a panel that is not full, but none is empty.
        let row_tiles = max_rows.min(max_rows.div_ceil(TILE_ROWS) + experts);
        let panels = max_rows.min(max_rows.div_ceil(PANEL_ROWS) + experts);
        let (panels, panel_rows) = tensor_cores.map_or((0, 0), |_| (panels, max_rows));
        let of_down = panels.saturating_mul(down_tiles(hidden));
        let tiles = panels
            .saturating_mul(gate_up_tiles(intermediate))
            .saturating_add(of_down);
        let experts_blocks = tensor_cores.map_or(0, |cores| tiles.min(cores as usize));
        let cut_tiles = of_down.min(experts_blocks.saturating_sub(1));

        let mut bytes = [0; Item::ALL.len()];
        for item in Item::ALL {
            bytes[item as usize] = match item {
                Item::HiddenStates => product("hidden_states", &[tokens, hidden, 4])?,
                Item::RouterIndices => product("router_indices", &[assignments, 8])?,
                Item::RoutingWeights => product("routing_weights", &[tokens, experts, 4])?,
                Item::Counts => product("counts", &[route_tiles, experts, 4])?,
                Item::Bins => product("bins", &[experts, 4])?,
                Item::RowStarts => product("row_starts", &[experts + 1, 4])?,
                Item::TileStarts => product("tile_starts", &[experts + 1, 4])?,
                Item::PanelStarts => product("panel_starts", &[experts + 1, 4])?,
                Item::SortedIndices => product("sorted_indices", &[assignments, 4])?,
                Item::RowOf => product("row_of", &[assignments, 4])?,
                Item::AssignmentOf => product("assignment_of", &[max_rows, 4])?,
                Item::GateUp => product("gate_up", &[stage_rows, gate_up_width, 4])?,
                Item::Activated => product("activated", &[max_rows, intermediate, 4])?,
                Item::ExpertOutput => product("expert_output", &[max_rows, hidden, 4])?,
                Item::Output => product("output", &[tokens, hidden, 4])?,
                Item::PackedTokens => product("packed tokens", &panel_sizes(panels, hidden))?,
                Item::PackedActivated => product("packed activations", &panel_sizes(panels, intermediate))?,
                Item::RowScales => product("row_scales", &[panel_rows, 8])?,
                Item::ExactRows => product("exact_rows", &[panel_rows + 1, 4])?,
                Item::LargeCounts => product("large_counts", &[panel_rows, 4])?,
                Item::Progress => product("progress", &[progress_words(experts_blocks, panels), 4])?,
                Item::PartSums => product("part_sums", &[cut_tiles, DOWN_PARTS, PANEL_ROWS, PANEL_COLUMNS, 4])?,
            };
        }

        let route_blocks = route_tiles.div_ceil(ROUTE_WARPS);
        let order_blocks = assignments.div_ceil(ROUTE_THREADS as usize);
        let gate_up_blocks = row_tiles.saturating_mul(gate_up_width.div_ceil(TILE_COLUMNS));
        let down_blocks = row_tiles.saturating_mul(hidden.div_ceil(TILE_COLUMNS));
        let output_blocks = (tokens * hidden.div_ceil(4)).div_ceil(COMBINE_THREADS as usize);
        // What is drawn last finds nothing, once a block.
        let draws = tiles.saturating_add(DOWN_PARTS * (cut_tiles + experts_blocks));
        if draws >= INDEX_LIMIT {
            return Err(GpuError::TooManyBlocks {
                kernel: "experts",
                blocks: draws,
            });
        }
        let exact = |blocks: usize| tensor_cores.map_or(blocks, |cores| blocks.min((cores * EXACT_BLOCKS) as usize));
        let experts_launch = launch("experts", experts_blocks, EXPERTS_THREADS)?.map(|launch| Launch {
            shared: MOST_SHARED_BYTES,
            ..launch
        });
        let launches = Launches {
            count_assignments: launch("count_assignments", route_blocks, ROUTE_THREADS)?,
            split_tokens: launch("split_tokens", if panel_rows > 0 { tokens } else { 0 }, SPLIT_THREADS)?,
            experts: experts_launch,
            mark_exact_rows: launch(
                "mark_exact_rows",
                panel_rows.div_ceil(SPLIT_THREADS as usize),
                SPLIT_THREADS,
            )?,
            scan_bins: launch("scan_bins", 1, SCAN_THREADS)?,
            rank_assignments: launch("rank_assignments", route_blocks, ROUTE_THREADS)?,
            place_order: launch("place_order", order_blocks, ROUTE_THREADS)?,
            gate_up: launch("gate_up", exact(gate_up_blocks), TILE_THREADS)?,
            down: launch("down", exact(down_blocks), TILE_THREADS)?,
            combine: launch("combine", output_blocks, COMBINE_THREADS)?,
        };
        Ok(Plan {
            dims: Dims { capacity, ..dims },
            assignments,
            max_rows,
            route_tiles,
            uses_tensor_cores: tensor_cores.is_some(),
            bytes,
            launches,
        })
    }

    /// The sizes; the capacity is at most T·K.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// T·K.
    pub fn assignments(&self) -> usize {
        self.assignments
    }

    /// The largest R that the sizes allow.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Tiles of the route kernels.
    pub fn route_tiles(&self) -> usize {
        self.route_tiles
    }

    /// Whether the products are computed on the tensor cores.
    pub fn uses_tensor_cores(&self) -> bool {
        self.uses_tensor_cores
    }

    /// Size of a buffer.
    pub fn bytes(&self, item: Item) -> usize {
        self.bytes[item as usize]
    }

    /// The launches.
    pub fn launches(&self) -> &Launches {
        &self.launches
    }
}

/// Words of [`Item::Progress`].
fn progress_words(blocks: usize, panels: usize) -> usize {
    1 + CONSUMER_WARPS * blocks + panels
}

fn launch(kernel: &'static str, blocks: usize, block: u32) -> Result<Option<Launch>, GpuError> {
    if blocks >= INDEX_LIMIT {
        return Err(GpuError::TooManyBlocks { kernel, blocks });
    }
    let grid = blocks as u32;
    Ok((grid > 0).then_some(Launch {
        kernel,
        grid,
        block,
        shared: 0,
    }))
}

pub(crate) fn product(what: &'static str, sizes: &[usize]) -> Result<usize, GpuError> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| GpuError::SizeOverflow {
            what,
            sizes: sizes.to_vec(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Dims = Dims {
        tokens: 300,
        hidden: 65,
        intermediate: 33,
        experts: 4,
        top_k: 2,
        capacity: 100,
    };

    fn grid(launch: Option<Launch>) -> u32 {
        launch.map_or(0, |launch| launch.grid)
    }

    #[test]
    fn the_constants_are_those_of_the_kernels() {
        let sources = [
            include_str!("../../kernels/common.cuh"),
            include_str!("../../kernels/tile.cuh"),
            include_str!("../../kernels/route.cu"),
            include_str!("../../kernels/combine.cu"),
            include_str!("../../kernels/split_tokens.cu"),
            include_str!("../../kernels/queue.cuh"),
            include_str!("../../kernels/finish.cuh"),
            include_str!("../../kernels/experts.cu"),
        ]
        .concat();
        for (name, value) in [
            ("WARP", ROUTE_THREADS as usize / ROUTE_WARPS),
            ("ROUTE_TILE", ROUTE_TILE),
            ("ROUTE_WARPS", ROUTE_WARPS),
            ("SCAN_THREADS", SCAN_THREADS as usize),
            ("TILE_ROWS", TILE_ROWS),
            ("TILE_COLUMNS", TILE_COLUMNS),
            ("TILE_THREADS", TILE_THREADS as usize),
            ("COMBINE_THREADS", COMBINE_THREADS as usize),
            ("SPLIT_THREADS", SPLIT_THREADS as usize),
            ("STAGES", STAGES as usize),
            ("PANEL_ROWS", PANEL_ROWS),
            ("CONSUMER_WARPS", CONSUMER_WARPS),
            ("DOWN_PARTS", DOWN_PARTS),
        ] {
            let line = format!("constexpr int {name} = {value};");
            assert!(sources.contains(&line), "the kernels lack `{line}`");
        }
        assert!(sources.contains("constexpr int ROUTE_THREADS = ROUTE_WARPS * WARP;"));
    }

    #[test]
    fn every_kernel_waits_for_the_earlier_ones() {
        let texts = crate::sources::KERNELS.map(|(_, text)| text).concat();
        let mut kernels = 0;
        for head in texts
            .split("\nKERNEL")
            .skip(1)
            .filter(|head| !head.starts_with("(threads)"))
        {
            let (signature, body) = head.split_once(") {\n").unwrap();
            let name = signature.split(['\n', '(']).nth(2).unwrap();
            let body = body.trim_start_matches("    let_next_kernel_start();\n");
            assert!(body.starts_with("    wait_for_earlier_kernels();\n"), "{name}");
            kernels += 1;
        }
        assert_eq!(kernels, KERNELS.len() + TENSOR_CORE_KERNELS.len());
    }

    #[test]
    fn tiles_are_cut_for_as_many_blocks_as_there_are() {
        let dims = Dims {
            intermediate: 128,
            ..SMALL
        };
        let plan = Plan::new(dims, Some(3), false).unwrap();
        // 400 rows are at most 8 panels of 4 experts, with 2 and 1 column tiles.
        assert_eq!(grid(plan.launches().experts), 3);
        assert_eq!(plan.bytes(Item::Progress), (1 + 8 * 3 + 8) * 4);
        assert_eq!(plan.bytes(Item::PartSums), 2 * DOWN_PARTS * 128 * 192 * 4);
        assert_eq!(Plan::new(dims, None, false).unwrap().bytes(Item::PartSums), 0);
    }

    #[test]
    fn grids_and_buffers_follow_the_sizes() {
        let plan = Plan::new(SMALL, None, true).unwrap();
        let launches = plan.launches();
        assert_eq!(plan.assignments(), 600);
        assert_eq!(plan.max_rows(), 400);
        assert_eq!(plan.route_tiles(), 3);
        assert_eq!(grid(launches.count_assignments), 1);
        assert_eq!(grid(launches.rank_assignments), 1);
        assert_eq!(grid(launches.place_order), 5);
        assert_eq!(grid(launches.gate_up), (7 + 4) * 2);
        assert_eq!(grid(launches.down), (7 + 4) * 2);
        assert_eq!(grid(launches.combine), 20);
        assert_eq!(plan.bytes(Item::RouterIndices), 600 * 8);
        assert_eq!(plan.bytes(Item::Counts), 3 * 4 * 4);
        assert_eq!(plan.bytes(Item::RowStarts), 5 * 4);
        assert_eq!(plan.bytes(Item::AssignmentOf), 400 * 4);
        assert_eq!(plan.bytes(Item::GateUp), 400 * 66 * 4);
        assert_eq!(plan.bytes(Item::Activated), 400 * 33 * 4);
    }

    #[test]
    fn gate_up_is_held_for_stages_only() {
        assert_eq!(Plan::new(SMALL, None, false).unwrap().bytes(Item::GateUp), 0);
    }

    #[test]
    fn nothing_to_compute_launches_nothing() {
        let empty = Plan::new(Dims { tokens: 0, ..SMALL }, None, true).unwrap();
        assert_eq!(empty.launches().count_assignments, None);
        assert_eq!(empty.launches().gate_up, None);
        assert_eq!(empty.launches().combine, None);
        assert_eq!(grid(empty.launches().scan_bins), 1);

        let all_dropped = Plan::new(Dims { capacity: 0, ..SMALL }, None, true).unwrap();
        assert_eq!(all_dropped.max_rows(), 0);
        assert_eq!(all_dropped.launches().gate_up, None);
        assert_eq!(grid(all_dropped.launches().combine), 20);

        let narrow = Plan::new(
            Dims {
                hidden: 0,
                intermediate: 0,
                ..SMALL
            },
            None,
            true,
        )
        .unwrap();
        assert_eq!(narrow.launches().gate_up, None);
        assert_eq!(narrow.launches().down, None);
        assert_eq!(narrow.launches().combine, None);
    }

    #[test]
    fn a_capacity_of_any_size_is_the_number_of_assignments() {
        for capacity in [600, 65_536, usize::MAX] {
            let plan = Plan::new(Dims { capacity, ..SMALL }, None, false).unwrap();
            assert_eq!(plan.dims().capacity, 600);
            assert_eq!(plan.max_rows(), 600);
        }
    }

    #[test]
    fn limits_are_typed_errors() {
        let with = |change: fn(&mut Dims)| {
            let mut dims = SMALL;
            change(&mut dims);
            Plan::new(dims, None, true)
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
}

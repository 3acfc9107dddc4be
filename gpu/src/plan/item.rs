//! The buffers of the workspace.

/// A buffer of the workspace. R is the number of rows that the capacity keeps, at most min(T·K, E·C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `[T,H]`, f32.
    HiddenStates,
    /// `[T,K]`, i64.
    RouterIndices,
    /// `[T,E]`, f32.
    RoutingWeights,
    /// Assignments of each expert by tile of the route kernels, `[tiles,E]`, i32.
    Counts,
    /// Inclusive cumulative counts, `[E]`, i32.
    Bins,
    /// First row of each expert and R, `[E+1]`, i32.
    RowStarts,
    /// First product tile of each expert and their number, `[E+1]`, i32.
    TileStarts,
    /// First panel of each expert and their number, `[E+1]`, i32.
    PanelStarts,
    /// `[T·K]`, i32.
    SortedIndices,
    /// The row of each assignment, `[T·K]`, i32; -1 for a dropped one.
    RowOf,
    /// The assignment of each row, `[R]`, i32.
    AssignmentOf,
    /// `[R,2I]`, f32; only where stages are asked for.
    GateUp,
    /// `[R,I]`, f32.
    Activated,
    /// `[R,H]`, f32.
    ExpertOutput,
    /// `[T,H]`, f32.
    Output,
    /// Rows as the tensor cores take them, by panel; the items from here on are for them alone.
    PackedTokens,
    /// Activations, likewise.
    PackedActivated,
    /// Inverse scale of each row, and the scale of its activations, `[R,2]`, f32.
    RowScales,
    /// The number of rows left to the exact kernels, and whether each row is one, `[1+R]`, i32.
    ExactRows,
    /// Activations of each row that are large enough, `[R]`, i32.
    LargeCounts,
    /// What has been drawn and finished of the tiles, i32.
    Progress,
    /// Sums of the parts of tiles that are cut, f32.
    PartSums,
}

impl Item {
    /// All of them.
    pub const ALL: [Item; 22] = [
        Item::HiddenStates,
        Item::RouterIndices,
        Item::RoutingWeights,
        Item::Counts,
        Item::Bins,
        Item::RowStarts,
        Item::TileStarts,
        Item::PanelStarts,
        Item::SortedIndices,
        Item::RowOf,
        Item::AssignmentOf,
        Item::GateUp,
        Item::Activated,
        Item::ExpertOutput,
        Item::Output,
        Item::PackedTokens,
        Item::PackedActivated,
        Item::RowScales,
        Item::ExactRows,
        Item::LargeCounts,
        Item::Progress,
        Item::PartSums,
    ];
}

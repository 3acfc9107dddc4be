//! The bugs, by name.

use clap::ValueEnum;

/// A bug that shows in the output alone. Its text names the class and the thread in a catalogue of published bugs, or
/// the finding on an H100, that it re-creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bug {
    /// No bug
    Right,

    // Narrow integers, launch geometry.
    /// C1, mlx#3856: the number of rows left wraps in 16 bits, and tiles beyond it are not stored
    RowCountWraps,
    /// C1, sglang#4727: row * width in a narrow integer, here of 16 bits
    RowOffsetWraps,
    /// C1, VeOmni#1025: T bounds the rows where T * K is needed
    RowsBoundedByTokens,
    /// C2, FreeToken#186: assignments along a grid axis of at most 65,535 blocks
    GridAxis,
    /// C2, imp#2056: each of 256 threads owns one expert
    FirstExpertsOnly,
    /// C2, candle#3271: the sort reaches the 1,024 items of one block
    SortsOneBlock,
    /// C2, sglang#8457: the prefix sum is that of 32 lanes, without a carry
    ScansOneWarp,
    /// C2, sglang#21610: the thread that writes the last bin does not exist where E is the block size
    LastBinUnwritten,
    /// C2, candle-vllm#296: a kernel written for K = 8
    EightSlots,

    // Empty experts, small counts, memory that nothing wrote.
    /// C3, rocm-libraries#5050: the cursor into the weights does not advance over an expert without tokens
    EmptyGroupCursor,
    /// C3, tt-metal#50669: an odd list is split in unequal halves with a stride of equal ones: one is lost
    OddCounts,
    /// C3, tokenspeed#415, and finding K: the host divides by T
    DividesByTokens,
    /// C3, ROCm-TE#161: no rows, instead of rows of zeros, where every assignment is dropped
    RowsKept,
    /// C4, vllm#46408: all K slots are summed, those of dropped assignments from memory that nothing wrote
    SlotsUnset,
    /// C4, tt-metal#46194: the buffer of the call before is used again and not cleared
    StaleSlots,
    /// Results are kept by their inputs; where there are sixteen, the oldest gives its memory to the next and stays known
    OldestResultOverwritten,
    /// C4, transformers#45621: dropped assignments are multiplied by zero instead of skipped
    DroppedTimesZero,
    /// C4, maxtext#3699, kcomm#1056: padding rows get the biases, and their index is zero
    PaddingOnTokenZero,
    /// C4, and finding E: every expert is applied to every row and masked by a product; 0 * NaN is NaN
    OtherExpertsTimesZero,

    // Races, as far as one thread can play them.
    /// C5, aiter#3091, and finding A: the scan starts before the counts of all blocks have landed
    HistogramRace,
    /// The same in one run of three
    HistogramRaceNowAndThen,
    /// C5, FlagGems#1008: two threads increment the same count without an atomic
    LostIncrements,
    /// C5, kcomm#1153: the store of a row's last block is not masked and lands in the next row
    TailStoreOverhangs,

    // Bins.
    /// C7, vllm#46408: index -1 is the last; expert 0 starts where the last expert ends
    FirstBinWraps,
    /// C7, TE#2908: every row is shifted by an entry at the head of the order
    PrefixNotSkipped,
    /// The output is right; the bins that are shown leave out an expert's own count
    ExclusiveBins,

    // An expert named twice by one token.
    /// C8, llama.cpp#24591: whether a token names an expert, where how often is needed
    DuplicatesOnce,
    /// C8, and finding J: a token that names an expert twice is counted once
    HistogramShort,
    /// C8, llama.cpp#26310: an expert's list has room for T rows
    RowListOfTokens,

    // Capacity.
    /// C9, DeepSpeed#5156: two parts of a program count the capacity differently
    CapacityOffByOne,
    /// C9, fastmoe#199: the capacity lacks the division by E
    CapacityTimesExperts,
    /// C9, DeepSpeed#1658: one branch, here all on one expert, drops nothing
    CapacityInOneBranch,
    /// C9, DeepSpeed#7986: the wrong end of the line is dropped
    LastComeKept,
    /// C9, DeepSpeed#7986: who is dropped is decided by weight
    HeaviestKept,
    /// C9, vllm-ascend#14926: the running offset adds up what is kept, not what is counted
    OffsetByCapacity,
    /// Finding B: a capacity above 65,535 is a launch that is refused
    CapacityRefused,
    /// C18, vllm#14568: the order within an expert is arbitrary, so the wrong ones are dropped
    UnstableSort,

    // Routing weights.
    /// C10, minimind#858: weights are divided by their sum over the slots
    WeightsRenormalised,
    /// C10, and finding D: w[t, slot] in place of w[t, expert]
    WeightBySlot,
    /// C10, vllm-xpu-kernels#66: w[t] in place of w[t * K + slot]
    FirstSlotWeight,
    /// C10, triton#6527: the scale of the gate is not applied
    WeightIgnored,
    /// C10, vllm#16801: the weight is applied before the nonlinearity
    WeightOnInput,

    // Biases.
    /// C11, Automodel#2591: the down bias is not multiplied by the routing weight
    DownBiasUnweighted,
    /// C11, torchtitan#4245: each of two shards adds the down bias
    DownBiasTwice,
    /// C11, TRT-LLM#12190: the bias is a C operand with beta = 0
    BiasLost,

    // Activation.
    /// C12, fak#4837: the gate is clamped on both sides
    GateClampedBelow,
    /// C12, llama.cpp#16702: up is clamped above only, as the gate is
    UpClampedAbove,
    /// C12, fak#4837: the clamp follows the activation; at limit 7 the two are within 5e-5 of each other
    ClampedAfter,
    /// C12, ort#28738: limit = 7 for every model
    LimitHardCoded,
    /// C12, ort#28739: alpha = 1.702 for every model
    AlphaHardCoded,
    /// C12 and C20, vllm#45738, colibri#1166: the path for wide rows is not handed the limit
    LimitLostOnWidePath,
    /// Finding G: clamps through a minimum and a maximum that drop NaN
    NanSwallowed,

    // Layout.
    /// C13, vllm#29273: halves where the columns of gate and up alternate
    Halves,
    /// C11, vllm#46645: gate and up change places
    GateUpSwapped,
    /// C13, unsloth-zoo#683: H = I, and a transposed down_proj does not show in its shape
    DownTransposed,
    /// C13, unsloth-zoo#849: the layout is guessed from the shape, which H = 2I leaves open
    GateUpTransposed,

    // Tiles.
    /// C15, vllm#42436: what a contraction has beyond whole blocks of 16 is not added
    ContractionTail,
    /// C15, sonic-moe#63: one tile configuration, here I % 128 == 0, writes every other 16 columns
    AlternateColumns,
    /// C15, FlyDSL#979: tiles of 16 rows in groups of 8; the last group is not shortened
    LastTileGroup,
    /// C15, DeepGEMM#15: a count is taken to be a multiple of the tile's rows, here 16
    CountRoundedDown,
    /// C16, sglang#3679: the buffer of the last chunk of 64 tokens has T rows instead of T * K
    LastChunk,

    // Sizes of published models.
    /// C15, atlas#85: the staged activations have room for 1,024 columns
    ActivationsBeyond1024,
    /// C15, realizar#37: from H = 1,536 on a path for wide rows is taken, which reaches 1,024 features
    WidePathFrom1536,
    /// C15, DeepGEMM#345: the stages of a pipeline are too small for H = 8,192
    StagesTooSmallFor8192,
    /// C15, sglang-jax#1249: blocks of 512 columns have to divide a larger I
    WidthOf512Assumed,
    /// C2, sgl-kernel-npu#590: no kernel for K = 14
    Top14Refused,
    /// C2, TensorRT-LLM#11472: a path of its own for K = 22 of E = 512, which sums 16 slots
    TwentyTwoOf512,

    // Arithmetic.
    /// C17: operands rounded to TF32 by an engine that claims fp32
    Tf32Operands,
    /// C17, vllm#56887: partial sums of 16 products are added in f16
    F16Sums,
    /// C17, TIRx-kernels#208: partial sums of 16 products are added in bf16
    Bf16Sums,
    /// C17, modular#7165: a depth of 4,096 or more is split in four, whose sums are added in bf16
    SplitDepthInBf16,
    /// C17, vllm#46643: the sum over at most four slots is kept in bf16
    FewSlotsInBf16,
    /// C17, TRT-LLM#16778: the sum over the slots is rounded to bf16 after each addition
    CombinedInBf16,
    /// C17, Megatron#7081: counts in bf16, which skips numbers above 256
    CountsInBf16,
}

// The C interface: launch a kernel by its name.
//
// Each kernel stands in a table with the names of its parameters, which reports use. Arguments are checked against the
// parameters' types, so that a launch from the other side of the interface cannot misread them.
#include "combine.cu"
#include "down.cu"
#include "experts.cu"
#include "gate_up.cu"
#include "pack.cu"
#include "route.cu"
#include "split_tokens.cu"
#ifdef SIMT_SELFTEST
#include "selftest.cu"
#include "selftest_async.cu"
#endif

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <tuple>
#include <utility>

extern "C" {

enum binned_experts_simt_kind : uint32_t { SIMT_BUFFER = 0, SIMT_I64 = 1, SIMT_F32 = 2 };

// One argument: {pointer, bytes} of a buffer, or a number in the low bytes of `bits`.
struct binned_experts_simt_arg {
    uint32_t kind;
    uint32_t bits_f32;
    int64_t bits_i64;
    void *pointer;
    uint64_t bytes;
};

#define INTERFACE __attribute__((visibility("default")))

INTERFACE simt::Emulator *binned_experts_simt_create();
INTERFACE void binned_experts_simt_destroy(simt::Emulator *emulator);
INTERFACE int32_t binned_experts_simt_launch(
    simt::Emulator *emulator, const char *kernel, const uint32_t grid[3], const uint32_t block[3], uint32_t shared_bytes,
    const simt::Schedule *schedule, const binned_experts_simt_arg *args, size_t n_args, char *report,
    size_t report_bytes);
}

namespace {

using Arg = binned_experts_simt_arg;

struct Request {
    simt::Emulator &emulator;
    const char *kernel;
    simt::Index3 grid, block;
    unsigned shared_bytes;
    simt::Schedule schedule;
    const Arg *args;
    size_t n_args;
};

std::vector<std::string> split(const char *names) {
    std::vector<std::string> parts(1);
    for (; *names; names++) {
        if (*names == ',') parts.emplace_back();
        else if (*names != ' ') parts.back() += *names;
    }
    return parts;
}

struct Refusal {
    std::string text;
};

void expect_kind(const Arg &arg, uint32_t kind, const char *name) {
    static const char *const KINDS[] = {"a buffer", "an i64", "an f32"};
    if (arg.kind == kind) return;
    throw Refusal{std::string(name) + ": expected " + KINDS[kind] + ", found " +
                  (arg.kind <= SIMT_F32 ? KINDS[arg.kind] : "an unknown kind")};
}

template <class T>
struct Decode;

template <>
struct Decode<int64> {
    static int64 from(const Arg &arg, const char *name) {
        expect_kind(arg, SIMT_I64, name);
        return arg.bits_i64;
    }
};

template <>
struct Decode<float> {
    static float from(const Arg &arg, const char *name) {
        expect_kind(arg, SIMT_F32, name);
        return simt::from_bits<float>(arg.bits_f32);
    }
};

template <class T>
struct Decode<simt::Array<T>> {
    static simt::Array<T> from(const Arg &arg, const char *name) {
        expect_kind(arg, SIMT_BUFFER, name);
        if (arg.pointer == nullptr) return simt::Array<T>(nullptr, 0, name);
        if (reinterpret_cast<uintptr_t>(arg.pointer) % alignof(T) != 0)
            throw Refusal{std::string(name) + ": the buffer is not aligned to " + std::to_string(alignof(T))};
        if (arg.bytes % sizeof(T) != 0)
            throw Refusal{std::string(name) + ": " + std::to_string(arg.bytes) + " bytes are no multiple of " +
                          std::to_string(sizeof(T))};
        return simt::Array<T>(static_cast<T *>(arg.pointer), int64_t(arg.bytes / sizeof(T)), name);
    }
};

template <class... P>
struct Bound {
    void (*kernel)(P...);
    std::tuple<P...> values;

    static void call(void *bound) {
        auto &self = *static_cast<Bound *>(bound);
        std::apply(self.kernel, self.values);
    }
};

template <class... P, size_t... I>
bool launch_kernel(void (*kernel)(P...), const char *parameters, const Request &request, std::string &report,
                   std::index_sequence<I...>) {
    const std::vector<std::string> names = split(parameters);
    if (names.size() != sizeof...(P)) throw Refusal{"the table names " + std::to_string(names.size()) + " parameters"};
    if (request.n_args != sizeof...(P))
        throw Refusal{"expected " + std::to_string(sizeof...(P)) + " arguments, found " +
                      std::to_string(request.n_args)};
    Bound<P...> bound = {kernel, {Decode<P>::from(request.args[I], names[I].c_str())...}};
    const simt::Launch launch = {request.kernel,       request.grid,      request.block,
                                 request.shared_bytes, Bound<P...>::call, &bound};
    return request.emulator.run(launch, request.schedule, report);
}

template <class... P>
bool launch_kernel(void (*kernel)(P...), const char *parameters, const Request &request, std::string &report) {
    return launch_kernel(kernel, parameters, request, report, std::index_sequence_for<P...>{});
}

struct Entry {
    const char *name;
    bool (*launch)(const Request &request, std::string &report);
};

#define KERNEL_ENTRY(kernel, parameters) \
    Entry { #kernel, [](const Request &request, std::string &report) { return launch_kernel(kernel, parameters, request, report); } }

const Entry KERNELS[] = {
    KERNEL_ENTRY(count_assignments, "router_indices, counts, assignments, experts"),
    KERNEL_ENTRY(scan_bins, "counts, bins, row_starts, tile_starts, panel_starts, tiles, "
                            "experts, capacity"),
    KERNEL_ENTRY(rank_assignments, "router_indices, counts, bins, row_starts, sorted_indices, row_of, assignment_of, "
                                   "assignments, experts, capacity"),
    KERNEL_ENTRY(place_order, "router_indices, bins, row_starts, sorted_indices, row_of, assignment_of, assignments, "
                              "capacity"),
    KERNEL_ENTRY(gate_up, "hidden_states, gate_up_proj, gate_up_proj_bias, assignment_of, row_starts, tile_starts, "
                          "exact_rows, gate_up, activated, hidden, intermediate, experts, top_k, alpha, limit"),
    KERNEL_ENTRY(down, "activated, down_proj, down_proj_bias, row_starts, tile_starts, exact_rows, expert_output, "
                       "hidden, intermediate, experts"),
    KERNEL_ENTRY(pack_weights, "matrices, bias, packed, columns, norms, exact_experts, depth, width, column_tiles, "
                               "weaves"),
    KERNEL_ENTRY(split_tokens, "hidden_states, router_indices, row_of, row_starts, panel_starts, "
                               "norms, exact_experts, packed, row_scales, exact_rows, large_counts, progress, hidden, "
                               "top_k, progress_words, alpha, limit"),
    KERNEL_ENTRY(experts, "tokens, gate_up_packed, gate_up_columns, down_packed, down_columns, row_starts, "
                          "panel_starts, row_scales, progress, large_counts, packed_activated, "
                          "part_sums, gate_up, activated, expert_output, hidden, intermediate, experts, "
                          "gate_up_tiles, down_tiles, alpha, limit"),
    KERNEL_ENTRY(mark_exact_rows, "row_starts, large_counts, exact_rows, intermediate, experts"),
    KERNEL_ENTRY(combine, "expert_output, router_indices, routing_weights, row_of, output, tokens, hidden, experts, "
                          "top_k"),
#ifdef SIMT_SELFTEST
    KERNEL_ENTRY(selftest_collectives, "results"),
    KERNEL_ENTRY(selftest_missing_barrier, "results"),
    KERNEL_ENTRY(selftest_divergent_barrier, "results"),
    KERNEL_ENTRY(selftest_barrier_against_collective, "results"),
    KERNEL_ENTRY(selftest_returned_lane, "results"),
    KERNEL_ENTRY(selftest_read, "values, results, index"),
    KERNEL_ENTRY(selftest_shared_index, "results, index"),
    KERNEL_ENTRY(selftest_shared_poison, "results"),
    KERNEL_ENTRY(selftest_atomic_sum, "sum"),
    KERNEL_ENTRY(selftest_plain_sum, "sum"),
    KERNEL_ENTRY(selftest_racing_bins, "expert_of, counts, bins, assignments, experts"),
    KERNEL_ENTRY(selftest_order, "flags, between, then"),
    KERNEL_ENTRY(selftest_counters, "flags"),
    KERNEL_ENTRY(selftest_copies, "results, source, fault"),
    KERNEL_ENTRY(selftest_publish, "results, words, counters, publishes"),
    KERNEL_ENTRY(selftest_livelock, "counters"),
    KERNEL_ENTRY(selftest_groups, "results, waits, threads"),
    KERNEL_ENTRY(selftest_product, "results, lines, fault, start"),
#endif
};

void expect_extents(const Request &request) {
    const auto product = [](simt::Index3 extent) {
        // Two factors of 32 bits fit; the third cannot make the product small again unless it is 0.
        const uint64_t plane = uint64_t(extent.x) * extent.y;
        return extent.z != 0 && plane > UINT64_MAX / extent.z ? UINT64_MAX : plane * extent.z;
    };
    const uint64_t blocks = product(request.grid), threads = product(request.block);
    if (blocks == 0 || blocks > simt::MAX_BLOCKS) throw Refusal{"a grid of " + std::to_string(blocks) + " blocks"};
    if (threads == 0 || threads > simt::MAX_BLOCK_THREADS)
        throw Refusal{"a block of " + std::to_string(threads) + " threads"};
}

bool launch(const Request &request, std::string &report) {
    for (const Entry &entry : KERNELS) {
        if (strcmp(entry.name, request.kernel) != 0) continue;
        expect_extents(request);
        return entry.launch(request, report);
    }
    throw Refusal{"there is no such kernel"};
}

}  // namespace

// Null where there is no memory for it.
simt::Emulator *binned_experts_simt_create() {
    try {
        return new simt::Emulator;
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void binned_experts_simt_destroy(simt::Emulator *emulator) {
    delete emulator;
}

// Returns 0, or 1 with a report: NUL-terminated, cut to `report_bytes`.
int32_t binned_experts_simt_launch(simt::Emulator *emulator, const char *kernel, const uint32_t grid[3],
                                   const uint32_t block[3], uint32_t shared_bytes, const simt::Schedule *schedule,
                                   const binned_experts_simt_arg *args, size_t n_args, char *report,
                                   size_t report_bytes) {
    const Request request = {
        *emulator,    kernel,    {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]},
        shared_bytes, *schedule, args,                        n_args};
    std::string text;
    try {
        if (launch(request, text)) return 0;
    } catch (const Refusal &refusal) {
        text = std::string(kernel) + ": " + refusal.text;
    } catch (const std::exception &error) {
        text = std::string(kernel) + ": " + error.what();
    }
    if (report_bytes > 0) snprintf(report, report_bytes, "%s", text.c_str());
    return 1;
}

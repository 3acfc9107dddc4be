// The C interface: launch a kernel by its name.
//
// Arguments are checked against the parameters' types, so that a launch from the other side of the interface cannot
// misread them.
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

// One argument: the parameter's name, which reports use, and {pointer, bytes} of a buffer, or a number in the low bytes of `bits`.
struct binned_experts_simt_arg {
    const char *name;
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

struct Refusal {
    std::string text;
};

void expect_kind(const Arg &arg, uint32_t kind) {
    static const char *const KINDS[] = {"a buffer", "an i64", "an f32"};
    if (arg.kind == kind) return;
    throw Refusal{std::string(arg.name) + ": expected " + KINDS[kind] + ", found " +
                  (arg.kind <= SIMT_F32 ? KINDS[arg.kind] : "an unknown kind")};
}

template <class T>
struct Decode;

template <>
struct Decode<int64> {
    static int64 from(const Arg &arg) {
        expect_kind(arg, SIMT_I64);
        return arg.bits_i64;
    }
};

template <>
struct Decode<float> {
    static float from(const Arg &arg) {
        expect_kind(arg, SIMT_F32);
        return simt::from_bits<float>(arg.bits_f32);
    }
};

template <class T>
struct Decode<simt::Array<T>> {
    static simt::Array<T> from(const Arg &arg) {
        expect_kind(arg, SIMT_BUFFER);
        if (arg.pointer == nullptr) return simt::Array<T>(nullptr, 0, arg.name);
        if (reinterpret_cast<uintptr_t>(arg.pointer) % alignof(T) != 0)
            throw Refusal{std::string(arg.name) + ": the buffer is not aligned to " + std::to_string(alignof(T))};
        if (arg.bytes % sizeof(T) != 0)
            throw Refusal{std::string(arg.name) + ": " + std::to_string(arg.bytes) + " bytes are no multiple of " +
                          std::to_string(sizeof(T))};
        return simt::Array<T>(static_cast<T *>(arg.pointer), int64_t(arg.bytes / sizeof(T)), arg.name);
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
bool launch_kernel(void (*kernel)(P...), const Request &request, std::string &report, std::index_sequence<I...>) {
    if (request.n_args != sizeof...(P))
        throw Refusal{"expected " + std::to_string(sizeof...(P)) + " arguments, found " +
                      std::to_string(request.n_args)};
    Bound<P...> bound = {kernel, {Decode<P>::from(request.args[I])...}};
    const simt::Launch launch = {request.kernel,       request.grid,      request.block,
                                 request.shared_bytes, Bound<P...>::call, &bound};
    return request.emulator.run(launch, request.schedule, report);
}

template <class... P>
bool launch_kernel(void (*kernel)(P...), const Request &request, std::string &report) {
    return launch_kernel(kernel, request, report, std::index_sequence_for<P...>{});
}

struct Entry {
    const char *name;
    bool (*launch)(const Request &request, std::string &report);
};

#define KERNEL_ENTRY(kernel) \
    Entry { #kernel, [](const Request &request, std::string &report) { return launch_kernel(kernel, request, report); } }

const Entry KERNELS[] = {
    KERNEL_ENTRY(count_assignments),
    KERNEL_ENTRY(scan_bins),
    KERNEL_ENTRY(rank_assignments),
    KERNEL_ENTRY(place_order),
    KERNEL_ENTRY(gate_up),
    KERNEL_ENTRY(down),
    KERNEL_ENTRY(pack_weights),
    KERNEL_ENTRY(split_tokens),
    KERNEL_ENTRY(experts),
    KERNEL_ENTRY(mark_fallback_rows),
    KERNEL_ENTRY(combine),
#ifdef SIMT_SELFTEST
    KERNEL_ENTRY(selftest_collectives),
    KERNEL_ENTRY(selftest_missing_barrier),
    KERNEL_ENTRY(selftest_divergent_barrier),
    KERNEL_ENTRY(selftest_barrier_against_collective),
    KERNEL_ENTRY(selftest_returned_lane),
    KERNEL_ENTRY(selftest_read),
    KERNEL_ENTRY(selftest_shared_index),
    KERNEL_ENTRY(selftest_shared_poison),
    KERNEL_ENTRY(selftest_atomic_sum),
    KERNEL_ENTRY(selftest_plain_sum),
    KERNEL_ENTRY(selftest_racing_bins),
    KERNEL_ENTRY(selftest_order),
    KERNEL_ENTRY(selftest_counters),
    KERNEL_ENTRY(selftest_copies),
    KERNEL_ENTRY(selftest_publish),
    KERNEL_ENTRY(selftest_livelock),
    KERNEL_ENTRY(selftest_groups),
    KERNEL_ENTRY(selftest_product),
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

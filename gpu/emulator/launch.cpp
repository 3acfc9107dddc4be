// The C interface: create and destroy an emulator, and launch a kernel by its name.
#include <cstdio>
#include <exception>
#include <new>

#include "table.h"

extern "C" {

#define INTERFACE __attribute__((visibility("default")))

INTERFACE simt::Emulator *binned_experts_simt_create();
INTERFACE void binned_experts_simt_destroy(simt::Emulator *emulator);
INTERFACE int32_t binned_experts_simt_launch(
    simt::Emulator *emulator, const char *kernel, const uint32_t grid[3], const uint32_t block[3], uint32_t shared_bytes,
    const simt::Schedule *schedule, const binned_experts_simt_arg *args, size_t n_args, char *report,
    size_t report_bytes);
}

namespace simt {

extern const Table combine_kernels, down_kernels, experts_kernels, gate_up_kernels, pack_kernels, route_kernels,
    split_tokens_kernels;
extern const Table combine_bf16_kernels, experts_bf16_kernels, gather_bf16_kernels, pack_bf16_kernels;
#ifdef SIMT_SELFTEST
extern const Table selftest_kernels;
#endif

}  // namespace simt

namespace {

using namespace simt;

const Table *const TABLES[] = {
    &route_kernels,     &gate_up_kernels,     &down_kernels,         &pack_kernels,
    &split_tokens_kernels, &experts_kernels,  &combine_kernels,      &pack_bf16_kernels,
    &gather_bf16_kernels, &experts_bf16_kernels, &combine_bf16_kernels,
#ifdef SIMT_SELFTEST
    &selftest_kernels,
#endif
};

void expect_extents(const Request &request) {
    const auto product = [](Index3 extent) {
        // Two factors of 32 bits fit; the third cannot make the product small again unless it is 0.
        const uint64_t plane = uint64_t(extent.x) * extent.y;
        return extent.z != 0 && plane > UINT64_MAX / extent.z ? UINT64_MAX : plane * extent.z;
    };
    const uint64_t blocks = product(request.grid), threads = product(request.block);
    if (blocks == 0 || blocks > MAX_BLOCKS) throw Refusal{"a grid of " + std::to_string(blocks) + " blocks"};
    if (threads == 0 || threads > MAX_BLOCK_THREADS)
        throw Refusal{"a block of " + std::to_string(threads) + " threads"};
}

bool launch(const Request &request, std::string &report) {
    for (const Table *table : TABLES) {
        for (size_t i = 0; i < table->count; i++) {
            if (strcmp(table->entries[i].name, request.kernel) != 0) continue;
            expect_extents(request);
            return table->entries[i].launch(request, report);
        }
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

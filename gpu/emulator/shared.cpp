#include "shared.h"

#include <cstring>

#include "emulator.h"
#include "report.h"

namespace simt {
namespace {

// Memory for a declaration that has none.
[[gnu::noinline]] char *new_region(const void *declaration, const char *name, size_t bytes, size_t alignment) {
    Block &block = *current->block;
    const size_t offset = (block.shared_used + alignment - 1) / alignment * alignment;
    if (offset + bytes > SHARED_BYTES)
        fail("shared memory: %s would end at byte %zu of %zu", name, offset + bytes, SHARED_BYTES);
    block.shared_used = offset + bytes;
    block.regions.push_back({declaration, offset});
    char *const region = block.shared.get() + offset;
    const uint32_t poison = current->emulator->poison();
    // Whole words by copies of a constant size, which are no calls.
    size_t byte = 0;
    for (; byte + sizeof poison <= bytes; byte += sizeof poison) memcpy(region + byte, &poison, sizeof poison);
    memcpy(region + byte, &poison, bytes - byte);
    return region;
}

}  // namespace

void *shared_region(const void *declaration, const char *name, size_t bytes, size_t alignment) {
    const Block &block = *current->block;
    const SharedRegion *const regions = block.regions.data();
    for (size_t known = 0; known < block.regions.size(); known++)
        if (regions[known].declaration == declaration) return block.shared.get() + regions[known].offset;
    return new_region(declaration, name, bytes, alignment);
}

void *large_shared_region(const void *declaration, const char *name, size_t bytes) {
    const unsigned asked = current->block->launch->shared_bytes;
    if (bytes > asked) fail("shared memory: %s takes %zu bytes, the launch asks for %u", name, bytes, asked);
    return shared_region(declaration, name, bytes, 1024);
}

}  // namespace simt

// Shared memory of the running block.
#pragma once
#include <cstddef>

namespace simt {

// Memory for one declaration, filled with poison when the block's first thread asks.
void *shared_region(const void *declaration, const char *name, size_t bytes, size_t alignment = 16);

// As shared_region, of the memory that the launch asked for.
void *large_shared_region(const void *declaration, const char *name, size_t bytes);

}  // namespace simt

// Products of warpgroups as the tensor cores compute them.
#pragma once
#include "threads.h"

namespace simt {

constexpr unsigned PRODUCT_ROWS = 64, MOST_PRODUCT_COLUMNS = 192, PRODUCT_DEPTH = 16;

// The operands of one product in f32: too much for a fiber's stack.
struct ProductOperands {
    float rows[PRODUCT_ROWS][PRODUCT_DEPTH];
    float columns[PRODUCT_DEPTH][MOST_PRODUCT_COLUMNS];
};

// Adds the products that the 128 threads of a warpgroup have committed to their sums, but for the last groups of them, so
// many as the threads keep in their `source`. They must have started, committed and kept the same.
void multiply(Thread *threads, ProductOperands &operands, const char *shared, size_t shared_bytes);

}  // namespace simt

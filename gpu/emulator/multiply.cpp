#include "multiply.h"

#include <cmath>
#include <cstring>

#include "half.h"
#include "report.h"

namespace simt {
namespace {

// An operand whose lines of 128 bytes stand along the depth, in groups of eight, swizzled over 128 bytes.
class Operand {
public:
    Operand(uint64_t descriptor, const char *shared, size_t shared_bytes) : shared(shared), bytes(shared_bytes) {
        start = unsigned(descriptor & 0x3fff) << 4;
        stride = unsigned(descriptor >> 32 & 0x3fff) << 4;
        if (descriptor >> 62 != 1) fail("a product's operand is not swizzled over 128 bytes");
    }

    float at(unsigned line, unsigned depth) const {
        unsigned address = start + line / 8 * stride + line % 8 * 128 + depth * 2;
        address ^= (address >> 7 & 7) << 4;
        if (address + 2 > bytes) fail("a product reads byte %u of %zu of shared memory", address, bytes);
        uint16_t half;
        memcpy(&half, shared + address, sizeof half);
        return from_half(half);
    }

private:
    const char *shared;
    size_t bytes;
    unsigned start, stride;
};

// The f32 next to the value towards zero.
float truncated(double value) {
    const float nearest = float(value);
    return std::fabs(double(nearest)) > std::fabs(value) ? std::nextafter(nearest, 0.0f) : nearest;
}

void multiply_one(Thread *threads, size_t number, ProductOperands &operands, const char *shared, size_t shared_bytes) {
    const Product first = threads[0].products[number];
    const Operand left(first.left, shared, shared_bytes), right(first.right, shared, shared_bytes);
    auto &[rows, columns] = operands;
    for (unsigned row = 0; row < PRODUCT_ROWS; row++)
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++) rows[row][d] = left.at(row, d);
    for (unsigned column = 0; column < PRODUCT_COLUMNS; column++)
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++) columns[d][column] = right.at(column, d);

    for (unsigned row = 0; row < PRODUCT_ROWS; row++) {
        double sums[PRODUCT_COLUMNS] = {};
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++)
            for (unsigned column = 0; column < PRODUCT_COLUMNS; column++)
                sums[column] += double(rows[row][d]) * double(columns[d][column]);
        // Row r belongs to warp r / 16, lanes 4 · (r % 8) and the three after it; so do columns to a lane in pairs.
        Thread *const quad = threads + row / 16 * WARP_LANES + row % 8 * 4;
        for (unsigned column = 0; column < PRODUCT_COLUMNS; column++) {
            const Product &own = quad[column % 8 / 2].products[number];
            float &sum = own.sums[column / 8 * 4 + row % 16 / 8 * 2 + column % 2];
            sum = truncated((own.adds ? double(sum) : 0.0) + sums[column]);
        }
    }
}

}  // namespace

void multiply(Thread *threads, ProductOperands &operands, const char *shared, size_t shared_bytes) {
    const size_t count = threads[0].products.size();
    for (unsigned t = 1; t < WARPGROUP_THREADS; t++) {
        if (threads[t].products.size() != count) fail("threads of a warpgroup have started different products");
        for (size_t i = 0; i < count; i++) {
            const Product &own = threads[t].products[i], &first = threads[0].products[i];
            if (own.left != first.left || own.right != first.right || own.adds != first.adds)
                fail("threads of a warpgroup have started different products");
        }
    }
    for (size_t i = 0; i < count; i++) multiply_one(threads, i, operands, shared, shared_bytes);
    for (unsigned t = 0; t < WARPGROUP_THREADS; t++) threads[t].products.clear();
}

}  // namespace simt

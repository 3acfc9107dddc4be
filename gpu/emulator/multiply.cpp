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
    Operand(uint64_t descriptor, HalfType type, const char *shared, size_t shared_bytes)
        : shared(shared), bytes(shared_bytes), type(type) {
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
        return type == HalfType::f16 ? from_half(half) : from_bf16_bits(half);
    }

private:
    const char *shared;
    size_t bytes;
    HalfType type;
    unsigned start, stride;
};

// The f32 next to the value towards zero.
float truncated(double value) {
    const float nearest = float(value);
    return std::fabs(double(nearest)) > std::fabs(value) ? std::nextafter(nearest, 0.0f) : nearest;
}

void multiply_one(Thread *threads, size_t number, ProductOperands &operands, const char *shared, size_t shared_bytes) {
    const Product first = threads[0].products[number];
    const Operand left(first.left, first.type, shared, shared_bytes), right(first.right, first.type, shared, shared_bytes);
    auto &[rows, columns] = operands;
    for (unsigned row = 0; row < PRODUCT_ROWS; row++)
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++) rows[row][d] = left.at(row, d);
    for (unsigned column = 0; column < first.columns; column++)
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++) columns[d][column] = right.at(column, d);

    for (unsigned row = 0; row < PRODUCT_ROWS; row++) {
        double sums[MOST_PRODUCT_COLUMNS] = {};
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++)
            for (unsigned column = 0; column < first.columns; column++)
                sums[column] += double(rows[row][d]) * double(columns[d][column]);
        // Row r belongs to warp r / 16, lanes 4 · (r % 8) and the three after it; so do columns to a lane in pairs.
        Thread *const quad = threads + row / 16 * WARP_LANES + row % 8 * 4;
        for (unsigned column = 0; column < first.columns; column++) {
            const Product &own = quad[column % 8 / 2].products[number];
            float &sum = own.sums[column / 8 * 4 + row % 16 / 8 * 2 + column % 2];
            sum = truncated((own.adds ? double(sum) : 0.0) + sums[column]);
        }
    }
}

bool same(const Product &left, const Product &right) {
    return left.left == right.left && left.right == right.right && left.adds == right.adds && left.type == right.type &&
           left.columns == right.columns;
}

bool same(const Thread &left, const Thread &right) {
    if (left.products.size() != right.products.size()) return false;
    for (size_t i = 0; i < left.products.size(); i++)
        if (!same(left.products[i], right.products[i])) return false;
    return left.groups == right.groups && left.source == right.source;
}

}  // namespace

void multiply(Thread *threads, ProductOperands &operands, const char *shared, size_t shared_bytes) {
    for (unsigned t = 1; t < WARPGROUP_THREADS; t++)
        if (!same(threads[t], threads[0])) fail("threads of a warpgroup have started different products");
    const size_t groups = threads[0].groups.size(), kept = threads[0].source;
    if (groups <= kept) return;
    const size_t count = threads[0].groups[groups - kept - 1];
    for (size_t i = 0; i < count; i++) multiply_one(threads, i, operands, shared, shared_bytes);
    for (unsigned t = 0; t < WARPGROUP_THREADS; t++) {
        Thread &thread = threads[t];
        thread.products.erase(thread.products.begin(), thread.products.begin() + count);
        thread.groups.erase(thread.groups.begin(), thread.groups.end() - kept);
        for (size_t &started : thread.groups) started -= count;
    }
}

}  // namespace simt

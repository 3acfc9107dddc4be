#include "multiply.h"

#include <algorithm>
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

    // The values of a line.
    void load(unsigned line, float (&values)[PRODUCT_DEPTH]) const {
        for (unsigned first = 0; first < PRODUCT_DEPTH; first += CHUNK) {
            // The swizzle moves chunks of 16 bytes as a whole.
            unsigned address = start + line / 8 * stride + line % 8 * 128 + first * 2;
            address ^= (address >> 7 & 7) << 4;
            uint16_t halves[CHUNK];
            if (address + sizeof halves > bytes) fail("a product reads byte %u of %zu of shared memory", address, bytes);
            memcpy(halves, shared + address, sizeof halves);
            for (unsigned i = 0; i < CHUNK; i++)
                values[first + i] = type == HalfType::f16 ? from_half(halves[i]) : from_bf16_bits(halves[i]);
        }
    }

private:
    static constexpr unsigned CHUNK = 8;

    const char *shared;
    size_t bytes;
    HalfType type;
    unsigned start, stride;
};

// Fills the operands of a product. Returns after how many columns all are like the one before.
unsigned load(ProductOperands &operands, const Product &product, const char *shared, size_t shared_bytes) {
    const Operand left(product.left, product.type, shared, shared_bytes);
    const Operand right(product.right, product.type, shared, shared_bytes);
    for (unsigned row = 0; row < PRODUCT_ROWS; row++) left.load(row, operands.rows[row]);
    unsigned different = 1;
    float column[PRODUCT_DEPTH], before[PRODUCT_DEPTH] = {};
    for (unsigned c = 0; c < product.columns; c++) {
        right.load(c, column);
        if (memcmp(column, before, sizeof column) != 0) different = c + 1;
        memcpy(before, column, sizeof column);
        for (unsigned d = 0; d < PRODUCT_DEPTH; d++) operands.columns[d][c] = column[d];
    }
    return different;
}

// The f32 next to the value towards zero.
float truncated(double value) {
    const float nearest = float(value);
    return float_of(bits_of(nearest) - (std::fabs(double(nearest)) > std::fabs(value)));
}

void multiply_one(Thread *threads, size_t number, ProductOperands &operands, const char *shared, size_t shared_bytes) {
    const Product first = threads[0].products[number];
    const unsigned different = load(operands, first, shared, shared_bytes);
    const auto &[rows, columns] = operands;
    double sums[MOST_PRODUCT_COLUMNS];
    for (unsigned row = 0; row < PRODUCT_ROWS; row++) {
        // Beside a small problem most rows and columns of a tile are padding, and have the sums of those before them.
        if (row == 0 || memcmp(rows[row], rows[row - 1], sizeof rows[row]) != 0) {
            std::fill_n(sums, different, 0.0);
            for (unsigned d = 0; d < PRODUCT_DEPTH; d++)
                for (unsigned column = 0; column < different; column++)
                    sums[column] += double(rows[row][d]) * double(columns[d][column]);
            std::fill(sums + different, sums + first.columns, sums[different - 1]);
        }
        // Row r belongs to warp r / 16, lanes 4 · (r % 8) and the three after it; so do columns to a lane in pairs.
        const Thread *const quad = threads + row / 16 * WARP_LANES + row % 8 * 4;
        for (unsigned lane = 0; lane < 4; lane++) {
            const Product &own = quad[lane].products[number];
            for (unsigned pair = 0; pair < first.columns / 8; pair++) {
                for (unsigned i = 0; i < 2; i++) {
                    float &sum = own.sums[pair * 4 + row % 16 / 8 * 2 + i];
                    sum = truncated((own.adds ? double(sum) : 0.0) + sums[pair * 8 + lane * 2 + i]);
                }
            }
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

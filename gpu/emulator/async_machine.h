// What runs beside the threads of a block: bulk copies, the barriers that count them, and products of warpgroups. The
// functions are called by the running thread unless they say otherwise; async.h gives them their names in kernels.
#pragma once
#include <vector>

#include "threads.h"

namespace simt {

constexpr size_t PRODUCTS_IN_FLIGHT = 64;

// A barrier in shared memory: a phase ends when all arrivals and all bytes that were announced have come.
struct PhaseBarrier {
    uint64_t phase : 1, expected : 15, pending : 15;
    int64_t bytes : 33;
};

// Address in shared memory, as kernels and the tensor cores name it.
unsigned shared_offset(const void *pointer);

PhaseBarrier &phase_barrier(unsigned barrier);

// Announces so many bytes, and arrives.
void arrive(unsigned barrier, unsigned bytes, Site site);

// Waits for the end of the phase of this parity.
void wait_for_phase(unsigned barrier, unsigned parity, Site site);

// Meets other threads of the block at one of its GROUP_BARRIERS; only those that wait are held up.
void meet_group(unsigned id, unsigned threads, bool waits, Site site);

// Starts a copy to shared memory that counts its bytes at the barrier when it lands.
void start_copy(unsigned target, const void *source, size_t bytes, unsigned barrier);

// A copy to shared memory of a block.
struct Copy {
    Block *block;
    unsigned target;
    const void *source;
    size_t bytes;
    unsigned barrier;
};

// The emulator's: one of the copies in flight lands.
void land_copy(std::vector<Copy> &copies, uint32_t index);

// Starts a product; computed when all threads of the warpgroup wait for its group. A commit ends a group, and a wait is
// for all groups but the last `kept`.
void start_product(Product product);
void commit_products();
void finish_products(unsigned kept, Site site);

// So many bytes of shared memory at an address that is a multiple of their number.
char *shared_bytes(unsigned address, size_t bytes);

// Stores four matrices of 8 x 8 halves with the other lanes of the warp. Each lane has two columns beside one another of
// a row of each matrix, and the address where a column of 16 bytes begins: lane 8i + c that of column c of matrix i.
void store_transposed(unsigned address, const unsigned *matrices, Site site);

}  // namespace simt

// The threads of a launch in their warps and blocks, and the one that runs.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "fiber.h"

namespace simt {

constexpr unsigned WARP_LANES = 32;
constexpr unsigned MAX_BLOCK_THREADS = 1024;
constexpr size_t SHARED_BYTES = 227 * 1024;
constexpr unsigned WARPGROUP_THREADS = 128;
constexpr unsigned GROUP_BARRIERS = 16;

struct Index3 {
    unsigned x, y, z;
};

// A line of a kernel.
struct Site {
    const char *file;
    int line;
};

enum class Collective : uint8_t { sync, shuffle, ballot, match, store };

enum class State : uint8_t { ready, barrier, collective, phase, group, products, done };

class Emulator;
struct Block;
struct Warp;

// A grid of blocks that run a kernel: `call(values)` is one thread's run of it.
struct Launch {
    const char *kernel;
    Index3 grid, block;
    unsigned shared_bytes;  // that the launch asks for
    void (*call)(void *values);
    void *values;
};

enum class HalfType : uint8_t { f16, bf16 };

// A product of a warpgroup that its threads have started (async.h), of 64 lines and so many.
struct Product {
    float *sums;  // the thread's
    uint64_t left, right;
    bool adds;
    HalfType type;
    unsigned columns;
};

struct Thread {
    Fiber fiber;
    Emulator *emulator = nullptr;
    Block *block = nullptr;
    Index3 index = {0, 0, 0};
    unsigned lane = 0;
    Warp *warp = nullptr;
    bool is_late = false;
    bool counts_accesses = false;  // whether plain accesses pause now and then; here, since each one asks
    uint32_t synced = 0;  // the last __syncwarp of its warp that it took part in
    uint32_t left = 0, left_at_sync = 0, released = 0;  // values for other blocks (order.h)
    State state = State::done;

    // The collective the thread waits in, and what it brings and gets.
    Collective collective = Collective::sync;
    Site site = {nullptr, 0};
    unsigned mask = 0, source = 0;
    uint64_t value = 0;
    const unsigned *matrices = nullptr;  // what it stores with the others of its warp

    std::vector<Product> products;  // started, and not waited for
    std::vector<size_t> groups;     // how many of these had been started at each commit
};

struct Warp {
    Thread *threads = nullptr;
    uint32_t ready = 0;    // lanes that can run; one of the warps of Turns while not 0
    uint32_t waiting = 0;  // lanes in a collective
    uint32_t done = 0;     // lanes that have returned
    uint32_t syncs = 0;    // how often lanes met at __syncwarp
};

struct SharedRegion {
    const void *declaration;
    size_t offset;
};

// A barrier of some threads of a block.
struct GroupBarrier {
    unsigned threads = 0, arrived = 0;
};

// A block that is resident. Its memory and the stacks of its threads serve the blocks that come after it.
struct Block {
    const Launch *launch = nullptr;
    Index3 index = {0, 0, 0};
    uint32_t serial = 0;    // of its start, from 1
    uint32_t meetings = 0;  // how often threads met at a barrier that orders memory for the block
    std::vector<Thread> threads;  // the first `size` of them belong to the block, the others keep their stacks
    unsigned size = 0;
    Warp warps[MAX_BLOCK_THREADS / WARP_LANES];
    std::vector<SharedRegion> regions;
    std::unique_ptr<char[]> shared;
    size_t shared_used = 0;
    unsigned live = 0, at_barrier = 0;
    Site barrier = {nullptr, 0};
    GroupBarrier groups[GROUP_BARRIERS];
    unsigned in_products[MAX_BLOCK_THREADS / WARPGROUP_THREADS] = {};  // threads of the warpgroup that wait
    unsigned copies = 0;                                               // in flight
};

// The thread that runs: all that a kernel's code knows of where it runs, since it has no argument for it. It is set
// where an emulator switches, and means nothing between two runs.
inline thread_local Thread *current = nullptr;

}  // namespace simt

// The machine: blocks of threads, each thread a fiber, and the order in which they run.
//
// A launch keeps several blocks resident and runs one thread at a time. Whenever that thread reaches a barrier, a warp
// collective or an atomic, the next one is drawn at random among all that can run; so are the order in which blocks
// start and, if asked for, pauses at plain memory accesses. Draws among equals alone would keep all threads at the same
// pace and hide what happens when one runs far ahead, so each launch also draws how long it stays with a warp and how
// many threads are late: those run only when few others can. The seed decides every draw.
//
// A kernel fault (an index out of bounds, a divergent barrier, a deadlock) ends the launch with a report: the faulting
// fiber switches back to the scheduler and is never resumed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fiber.h"

namespace simt {

constexpr unsigned WARP_LANES = 32;
constexpr unsigned MAX_BLOCK_THREADS = 1024;
constexpr uint64_t MAX_BLOCKS = uint64_t(1) << 26;
constexpr size_t SHARED_BYTES = 227 * 1024;
constexpr unsigned WARPGROUP_THREADS = 128;
constexpr unsigned GROUP_BARRIERS = 16;

struct Index3 {
    unsigned x, y, z;
};

// How a launch is interleaved, and what shared memory holds.
struct Schedule {
    uint64_t seed;
    uint32_t resident_blocks;  // 0: as many as fill RESIDENT_THREADS, at least 2
    uint32_t access_interval;  // 0: no pauses; else a pause after so many accesses on average
    uint32_t poison;           // of shared memory, word by word
};

constexpr unsigned RESIDENT_THREADS = 1024;

struct Site {
    const char *file;
    int line;
};

enum class Collective : uint8_t { sync, shuffle, ballot, match };

enum class State : uint8_t { ready, barrier, collective, phase, group, products, done };

struct Block;
struct Warp;

// A product of a warpgroup that its threads have started (async.h).
struct Product {
    float *sums;  // the thread's
    uint64_t left, right;
    bool adds;
};

struct Thread {
    Fiber fiber;
    Block *block = nullptr;
    Index3 index = {0, 0, 0};
    unsigned lane = 0;
    Warp *warp = nullptr;
    bool is_late = false;
    uint32_t synced = 0;  // the last __syncwarp of its warp that it took part in
    uint32_t left = 0, left_at_sync = 0, released = 0;  // values for other blocks (order.h)
    State state = State::done;

    // The collective the thread waits in, and what it brings and gets.
    Collective collective = Collective::sync;
    Site site = {nullptr, 0};
    unsigned mask = 0, source = 0;
    uint64_t value = 0;

    std::vector<Product> products;  // started, and not waited for
};

struct Warp {
    Thread *threads = nullptr;
    uint32_t ready = 0;    // lanes that can run; one of the scheduler's warps while not 0
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

struct Block {
    Index3 index = {0, 0, 0};
    uint32_t serial = 0;    // of its start in the launch, from 1
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

// What a launch runs: `call(values)` is one thread's run of the kernel.
struct Launch {
    const char *kernel;
    Index3 grid, block;
    unsigned shared_bytes;  // that the launch asks for
    Schedule schedule;
    void (*call)(void *values);
    void *values;
};

// The thread that runs, and the launch it belongs to.
inline thread_local Thread *current = nullptr;
inline thread_local const Launch *launched = nullptr;
// Memory accesses until the next pause; 0: no pauses.
inline thread_local uint32_t accesses_left = 0;

// Runs a launch to its end; false with a report if it fails.
bool run(const Launch &launch, std::string &report);

// The functions below are called by the running thread.

// Lets the other threads of the block arrive.
void wait_at_barrier(Site site);

// Meets the other lanes of `mask` and returns this lane's result: of a shuffle, the value of lane `source`; of a
// ballot, the lanes whose value is not zero; of a match, the lanes whose value is this lane's.
uint64_t meet(Collective collective, unsigned mask, uint64_t value, unsigned source, Site site);

// Lets any other thread run first.
void pause();

// As pause, and draws when the next access pauses.
void pause_at_access();

// Memory of the running block for one declaration, filled with poison when its first thread asks.
void *shared_region(const void *declaration, const char *name, size_t bytes, size_t alignment = 16);

// As pause, for a thread that waits for others in a loop; fails if nothing else happens for long.
void spin(Site site);

// Lets the threads in this state wake, as if they had never waited, and the running one give way to any.
void make_ready(Thread &thread);
void give_way();

// A number in 0..bound.
uint32_t draw_below(uint32_t bound);

// Ends the launch with a report, printf style; does not return.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

[[noreturn]] void fail_out_of_bounds(const char *name, int64_t index, int64_t length);

}  // namespace simt

// The emulator: runs a kernel's blocks of threads, each thread a fiber, on one thread of the operating system.
//
// Several blocks are resident at a time, and one thread runs. Whenever it reaches a barrier, a warp collective or an
// atomic, the next one is drawn among all that can run (turns.h); so are the order in which blocks start and, if asked
// for, pauses at plain memory accesses.
//
// A kernel fault (an index out of bounds, a divergent barrier, a deadlock) ends the run with a report: the faulting
// fiber switches back to where the run was started and is never resumed.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "async_machine.h"
#include "fiber.h"
#include "multiply.h"
#include "order.h"
#include "threads.h"
#include "turns.h"

namespace simt {

constexpr unsigned RESIDENT_THREADS = 1024;
constexpr uint64_t MAX_BLOCKS = uint64_t(1) << 26;  // of a grid

// How a run is interleaved, and what shared memory holds.
struct Schedule {
    uint64_t seed;
    uint32_t resident_blocks;  // 0: as many as fill RESIDENT_THREADS, at least 2
    uint32_t access_interval;  // 0: no pauses; else a pause after so many accesses on average
    uint32_t poison;           // of shared memory, word by word
};

// All that a run needs and leaves. Two emulators have nothing in common, and between two runs an emulator may go to
// another thread of the operating system. The stacks and the memory of a run are used again by the next one.
class Emulator {
public:
    // Runs a launch to its end; false with a report if it fails.
    bool run(const Launch &launch, const Schedule &schedule, std::string &report);

    // The functions below are called by the running thread, or for it.

    // The thread can run from now on; it does so when it is drawn.
    void make_ready(Thread &thread) { turns.add(thread); }

    // Lets the next thread run; returns when the running one is drawn again.
    void give_way();

    // As give_way, for a thread that can run on.
    void pause() {
        make_ready(*current);
        give_way();
    }

    // Counts a plain access to memory, and pauses at some.
    void count_access() {
        if (--accesses_left == 0) pause_at_access();
    }

    // As pause, for a thread that waits for others in a loop; fails if nothing else happens for long.
    void spin(Site site);

    // Ends the run with a report of the running thread.
    [[noreturn]] void give_up(const char *what, const char *where);

    uint32_t poison() const { return schedule.poison; }

    Accesses accesses;
    std::vector<Copy> copies;  // in flight
    ProductOperands operands;

private:
    // A block that has not started yet.
    struct Waiting {
        const Launch *launch;
        uint32_t number;  // in its grid
    };

    void prepare();
    void line_up(const Launch &launch);
    void make_slots(const Launch &launch);
    void admit(Block &slot);
    void run_to_end();
    void replace(Block &block);
    static void thread_main();

    // Draws the thread that runs next; none if no thread can run.
    Thread *next_thread() {
        // Not empty(), whose iterators would give each caller a frame for AddressSanitizer to poison (turns.h).
        if (copies.size() > 0) land_copies();
        return turns.next();
    }

    void land_copies();
    void pause_at_access();
    void draw_pause();
    void switch_to_next();
    void switch_to(Context &from, Context &to, bool ends);
    void report_failure(const Block &block, const char *what, const char *where);

    Schedule schedule = {};
    Turns turns;
    Context context;          // where the run was started
    Context *left = nullptr;  // the context of the last switch
    std::vector<std::unique_ptr<Block>> slots;
    std::vector<Waiting> waiting;  // in the order of their start, last first
    std::string *report = nullptr;
    bool failed = false;
    uint32_t accesses_left = 0;  // until the next pause, where they are counted
    uint32_t spins = 0;          // since something else happened
    uint32_t started = 0;        // blocks
    unsigned stacks = 0;         // of all threads of all slots
};

}  // namespace simt

// Which thread runs next.
//
// Threads are drawn at random among those that can run. Draws among equals alone would keep all threads at the same pace
// and hide what happens when one runs far ahead, so each run also draws how long it stays with a warp and how many
// threads are late: those run only when few others can. The seed decides every draw.
#pragma once
#include <cstdint>
#include <vector>

#include "random.h"
#include "threads.h"

namespace simt {

// A list in memory that is there before fibers run: an allocation must not fail on one. Plain stores, since a container's
// calls would give every function here a frame for AddressSanitizer to poison, and that at each switch.
template <class T>
class List {
public:
    bool empty() const { return count == 0; }
    uint32_t size() const { return count; }
    T operator[](size_t index) const { return items[index]; }

    void clear() { count = 0; }
    void make_room(size_t length) {
        if (items.size() < length) items.resize(length);
    }
    void add(T item) { items[count++] = item; }

    // Removes one and puts the last in its place.
    void remove(size_t index) { items[index] = items[--count]; }

private:
    std::vector<T> items;
    uint32_t count = 0;
};

class Turns {
public:
    // Forgets all threads, and draws the pace of a run.
    void start(uint64_t seed);

    // For so many warps and threads that are resident together.
    void make_room(size_t warps, size_t threads);

    // A number in 0..bound.
    uint32_t below(uint32_t bound) { return random.below(bound); }

    // Whether a thread that starts is late.
    bool draws_late();

    // The thread can run.
    void add(Thread &thread) {
        thread.state = State::ready;
        if (thread.is_late) {
            late.add(&thread);
            return;
        }
        Warp &warp = *thread.warp;
        if (warp.ready == 0) ready.add(&warp);
        warp.ready |= 1u << thread.lane;
    }

    // Whether no thread can run.
    bool empty() const { return ready.empty() && late.empty(); }

    // Draws the thread that runs next, which is then none of those that can; none if there is none.
    Thread *next();

    // The next thread may be of any warp.
    void leave_warp() { recent = nullptr; }

private:
    Thread *take_late();

    Random random{0};
    List<Warp *> ready;          // warps with lanes that can run
    List<Thread *> late;         // late threads that can run
    Warp *recent = nullptr;      // the warp of the thread that ran last
    uint32_t stay_in_256 = 0;    // how often the next thread is of the same warp
    uint32_t late_in_65536 = 0;  // how many threads are late
};

}  // namespace simt

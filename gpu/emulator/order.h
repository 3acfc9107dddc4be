// What orders the accesses of different threads, where a GPU's memory orders less than this machine's.
//
// Integers in memory are counters, lists and flags: two threads of which one writes to the same element must meet at a
// barrier in between, unless both use atomics. A collective other than __syncwarp is no barrier. Words of 64 bits are
// what bulk copies read: the thread that wrote one must have published it before. Values that are left for other blocks
// must have been released by a signal before they are read. A violation ends the launch, whatever the values are.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "threads.h"

namespace simt {

enum class Access : uint8_t { read, write, atomic };

constexpr unsigned ACCESSES = 3;

// What the threads of a run have accessed. The functions are called by the running thread unless they say otherwise.
class Accesses {
public:
    // A run starts; called by the emulator.
    void forget();

    // An access to an integer.
    void note(const void *address, Access access, const char *name, int64_t index);

    // A word was written.
    void note_word(const void *address);

    // What the thread wrote may be copied from now on.
    void publish_words();

    // Fails if a word of the source was written in this run and not published.
    void expect_published(const void *source, size_t bytes) const;

    // The thread leaves a value for other blocks.
    void note_left(const void *address);

    // A signal: releases what the thread has left, and what lanes of its warp had left when they last met it at a
    // __syncwarp.
    void release_left();

    // Fails if a thread left the value in this run and it was not released.
    void expect_released(const void *address, const char *name, int64_t index) const;

private:
    // An access: who, and what the thread had met before.
    struct Stamp {
        uint32_t block = 0;  // serial; 0: none
        uint32_t thread = 0;
        uint32_t syncs = 0, meetings = 0;
    };

    // The last access of each kind to an address.
    struct Cell {
        const void *address = nullptr;
        uint64_t run = 0;
        Stamp stamps[ACCESSES];
    };

    // A value that a thread left for other blocks, as its so many-th.
    struct Left {
        const void *address = nullptr;
        uint64_t run = 0;
        const Thread *thread = nullptr;
        uint32_t block = 0;  // serial
        uint32_t number = 0;
    };

    // A cell that two addresses share forgets the older one: a race may go unseen, none is made up.
    static constexpr unsigned CELL_BITS = 14;

    static size_t place_of(const void *address);
    static bool comes_after(const Stamp &stamp, const void *address);
    Cell &cell_of(const void *address);

    uint64_t runs = 0;
    std::vector<Cell> cells = std::vector<Cell>(size_t(1) << CELL_BITS);
    std::vector<Left> lefts = std::vector<Left>(size_t(1) << CELL_BITS);
    std::vector<std::pair<const Thread *, const char *>> words;  // written and not published, by thread
};

}  // namespace simt

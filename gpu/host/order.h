// What orders the accesses of different threads, where a GPU's memory orders less than this machine's.
//
// Integers in memory are counters, lists and flags: two threads of which one writes to the same element must meet at a
// barrier in between, unless both use atomics. A collective other than __syncwarp is no barrier. Words of 64 bits are
// what bulk copies read: the thread that wrote one must have published it before. Values that are left for other blocks
// must have been released by a signal before they are read. A violation ends the launch, whatever the values are.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace simt {

enum class Access : uint8_t { read, write, atomic };

// An element of an array, with its name for reports.
template <class T>
struct Pointer {
    T *address;
    const char *name;
    int64_t index;
};

// The running thread's access to an integer.
void note_access(const void *address, Access access, const char *name, int64_t index);

// The running thread wrote a word in a launch that copies.
void note_word(const void *address);

// What the running thread wrote may be copied from now on.
void publish_words();

// Fails if a word of the source was written in this launch and not published.
void expect_published(const void *source, size_t bytes);

// The running thread leaves a value for other blocks.
void note_left(const void *address);

// A signal: releases what the running thread has left, and what lanes of its warp had left when they last met it at a
// __syncwarp.
void release_left();

// Fails if a thread left the value in this launch and it was not released.
void expect_released(const void *address, const char *name, int64_t index);

// The scheduler's: a launch starts.
void forget_accesses();

// An integer, a structure of them or a word in memory that kernels write. A structure is read and written as a whole.
template <class T>
class Element {
    static constexpr bool IS_WORD = std::is_same_v<T, unsigned long long>;

public:
    explicit Element(Pointer<T> pointer) : pointer(pointer) {}
    Element(const Element &) = default;

    operator T() const {
        if constexpr (!IS_WORD) note_access(pointer.address, Access::read, pointer.name, pointer.index);
        return *pointer.address;
    }

    T operator=(T value) const {
        if constexpr (!IS_WORD) note_access(pointer.address, Access::write, pointer.name, pointer.index);
        else note_word(pointer.address);
        return *pointer.address = value;
    }

    T operator=(const Element &other) const { return *this = T(other); }
    T operator+=(T value) const { return *this = T(*this) + value; }
    Pointer<T> operator&() const { return pointer; }

private:
    Pointer<T> pointer;
};

}  // namespace simt

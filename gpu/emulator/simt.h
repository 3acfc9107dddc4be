// The names of CUDA C++ that the kernels use, on the CPU. kernels/common.cuh lists them; the machine behind them is in
// emulator.h.
//
// It is a stricter machine than a GPU: indices are checked, shared memory starts poisoned, a barrier must be the same
// line for all threads, a collective must find every lane of its mask, and accesses to integers must be ordered (order.h).
// Memory is sequentially consistent here: for arrays of floats and of 16-bit values a missing barrier shows in values
// alone, and a collective orders them as __syncwarp does. Bank conflicts do not show.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "collectives.h"
#include "emulator.h"
#include "report.h"
#include "shared.h"

using int64 = long long;

namespace simt {

// An element of an array, with its name for reports.
template <class T>
struct Pointer {
    T *address;
    const char *name;
    int64_t index;
};

// An integer, a structure of them or a word in memory that kernels write. A structure is accessed as a whole.
template <class T>
class Element {
    static constexpr bool IS_WORD = std::is_same_v<T, unsigned long long>;

public:
    explicit Element(Pointer<T> pointer) : pointer(pointer) {}
    Element(const Element &) = default;

    operator T() const {
        if constexpr (!IS_WORD) note(Access::read);
        return *pointer.address;
    }

    T operator=(T value) const {
        if constexpr (!IS_WORD) note(Access::write);
        else current->emulator->accesses.note_word(pointer.address);
        return *pointer.address = value;
    }

    T operator=(const Element &other) const { return *this = T(other); }
    T operator+=(T value) const { return *this = T(*this) + value; }
    Pointer<T> operator&() const { return pointer; }

private:
    void note(Access access) const {
        current->emulator->accesses.note(pointer.address, access, pointer.name, pointer.index);
    }

    Pointer<T> pointer;
};

// An array whose indices are checked. Null where the kernel takes an optional array and got none.
template <class T>
class Array {
public:
    Array() = default;
    Array(T *base, int64_t length, const char *name) : base(base), length(length), name(name) {}

    // From an array that can be written to one that cannot.
    template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
    Array(const Array<U> &other) : base(other.base), length(other.length), name(other.name) {}

    explicit operator bool() const { return base != nullptr; }

    T *data() const { return base; }

    // Fails unless there is such an element.
    void expect(int64_t index) const {
        if (uint64_t(index) >= uint64_t(length)) fail_out_of_bounds(name, index, length);
    }

    decltype(auto) operator[](int64_t index) const {
        if (current->counts_accesses) current->emulator->count_access();
        expect(index);
        if constexpr (std::is_same_v<T, int> || std::is_same_v<T, unsigned long long> || std::is_class_v<T>)
            return Element<T>({base + index, name, index});
        else
            return (base[index]);
    }

private:
    template <class>
    friend class Array;

    T *base = nullptr;
    int64_t length = 0;
    const char *name = "";
};

template <class T>
uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source, Site site) {
    return from_bits<T>(meet(Collective::shuffle, mask, to_bits(value), source, site));
}

}  // namespace simt

#define __global__
#define __device__
#define __forceinline__ inline

template <class T>
using Global = simt::Array<T>;
template <class T>
using Shared = simt::Array<T>;

// The address of a static variable tells one declaration from another, also among instances of a template.
#define SHARED_ARRAY(T, name, count)                                                            \
    static char name##_declaration;                                                             \
    const Shared<T> name(                                                                       \
        static_cast<T *>(simt::shared_region(&name##_declaration, #name, sizeof(T) * (count))), \
        count, #name)

// Every array is aligned to 16 bytes here.
#define ALIGNED_SHARED_ARRAY SHARED_ARRAY
#define LARGE_SHARED_ARRAY(T, name, count)                                                                         \
    static char name##_declaration;                                                                              \
    const Shared<T> name(                                                                                        \
        static_cast<T *>(simt::large_shared_region(&name##_declaration, #name, sizeof(T) * (count))), count, #name)

#define threadIdx (simt::current->index)
#define blockIdx (simt::current->block->index)
#define blockDim (simt::current->block->launch->block)
#define gridDim (simt::current->block->launch->grid)

// The line of the call in the kernel.
#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SIMT_SITE) {
    simt::wait_at_barrier({file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) {
    simt::meet(simt::Collective::sync, mask, 0, 0, {file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, SIMT_SITE) {
    return simt::shuffle(mask, value, unsigned(source) % simt::WARP_LANES, {file, line});
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, SIMT_SITE) {
    const unsigned lane = simt::current->lane;
    return simt::shuffle(mask, value, lane >= distance ? lane - distance : lane, {file, line});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, SIMT_SITE) {
    return simt::shuffle(mask, value, (simt::current->lane ^ unsigned(lanes)) % simt::WARP_LANES, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_SITE) {
    return unsigned(simt::meet(simt::Collective::ballot, mask, predicate != 0, 0, {file, line}));
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, SIMT_SITE) {
    return unsigned(simt::meet(simt::Collective::match, mask, simt::to_bits(value), 0, {file, line}));
}

namespace simt {

template <class T>
T *begin_atomic(T *address) {
    current->emulator->pause();
    return address;
}

template <class T>
T *begin_atomic(Pointer<T> pointer) {
    current->emulator->pause();
    current->emulator->accesses.note(pointer.address, Access::atomic, pointer.name, pointer.index);
    return pointer.address;
}

}  // namespace simt

// An atomic is one step: other threads may run before it, none during it.
template <class P, class T>
T atomicAdd(P pointer, T value) {
    T *const address = simt::begin_atomic(pointer);
    const T old = *address;
    *address = old + value;
    return old;
}

template <class P, class T>
T atomicMax(P pointer, T value) {
    T *const address = simt::begin_atomic(pointer);
    const T old = *address;
    if (old < value) *address = value;
    return old;
}

inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}

inline int __float_as_int(float value) {
    return int(simt::to_bits(value));
}

inline float __int_as_float(int bits) {
    return simt::from_bits<float>(uint64_t(uint32_t(bits)));
}

// One rounding each: the build forbids contraction.
inline float __fmul_rn(float left, float right) {
    return left * right;
}

inline float __fadd_rn(float left, float right) {
    return left + right;
}

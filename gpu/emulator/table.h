// How a kernel is launched by its name: its arguments are checked against the types of its parameters.
//
// Each file of kernels is compiled on its own, by kernels_NAME.cpp, which holds the table of its kernels. So the zoo
// compiles only the files that a patch changes.
#pragma once

#include <cstring>
#include <string>
#include <tuple>
#include <utility>

#include "simt.h"

extern "C" {

enum binned_experts_simt_kind : uint32_t { SIMT_BUFFER = 0, SIMT_I64 = 1, SIMT_F32 = 2 };

// One argument: the parameter's name, which reports use, and {pointer, bytes} of a buffer, or a number in the low bytes
// of `bits`.
struct binned_experts_simt_arg {
    const char *name;
    uint32_t kind;
    uint32_t bits_f32;
    int64_t bits_i64;
    void *pointer;
    uint64_t bytes;
};
}

namespace simt {

using Arg = binned_experts_simt_arg;

struct Request {
    Emulator &emulator;
    const char *kernel;
    Index3 grid, block;
    unsigned shared_bytes;
    Schedule schedule;
    const Arg *args;
    size_t n_args;
};

struct Refusal {
    std::string text;
};

inline void expect_kind(const Arg &arg, uint32_t kind) {
    static const char *const KINDS[] = {"a buffer", "an i64", "an f32"};
    if (arg.kind == kind) return;
    throw Refusal{std::string(arg.name) + ": expected " + KINDS[kind] + ", found " +
                  (arg.kind <= SIMT_F32 ? KINDS[arg.kind] : "an unknown kind")};
}

template <class T>
struct Decode;

template <>
struct Decode<int64> {
    static int64 from(const Arg &arg) {
        expect_kind(arg, SIMT_I64);
        return arg.bits_i64;
    }
};

template <>
struct Decode<float> {
    static float from(const Arg &arg) {
        expect_kind(arg, SIMT_F32);
        return from_bits<float>(arg.bits_f32);
    }
};

template <class T>
struct Decode<Array<T>> {
    static Array<T> from(const Arg &arg) {
        expect_kind(arg, SIMT_BUFFER);
        if (arg.pointer == nullptr) return Array<T>(nullptr, 0, arg.name);
        if (reinterpret_cast<uintptr_t>(arg.pointer) % alignof(T) != 0)
            throw Refusal{std::string(arg.name) + ": the buffer is not aligned to " + std::to_string(alignof(T))};
        if (arg.bytes % sizeof(T) != 0)
            throw Refusal{std::string(arg.name) + ": " + std::to_string(arg.bytes) + " bytes are no multiple of " +
                          std::to_string(sizeof(T))};
        return Array<T>(static_cast<T *>(arg.pointer), int64_t(arg.bytes / sizeof(T)), arg.name);
    }
};

template <class... P>
struct Bound {
    void (*kernel)(P...);
    std::tuple<P...> values;

    static void call(void *bound) {
        auto &self = *static_cast<Bound *>(bound);
        std::apply(self.kernel, self.values);
    }
};

template <class... P, size_t... I>
bool launch_kernel(void (*kernel)(P...), const Request &request, std::string &report, std::index_sequence<I...>) {
    if (request.n_args != sizeof...(P))
        throw Refusal{"expected " + std::to_string(sizeof...(P)) + " arguments, found " +
                      std::to_string(request.n_args)};
    Bound<P...> bound = {kernel, {Decode<P>::from(request.args[I])...}};
    const Launch launch = {request.kernel,       request.grid,      request.block,
                                 request.shared_bytes, Bound<P...>::call, &bound};
    return request.emulator.run(launch, request.schedule, report);
}

template <class... P>
bool launch_kernel(void (*kernel)(P...), const Request &request, std::string &report) {
    return launch_kernel(kernel, request, report, std::index_sequence_for<P...>{});
}

struct Entry {
    const char *name;
    bool (*launch)(const Request &request, std::string &report);
};

#define KERNEL_ENTRY(kernel) \
    Entry { #kernel, [](const Request &request, std::string &report) { return launch_kernel(kernel, request, report); } }

// The kernels of a file.
struct Table {
    const Entry *entries;
    size_t count;
};

// Defines `NAME_kernels`, the table of a file.
#define KERNEL_TABLE(name, ...)                                  \
    namespace simt {                                             \
    static const Entry name##_entries[] = {__VA_ARGS__};         \
    extern const Table name##_kernels;                           \
    const Table name##_kernels = {name##_entries,                \
                                  sizeof(name##_entries) / sizeof(Entry)}; \
    }

}  // namespace simt

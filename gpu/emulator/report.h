// What the report of a failed run says.
#pragma once
#include <cstdint>
#include <string>

#include "threads.h"

namespace simt {

// Ends the run with a report of the running thread, printf style; does not return.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

[[noreturn]] void fail_out_of_bounds(const char *name, int64_t index, int64_t length);

// The running thread arrived at another barrier than those who wait; its site says where.
[[noreturn]] void fail_divergent();

// The running thread waits at its site for a value that nothing writes.
[[noreturn]] void fail_livelock();

// What the threads of a block that nothing can wake are waiting for.
std::string describe_deadlock(const Block &block);

}  // namespace simt

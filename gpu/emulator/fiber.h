// Stacks that take turns on one operating-system thread.
#pragma once
#include <cstddef>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
#define SIMT_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace simt {

#ifdef SIMT_ASAN
constexpr size_t STACK_BYTES = 128 * 1024;
#else
constexpr size_t STACK_BYTES = 32 * 1024;
#endif

constexpr size_t STAGGERS = 32;
constexpr size_t STAGGER_BYTES = 1024 + 64;

// Where a stack stands while another one runs.
struct Context {
#ifdef SIMT_OWN_SWITCH
    void *stack_pointer = nullptr;
#else
    ucontext_t registers;
#endif
    void *fake_stack = nullptr;  // AddressSanitizer's
    const void *stack_bottom = nullptr;
    size_t stack_bytes = 0;
};

// A context with a stack of its own, which is kept when the fiber starts again.
class Fiber {
public:
    bool has_stack() const { return bool(stack); }

    // Stacks of different numbers begin at different offsets, since otherwise they would share a few lines of the cache.
    void make_stack(unsigned number);

    // The next switch to the fiber, which has a stack, calls `entry`. It must not return, and calls entered() first.
    void start(void (*entry)());

    Context context;
    bool has_ended = false;  // its last run came to its end; set by that run

private:
    std::unique_ptr<char[]> stack;
    size_t skipped_bytes = 0;  // of `stack`, below the part in use
};

// Leaves `from` and goes on at `to`; returns when something switches to `from`. With `ends`, nothing ever does.
void switch_context(Context &from, Context &to, bool ends);

// The first call of a fiber's entry; `from` is the context that switched to it.
void entered(Context &from);

}  // namespace simt

#include "fiber.h"

#include <cstdint>

#ifdef SIMT_ASAN
// Declared here, since a clang without its runtime package has no header for them.
extern "C" {
void __asan_unpoison_memory_region(const volatile void *address, size_t bytes);
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old, size_t *bytes_old);
}
#endif

#ifdef SIMT_OWN_SWITCH
// Saves the registers that a callee must keep on the running stack, stores its stack pointer in *save and takes up the
// stack `load`. ucontext would also save the signal mask, one system call a switch. It goes on by a jump: a processor
// would predict that `ret` returns to the caller of this very switch.
extern "C" void binned_experts_simt_switch(void **save, void *load);
#endif

#if defined(SIMT_OWN_SWITCH) && defined(__x86_64__)
asm(R"(
.text
.globl binned_experts_simt_switch
.hidden binned_experts_simt_switch
.type binned_experts_simt_switch, @function
binned_experts_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
.size binned_experts_simt_switch, .-binned_experts_simt_switch
)");
#elif defined(SIMT_OWN_SWITCH)
asm(R"(
.text
.globl binned_experts_simt_switch
.hidden binned_experts_simt_switch
.type binned_experts_simt_switch, %function
binned_experts_simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size binned_experts_simt_switch, .-binned_experts_simt_switch
)");
#endif

namespace simt {

void Fiber::make_stack(unsigned number) {
    skipped_bytes = number % STAGGERS * STAGGER_BYTES;
    stack.reset(new char[STAGGERS * STAGGER_BYTES + STACK_BYTES]);
}

void Fiber::start(void (*entry)()) {
    char *const bottom = stack.get() + skipped_bytes;
    context.fake_stack = nullptr;
    context.stack_bottom = bottom;
    context.stack_bytes = STACK_BYTES;
#ifdef SIMT_ASAN
    // A run that came to its end has left every frame that has poisoned bytes, one that was given up has not.
    if (!has_ended) __asan_unpoison_memory_region(bottom, STACK_BYTES);
#endif
    has_ended = false;
#ifdef SIMT_OWN_SWITCH
    const uintptr_t top = (reinterpret_cast<uintptr_t>(bottom) + STACK_BYTES) & ~uintptr_t(15);
    uintptr_t *frame = reinterpret_cast<uintptr_t *>(top);
#if defined(__x86_64__)
    *--frame = 0;  // where `entry` would return to
    *--frame = reinterpret_cast<uintptr_t>(entry);
    for (int saved = 0; saved < 6; saved++) *--frame = 0;
#else
    for (int saved = 0; saved < 20; saved++) *--frame = 0;
    frame[11] = reinterpret_cast<uintptr_t>(entry);  // x30, the return address
#endif
    context.stack_pointer = frame;
#else
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = bottom;
    context.registers.uc_stack.ss_size = STACK_BYTES;
    context.registers.uc_link = nullptr;
    makecontext(&context.registers, entry, 0);
#endif
}

void switch_context(Context &from, Context &to, bool ends) {
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack_bottom, to.stack_bytes);
#else
    (void)ends;
#endif
#ifdef SIMT_OWN_SWITCH
    binned_experts_simt_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.registers, &to.registers);
#endif
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void entered(Context &from) {
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &from.stack_bottom, &from.stack_bytes);
#else
    (void)from;
#endif
}

}  // namespace simt

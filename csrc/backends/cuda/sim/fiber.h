// Context switch between the emulated threads of a block.
//
// A switch stores the callee-saved registers on the old stack and restores them from the new
// one. Hand-written for x86-64 and AArch64; define PILLION_SIM_UCONTEXT (or build for another
// machine) to use <ucontext.h>, which is portable and about twenty times slower because it
// saves the signal mask with a system call.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if !defined(PILLION_SIM_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define PILLION_SIM_UCONTEXT 1
#endif
#ifdef PILLION_SIM_UCONTEXT
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define PILLION_SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PILLION_SIM_ASAN 1
#endif
#endif
#ifdef PILLION_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef PILLION_SIM_UCONTEXT
extern "C" void pillion_sim_switch(void** save_sp, void* load_sp);

// One copy per program: the code sits in a COMDAT section, so every translation unit may
// include this header.
#if defined(__x86_64__)
asm(R"(
.pushsection .text.pillion_sim_switch,"axG",@progbits,pillion_sim_switch,comdat
.weak pillion_sim_switch
.hidden pillion_sim_switch
.type pillion_sim_switch,@function
pillion_sim_switch:
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
    ret
.size pillion_sim_switch,.-pillion_sim_switch
.popsection
)");
#else  // __aarch64__
asm(R"(
.pushsection .text.pillion_sim_switch,"axG",@progbits,pillion_sim_switch,comdat
.weak pillion_sim_switch
.hidden pillion_sim_switch
.type pillion_sim_switch,@function
pillion_sim_switch:
    sub  sp, sp, #160
    stp  x19, x20, [sp, #0]
    stp  x21, x22, [sp, #16]
    stp  x23, x24, [sp, #32]
    stp  x25, x26, [sp, #48]
    stp  x27, x28, [sp, #64]
    stp  x29, x30, [sp, #80]
    stp  d8,  d9,  [sp, #96]
    stp  d10, d11, [sp, #112]
    stp  d12, d13, [sp, #128]
    stp  d14, d15, [sp, #144]
    mov  x9, sp
    str  x9, [x0]
    mov  sp, x1
    ldp  x19, x20, [sp, #0]
    ldp  x21, x22, [sp, #16]
    ldp  x23, x24, [sp, #32]
    ldp  x25, x26, [sp, #48]
    ldp  x27, x28, [sp, #64]
    ldp  x29, x30, [sp, #80]
    ldp  d8,  d9,  [sp, #96]
    ldp  d10, d11, [sp, #112]
    ldp  d12, d13, [sp, #128]
    ldp  d14, d15, [sp, #144]
    add  sp, sp, #160
    ret
.size pillion_sim_switch,.-pillion_sim_switch
.popsection
)");
#endif
#endif  // !PILLION_SIM_UCONTEXT

namespace pillion::cuda {
namespace sim {

#ifdef PILLION_SIM_ASAN
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

// A suspended computation with its own stack. The lowest page of the stack is protected, so
// that an overflow faults instead of corrupting the neighbour.
struct Context {
#ifdef PILLION_SIM_UCONTEXT
    ucontext_t uc;
#else
    void* sp = nullptr;
#endif
    unsigned char* stack = nullptr;  // nullptr for the scheduler's own context
    const void* asan_bottom = nullptr;
    size_t asan_size = 0;
    void* asan_fake = nullptr;

    Context() = default;
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    ~Context() {
        if (stack) munmap(stack, kStackBytes);
    }

    void prepare(void (*entry)()) {
        if (!stack) {
            void* m = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (m == MAP_FAILED) std::abort();
            stack = static_cast<unsigned char*>(m);
            mprotect(stack, size_t(sysconf(_SC_PAGESIZE)), PROT_NONE);
        }
        asan_bottom = stack;
        asan_size = kStackBytes;
        asan_fake = nullptr;
#ifdef PILLION_SIM_ASAN
        const size_t page = size_t(sysconf(_SC_PAGESIZE));
        __asan_unpoison_memory_region(stack + page,
                                      kStackBytes - page);  // frames of an abandoned run
#endif
#ifdef PILLION_SIM_UCONTEXT
        getcontext(&uc);
        uc.uc_stack.ss_sp = stack;
        uc.uc_stack.ss_size = kStackBytes;
        uc.uc_link = nullptr;
        makecontext(&uc, entry, 0);
#elif defined(__x86_64__)
        // Six zeroed registers, the entry address, and a zero return address for unwinders.
        auto* top = reinterpret_cast<uintptr_t*>(stack + kStackBytes);
        *--top = 0;
        *--top = reinterpret_cast<uintptr_t>(entry);
        for (int i = 0; i < 6; ++i) *--top = 0;
        sp = top;
#else
        auto* top = reinterpret_cast<uintptr_t*>(stack + kStackBytes) - 20;
        for (int i = 0; i < 20; ++i) top[i] = 0;
        top[11] = reinterpret_cast<uintptr_t>(entry);  // x30
        sp = top;
#endif
    }
};

inline void switch_context(Context& from, Context& to) {
#ifdef PILLION_SIM_ASAN
    __sanitizer_start_switch_fiber(&from.asan_fake, to.asan_bottom, to.asan_size);
#endif
#ifdef PILLION_SIM_UCONTEXT
    swapcontext(&from.uc, &to.uc);
#else
    pillion_sim_switch(&from.sp, to.sp);
#endif
#ifdef PILLION_SIM_ASAN
    __sanitizer_finish_switch_fiber(from.asan_fake, nullptr, nullptr);
#endif
}

// First statement of a new context; `previous` is the context that was left.
inline void entered_context(Context& previous) {
#ifdef PILLION_SIM_ASAN
    if (!previous.stack)
        __sanitizer_finish_switch_fiber(nullptr, &previous.asan_bottom, &previous.asan_size);
    else __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#else
    (void)previous;
#endif
}

}  // namespace sim
}  // namespace pillion::cuda

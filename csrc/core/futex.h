// Waits for a change of a word of memory, between threads of one process.
#pragma once
#include <stdint.h>

#include <atomic>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <chrono>
#include <thread>
#endif

namespace pillion {

// Sleeps while `word` equals `expected`, until a wake-up at the latest; may return earlier.
inline void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
#ifdef __linux__
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr,
            nullptr, 0);
#else
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    (void)word, (void)expected;
#endif
}

// Wakes up to `count` threads that sleep on `word`.
inline void futex_wake(std::atomic<uint32_t>& word, int count) {
#ifdef __linux__
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, count, nullptr,
            nullptr, 0);
#else
    (void)word, (void)count;
#endif
}

}  // namespace pillion

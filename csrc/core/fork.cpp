#include "core/fork.h"

#include <pthread.h>

#include "core/futex.h"

namespace pillion {
namespace {

std::atomic<uint32_t> g_forks{0};
std::atomic<void (*)()> g_at_first_threads_end{nullptr};

// A thread-local value in the thread that called the last fork(). Its destructor reports that
// thread's end.
class FirstThread {
  public:
    FirstThread() : made_(pthread_key_create(&key_, ended) == 0) {}
    ~FirstThread() {
        // The library that holds the key's function may be unloaded next.
        if (made_) pthread_key_delete(key_);
        made_ = false;
    }
    void mark() const {
        if (made_) pthread_setspecific(key_, this);
    }

  private:
    static void ended(void*) {
        if (void (*const hook)() = g_at_first_threads_end.load()) hook();
    }

    pthread_key_t key_ = 0;
    bool made_;
} g_first_thread;

void in_child() {
    g_forks.fetch_add(1, std::memory_order_relaxed);
    g_first_thread.mark();
}

// libc drops the handler when it closes the library that holds this code.
[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, in_child);

enum State : uint32_t { kFree, kHeld, kWaitedFor, kStates = 3 };

}  // namespace

void on_first_threads_end(void (*hook)()) { g_at_first_threads_end.store(hook); }

uint32_t fork_count() { return g_forks.load(std::memory_order_relaxed); }

bool ForkMutex::lock() {
    const uint32_t here = fork_count() << 2;
    uint32_t seen = word_.load(std::memory_order_relaxed), wanted = here | kHeld;
    for (;;) {
        const bool is_here = (seen & ~uint32_t(kStates)) == here;
        if (!is_here || (seen & kStates) == kFree) {
            if (word_.compare_exchange_weak(seen, wanted, std::memory_order_acquire))
                return !is_here && (seen & kStates) != kFree;
        } else if ((seen & kStates) == kWaitedFor ||
                   word_.compare_exchange_weak(seen, here | kWaitedFor)) {
            futex_wait(word_, here | kWaitedFor);
            wanted = here | kWaitedFor;  // other threads may still wait
            seen = word_.load(std::memory_order_relaxed);
        }
    }
}

void ForkMutex::unlock() {
    const uint32_t here = fork_count() << 2;
    if (word_.exchange(here | kFree, std::memory_order_release) == (here | kWaitedFor))
        futex_wake(word_, 1);
}

}  // namespace pillion

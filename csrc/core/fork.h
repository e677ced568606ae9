// Keeps a process with threads usable after fork(). The child has one thread, the caller of fork().
// Work of the other threads stays half done, and their locks stay held. An object that such a
// thread may have held therefore stores the number of forks, which tells a child that another
// process's thread held it. This code locks nothing before a fork(): a holder of one of its locks
// may itself wait for a lock that the caller of fork() has (Python's).
#pragma once
#include <stdint.h>

#include <atomic>

namespace pillion {

// Number of fork()s between the process that loaded the library and this one. Counts only libc's
// fork(); _fork() and clone() stay unnoticed.
uint32_t fork_count();

// Runs `hook`, one per process, when the first thread of a child ends; the first thread is the one
// that called fork(). If that thread ends without exit(), as a forked Python thread does, the
// process ends with its last thread, and threads that only wait for work would keep it alive for
// ever. The hook runs in the first thread. Nobody waits for what the hook starts in other threads.
void on_first_threads_end(void (*hook)());

// A mutex that is free in a child, whichever thread of the parent held it.
class ForkMutex {
  public:
    // Waits for the mutex. Returns true if a thread that the fork() left behind held it: the
    // guarded data may then be half written.
    bool lock();
    void unlock();

  private:
    std::atomic<uint32_t> word_{0};  // fork_count() << 2 | state
};

class ForkLock {
  public:
    explicit ForkLock(ForkMutex& mutex) : mutex_(mutex), orphaned_(mutex.lock()) {}
    ~ForkLock() { mutex_.unlock(); }
    ForkLock(const ForkLock&) = delete;
    ForkLock& operator=(const ForkLock&) = delete;
    bool orphaned() const { return orphaned_; }  // result of lock()

  private:
    ForkMutex& mutex_;
    const bool orphaned_;
};

// A room for one caller, without waiting. If a fork() left the caller behind, the room stays closed
// in the child.
class Occupancy {
  public:
    enum class Entry : uint8_t { entered, busy, orphaned };
    Entry enter() {
        const uint32_t mine = fork_count() + 1;
        uint32_t found = 0;
        if (by_.compare_exchange_strong(found, mine, std::memory_order_acquire))
            return Entry::entered;
        return found == mine ? Entry::busy : Entry::orphaned;
    }
    void leave() { by_.store(0, std::memory_order_release); }
    bool orphaned() const {
        const uint32_t by = by_.load(std::memory_order_relaxed);
        return by != 0 && by != fork_count() + 1;
    }

  private:
    // 0: free; else fork_count() + 1 at entry
    std::atomic<uint32_t> by_{0};
};

}  // namespace pillion

// What fork() does to a process with threads: the child has one of them, the caller of fork(). What
// the others were doing is left half done, and what they held stays held. Things that such a thread
// may have held carry the number of forks with them, which tells a child that it was somebody
// else's. Nothing is locked before a fork(): whoever holds a lock here may wait for one that the
// caller of fork() has (Python's).
#pragma once
#include <stdint.h>

#include <atomic>

namespace pillion {

// fork()s between the process that loaded the library and this one. Of libc's fork() only: _fork()
// and clone() go unnoticed.
uint32_t fork_count();

// A child's first thread is the one that called fork(). Where it ends by itself and not by exit(),
// as a forked Python thread does, the process ends with its last thread: threads that only wait for
// work would keep it for ever. `hook`, one in a process, runs in that first thread as it goes; what
// it starts in other threads is not waited for.
void on_first_threads_end(void (*hook)());

// A mutex that is free in a child, whoever held it in the parent.
class ForkMutex {
  public:
    // Waits; true when a thread that did not come through a fork() held it: what it guards may be
    // half written.
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
    bool orphaned() const { return orphaned_; }  // what lock() said

  private:
    ForkMutex& mutex_;
    const bool orphaned_;
};

// Room for one caller who does not wait. Once a fork() took the caller away, nobody can have it
// again in the child.
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
    std::atomic<uint32_t> by_{0};  // 0: nobody; else fork_count() + 1 when it was entered
};

}  // namespace pillion

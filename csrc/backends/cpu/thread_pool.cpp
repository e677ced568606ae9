#include "backends/cpu/thread_pool.h"

#include <limits.h>

#include <chrono>
#include <exception>
#include <new>

#include "core/fork.h"
#include "core/futex.h"
#include "core/log.h"

namespace pillion::cpu {
namespace {

// Measured: longer spins lose more on a busy machine than they win.
constexpr int kSpinMicroseconds = 20;

inline void pause_cpu() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

// The pools of the process. A fork() may come while another thread changes the list, so each change
// is one store that leaves the list valid.
ForkMutex g_mutex;
std::atomic<ThreadPool*> g_pools{nullptr};
// fork_count() + 1 of the process whose workers were ended
std::atomic<uint32_t> g_ended_in{0};

[[maybe_unused]] const bool g_hooked = (on_first_threads_end(&ThreadPool::end_all_workers), true);

}  // namespace

ThreadPool::ThreadPool(int n_threads)
    : n_threads_(n_threads < 1 ? 1 : n_threads), forks_(fork_count()) {
    workers_.reserve(size_t(n_threads_));
    enlist();
    start_workers();
}

void ThreadPool::enlist() {
    const ForkLock lock(g_mutex);
    next_ = g_pools.load();
    g_pools.store(this);
}

void ThreadPool::strike_out() {
    const ForkLock lock(g_mutex);
    if (g_pools.load() == this) return g_pools.store(next_);
    for (ThreadPool* p = g_pools.load(); p; p = p->next_)
        if (p->next_ == this) return void(p->next_ = next_);
}

void ThreadPool::end_all_workers() {
    const ForkLock lock(g_mutex);
    g_ended_in.store(fork_count() + 1);
    for (ThreadPool* p = g_pools.load(); p; p = p->next_) {
        p->stop_.store(true);
        p->published_.fetch_add(1);
        futex_wake(p->published_, INT_MAX);
    }
}

void ThreadPool::start_workers() {
    if (g_ended_in.load() == fork_count() + 1) return;
    try {
        for (int i = 1; i < n_threads_; i++) workers_.emplace_back([this, i] { worker_main(i); });
    } catch (const std::exception&) {
        // The system has no thread, or no memory for one. The existing threads take the chunks.
        // n_threads() stays the upper bound of worker numbers.
        log(LogLevel::warning, "%d threads asked for, the system gave %zu", n_threads_,
            workers_.size() + 1);
    }
}

ThreadPool::~ThreadPool() {
    strike_out();
    if (forks_ != fork_count()) forget_workers();
    stop_.store(true);
    published_.fetch_add(1);
    futex_wake(published_, INT_MAX);
    for (std::thread& t : workers_) t.join();
}

// A std::thread can only be joined or detached, and both access the thread. In a child the thread
// is gone, and its memory may serve another one. So an empty thread overwrites each.
void ThreadPool::forget_workers() {
    for (std::thread& t : workers_) new (&t) std::thread;
    workers_.clear();
}

// Runs in a child. The fork() may have come during another thread's run; this resets its state
// before a new worker can see it.
void ThreadPool::renew() {
    forget_workers();
    ticket_.store(((ticket_.load() >> 24) + 1) << 24);
    done_.store(0), sleepers_.store(0), stop_.store(false);
    forks_ = fork_count();
    start_workers();
}

// Spins while `ready` is false, then sleeps until something is published. The sleeper counts itself
// before it checks once more. The publisher changes the word before it reads the count. All four
// accesses are sequentially consistent, and the kernel compares the word again, so no wake-up is
// lost.
template <class Ready>
void ThreadPool::wait_until(Ready&& ready) {
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::microseconds(kSpinMicroseconds);
    do {
        for (int i = 0; i < 32; i++) {
            if (ready()) return;
            pause_cpu();
        }
    } while (std::chrono::steady_clock::now() < until);
    const uint32_t seen = published_.load();
    sleepers_.fetch_add(1);
    if (!ready()) futex_wait(published_, seen);
    sleepers_.fetch_sub(1);
}

void ThreadPool::worker_main(int worker) {
    while (!stop_.load()) {
        if (take_chunk(worker)) continue;
        wait_until([this] { return chunks_left() || stop_.load(); });
    }
}

// Takes and runs one chunk of the published step; false if all chunks are taken.
bool ThreadPool::take_chunk(int worker) {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
        if ((ticket & kLeftMask) == 0) return false;
    } while (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                            std::memory_order_acquire));
    const int total = chunks_.load(std::memory_order_relaxed),
              step = step_.load(std::memory_order_relaxed);
    const int chunk = total - int(ticket & kLeftMask);
    steps_.load(std::memory_order_relaxed)[step]->run(*info_.load(std::memory_order_relaxed), chunk,
                                                      worker);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == total) carry_on(worker, step + 1);
    return true;
}

// Runs the steps from `from` on until one has work for several threads, and publishes that one.
void ThreadPool::carry_on(int worker, int from) {
    const CpuStep* const* steps = steps_.load(std::memory_order_relaxed);
    const RunInfo& info = *info_.load(std::memory_order_relaxed);
    const int n = n_steps_.load(std::memory_order_relaxed);
    for (int i = from; i < n; i++) {
        if (cancel.load(std::memory_order_relaxed)) {
            cancelled_.store(true, std::memory_order_relaxed);
            break;
        }
        const int chunks = steps[i]->chunks(info);
        if (chunks > 1 && n_threads_ > 1) return publish(i, chunks);
        for (int c = 0; c < chunks; c++) steps[i]->run(info, c, worker);
    }
    finish();
}

void ThreadPool::publish(int step, int chunks) {
    step_.store(step, std::memory_order_relaxed);
    chunks_.store(chunks, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const uint64_t serial = (ticket_.load(std::memory_order_relaxed) >> 24) + 1;
    ticket_.store(serial << 24 | uint64_t(chunks));
    published_.fetch_add(1);
    // The publisher takes a chunk itself.
    const int sleepers = sleepers_.load();
    if (sleepers > 0) futex_wake(published_, sleepers < chunks ? sleepers : chunks - 1);
}

void ThreadPool::finish() {
    finished_.fetch_add(1);
    published_.fetch_add(1);
    // The caller of run() may be any of the sleepers.
    if (sleepers_.load() > 0) futex_wake(published_, INT_MAX);
}

bool ThreadPool::run(const CpuStep* const* steps, int n_steps, const RunInfo& info) {
    if (forks_ != fork_count()) renew();
    steps_.store(steps, std::memory_order_relaxed);
    info_.store(&info, std::memory_order_relaxed);
    n_steps_.store(n_steps, std::memory_order_relaxed);
    cancelled_.store(false, std::memory_order_relaxed);
    const uint32_t before = finished_.load();
    carry_on(0, 0);
    while (finished_.load() == before) {
        if (take_chunk(0)) continue;
        wait_until([&] { return chunks_left() || finished_.load() != before; });
    }
    return !cancelled_.load(std::memory_order_relaxed);
}

}  // namespace pillion::cpu

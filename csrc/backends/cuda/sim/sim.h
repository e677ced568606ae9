// SIMT emulation: runs a CUDA kernel in pillion's restricted style on the CPU.
//
// Every thread of a block is a fiber. A fiber runs until it reaches a synchronisation point (block
// barrier or warp collective), then the next runnable fiber continues. Blocks run one after the
// other, or spread over PILLION_SIM_THREADS OS threads.
//
// Mistakes that a GPU may hide are errors here: a barrier or warp collective that not every thread
// reaches, or that threads reach at different places; a shared memory access out of bounds or
// misaligned; a read of shared memory that nobody wrote or of an asynchronous copy before its wait
// (both read NaN).
#pragma once

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "backends/cuda/sim/fiber.h"
#include "backends/cuda/sim/types.h"

#ifndef PILLION_SIM_CHECK
#define PILLION_SIM_CHECK 1  // bounds and alignment checks on shared memory views
#endif

namespace pillion::cuda {
namespace sim {

struct Error : std::runtime_error { using std::runtime_error::runtime_error; };

// The thread that continues at a synchronisation point.
//   forward   next thread by index; reverse: previous thread
//   shuffled  as forward, after a random permutation of the threads of each block
//   greedy    a warp runs until it waits for other warps; warps in random order. Lets one warp
//             run far ahead of the others, which exposes missing barriers before a write.
enum class Order { forward, reverse, shuffled, greedy };

// Limits of the modelled device, and how blocks are scheduled.
struct Config {
    size_t shared_limit_static = 48 * 1024;
    size_t shared_limit_optin = 99 * 1024;
    unsigned max_threads = 1024;
    Order order = Order::forward;
    unsigned seed = 1;
    int os_threads = 1;

    static Config from_environment() {
        Config c;
        if (const char* s = std::getenv("PILLION_SIM_THREADS"))
            c.os_threads = std::max(1, std::atoi(s));
        if (const char* s = std::getenv("PILLION_SIM_ORDER")) {
            const std::string v = s;
            c.order = v == "reverse"    ? Order::reverse
                      : v == "shuffled" ? Order::shuffled
                      : v == "greedy"   ? Order::greedy
                                        : Order::forward;
        }
        if (const char* s = std::getenv("PILLION_SIM_SEED")) c.seed = unsigned(std::atoi(s));
        return c;
    }
};
inline Config& config() {
    static Config c = Config::from_environment();
    return c;
}

// The cost of the last launches, for tests and benchmarks.
struct Stats {
    std::atomic<uint64_t> switches{0}, blocks{0};
    std::atomic<size_t> shared_bytes{0};
};
inline Stats& stats() {
    static Stats s;
    return s;
}

// Source position of a synchronisation point. Filled in by default arguments at the call.
struct Site {
    const char* what;
    const char* file;
    int line;
};

enum class State : uint8_t { ready, wait_warp, wait_block, done };

struct PendingCopy {
    unsigned char* dst;
    unsigned char data[16];
    unsigned group;
};

struct Fiber : Context {
    uint3 thread{};
    unsigned index = 0, warp = 0, lane = 0;
    State state = State::done;
    uint64_t wait_generation = 0;
    Site site{};
    unsigned copy_group = 0;
    std::vector<PendingCopy> copies;  // cp.async transfers not yet waited for
};

constexpr size_t kSlotBytes = 48;

struct Warp {
    uint32_t arrived = 0;
    uint64_t generation = 0;
    Site site{};
    alignas(16) unsigned char slot[2][32][kSlotBytes];
};

struct SharedArray {
    const void* key;
    size_t offset, bytes;
};

struct Worker {
    // the launch
    const char* kernel = "";
    dim3 grid, block;
    uint3 block_index{};
    std::function<void()> body;
    size_t dynamic_bytes = 0;
    // threads
    Context scheduler;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<unsigned> order, position;
    std::vector<Warp> warps;
    unsigned n_threads = 0, n_done = 0;
    // block barrier
    unsigned block_arrived = 0;
    uint64_t block_generation = 0;
    Site block_site{};
    int vote_or[2] = {0, 0}, vote_count[2] = {0, 0};
    // shared memory: dynamic part first, static arrays behind it in order of declaration
    std::vector<unsigned char> arena;
    std::vector<SharedArray> arrays;
    size_t static_bytes = 0;

    bool failed = false;
    std::string message;
    uint64_t switches = 0;
};

inline thread_local Worker* worker = nullptr;
inline thread_local Fiber* current = nullptr;
inline thread_local Context* previous = nullptr;

inline std::string where(const Site& s) {
    return std::string(s.what) + " at " + s.file + ":" + std::to_string(s.line);
}
inline std::string coordinates(const uint3& v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

inline void go(Context& from, Context& to) {
    previous = &from;
    switch_context(from, to);
}

// Ends the launch with an error. Abandons the fibers in place; kernels own no resources. A macro,
// so that the temporaries of the message are destroyed before the stack is left for good.
#define PILLION_SIM_FAIL(text)                        \
    do {                                              \
        ::pillion::cuda::sim::record_failure((text)); \
        ::pillion::cuda::sim::abandon_launch();       \
    } while (0)

inline void record_failure(const std::string& what) {
    Worker& w = *worker;
    w.failed = true;
    w.message = std::string("kernel ") + w.kernel + ", block " + coordinates(w.block_index) +
                ", thread " + coordinates(current->thread) + ": " + what;
}
[[noreturn]] inline void abandon_launch() {
    go(*current, worker->scheduler);
    std::abort();
}

inline bool runnable(const Worker& w, const Fiber& f) {
    switch (f.state) {
        case State::ready: return true;
        case State::wait_warp: return w.warps[f.warp].generation != f.wait_generation;
        case State::wait_block: return w.block_generation != f.wait_generation;
        case State::done: return false;
    }
    return false;
}

// Describes the state in which every live thread waits for something that can no longer happen.
inline std::string describe_deadlock(const Worker& w) {
    std::string s = "synchronisation point not reached by all threads:";
    std::vector<std::pair<std::string, unsigned>> groups;
    auto add = [&](const std::string& k) {
        for (auto& g : groups)
            if (g.first == k) {
                ++g.second;
                return;
            }
        groups.emplace_back(k, 1u);
    };
    for (unsigned i = 0; i < w.n_threads; ++i) {
        const Fiber& f = *w.fibers[i];
        add(f.state == State::done ? std::string("left the kernel") : "wait in " + where(f.site));
    }
    for (auto& g : groups) s += "\n    " + std::to_string(g.second) + " thread(s) " + g.first;
    return s;
}

inline Fiber* next_runnable(Worker& w, const Fiber& self) {
    const unsigned n = w.n_threads;
    unsigned p = w.position[self.index];
    if (config().order == Order::greedy) {  // own warp first, then by priority
        for (unsigned i = 1; i <= 32; ++i) {
            Fiber& f = *w.fibers[w.order[p / 32 * 32 + (p + i) % 32]];
            if (runnable(w, f)) return &f;
        }
        p = n - 1;
    }
    for (unsigned i = 0; i < n; ++i) {
        if (++p == n) p = 0;
        Fiber& f = *w.fibers[w.order[p]];
        if (runnable(w, f)) return &f;
    }
    return nullptr;
}

inline void yield() {
    Worker& w = *worker;
    Fiber& self = *current;
    Fiber* next = next_runnable(w, self);
    if (!next) PILLION_SIM_FAIL(describe_deadlock(w));
    if (next != &self) {
        ++w.switches;
        current = next;
        go(self, *next);
    }
    self.state = State::ready;
}

inline void fiber_main() {
    entered_context(*previous);
    for (;;) {
        Worker& w = *worker;
        Fiber& self = *current;
        w.body();
        if (!self.copies.empty())
            PILLION_SIM_FAIL("kernel ended with asynchronous copies that were never waited for");
        self.state = State::done;
        ++w.n_done;
        Fiber* next = next_runnable(w, self);
        if (!next && w.n_done != w.n_threads) PILLION_SIM_FAIL(describe_deadlock(w));
        ++w.switches;
        current = next;
        go(self, next ? static_cast<Context&>(*next) : w.scheduler);
    }
}

// ---- synchronisation ------------------------------------------------------------------------
inline bool same_site(const Site& a, const Site& b) {
    return a.line == b.line && (a.what == b.what || !std::strcmp(a.what, b.what)) &&
           (a.file == b.file || !std::strcmp(a.file, b.file));
}

// Block barrier. Returns the parity of the votes that this barrier collected.
inline int block_barrier(const Site& site, int predicate) {
    Worker& w = *worker;
    Fiber& self = *current;
    if (w.block_arrived == 0) w.block_site = site;
    else if (!same_site(w.block_site, site))
        PILLION_SIM_FAIL("threads of one block meet at different barriers: " + where(w.block_site) +
                         " and " + where(site));
    const int parity = int(w.block_generation & 1);
    w.vote_or[parity] |= predicate != 0;
    w.vote_count[parity] += predicate != 0;
    self.site = site;
    if (++w.block_arrived == w.n_threads) {
        w.block_arrived = 0;
        w.vote_or[parity ^ 1] = w.vote_count[parity ^ 1] = 0;
        ++w.block_generation;
    } else {
        self.state = State::wait_block;
        self.wait_generation = w.block_generation;
        yield();
    }
    return parity;
}

// Warp collective: every lane deposits `bytes` of data; the last lane to arrive runs `combine`
// over the 32 slots. Returns the slots, valid until the lane's next-but-one collective.
using Combine = void (*)(unsigned char (*slots)[kSlotBytes]);
inline unsigned char (*warp_collective(const Site& site, uint32_t mask, const void* data,
                                       size_t bytes, Combine combine)) [kSlotBytes] {
    Worker& w = *worker;
    Fiber& self = *current;
    Warp& wp = w.warps[self.warp];
    if (mask != 0xffffffffu)
        PILLION_SIM_FAIL("warp collectives take the full mask, " + where(site));
    if (wp.arrived == 0) wp.site = site;
    else if (!same_site(wp.site, site))
        PILLION_SIM_FAIL("lanes of one warp meet at different collectives: " + where(wp.site) +
                         " and " + where(site));
    auto* slots = wp.slot[wp.generation & 1];
    if (bytes) std::memcpy(slots[self.lane], data, bytes);
    self.site = site;
    wp.arrived |= 1u << self.lane;
    if (wp.arrived == 0xffffffffu) {
        if (combine) combine(slots);
        wp.arrived = 0;
        ++wp.generation;
    } else {
        self.state = State::wait_warp;
        self.wait_generation = wp.generation;
        yield();
    }
    return slots;
}

template <class T>
inline T read_slot(unsigned char (*slots)[kSlotBytes], unsigned lane) {
    static_assert(sizeof(T) <= kSlotBytes && std::is_trivially_copyable<T>::value,
                  "collective operand");
    T v;
    std::memcpy(&v, slots[lane & 31], sizeof v);
    return v;
}

#define PILLION_SIM_SITE(name) \
    ::pillion::cuda::sim::Site { name, file, line }
#define PILLION_SIM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// ---- shared memory ----------------------------------------------------------------------------
// A pointer into shared memory that knows the bounds of its array.
template <class T>
class View {
  public:
    View() = default;
    View(T* p, const unsigned char* lo, const unsigned char* hi) : p_(p), lo_(lo), hi_(hi) {}
    template <class U, class = std::enable_if_t<std::is_same<const U, T>::value>>
    View(const View<U>& o) : p_(o.raw()), lo_(o.lower()), hi_(o.upper()) {}

    template <class I>
    T& operator[](I i) const {
        return *check(p_ + std::ptrdiff_t(i));
    }
    T& operator*() const { return *check(p_); }
    T* operator->() const { return check(p_); }
    template <class I, class = std::enable_if_t<std::is_integral<I>::value>>
    View operator+(I i) const {
        return {p_ + std::ptrdiff_t(i), lo_, hi_};
    }

    T* raw() const { return p_; }
    const unsigned char* lower() const { return lo_; }
    const unsigned char* upper() const { return hi_; }

    T* check(T* p) const {
        auto* b = reinterpret_cast<const unsigned char*>(p);
        if (b < lo_ || b + sizeof(T) > hi_)
            PILLION_SIM_FAIL("shared memory access out of bounds: byte offset " +
                             std::to_string(b - lo_) + ", size " + std::to_string(sizeof(T)) +
                             ", array of " + std::to_string(hi_ - lo_) + " bytes");
        if (reinterpret_cast<uintptr_t>(b) % alignof(T))
            PILLION_SIM_FAIL("misaligned shared memory access at byte offset " +
                             std::to_string(b - lo_));
        return p;
    }

  private:
    T* p_ = nullptr;
    const unsigned char* lo_ = nullptr;
    const unsigned char* hi_ = nullptr;
};

inline unsigned char* shared_static(const void* key, size_t bytes, const unsigned char** lo,
                                    const unsigned char** hi) {
    Worker& w = *worker;
    for (const SharedArray& a : w.arrays) {
        if (a.key == key) {
            *lo = w.arena.data() + a.offset;
            *hi = *lo + a.bytes;
            return w.arena.data() + a.offset;
        }
    }
    const size_t offset = (w.dynamic_bytes + 15) / 16 * 16 + w.static_bytes;
    w.static_bytes += (bytes + 15) / 16 * 16;
    if (w.static_bytes > config().shared_limit_static)
        PILLION_SIM_FAIL("static shared memory of " + std::to_string(w.static_bytes) +
                         " bytes is above the limit of " +
                         std::to_string(config().shared_limit_static));
    if (offset + bytes > config().shared_limit_optin)
        PILLION_SIM_FAIL("shared memory of " + std::to_string(offset + bytes) +
                         " bytes is above the device limit of " +
                         std::to_string(config().shared_limit_optin));
    w.arrays.push_back({key, offset, bytes});
    *lo = w.arena.data() + offset;
    *hi = *lo + bytes;
    return w.arena.data() + offset;
}

template <class T>
inline View<T> shared_array(const void* key, size_t n) {
    const unsigned char *lo, *hi;
    unsigned char* p = shared_static(key, n * sizeof(T), &lo, &hi);
    return {reinterpret_cast<T*>(p), lo, hi};
}
template <class T>
inline View<T> shared_dynamic() {
    Worker& w = *worker;
    return {reinterpret_cast<T*>(w.arena.data()), w.arena.data(), w.arena.data() + w.dynamic_bytes};
}

// ---- asynchronous copies ------------------------------------------------------------------------
// The destination is poisoned when the copy is issued and written when it is waited for, so a
// missing wait shows up as NaN.
inline void copy_async(unsigned char* dst, const void* src) {
    PendingCopy c;
    c.dst = dst;
    std::memcpy(c.data, src, 16);
    c.group = current->copy_group;
    std::memset(dst, 0xff, 16);
    current->copies.push_back(c);
}
inline void copy_commit() { ++current->copy_group; }
inline void copy_wait(unsigned newest_in_flight) {
    auto& q = current->copies;
    size_t kept = 0;
    for (const PendingCopy& c : q) {
        const bool committed = c.group < current->copy_group;
        if (committed && current->copy_group - c.group > newest_in_flight)
            std::memcpy(c.dst, c.data, 16);
        else q[kept++] = c;
    }
    q.resize(kept);
}

// ---- launch ----
inline void run_block(Worker& w, unsigned linear) {
    w.block_index = {linear % w.grid.x, linear / w.grid.x % w.grid.y, linear / w.grid.x / w.grid.y};
    w.n_done = 0;
    w.block_arrived = 0;
    w.vote_or[0] = w.vote_or[1] = w.vote_count[0] = w.vote_count[1] = 0;
    for (Warp& wp : w.warps) wp.arrived = 0;
    std::memset(w.arena.data(), 0xff, w.arena.size());  // NaN in every float format
    w.arrays.clear();
    w.static_bytes = 0;

    if (config().order == Order::shuffled) {
        std::mt19937 rng(config().seed * 2654435761u + linear);
        std::shuffle(w.order.begin(), w.order.end(), rng);
    } else if (config().order == Order::greedy) {
        std::vector<unsigned> warps(w.n_threads / 32);
        for (unsigned i = 0; i < warps.size(); ++i) warps[i] = i;
        std::mt19937 rng(config().seed * 2654435761u + linear);
        std::shuffle(warps.begin(), warps.end(), rng);
        for (unsigned i = 0; i < w.n_threads; ++i) w.order[i] = warps[i / 32] * 32 + i % 32;
    }
    for (unsigned i = 0; i < w.n_threads; ++i) w.position[w.order[i]] = i;
    for (unsigned i = 0; i < w.n_threads; ++i) {
        w.fibers[i]->state = State::ready;
        w.fibers[i]->copy_group = 0;
    }
    current = w.fibers[w.order[0]].get();
    go(w.scheduler, *current);
    current = nullptr;
    if (w.failed) return;
    stats().shared_bytes = (w.dynamic_bytes + 15) / 16 * 16 + w.static_bytes;
}

inline void prepare_worker(Worker& w, const char* kernel, dim3 grid, dim3 block,
                           size_t dynamic_bytes, const std::function<void()>& body) {
    w.kernel = kernel;
    w.grid = grid;
    w.block = block;
    w.body = body;
    w.dynamic_bytes = dynamic_bytes;
    const unsigned n = block.x * block.y * block.z;
    const bool fresh = w.failed;
    w.failed = false;
    w.n_threads = n;
    while (w.fibers.size() < n) {
        w.fibers.emplace_back(new Fiber);
        w.fibers.back()->prepare(fiber_main);
    }
    if (fresh)
        for (auto& f : w.fibers) {
            f->prepare(fiber_main);
            f->copies.clear();
        }
    w.order.resize(n);
    w.position.resize(n);
    for (unsigned i = 0; i < n; ++i) {
        Fiber& f = *w.fibers[i];
        f.thread = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        f.index = i;
        f.warp = i / 32;
        f.lane = i % 32;
        const unsigned p = config().order == Order::reverse ? n - 1 - i : i;
        w.order[p] = i;
        w.position[i] = p;
    }
    w.warps.resize(n / 32);
    w.arena.resize(config().shared_limit_static + dynamic_bytes + 16);
}

// OS threads that stay alive between launches, because each keeps its fibers. A fiber never moves
// to another OS thread: compiled code may hold the address of a thread-local variable.
class Pool {
  public:
    static Pool& instance();

    // Runs `job` on the calling thread and on n - 1 others; returns when all have finished.
    void run(int n, const std::function<void()>& job) {
        // Two streams may launch at the same time.
        std::unique_lock<std::mutex> alone(run_mutex_, std::defer_lock);
        if (n > 1) {
            alone.lock();
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = &job;
            pending_ = n - 1;
            while (int(tickets_.size()) < n - 1) {
                tickets_.push_back(0);
                const size_t id = tickets_.size() - 1;
                threads_.emplace_back([this, id] { loop(id); });
            }
            for (int i = 0; i < n - 1; ++i) ++tickets_[size_t(i)];
            start_.notify_all();
        }
        job();
        if (n > 1) {
            std::unique_lock<std::mutex> lock(mutex_);
            done_.wait(lock, [this] { return pending_ == 0; });
        }
    }

  private:
    friend struct PoolOwner;
    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            quit_ = true;
        }
        start_.notify_all();
        for (auto& t : threads_) t.join();
    }
    void loop(size_t id) {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            start_.wait(lock, [&] { return quit_ || tickets_[id] != seen; });
            if (quit_) return;
            seen = tickets_[id];
            const auto* job = job_;
            lock.unlock();
            (*job)();
            lock.lock();
            if (--pending_ == 0) done_.notify_all();
        }
    }

    std::mutex mutex_, run_mutex_;
    std::condition_variable start_, done_;
    std::vector<std::thread> threads_;
    std::vector<uint64_t> tickets_;
    const std::function<void()>* job_ = nullptr;
    int pending_ = 0;
    bool quit_ = false;
};

// A fork()'s child has none of the threads. It can neither join them nor destroy the objects that
// they sleep on.
struct PoolOwner {
    Pool* pool = new Pool;
    pid_t process = getpid();
    ~PoolOwner() {
        if (process == getpid()) delete pool;
    }
};
inline Pool& Pool::instance() {
    static const PoolOwner owner;
    return *owner.pool;
}

inline void launch(const char* kernel, dim3 grid, dim3 block, size_t dynamic_bytes,
                   const std::function<void()>& body) {
    const Config& c = config();
    const unsigned n = block.x * block.y * block.z;
    const unsigned long long blocks = 1ull * grid.x * grid.y * grid.z;
    const std::string name = std::string("kernel ") + kernel + ": ";
    if (worker) throw Error(name + "launch from inside a kernel");
    if (n == 0 || n % 32 != 0 || n > c.max_threads)
        throw Error(name + "block of " + std::to_string(n) +
                    " threads; need a multiple of 32, at most " + std::to_string(c.max_threads));
    if (blocks == 0 || grid.y > 65535 || grid.z > 65535 || blocks > 0x7fffffffull)
        throw Error(name + "invalid grid");
    if (dynamic_bytes > c.shared_limit_optin)
        throw Error(name + "dynamic shared memory of " + std::to_string(dynamic_bytes) +
                    " bytes is above the device limit of " + std::to_string(c.shared_limit_optin));

    std::atomic<unsigned> next{0};
    std::atomic<bool> stop{false};
    std::mutex mutex;
    std::string error;

    auto work = [&] {
        static thread_local Worker mine;
        prepare_worker(mine, kernel, grid, block, dynamic_bytes, body);
        worker = &mine;
        mine.switches = 0;
        while (!stop) {
            const unsigned b = next++;
            if (b >= blocks) break;
            run_block(mine, b);
            ++stats().blocks;
            if (mine.failed) {
                stop = true;
                std::lock_guard<std::mutex> lock(mutex);
                if (error.empty()) error = mine.message;
            }
        }
        stats().switches += mine.switches;
        worker = nullptr;
    };

    Pool::instance().run(int(std::min<unsigned long long>(blocks, unsigned(c.os_threads))), work);
    if (!error.empty()) throw Error(error);
}

}  // namespace sim
}  // namespace pillion::cuda

// ---- CUDA names ----
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define threadIdx (::pillion::cuda::sim::current->thread)
#define blockIdx (::pillion::cuda::sim::worker->block_index)
#define blockDim (::pillion::cuda::sim::worker->block)
#define gridDim (::pillion::cuda::sim::worker->grid)
#define warpSize 32

inline void __syncthreads(PILLION_SIM_HERE) {
    pillion::cuda::sim::block_barrier(PILLION_SIM_SITE("__syncthreads"), 0);
}
inline int __syncthreads_or(int p, PILLION_SIM_HERE) {
    return pillion::cuda::sim::worker
        ->vote_or[pillion::cuda::sim::block_barrier(PILLION_SIM_SITE("__syncthreads_or"), p)];
}
inline int __syncthreads_count(int p, PILLION_SIM_HERE) {
    return pillion::cuda::sim::worker
        ->vote_count[pillion::cuda::sim::block_barrier(PILLION_SIM_SITE("__syncthreads_count"), p)];
}
inline int __syncthreads_and(int p, PILLION_SIM_HERE) {
    return pillion::cuda::sim::worker->vote_count[pillion::cuda::sim::block_barrier(
               PILLION_SIM_SITE("__syncthreads_and"), p)] ==
           int(pillion::cuda::sim::worker->n_threads);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, PILLION_SIM_HERE) {
    pillion::cuda::sim::warp_collective(PILLION_SIM_SITE("__syncwarp"), mask, nullptr, 0, nullptr);
}
template <class T>
inline T __shfl_sync(unsigned mask, T v, int src, int width = 32, PILLION_SIM_HERE) {
    const unsigned lane = pillion::cuda::sim::current->lane, base = lane & ~unsigned(width - 1);
    auto* s = pillion::cuda::sim::warp_collective(PILLION_SIM_SITE("__shfl_sync"), mask, &v,
                                                  sizeof v, nullptr);
    return pillion::cuda::sim::read_slot<T>(s, base + (unsigned(src) & unsigned(width - 1)));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, PILLION_SIM_HERE) {
    const unsigned lane = pillion::cuda::sim::current->lane, src = lane ^ unsigned(lanes);
    auto* s = pillion::cuda::sim::warp_collective(PILLION_SIM_SITE("__shfl_xor_sync"), mask, &v,
                                                  sizeof v, nullptr);
    return src / unsigned(width) > lane / unsigned(width)
               ? v
               : pillion::cuda::sim::read_slot<T>(s, src);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, PILLION_SIM_HERE) {
    const unsigned lane = pillion::cuda::sim::current->lane, src = lane + delta;
    auto* s = pillion::cuda::sim::warp_collective(PILLION_SIM_SITE("__shfl_down_sync"), mask, &v,
                                                  sizeof v, nullptr);
    return src / unsigned(width) != lane / unsigned(width)
               ? v
               : pillion::cuda::sim::read_slot<T>(s, src);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, PILLION_SIM_HERE) {
    const unsigned lane = pillion::cuda::sim::current->lane;
    auto* s = pillion::cuda::sim::warp_collective(PILLION_SIM_SITE("__shfl_up_sync"), mask, &v,
                                                  sizeof v, nullptr);
    return lane % unsigned(width) < delta ? v : pillion::cuda::sim::read_slot<T>(s, lane - delta);
}
inline unsigned __ballot_sync(unsigned mask, int p, PILLION_SIM_HERE) {
    const int v = p != 0;
    auto* s = pillion::cuda::sim::warp_collective(PILLION_SIM_SITE("__ballot_sync"), mask, &v,
                                                  sizeof v, nullptr);
    unsigned r = 0;
    for (unsigned i = 0; i < 32; ++i) r |= unsigned(pillion::cuda::sim::read_slot<int>(s, i)) << i;
    return r;
}
inline int __any_sync(unsigned mask, int p, PILLION_SIM_HERE) {
    return __ballot_sync(mask, p, file, line) != 0;
}
inline int __all_sync(unsigned mask, int p, PILLION_SIM_HERE) {
    return __ballot_sync(mask, p, file, line) == 0xffffffffu;
}

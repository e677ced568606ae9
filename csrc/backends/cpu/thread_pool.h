// A persistent thread pool that walks a list of steps without barriers. Threads take chunks from a
// counter. The thread that finishes the last chunk of a step continues: it runs the following
// single-chunk steps alone and publishes the next step with several chunks. A worker that the
// system has descheduled delays the others only if it holds a chunk.
//
// Waiting threads spin briefly, because a step often lasts microseconds, and then sleep, so that
// they do not compete for a busy core.
//
// After a fork() the child has none of the workers. A pool notices this at its next run and makes
// as many new ones. The destructor of a pool that did not run in the child drops the threads, which
// belong to the parent.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

#include "backends/cpu/cpu_step.h"
#include "core/backend.h"

namespace pillion::cpu {

class ThreadPool final : public Queue {
  public:
    explicit ThreadPool(int n_threads);
    ~ThreadPool() override;
    int n_threads() const override { return n_threads_; }

    // Runs all steps; false if the cancel flag stopped it between two steps. One caller at a time;
    // the caller works too.
    bool run(const CpuStep* const* steps, int n_steps, const RunInfo& info);

    // Runs a plain loop in the same way: body(chunk, worker) for chunk in [0, chunks).
    template <class F>
    bool parallel_for(int chunks, F&& body);

    // Ends the workers of all pools of the process, each after its chunk, and prevents new ones:
    // from now on callers work alone.
    static void end_all_workers();

  private:
    void start_workers();
    void enlist();
    void strike_out();
    void renew();
    void forget_workers();
    void worker_main(int worker);
    void carry_on(int worker, int from);
    bool take_chunk(int worker);
    void publish(int step, int chunks);
    void finish();
    template <class Ready>
    void wait_until(Ready&& ready);
    bool chunks_left() const { return (ticket_.load() & kLeftMask) != 0; }

    static constexpr uint64_t kLeftMask = (1u << 24) - 1;
    const int n_threads_;

    // Written before a ticket is published and read after a chunk was taken. They are stable in
    // between, since a step ends only when all of its chunks are done.
    std::atomic<const CpuStep* const*> steps_{nullptr};
    std::atomic<const RunInfo*> info_{nullptr};
    std::atomic<int> n_steps_{0}, step_{0}, chunks_{0};
    std::atomic<bool> cancelled_{false};

    // Serial number of the published step << 24 | number of untaken chunks. The ticket itself shows
    // that a step is over: a late thread with an old ticket fails to exchange it.
    alignas(64) std::atomic<uint64_t> ticket_{0};
    alignas(64) std::atomic<int> done_{0};
    // changes with every published step and every finished run; all threads sleep on it
    alignas(64) std::atomic<uint32_t> published_{0};
    std::atomic<int> sleepers_{0};
    std::atomic<uint32_t> finished_{0};  // number of finished runs
    std::atomic<bool> stop_{false};
    uint32_t forks_;  // fork_count() when the workers were made
    std::vector<std::thread> workers_;
    ThreadPool* next_ = nullptr;  // in the list of the process's pools
};

template <class F>
bool ThreadPool::parallel_for(int chunks, F&& body) {
    class Loop final : public CpuStep {
      public:
        Loop(int chunks, F& body) : CpuStep(Op::count, -1), chunks_(chunks), body_(body) {}
        const char* kernel() const override { return "loop"; }
        int chunks(const RunInfo&) const override { return chunks_; }
        void run(const RunInfo&, int chunk, int worker) const override { body_(chunk, worker); }

      private:
        int chunks_;
        F& body_;
    };
    const Loop loop(chunks, body);
    const CpuStep* step = &loop;
    static const StepState state = one_segment(0, 1, 1);
    return run(&step, 1, RunInfo(state));
}

}  // namespace pillion::cpu

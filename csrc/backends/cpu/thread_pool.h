// A persistent pool that walks a list of steps. There is no barrier to wait at: chunks are taken
// from a counter, and whoever finishes the last chunk of a step carries on: it runs the
// single-chunk steps that follow by itself and publishes the next step with several chunks. A
// worker that the machine put aside holds nothing up unless it holds a chunk.
//
// Waiting threads spin briefly (a step often lasts microseconds) and then sleep, so that a machine
// with a taken core is not fought over.
//
// After a fork() the child has none of the workers. A pool notices at its next run and makes new
// ones, as many as it had; what is destroyed in a child without a run lets go of threads that
// aren't its own.
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

    // Runs all steps; false when the cancel flag stopped it between two steps. One caller at a
    // time; the caller works too.
    bool run(const CpuStep* const* steps, int n_steps, const RunInfo& info);

    // The same machinery for a plain loop: body(chunk, worker) for chunk in [0, chunks).
    template <class F>
    bool parallel_for(int chunks, F&& body);

    // Ends the workers of all pools of the process, each after its chunk, and lets none begin: from
    // now on callers work alone.
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

    // Written before a ticket is published, read after a chunk was taken; stable in between, since
    // a step ends only when all of its chunks are done.
    std::atomic<const CpuStep* const*> steps_{nullptr};
    std::atomic<const RunInfo*> info_{nullptr};
    std::atomic<int> n_steps_{0}, step_{0}, chunks_{0};
    std::atomic<bool> cancelled_{false};

    // Serial number of the published step << 24 | chunks that nobody has taken. The ticket says by
    // itself that a step is over: a late thread that still holds an old ticket fails to exchange
    // it.
    alignas(64) std::atomic<uint64_t> ticket_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<uint32_t> published_{
        0};  // changes with every published step and finished run; all sleep on it
    std::atomic<int> sleepers_{0};
    std::atomic<uint32_t> finished_{0};  // runs
    std::atomic<bool> stop_{false};
    uint32_t forks_;  // fork_count() when the workers were made
    std::vector<std::thread> workers_;
    ThreadPool* next_ = nullptr;  // of the process's pools
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
    return run(&step, 1, RunInfo{0, 1, 1});
}

}  // namespace pillion::cpu

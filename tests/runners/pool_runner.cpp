// The thread pool under ThreadSanitizer: plans of random steps that write plain memory, for the
// given number of seconds. Every chunk of a step writes its own places and reads places that other
// chunks of earlier steps wrote, as ops do with activations, so a missing happens-before shows as a
// report. Prints "<runs> runs <failures> failures". -DRACE adds a wrong step.
#include <stdio.h>
#include <stdlib.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>

#include "backends/cpu/thread_pool.h"

using namespace pillion;
using namespace pillion::cpu;

namespace {

constexpr int kPlaces = 64;  // chunks at most
long g_failures = 0;
#ifdef RACE
long g_shared = 0;
#endif

// Value of place p after step s: 1 + s, for the chunks of the step; the others stay. A chunk checks
// all places before it writes.
class Step final : public CpuStep {
  public:
    Step(int index, int chunks, const std::vector<int>& expected, std::vector<int>& places,
         std::atomic<bool>* cancel)
        : CpuStep(Op::count, -1), index_(index), chunks_(chunks), expected_(expected),
          places_(places), cancel_(cancel) {}
    const char* kernel() const override { return "step"; }
    int chunks(const RunInfo&) const override { return chunks_; }
    void run(const RunInfo&, int chunk, int) const override {
        if (cancel_) cancel_->store(true);
        // Places of this step's other chunks are being written just now.
        bool good = places_[size_t(chunk)] == expected_[size_t(chunk)];
        for (int p = chunks_; p < kPlaces; p++) good &= places_[size_t(p)] == expected_[size_t(p)];
        places_[size_t(chunk)] = good ? 1 + index_ : -1;
#ifdef RACE
        g_shared++;
#endif
    }

  private:
    int index_, chunks_;
    std::vector<int> expected_;  // before this step
    std::vector<int>& places_;
    std::atomic<bool>* cancel_;
};

void one_plan(ThreadPool& pool, std::mt19937& random, int runs) {
    const int n_steps = 1 + int(random() % 20),
              cancel_at = random() % 4 == 0 ? int(random() % unsigned(n_steps)) : -1;
    std::vector<int> places(kPlaces, 0), expected(kPlaces, 0);
    std::vector<std::unique_ptr<Step>> steps;
    std::vector<const CpuStep*> raw;
    bool cancels = false, cancelled = false;
    for (int i = 0; i < n_steps; i++) {
        static constexpr int kChunks[] = {0, 1, 1, 2, 3, 7, 16, kPlaces};
        const int chunks = kChunks[random() % 8];
        const bool here = i == cancel_at && chunks > 0;
        steps.push_back(
            std::make_unique<Step>(i, chunks, expected, places, here ? &pool.cancel : nullptr));
        raw.push_back(steps.back().get());
        cancelled |= cancels;  // a step that comes after the one that cancels
        cancels |= here;
        if (!cancelled)
            for (int c = 0; c < chunks; c++) expected[size_t(c)] = 1 + i;
    }
    for (int r = 0; r < runs; r++) {
        places.assign(kPlaces, 0);
        pool.cancel.store(false);
        const bool finished = pool.run(raw.data(), n_steps, RunInfo(one_segment(0, 1, 1)));
        if (finished == cancelled || places != expected) g_failures++;
    }
    pool.cancel.store(false);
}

}  // namespace

int main(int argc, char** argv) {
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::seconds(argc > 1 ? atoi(argv[1]) : 2);
    std::mt19937 random(1);
    long runs = 0;
    while (std::chrono::steady_clock::now() < until) {
        ThreadPool pool(1 + int(random() % 8));
        for (int plan = 0; plan < 10; plan++, runs += 5) {
            one_plan(pool, random, 5);
            if (plan % 3 == 2)
                std::this_thread::sleep_for(std::chrono::microseconds(100));  // workers go to sleep
            std::vector<int> loop(100, 0);
            if (!pool.parallel_for(100, [&](int chunk, int) { loop[size_t(chunk)]++; }) ||
                loop != std::vector<int>(100, 1))
                g_failures++;
        }
    }
    printf("%ld runs %ld failures\n", runs, g_failures);
    return g_failures != 0;
}

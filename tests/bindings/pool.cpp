// Observes the CPU's thread pool: how often each chunk ran, and whether a step began before the
// previous one was done.
#include <errno.h>
#include <string.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "backends/cpu/thread_pool.h"
#include "bindings/bindings.h"
#include "core/cpu_count.h"

namespace pillion::testing {
namespace {

struct Watch {
    std::atomic<int> early{0};  // chunks that ran while a chunk of an earlier step was missing
    std::atomic<int> bad_worker{0};
    int n_workers = 0;
    Queue* cancel_on = nullptr;
    int cancel_step = -1;  // its first chunk sets the cancel flag
};

class WatchedStep final : public cpu::CpuStep {
  public:
    WatchedStep(Watch& watch, int index, int chunks, int spin, const WatchedStep* before)
        : CpuStep(Op::count, -1), watch_(watch), index_(index), chunks_(chunks), spin_(spin),
          before_(before), counts_(size_t(chunks)) {}
    const char* kernel() const override { return "watched"; }
    int chunks(const cpu::RunInfo&) const override { return chunks_; }
    void run(const cpu::RunInfo&, int chunk, int worker) const override {
        if (worker < 0 || worker >= watch_.n_workers) watch_.bad_worker.fetch_add(1);
        if (before_ && before_->finished_.load() != before_->chunks_) watch_.early.fetch_add(1);
        if (index_ == watch_.cancel_step) watch_.cancel_on->cancel.store(true);
        for (volatile int i = 0; i < spin_ * (1 + chunk % 3); i = i + 1) {
        }
        counts_[size_t(chunk)].fetch_add(1);
        finished_.fetch_add(1);
    }
    void clear() const {
        finished_.store(0);
        for (auto& c : counts_) c.store(0);
    }
    std::vector<int> counts() const { return std::vector<int>(counts_.begin(), counts_.end()); }
    bool each_once() const {
        for (const auto& c : counts_)
            if (c.load() != 1) return false;
        return true;
    }

  private:
    Watch& watch_;
    int index_, chunks_, spin_;
    const WatchedStep* before_;  // the last one with chunks
    mutable std::vector<std::atomic<int>> counts_;
    mutable std::atomic<int> finished_{0};
};

struct Pool {
    cpu::ThreadPool pool;
    explicit Pool(int threads) : pool(threads) {}

    // Runs steps of these many chunks `repeats` times; the answer is about all runs, the counts
    // about the last.
    py::dict run_steps(const std::vector<int>& chunks, int repeats, int spin, int cancel_step) {
        Watch watch;
        watch.n_workers = pool.n_threads();
        watch.cancel_on = &pool;
        watch.cancel_step = cancel_step;
        std::vector<std::unique_ptr<WatchedStep>> steps;
        std::vector<const cpu::CpuStep*> raw;
        const WatchedStep* before = nullptr;
        for (size_t i = 0; i < chunks.size(); i++) {
            steps.push_back(std::make_unique<WatchedStep>(watch, int(i), chunks[i], spin, before));
            raw.push_back(steps.back().get());
            if (chunks[i] > 0) before = steps.back().get();
        }
        int complete = 0, finished = 0;
        {
            py::gil_scoped_release free;
            for (int r = 0; r < repeats; r++) {
                for (const auto& s : steps) s->clear();
                pool.cancel.store(false);
                finished +=
                    pool.run(raw.data(), int(raw.size()), cpu::RunInfo(one_segment(0, 1, 1)));
                bool all = true;
                for (const auto& s : steps) all &= s->each_once();
                complete += all;
            }
            pool.cancel.store(false);
        }
        py::dict result;
        std::vector<std::vector<int>> counts;
        for (const auto& s : steps) counts.push_back(s->counts());
        result["finished"] = finished, result["complete"] = complete, result["counts"] = counts;
        result["early"] = watch.early.load(), result["bad_worker"] = watch.bad_worker.load();
        return result;
    }

    py::tuple parallel_for(int chunks) {  // (it finished, how often each chunk ran)
        std::vector<std::atomic<int>> counts(static_cast<size_t>(chunks));
        bool finished;
        {
            py::gil_scoped_release free;
            finished = pool.parallel_for(chunks, [&](int chunk, int) {
                counts[size_t(chunk)].fetch_add(1);
            });
        }
        return py::make_tuple(finished, std::vector<int>(counts.begin(), counts.end()));
    }

    // A step whose chunks wait for each other: with as many chunks as threads it can end only when
    // every worker takes one, so a worker that isn't woken shows, however slow the machine. Whether
    // all met within `patience` seconds.
    bool meet(int chunks, double patience) {
        const auto until =
            std::chrono::steady_clock::now() + std::chrono::duration<double>(patience);
        std::atomic<int> arrived{0};
        std::atomic<bool> alone{false};
        py::gil_scoped_release free;
        pool.parallel_for(chunks, [&](int, int) {
            arrived.fetch_add(1);
            while (arrived.load() < chunks && std::chrono::steady_clock::now() < until)
                std::this_thread::yield();
            if (arrived.load() < chunks) alone.store(true);
        });
        return !alone.load();
    }

    // A long plan that another thread cancels when `after` steps have run: (it finished, steps that
    // ran).
    py::tuple cancel_from_outside(int n_steps, int after) {
        struct Slow final : cpu::CpuStep {
            std::atomic<int>& ran;
            explicit Slow(std::atomic<int>& r) : CpuStep(Op::count, -1), ran(r) {}
            const char* kernel() const override { return "slow"; }
            int chunks(const cpu::RunInfo&) const override { return 4; }
            void run(const cpu::RunInfo&, int chunk, int) const override {
                std::this_thread::sleep_for(std::chrono::microseconds(100));
                if (chunk == 0) ran.fetch_add(1);
            }
        };
        std::atomic<int> ran{0};
        const Slow step(ran);
        const std::vector<const cpu::CpuStep*> raw(size_t(n_steps), &step);
        bool finished;
        {
            py::gil_scoped_release free;
            std::thread other([&] {
                while (ran.load() < after) std::this_thread::yield();
                pool.cancel.store(true);
            });
            finished = pool.run(raw.data(), n_steps, cpu::RunInfo(one_segment(0, 1, 1)));
            other.join();
            pool.cancel.store(false);
        }
        return py::make_tuple(finished, ran.load());
    }
};

// (number, what decided) with files below `root`, and with the mask of a kernel that takes no
// shorter one.
py::tuple count_with(const std::string& root, const std::optional<std::string>& mask) {
    AffinityCall affinity;
    if (mask)
        affinity = [&](size_t bytes, void* to) {
            if (bytes < mask->size()) return errno = EINVAL, -1;
            memcpy(to, mask->data(), mask->size());
            return int(mask->size());
        };
    const CpuCount count = count_cpus(root, affinity);
    return py::make_tuple(count.n, count.from);
}

}  // namespace

void bind_pool(py::module_& m) {
    m.def("usable_cpus", &usable_cpus);
    m.def("count_cpus", &count_with, py::arg("root") = "", py::arg("mask") = py::none());
    py::class_<Pool>(m, "ThreadPool")
        .def(py::init<int>(), py::arg("threads"))
        .def_property_readonly("threads", [](const Pool& p) { return p.pool.n_threads(); })
        .def_property(
            "cancel", [](const Pool& p) { return p.pool.cancel.load(); },
            [](Pool& p, bool on) { p.pool.cancel.store(on); })
        .def("run_steps", &Pool::run_steps, py::arg("chunks"), py::arg("repeats") = 1,
             py::arg("spin") = 0, py::arg("cancel_step") = -1)
        .def("meet", &Pool::meet, py::arg("chunks"), py::arg("patience"))
        .def("parallel_for", &Pool::parallel_for, py::arg("chunks"))
        .def("cancel_from_outside", &Pool::cancel_from_outside, py::arg("steps"), py::arg("after"));
}

}  // namespace pillion::testing

// A loop whose turns run on several threads.
#pragma once
#include <stddef.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace pillion {

// task(0) .. task(n - 1), in any order, on up to n_threads threads of which the caller is one.
// After an exception no turn begins; the first one is passed on.
template <class F>
void parallel_for(int n_threads, size_t n, const F& task) {
    std::atomic<size_t> next{0};
    std::exception_ptr first;
    std::mutex mutex;
    const auto work = [&] {
        for (size_t i; (i = next++) < n;) try {
                task(i);
            } catch (...) {
                const std::lock_guard<std::mutex> lock(mutex);
                if (!first) first = std::current_exception();
                next = n;
            }
    };
    std::vector<std::thread> threads;
    for (size_t i = 1; i < std::min(size_t(n_threads), n); i++) try {
            threads.emplace_back(work);
        } catch (const std::system_error&) {
            break;  // fewer threads do it too
        }
    work();
    for (std::thread& t : threads) t.join();
    if (first) std::rethrow_exception(first);
}

}  // namespace pillion

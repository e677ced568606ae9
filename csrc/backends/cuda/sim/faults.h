// Failures that a test causes in the emulated device, by the environment variable
// PILLION_SIM_FAULTS. Every call reads it; no wheel contains the emulation. It is a list of
// name=number, separated by commas. Counts begin anew when the text changes:
//
//     alloc=N        the N-th allocation from now fails
//     from=N         the N-th allocation and all later ones fail
//     above=BYTES    every allocation of more bytes fails
//     memory=BYTES   the device has this much memory
//     unified=1      the device's memory is the host's
//     code=1          the module has no code for the device
//     launch=N       the N-th kernel fails, the device stays usable
//     lost=N         at the N-th kernel the device is lost
//
// A captured run counts each time it runs, as on a GPU, where a kernel fails when it runs.
#pragma once
#include <stdlib.h>
#include <string.h>

#include <mutex>
#include <string>

#include "backends/cuda/sim/sim.h"

namespace pillion::cuda::sim {

struct LostError : Error { using Error::Error; };

class Faults {
  public:
    static Faults& get() {
        static Faults faults;
        return faults;
    }
    // True if an allocation of this size succeeds. Allocations in device memory count until
    // freed().
    bool allocate(size_t bytes, bool is_device) {
        const std::lock_guard<std::mutex> lock(mutex_);
        read();
        n_allocations_++;
        if (value("from=") && n_allocations_ >= value("from=")) return false;
        if (value("alloc=") == n_allocations_ || (value("above=") && bytes > value("above=")))
            return false;
        if (is_device && value("memory=") && used_ + bytes > value("memory=")) return false;
        if (is_device) used_ += bytes;
        return true;
    }
    void freed(size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        used_ -= bytes;
    }
    void launch(const char* what) {
        const std::lock_guard<std::mutex> lock(mutex_);
        read();
        n_launches_++;
        if (value("launch=") == n_launches_) throw Error(std::string(what) + " was made to fail");
        if (value("lost=") == n_launches_)
            throw LostError(std::string(what) + " was made to lose the device");
    }
    size_t number(const char* name) {  // 0: not given
        const std::lock_guard<std::mutex> lock(mutex_);
        read();
        return value(name);
    }
    size_t used() const { return used_; }

  private:
    void read() {
        const char* now = getenv("PILLION_SIM_FAULTS");
        if (text_ == (now ? now : "")) return;
        text_ = now ? now : "";
        n_allocations_ = n_launches_ = 0;
    }
    size_t value(const char* name) const {
        const char* at = text_.empty() ? nullptr : strstr(text_.c_str(), name);
        return at ? strtoull(at + strlen(name), nullptr, 10) : 0;
    }

    std::mutex mutex_;
    std::string text_;
    size_t n_allocations_ = 0, n_launches_ = 0, used_ = 0;
};

}  // namespace pillion::cuda::sim

// Devices that an error made unusable for the rest of the process. After a kernel's illegal access,
// or when a card disappears from the bus, every CUDA call on the device repeats the error. The
// first sentence is kept by device number: it applies to all backends of the device.
#pragma once
#include <atomic>
#include <mutex>
#include <optional>

#include "core/result.h"

namespace pillion::cuda {

struct LostDevice {
    std::atomic<bool> is_lost{false};
    std::mutex mutex;
    std::optional<Failure> failure;
};

inline LostDevice* lost_device(int index) {
    constexpr int kDevicesMax = 1000;  // module names have three digits
    static LostDevice devices[kDevicesMax];
    return index >= 0 && index < kDevicesMax ? &devices[index] : nullptr;
}

inline void lose_device(int index, const char* sentence) {
    LostDevice* d = lost_device(index);
    if (!d) return;
    const std::lock_guard<std::mutex> lock(d->mutex);
    if (d->is_lost.load()) return;
    d->failure.emplace(Status::device_lost, "%s; the device is lost until the process ends",
                       sentence);
    d->is_lost.store(true);
}

inline bool is_lost(int index) {
    const LostDevice* d = lost_device(index);
    return d && d->is_lost.load();
}

// device_lost, with the first sentence.
inline Result<void> check_device(int index) {
    if (!is_lost(index)) return ok();
    LostDevice* d = lost_device(index);
    const std::lock_guard<std::mutex> lock(d->mutex);
    return *d->failure;
}

}  // namespace pillion::cuda

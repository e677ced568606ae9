// runtime.h over the emulation: device memory is memory that the rest of the program is not told about, launches run at once.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <new>

#include "backends/cuda/device/runtime.h"
#include "backends/cuda/sim/sim.h"

namespace pillion::cuda {

Status find_device(int index, DeviceInfo& info, Reason& reason) {
    if (index != 0) return reason.set("the emulation has one device, not number %d", index), Status::no_backend;
    snprintf(info.name, sizeof info.name, "SIMT emulation");
    info.memory_bytes = size_t(sysconf(_SC_PHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE));
    info.limits = {sim::config().shared_limit_optin, /*sm_count=*/8};
    info.emulated = true;
    return Status::ok;
}

std::unique_ptr<Memory> Memory::allocate(int index, size_t bytes, MemoryKind kind, Status& status, Reason& reason) {
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    void* p = nullptr;
    // The exact size: AddressSanitizer sees every overrun. Untouched pages of a large one are never taken.
    if (!m || bytes > SIZE_MAX / 2 || posix_memalign(&p, 256, bytes ? bytes : 1) != 0) {
        reason.set("no memory for %zu bytes", bytes);
        return status = Status::out_of_memory, nullptr;
    }
    constexpr size_t kPoisoned = 64u << 20;
    memset(p, 0xFF, bytes < kPoisoned ? bytes : kPoisoned);    // NaN: what was never written shows
    m->index_ = index, m->device_ = static_cast<uint8_t*>(p);
    if (kind == MemoryKind::mapped) m->host_ = m->device_;
    return status = Status::ok, std::move(m);
}

std::unique_ptr<Memory> Memory::lend(int index, const void* host, size_t) {
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    if (!m) return nullptr;
    m->index_ = index, m->owned_ = false;
    m->host_ = m->device_ = static_cast<uint8_t*>(const_cast<void*>(host));
    return m;
}

Memory::~Memory() {
    if (owned_) free(device_);
}

std::unique_ptr<Stream> Stream::create(int index, Status& status, Reason& reason) {
    std::unique_ptr<Stream> s(new (std::nothrow) Stream);
    if (!s) return reason.set("no memory for a stream"), status = Status::out_of_memory, nullptr;
    s->index_ = index;
    return status = Status::ok, std::move(s);
}

Stream::~Stream() = default;
void Stream::make_current() {}

void Stream::copy(void* to, const void* from, size_t bytes) {
    if (failed() || bytes == 0) return;
    if (recording_) recording_->push_back([=] { memcpy(to, from, bytes); });
    else memcpy(to, from, bytes);
}

Status Stream::wait(Reason& reason) { return take_error(reason); }

void Stream::fail(Status status, const char* what, const char* why) {
    if (failed()) return;
    status_ = status;
    reason_.set("emulation, %s: %s", what, why);
}

void Replay::begin(Stream& s) {
    if (!s.failed()) s.recording_ = new (std::nothrow) std::vector<std::function<void()>>;
    if (!s.recording_) s.fail(Status::out_of_memory, "capture", "no memory");
}

std::unique_ptr<Replay> Replay::end(Stream& s) {
    const std::unique_ptr<std::vector<std::function<void()>>> recording(s.recording_);
    s.recording_ = nullptr;
    std::unique_ptr<Replay> replay(s.failed() || !recording ? nullptr : new (std::nothrow) Replay);
    if (replay) replay->launches_ = std::move(*recording);
    return replay;
}

Replay::~Replay() = default;

void Replay::launch(Stream& s) const {
    for (const auto& run : launches_) {
        if (s.failed()) return;
        try {
            run();
        } catch (const sim::Error& e) {
            s.fail(Status::device_lost, "run", e.what());
        }
    }
}

}  // namespace pillion::cuda

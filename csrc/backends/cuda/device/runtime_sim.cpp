// runtime.h over the emulation. Device memory is host memory whose address the rest of the program
// does not get; launches run at once.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <new>

#include "backends/cuda/device/runtime.h"
#include "backends/cuda/sim/faults.h"

namespace pillion::cuda {
namespace {

constexpr int kMultiprocessors = 8;

}  // namespace

Result<DeviceInfo> find_device(int index) {
    if (index != 0)
        return Failure(Status::no_backend, "the emulation has one device, not number %d", index);
    DeviceInfo info;
    snprintf(info.name, sizeof info.name, "SIMT emulation");
    size_t free = 0;
    memory_now(index, info.memory_bytes, free);
    info.limits = {sim::config().shared_limit_optin, kMultiprocessors};
    info.unified = sim::Faults::get().number("unified=") != 0;
    info.emulated = true;
    return info;
}

void memory_now(int, size_t& total, size_t& free) {
    const size_t told = sim::Faults::get().number("memory="), page = size_t(sysconf(_SC_PAGESIZE));
    total = told ? told : size_t(sysconf(_SC_PHYS_PAGES)) * page;
    free = told ? told - std::min(told, sim::Faults::get().used())
                : size_t(sysconf(_SC_AVPHYS_PAGES)) * page;
}

void make_unwritten(uint8_t* device, size_t bytes) {
    // Untouched pages of a large allocation are never taken.
    constexpr size_t kMost = 64u << 20;
    memset(device, 0xFF, std::min(bytes, kMost));
}

Result<std::unique_ptr<Memory>> Memory::allocate(int index, size_t bytes, MemoryKind kind) {
    if (const Result<void> there = check_device(index); !there) return there.failure();
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    void* p = nullptr;
    const bool goes = sim::Faults::get().allocate(bytes, kind != MemoryKind::mapped);
    // The exact size, so that AddressSanitizer sees every overrun.
    if (!m || !goes || bytes > SIZE_MAX / 2 || posix_memalign(&p, 256, bytes ? bytes : 1) != 0) {
        if (goes && kind != MemoryKind::mapped) sim::Faults::get().freed(bytes);
        return Failure(Status::out_of_memory, "no memory for %zu bytes", bytes);
    }
    m->index_ = index, m->kind_ = kind, m->bytes_ = bytes, m->device_ = static_cast<uint8_t*>(p);
    if (kind != MemoryKind::device) m->host_ = m->device_;
    return m;
}

void Memory::give_to_device(Stream& stream) {
    if (kind_ == MemoryKind::shared && !stream.failed()) host_ = nullptr;
}

std::unique_ptr<Memory> Memory::lend(int index, const void* host, size_t) {
    std::unique_ptr<Memory> m(new (std::nothrow) Memory);
    if (!m) return nullptr;
    m->index_ = index, m->owned_ = false;
    m->host_ = m->device_ = static_cast<uint8_t*>(const_cast<void*>(host));
    return m;
}

Memory::~Memory() {
    if (!owned_) return;
    free(device_);
    if (kind_ != MemoryKind::mapped) sim::Faults::get().freed(bytes_);
}

Result<std::unique_ptr<Stream>> Stream::create(int index) {
    if (const Result<void> there = check_device(index); !there) return there.failure();
    std::unique_ptr<Stream> s(new (std::nothrow) Stream);
    if (!s) return Failure(Status::out_of_memory, "no memory for a stream");
    s->index_ = index, s->multiprocessors_ = kMultiprocessors;
    return s;
}

Stream::~Stream() = default;
void Stream::make_current() {}

void Stream::copy(void* to, const void* from, size_t bytes) {
    if (failed() || bytes == 0) return;
    if (recording_) recording_->push_back([=] { memcpy(to, from, bytes); });
    else memcpy(to, from, bytes);
}

Result<void> Stream::wait() { return take_failure(); }

void Stream::fail(Status status, const char* what, const char* why) {
    if (failed()) return;
    failure_.emplace(status, "emulation, %s: %s", what, why);
}

void Stream::fail_call(int error, const char* what) {
    if (error) fail(Status::internal, what, "a CUDA call failed");
}

void Stream::run(const std::function<void()>& launch) {
    if (failed()) return;
    try {
        launch();
    } catch (const sim::LostError& e) {
        fail(Status::device_lost, "run", e.what());
        lose_device(index_, failure_->sentence());
    } catch (const sim::Error& e) {
        fail(Status::device_lost, "run", e.what());
    }
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
    for (const auto& one : launches_) s.run(one);
}

}  // namespace pillion::cuda

// The host side of a device: memory, streams, copies, captured launches. One interface with two
// implementations: runtime_cuda.cpp over the CUDA runtime and runtime_sim.cpp over the emulation.
// Plain C++: code that only compiles plans needs no CUDA header.
//
// Launches and copies return nothing. The first one that fails leaves its sentence in the stream,
// everything after it is skipped, and Stream::wait returns the failure. Nothing here throws or
// aborts. After an error that makes the device unusable for the rest of the process (lost.h), every
// call on it fails at once with that error's sentence.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "backends/cuda/device/lost.h"
#include "core/result.h"

namespace pillion::cuda {

struct DeviceLimits {
    size_t shared_optin;  // largest shared memory of one block, bytes
    int sm_count;
};

struct DeviceInfo {
    char name[128] = "";
    // compute capability; 0 in the emulation
    int major = 0, minor = 0;
    size_t memory_bytes = 0;
    DeviceLimits limits = {};
    bool unified = false;  // the device uses the host's memory
    bool emulated = false;
};

// no_backend with a readable sentence: no driver, no device, no such number, too old.
Result<DeviceInfo> find_device(int index);

// Total and free bytes of the device now; on a unified device those of the machine. 0: unknown.
void memory_now(int device_index, size_t& total, size_t& free);

// device: the device's own memory. mapped: page-locked host memory that kernels reach at device().
// shared: memory that the host fills first and the device owns from give_to_device() on; on a
// unified device both use it without a copy.
enum class MemoryKind { device, mapped, shared };

// Makes the old content of memory visible as an error: the emulation fills it with NaN. Host memory
// stays untouched.
void make_unwritten(uint8_t* device, size_t bytes);

class Stream;

// Bytes of one device.
class Memory {
  public:
    // out_of_memory if that is the cause.
    static Result<std::unique_ptr<Memory>> allocate(int device_index, size_t bytes,
                                                    MemoryKind kind);
    // A window of host memory with another owner, page-locked for the life of this object. Null if
    // the device cannot have it.
    static std::unique_ptr<Memory> lend(int device_index, const void* host, size_t bytes);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    uint8_t* device() const { return device_; }
    // null for MemoryKind::device, and for shared memory that the device owns
    uint8_t* host() const { return host_; }
    // For shared memory: call it before the first launch that reads it. It has no effect on other
    // kinds.
    void give_to_device(Stream& stream);

  private:
    Memory() = default;
    int index_ = 0;
    uint8_t* device_ = nullptr;
    uint8_t* host_ = nullptr;
    void* registered_ = nullptr;  // the memory that lend() page-locked
    MemoryKind kind_ = MemoryKind::device;
    size_t bytes_ = 0;
    bool owned_ = true;
};

// A queue of launches and copies on one device. One thread at a time.
class Stream {
  public:
    static Result<std::unique_ptr<Stream>> create(int device_index);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    // The enqueuing thread calls it first: the current device is a property of the thread.
    void make_current();
    // Any direction. The host end must be page-locked; otherwise the copy waits.
    void copy(void* to, const void* from, size_t bytes);
    // Waits for all work. Returns the first failure since the last wait.
    Result<void> wait();

    // --- for device/host.h ---
    bool failed() const { return failure_ || is_lost(index_); }
    void fail(Status status, const char* what, const char* why);
    // By the number of a CUDA call's error; not in the emulation.
    void fail_call(int error, const char* what);
    void* handle() const { return handle_; }  // cudaStream_t
    // of the stream's device
    int multiprocessors() const { return multiprocessors_; }
    // used by kernels/blas.cpp; destroyed before the stream
    std::shared_ptr<void>& companion() { return companion_; }
    // Emulation. recording(): the list that launches go to while capturing. run(): runs a launch
    // and keeps its exception as the stream's error.
    std::vector<std::function<void()>>* recording() const { return recording_; }
    void run(const std::function<void()>& launch);

  private:
    friend class Replay;
    friend class Memory;
    Stream() = default;
    Result<void> take_failure() {
        if (const Result<void> there = check_device(index_); !there) return there;
        if (!failure_) return ok();
        const Result<void> result = *failure_;
        failure_.reset();
        return result;
    }
    int index_ = 0, multiprocessors_ = 0;
    void* handle_ = nullptr;
    std::shared_ptr<void> companion_;
    std::vector<std::function<void()>>* recording_ = nullptr;
    std::optional<Failure> failure_;
};
using stream_t = Stream*;

// The work enqueued between begin and end, which can be enqueued again as one: a CUDA graph.
// Pointers and sizes are those of the capture.
class Replay {
  public:
    static void begin(Stream& stream);
    // null: the stream has the failure
    static std::unique_ptr<Replay> end(Stream& stream);
    ~Replay();
    Replay(const Replay&) = delete;
    Replay& operator=(const Replay&) = delete;
    void launch(Stream& stream) const;

  private:
    Replay() = default;
    void* graph_ = nullptr;                        // cudaGraphExec_t
    std::vector<std::function<void()>> launches_;  // emulation
};

}  // namespace pillion::cuda

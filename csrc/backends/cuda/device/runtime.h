// The host side of a device: memory, streams, copies, captured launches. One interface for two
// worlds: runtime_cuda.cpp over the CUDA runtime and runtime_sim.cpp over the emulation. Plain C++:
// whoever only compiles plans needs no CUDA header.
//
// Launches and copies return nothing. The first that fails leaves its sentence in the stream,
// everything after it is skipped, and Stream::wait hands the sentence over. Nothing here throws or
// aborts. After an error that takes the device away for the rest of the process (lost.h) everything
// on it fails at once with that error's sentence.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <vector>

#include "backends/cuda/device/lost.h"
#include "core/error.h"

namespace pillion::cuda {

struct DeviceLimits {
    size_t shared_optin;  // largest shared memory of one block, bytes
    int sm_count;
};

struct DeviceInfo {
    char name[128] = "";
    int major = 0, minor = 0;  // compute capability; the emulation has none
    size_t memory_bytes = 0;
    DeviceLimits limits = {};
    bool reads_pageable = false;  // kernels may follow any host pointer
    bool unified = false;         // its memory is the host's
    bool emulated = false;
};

// no_backend, with a reason for people: no driver, no device, no such number, too old.
Status find_device(int index, DeviceInfo& info, Reason& reason);

// Bytes of the device that are there and free now; on a unified device those of the machine. Zeros:
// it does not say.
void memory_now(int device_index, size_t& total, size_t& free);

// device: its own. mapped: page-locked host memory that kernels reach at device(). shared: memory
// that the host fills first and the device has from give_to_device() on; both without a copy on a
// unified device.
enum class MemoryKind { device, mapped, shared };

// What was in memory before must not matter: the emulation fills it with NaN. Of host memory
// nothing is touched.
void make_unwritten(uint8_t* device, size_t bytes);

class Stream;

// Bytes of one device.
class Memory {
  public:
    // Null with a reason; out_of_memory where it is that.
    static std::unique_ptr<Memory> allocate(int device_index, size_t bytes, MemoryKind kind,
                                            Status& status, Reason& reason);
    // A window of host memory that someone else owns, page-locked for as long as this lives. Null
    // when the device can't have it.
    static std::unique_ptr<Memory> lend(int device_index, const void* host, size_t bytes);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    uint8_t* device() const { return device_; }
    uint8_t* host() const {
        return host_;
    }  // null for MemoryKind::device, and for shared once the device has it
    // shared: before the first launch that reads it. Nothing else changes.
    void give_to_device(Stream& stream);

  private:
    Memory() = default;
    int index_ = 0;
    uint8_t* device_ = nullptr;
    uint8_t* host_ = nullptr;
    void* registered_ = nullptr;  // what lend() page-locked
    MemoryKind kind_ = MemoryKind::device;
    size_t bytes_ = 0;
    bool owned_ = true;
};

// A queue of launches and copies on one device. One thread at a time.
class Stream {
  public:
    static std::unique_ptr<Stream> create(int device_index, Status& status, Reason& reason);
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    // Called by the thread that enqueues, before it does: the device is a property of the thread.
    void make_current();
    void copy(void* to, const void* from,
              size_t bytes);  // any direction; host ends page-locked, or it waits
    // Until all is done. The first error since the last wait.
    Status wait(Reason& reason);

    // --- for device/host.h ---
    bool failed() const { return status_ != Status::ok || is_lost(index_); }
    void fail(Status status, const char* what, const char* why);
    void fail_call(int error,
                   const char* what);  // by the number of a CUDA call's error; not in the emulation
    void* handle() const { return handle_; }  // cudaStream_t
    std::shared_ptr<void>& companion() {
        return companion_;
    }  // of kernels/blas.cpp; goes before the stream
    // Emulation: launches go here while capturing; and a launch, with what it throws kept as the
    // stream's error.
    std::vector<std::function<void()>>* recording() const { return recording_; }
    void run(const std::function<void()>& launch);

  private:
    friend class Replay;
    friend class Memory;
    Stream() = default;
    Status take_error(Reason& reason) {
        if (is_lost(index_, reason)) return Status::device_lost;
        const Status status = status_;
        if (status != Status::ok) reason = reason_;
        status_ = Status::ok;
        return status;
    }
    int index_ = 0;
    void* handle_ = nullptr;
    std::shared_ptr<void> companion_;
    std::vector<std::function<void()>>* recording_ = nullptr;
    Status status_ = Status::ok;
    Reason reason_;
};
using stream_t = Stream*;

// What was enqueued between begin and end, to be enqueued again as one: a CUDA graph. Pointers and
// sizes are those of the capture.
class Replay {
  public:
    static void begin(Stream& stream);
    static std::unique_ptr<Replay> end(Stream& stream);  // null: the stream says why
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

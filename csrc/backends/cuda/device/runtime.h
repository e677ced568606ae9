// The host side of a device: memory, streams, copies, captured launches. One interface for two worlds: runtime_cuda.cpp over the
// CUDA runtime and runtime_sim.cpp over the emulation. Plain C++: whoever only compiles plans needs no CUDA header.
//
// Launches and copies return nothing. The first that fails leaves its sentence in the stream, everything after it is skipped, and
// Stream::wait hands the sentence over. Nothing here throws or aborts.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <vector>

#include "core/error.h"

namespace pillion::cuda {

struct DeviceLimits {
    size_t shared_optin;       // largest shared memory of one block, bytes
    int sm_count;
};

struct DeviceInfo {
    char name[128] = "";
    int major = 0, minor = 0;  // compute capability; the emulation has none
    size_t memory_bytes = 0;
    DeviceLimits limits = {};
    bool reads_pageable = false;    // kernels may follow any host pointer
    bool emulated = false;
};

// no_backend, with a reason for people: no driver, no device, no such number, too old.
Status find_device(int index, DeviceInfo& info, Reason& reason);

enum class MemoryKind { device, mapped };

// Bytes of one device. mapped: page-locked host memory that kernels reach at device().
class Memory {
  public:
    // Null with a reason; out_of_memory where it is that.
    static std::unique_ptr<Memory> allocate(int device_index, size_t bytes, MemoryKind kind, Status& status, Reason& reason);
    // A window of host memory that someone else owns, page-locked for as long as this lives. Null when the device can't have it.
    static std::unique_ptr<Memory> lend(int device_index, const void* host, size_t bytes);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    uint8_t* device() const { return device_; }
    uint8_t* host() const { return host_; }    // null for MemoryKind::device

  private:
    Memory() = default;
    int index_ = 0;
    uint8_t* device_ = nullptr;
    uint8_t* host_ = nullptr;
    void* registered_ = nullptr;    // what lend() page-locked
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
    void copy(void* to, const void* from, size_t bytes);    // any direction; host ends page-locked, or it waits
    // Until all is done. The first error since the last wait.
    Status wait(Reason& reason);

    // --- for device/host.h ---
    bool failed() const { return status_ != Status::ok; }
    void fail(Status status, const char* what, const char* why);
    void* handle() const { return handle_; }                                   // cudaStream_t
    std::vector<std::function<void()>>* recording() const { return recording_; }    // emulation: launches go here while capturing

  private:
    friend class Replay;
    Stream() = default;
    Status take_error(Reason& reason) {
        const Status status = status_;
        if (status != Status::ok) reason = reason_;
        status_ = Status::ok;
        return status;
    }
    int index_ = 0;
    void* handle_ = nullptr;
    std::vector<std::function<void()>>* recording_ = nullptr;
    Status status_ = Status::ok;
    Reason reason_;
};
using stream_t = Stream*;

// What was enqueued between begin and end, to be enqueued again as one: a CUDA graph. Pointers and sizes are those of the capture.
class Replay {
  public:
    static void begin(Stream& stream);
    static std::unique_ptr<Replay> end(Stream& stream);    // null: the stream says why
    ~Replay();
    Replay(const Replay&) = delete;
    Replay& operator=(const Replay&) = delete;
    void launch(Stream& stream) const;

  private:
    Replay() = default;
    void* graph_ = nullptr;                           // cudaGraphExec_t
    std::vector<std::function<void()>> launches_;     // emulation
};

}  // namespace pillion::cuda

// The host's view of one DSP: shared memory, and channels to processes on it that answer messages.
// Two kinds exist: the device itself (fastrpc_device.cpp) and a child process that emulates it
// (sim_device.cpp). The code above works with either.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "backends/htp/wire/htp_wire.h"
#include "core/json.h"
#include "core/result.h"

namespace pillion::htp {

// Memory that the host sees at `host`, and that any session can map by its file descriptor. It
// includes HTP_SLACK bytes behind `bytes`.
class SharedMemory {
  public:
    virtual ~SharedMemory() = default;
    uint8_t* host() const { return host_; }
    size_t bytes() const { return bytes_; }
    int fd() const { return fd_; }

  protected:
    uint8_t* host_ = nullptr;
    size_t bytes_ = 0;  // usable bytes
    int fd_ = -1;
};

// Bytes that the host may have written since the last run.
struct MemoryRange {
    const SharedMemory* memory;
    uint32_t offset, bytes;
};

// For the time of a message: the caller's cancel flag, the word in shared memory that tells the DSP
// about it, and the ranges that the DSP must not read from an old cache line.
struct Watch {
    const std::atomic<bool>* cancel = nullptr;
    uint32_t* cancel_word = nullptr;
    const std::vector<MemoryRange>* ranges = nullptr;
};

// A session: one process on the DSP. One caller at a time.
class Channel {
  public:
    virtual ~Channel() = default;  // ends the process
    // Sends a message and waits for the answer, which replaces it. The answer's status is the
    // DSP's; this function does not check it. device_lost: the process is gone, does not answer in
    // time, or the channel is broken; no further message can be sent.
    virtual Result<void> exchange(htp_message& message, const Watch& watch) = 0;
    // Called before MAP and after UNMAP of this memory.
    virtual Result<void> register_memory(const SharedMemory&) { return ok(); }
    virtual void unregister_memory(const SharedMemory&) {}
};

// Makes shared memory and sessions.
class Device {
  public:
    virtual ~Device() = default;
    virtual const char* name() const = 0;              // "htp", "htp:sim"
    virtual void describe(JsonObject& out) const = 0;  // adds "transport": "sim", ...
    virtual Result<std::unique_ptr<SharedMemory>> allocate(size_t bytes) = 0;
    virtual Result<std::unique_ptr<Channel>> connect(int session) = 0;
    virtual size_t address_space() const = 0;  // bytes that one session can map
    virtual int sessions_max() const = 0;
    virtual bool is_emulated() const = 0;
};

Result<std::unique_ptr<Device>> open_fastrpc();
// Starts the child by the command line in PILLION_HTP_SIM, or else the program beside this module.
Result<std::unique_ptr<Device>> open_sim();

// Milliseconds that a message may take: PILLION_HTP_TIMEOUT (seconds), else a minute. A minute is
// far more than a run takes and short enough for a user to wait.
int timeout_ms();
// PILLION_HTP_SPACE (MB), for tests of the session planner: a smaller address space than the
// device's. Without it, `bytes`.
size_t address_space_or(size_t bytes);

}  // namespace pillion::htp

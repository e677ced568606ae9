// The transport between the host and one DSP: shared memory, and a link to a process on the DSP
// that answers messages. Two kinds exist: the device itself (fastrpc_transport.cpp) and a child
// process that emulates it (sim_transport.cpp). The code above works with either.
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
struct Span {
    const SharedMemory* memory;
    uint32_t offset, bytes;
};

// For the time of a message: the caller's cancel flag, the word in shared memory that tells the DSP
// about it, and the spans that the DSP must not read from an old cache line.
struct Watch {
    const std::atomic<bool>* cancel = nullptr;
    uint32_t* cancel_word = nullptr;
    const std::vector<Span>* spans = nullptr;
};

// A session: one process on the DSP. One caller at a time.
class Transport {
  public:
    virtual ~Transport() = default;  // ends the process
    // Sends a message and waits for the answer, which replaces it. The answer's status is the
    // DSP's; this function does not check it. device_lost: the process is gone, does not answer in
    // time, or the link is broken; no further message can be sent.
    virtual Result<void> exchange(htp_message& message, const Watch& watch) = 0;
    // Called before MAP and after UNMAP of this memory.
    virtual Result<void> announce(const SharedMemory&) { return ok(); }
    virtual void retract(const SharedMemory&) {}
};

// Makes shared memory and sessions.
class DeviceLink {
  public:
    virtual ~DeviceLink() = default;
    virtual const char* device_name() const = 0;       // "htp", "htp:sim"
    virtual void describe(JsonObject& out) const = 0;  // adds "transport": "sim", ...
    virtual Result<std::unique_ptr<SharedMemory>> allocate(size_t bytes) = 0;
    virtual Result<std::unique_ptr<Transport>> connect(int session) = 0;
    virtual size_t address_space() const = 0;  // bytes that one session can map
    virtual int sessions_max() const = 0;
    virtual bool is_emulated() const = 0;
};

Result<std::unique_ptr<DeviceLink>> open_fastrpc();
// Starts the child by the command line in PILLION_HTP_SIM, or else the program beside this module.
Result<std::unique_ptr<DeviceLink>> open_sim();

// Milliseconds that a message may take: PILLION_HTP_TIMEOUT (seconds), else a minute. A minute is
// far more than a run takes and short enough for a user to wait.
int timeout_ms();
// PILLION_HTP_SPACE (MB), for tests of the session planner: a smaller address space than the
// device's. Without it, `bytes`.
size_t address_space_or(size_t bytes);

}  // namespace pillion::htp

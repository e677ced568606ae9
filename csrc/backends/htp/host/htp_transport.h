// What lies between the host and one DSP: shared memory, and a line to a process on the DSP that
// answers messages. Two kinds exist, the device itself (fastrpc_transport.cpp) and a child process
// that plays it (sim_transport.cpp); all above does not know which.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "backends/htp/wire/htp_wire.h"
#include "core/error.h"
#include "core/json.h"

namespace pillion::htp {

// Memory that the host sees at `host` and any session can map by its file descriptor. HTP_SLACK
// bytes behind `bytes` are included.
class SharedMemory {
  public:
    virtual ~SharedMemory() = default;
    uint8_t* host() const { return host_; }
    size_t bytes() const { return bytes_; }
    int fd() const { return fd_; }

  protected:
    uint8_t* host_ = nullptr;
    size_t bytes_ = 0;  // what may be used
    int fd_ = -1;
};

// Bytes that the host may have written since the last run.
struct Span {
    const SharedMemory* memory;
    uint32_t offset, bytes;
};

// While a message is answered: whether the caller wants it stopped, and the word in shared memory
// that tells the DSP. And what the DSP must not take from an old cache line.
struct Watch {
    const std::atomic<bool>* cancel = nullptr;
    uint32_t* cancel_word = nullptr;
    const std::vector<Span>* spans = nullptr;
};

// A session: one process on the DSP. One caller at a time.
class Transport {
  public:
    virtual ~Transport() = default;  // ends the process
    // Sends a message and waits for its answer, which is then in the message: its status is the
    // DSP's and not looked at here. device_lost: the process is gone, does not answer in time, or
    // the line is broken; nothing more can be sent.
    virtual Status exchange(htp_message& message, const Watch& watch, Reason& reason) = 0;
    // Before MAP and after UNMAP of this memory.
    virtual Status announce(const SharedMemory&, Reason&) { return Status::ok; }
    virtual void retract(const SharedMemory&) {}
};

// Where memory and sessions come from.
class Line {
  public:
    virtual ~Line() = default;
    virtual const char* device_name() const = 0;       // "htp", "htp:sim"
    virtual void describe(JsonObject& out) const = 0;  // adds "transport": "sim", ...
    virtual std::unique_ptr<SharedMemory> allocate(size_t bytes, Status& status,
                                                   Reason& reason) = 0;
    virtual std::unique_ptr<Transport> connect(int session, Status& status, Reason& reason) = 0;
    virtual size_t address_space() const = 0;  // bytes one session can map
    virtual int sessions_max() const = 0;
    virtual bool is_emulated() const = 0;
};

std::unique_ptr<Line> open_fastrpc(Status& status, Reason& reason);
// The child's command line is PILLION_HTP_SIM, or the program beside this module.
std::unique_ptr<Line> open_sim(Status& status, Reason& reason);

// As it stands between the quotes of a JSON text.

// Milliseconds a message may take: PILLION_HTP_TIMEOUT (seconds), else a minute: far more than a
// run takes, short enough to be noticed.
int timeout_ms();
// PILLION_HTP_SPACE (MB): a smaller address space than the device's, for tests of the session
// planner.
size_t address_space_or(size_t bytes);

}  // namespace pillion::htp

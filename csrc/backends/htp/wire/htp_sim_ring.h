// The simulator's transport: one shared control block between the host and the child process that
// plays the DSP. FastRPC does not see this file.
//
// The child is started as `[emulator words] pillion_htp_sim CONTROL`, CONTROL being a path it can
// open and map (a file in /dev/shm or /proc/<host pid>/fd/<n>). Buffers come by HTP_MSG_MAP: the
// child opens /proc/<host pid>/fd/<fd>, host pid being its parent.
//
// `submitted` and `completed` are free-running counts and futex words (not private). The host fills
// slot submitted % slots, adds one to `submitted` and wakes; the DSP answers in the slot, adds one
// to `completed` and wakes. The child leaves on HTP_MSG_STOP and when its parent is gone (looked at
// twice a second while idle); a child that dies is seen by the host through its process. What the
// child has to say before it can answer goes to its stderr, one line.
#ifndef PILLION_HTP_SIM_RING_H
#define PILLION_HTP_SIM_RING_H

#include "backends/htp/wire/htp_wire.h"

enum { HTP_SIM_MAGIC = 0x53505448 /* "HTPS" */, HTP_SIM_SLOTS = 32 };

enum htp_fault {
    HTP_FAULT_NONE = 0,
    HTP_FAULT_FAIL = 1,  // the op answers HTP_INJECTED
    HTP_FAULT_DIE = 2,   // the process ends with status 86 before the op
    HTP_FAULT_SLEEP = 3  // fault_ms before the op; the run then goes on
};

enum htp_counter {
    HTP_COUNT_USECS = 0,
    HTP_COUNT_PACKETS =
        1,  // what one thread executed; 0 where nobody counts it (only qemu-hexagon does)
    HTP_COUNT_INSTRUCTIONS = 2,
    HTP_COUNT_HVX = 3
};

struct htp_sim_control {
    // written by the host before the child starts
    uint32_t magic, version, slots, threads;
    uint32_t vtcm_bytes;  // size of the pretended VTCM
    uint32_t
        counter;  // htp_counter: what the profile of a run holds, op by op; may change between runs
    uint32_t reserved0[10];
    // faults, at any time: after fault_runs more runs have begun (0: the next one), before op
    // fault_op of that run; then the DSP sets `fault` back to none
    uint32_t fault, fault_runs, fault_op, fault_ms;
    uint32_t reserved1[12];
    uint32_t submitted, reserved2[31];
    uint32_t completed;
    uint32_t ready;  // 1 when the child serves (futex word)
    uint32_t reserved3[30];
    struct htp_message slot[HTP_SIM_SLOTS];
};
HTP_ASSERT(sizeof(struct htp_sim_control) == 384 + 128 * HTP_SIM_SLOTS, "sim: control block");

#endif

// The few calls that go over FastRPC itself: everything else is a htp_message in a dspqueue, one
// packet a message, answered by one packet. Errors of these calls are AEE codes; those that the DSP
// returns carry its offset, 0x80000400. The DSP library exports HTP_RPC_ENTRY, called with the
// method's number and its buffers; open (0) and close (1) are FastRPC's own. No IDL compiler is
// involved: both sides are ours, and each method has one in buffer, the struct.
//
// Caches: packets of kinds PREPARE and RUN carry references to what the host wrote, flagged to be
// flushed there and invalidated here. What the DSP wrote (outputs, caches of keys and values,
// StepState.status) it flushes before it answers.
//
// A packet with sequence 0, which no message has, answers none: the DSP can't read its queue and
// leaves it, and answer.value is why.
#ifndef PILLION_HTP_FASTRPC_H
#define PILLION_HTP_FASTRPC_H

#include "backends/htp/wire/htp_wire.h"

#define HTP_RPC_ENTRY "pillion_htp_skel_handle_invoke"

enum htp_rpc_method { HTP_RPC_START = 2, HTP_RPC_STOP = 3 };

// Of one direction; buffer references in a packet, which is the most a dspqueue takes and enough
// for every block once.
enum { HTP_RPC_QUEUE_BYTES = 64 * 1024, HTP_RPC_RANGES_MAX = 64 };
HTP_ASSERT(HTP_RPC_RANGES_MAX >= HTP_BUFFERS_MAX, "wire: a packet names every chunk");

struct htp_rpc_start {
    uint64_t queue;    // id to import
    uint32_t version;  // HTP_WIRE_VERSION; another one is refused with AEE_EVERSIONNOTSUPPORT
    uint32_t threads;  // 0: as many as the DSP has HVX contexts
};
HTP_ASSERT(sizeof(struct htp_rpc_start) == 16, "wire: start");

#endif

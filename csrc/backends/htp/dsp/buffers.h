// The host's buffers as a session sees them, and the one place that turns "buffer, offset, bytes"
// into an address.
#ifndef PILLION_DSP_BUFFERS_H
#define PILLION_DSP_BUFFERS_H

#include "backends/htp/wire/htp_sizes.h"

// Why something is refused or failed; becomes htp_answer. Plain C's counterpart of core/result.h.
struct dsp_why {
    int32_t why, op, operand;
    uint32_t value, limit;
};

struct dsp_buffer {
    uint8_t* base;  // null: not mapped
    uint32_t bytes;
    int fd;
};

static inline int dsp_refuse(struct dsp_why* w, int32_t why, uint32_t value, uint32_t limit) {
    w->why = why;
    w->value = value;
    w->limit = limit;
    return HTP_REFUSED;
}

// Bytes [offset, offset + bytes) of a buffer out of HTP_BUFFERS_MAX, HTP_SLACK left behind them,
// `align`ed; null with the reason.
uint8_t* buffer_bytes(const struct dsp_buffer* buffers, uint32_t buffer, uint64_t offset,
                      uint64_t bytes, uint32_t align, struct dsp_why* why);

#endif

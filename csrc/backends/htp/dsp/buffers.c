#include "backends/htp/dsp/buffers.h"

uint8_t* buffer_bytes(const struct dsp_buffer* buffers, uint32_t buffer, uint64_t offset,
                      uint64_t bytes, uint32_t align, struct dsp_why* why) {
    if (buffer >= HTP_BUFFERS_MAX || !buffers[buffer].base)
        return dsp_refuse(why, HTP_WHY_BUFFER, buffer, HTP_BUFFERS_MAX), (uint8_t*)0;
    const struct dsp_buffer* b = &buffers[buffer];
    const uint64_t end = offset + bytes, usable = b->bytes - HTP_SLACK;
    if (offset % align)
        return dsp_refuse(why, HTP_WHY_ALIGNMENT, (uint32_t)offset, align), (uint8_t*)0;
    if (bytes > usable || end > usable)
        return dsp_refuse(why, HTP_WHY_BOUNDS, end > 0xFFFFFFFFu ? 0xFFFFFFFFu : (uint32_t)end,
                          (uint32_t)usable),
               (uint8_t*)0;
    return b->base + offset;
}

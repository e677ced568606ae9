#pragma once
#include <stdint.h>

#include "AEEStdErr.h"
struct dspqueue;
typedef struct dspqueue* dspqueue_t;
struct dspqueue_buffer {
    uint32_t fd, size, offset, flags;
    union {
        void* ptr;
        uint64_t address;
    };
};
typedef void (*dspqueue_callback_t)(dspqueue_t queue, AEEResult error, void* context);
AEEResult dspqueue_import(uint64_t queue_id, dspqueue_callback_t packet_callback,
                          dspqueue_callback_t error_callback, void* callback_context,
                          dspqueue_t* queue);
AEEResult dspqueue_close(dspqueue_t queue);
AEEResult dspqueue_write(dspqueue_t queue, uint32_t flags, uint32_t num_buffers,
                         struct dspqueue_buffer* buffers, uint32_t message_length,
                         const uint8_t* message, uint32_t timeout_us);
AEEResult dspqueue_read(dspqueue_t queue, uint32_t* flags, uint32_t max_buffers,
                        uint32_t* num_buffers, struct dspqueue_buffer* buffers,
                        uint32_t max_message_length, uint32_t* message_length, uint8_t* message,
                        uint32_t timeout_us);

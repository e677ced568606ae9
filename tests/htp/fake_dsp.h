// The interface between the two halves of the fake: the driver (fake_cdsprpc.c) and the DSP's
// system (fake_dsp_system.c), which the DSP's library links.
#pragma once
#include <stdint.h>

struct fake_queue;
struct fake_queue* fake_queue_new(int session, uint64_t id);
void fake_queue_free(struct fake_queue* q);
void fake_queue_die(struct fake_queue* q);  // its process ends: the DSP's waits fail
int fake_queue_is_imported(struct fake_queue* q);
void fake_queue_fail(struct fake_queue* q, int error);  // of the DSP's next read
void fake_queue_push(struct fake_queue* q, const void* message, uint32_t bytes, uint32_t n_buffers);
int fake_queue_pull(struct fake_queue* q, void* message, uint32_t most, uint32_t* bytes,
                    uint32_t timeout_us);  // 1: an answer, 0: none in time

void fake_call_into(int session);  // what this thread calls on the DSP is of this session
// Memory of an fd that the session has mapped, or null; and letting go of it: 0, or -1: it is not
// held.
void fake_memory(void* (*get)(int session, int fd), int (*put)(int session, int fd));

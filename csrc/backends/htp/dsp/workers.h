// The threads of a session, one per HVX context. Only one thread at a time may call workers_run.
#ifndef PILLION_DSP_WORKERS_H
#define PILLION_DSP_WORKERS_H

#include <pthread.h>

// The deepest chain of frames (panel_range and a format's kernel) takes 13 KB. QuRT's default has
// been 8 KB.
#ifdef __SANITIZE_ADDRESS__
// AddressSanitizer's frames are many times as large.
enum { HTP_STACK_BYTES = 4 << 20 };
#else
enum { HTP_STACK_BYTES = 128 << 10 };
#endif

// One part of a task. Parts 0 .. parts - 1 run at the same time, each once, on any thread.
typedef void (*htp_task)(void* args, unsigned part, unsigned parts);

// Returns how many threads there are, the caller included: 1 .. HTP_THREADS_MAX.
unsigned workers_start(unsigned n);
unsigned workers_count(void);
// Returns when all parts are done.
void workers_run(htp_task task, void* args, unsigned parts);
void workers_stop(void);

// Starts a thread with a stack for ops. Returns 0, or -1 if the system has no thread.
int workers_thread(pthread_t* thread, void* (*run)(void*), void* argument);

#endif

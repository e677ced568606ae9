// The threads of a session: one per HVX context. Only one thread may call workers_run at a time.
#ifndef PILLION_DSP_WORKERS_H
#define PILLION_DSP_WORKERS_H

#include <pthread.h>

// The deepest chain of frames (panel_range and a format's kernel) takes 13 KB; QuRT's default has
// been 8.
#ifdef __SANITIZE_ADDRESS__
enum { HTP_STACK_BYTES = 4 << 20 };  // AddressSanitizer's frames are many times as large
#else
enum { HTP_STACK_BYTES = 128 << 10 };
#endif

// One part of a task; parts 0 .. parts - 1 run at the same time, each once, on any thread.
typedef void (*htp_task)(void* args, unsigned part, unsigned parts);

unsigned workers_start(
    unsigned n);  // returns how many there are, the caller included: 1 .. HTP_THREADS_MAX
unsigned workers_count(void);
void workers_run(htp_task task, void* args, unsigned parts);  // returns when all parts are done
void workers_stop(void);

// A thread with a stack that ops fit; 0, or -1: the system gives none.
int workers_thread(pthread_t* thread, void* (*run)(void*), void* argument);

#endif

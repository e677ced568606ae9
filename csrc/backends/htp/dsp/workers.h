// The threads of a session: one per HVX context. Only one thread may call workers_run at a time.
#ifndef PILLION_DSP_WORKERS_H
#define PILLION_DSP_WORKERS_H

#include <pthread.h>

// One part of a task; parts 0 .. parts - 1 run at the same time, each once, on any thread.
typedef void (*htp_task)(void* args, unsigned part, unsigned parts);

// A thread that may run parts: panel_range alone has 10 KB of locals, and QuRT's threads have 16 KB unless told. 0, or an error number.
enum { WORKER_STACK = 256 << 10 };
int workers_thread(pthread_t* thread, void* (*run)(void*), void* args);

unsigned workers_start(unsigned n);    // returns how many there are, the caller included: 1 .. HTP_THREADS_MAX
unsigned workers_count(void);
void workers_run(htp_task task, void* args, unsigned parts);    // returns when all parts are done
void workers_stop(void);

#endif

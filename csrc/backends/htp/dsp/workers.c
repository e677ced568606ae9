// Threads by pthreads: in the emulator each guest thread is a host thread, and QuRT has pthreads
// too. A device build may put qurt_thread_create behind the same four functions, for stack
// placement and priorities.
#include "backends/htp/dsp/workers.h"

#include <stdint.h>

#include "backends/htp/wire/htp_wire.h"

static pthread_t threads[HTP_THREADS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t start = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static unsigned count = 1, round_no, running, leave;
static struct {
    htp_task task;
    void* args;
    unsigned parts, next;
} job;

// Takes parts until all are taken. A part's result does not depend on the thread that runs it.
static void take_parts(void) {
    const htp_task task = job.task;
    void* const args = job.args;
    const unsigned parts = job.parts;
    for (;;) {
        const unsigned part = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED);
        if (part >= parts) return;
        task(args, part, parts);
    }
}

static void* worker(void* unused) {
    unsigned seen = 0;
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (round_no == seen) pthread_cond_wait(&start, &lock);
        seen = round_no;
        const unsigned stop = leave;
        pthread_mutex_unlock(&lock);
        if (stop) return 0;
        take_parts();
        pthread_mutex_lock(&lock);
        if (--running == 0) pthread_cond_signal(&done);
        pthread_mutex_unlock(&lock);
    }
}

static void begin(htp_task task, void* args, unsigned parts) {
    pthread_mutex_lock(&lock);
    job.task = task;
    job.args = args;
    job.parts = parts;
    job.next = 0;
    running = count - 1;
    round_no++;
    pthread_cond_broadcast(&start);
    pthread_mutex_unlock(&lock);
}

int workers_thread(pthread_t* thread, void* (*run)(void*), void* argument) {
    pthread_attr_t a;
    if (pthread_attr_init(&a)) return -1;
    const int e =
        pthread_attr_setstacksize(&a, HTP_STACK_BYTES) || pthread_create(thread, &a, run, argument);
    (void)pthread_attr_destroy(&a);
    return e ? -1 : 0;
}

unsigned workers_start(unsigned n) {
    const unsigned wanted = n < 1 ? 1 : n > HTP_THREADS_MAX ? HTP_THREADS_MAX : n;
    round_no = 0;  // no other thread runs yet
    leave = 0;
    for (count = 1; count < wanted; count++)
        if (workers_thread(&threads[count], worker, 0)) break;
    return count;
}

unsigned workers_count(void) { return count; }

void workers_run(htp_task task, void* args, unsigned parts) {
    if (count == 1 || parts == 1) {
        for (unsigned part = 0; part < parts; part++) task(args, part, parts);
        return;
    }
    begin(task, args, parts);
    take_parts();
    pthread_mutex_lock(&lock);
    while (running) pthread_cond_wait(&done, &lock);
    pthread_mutex_unlock(&lock);
}

void workers_stop(void) {
    leave = 1;
    begin(0, 0, 0);
    for (unsigned i = 1; i < count; i++) pthread_join(threads[i], 0);
    count = 1;
}

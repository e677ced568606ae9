// A fake of the DSP's system, for the device library built for this PC: the functions of Qualcomm's
// SDK that the library calls, with the names and types of tests/htp/sdk. It holds the DSP's end of
// the queues, and finds memory in the mappings of the driver's half.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "HAP_compute_res.h"
#include "HAP_mem.h"
#include "HAP_perf.h"
#include "HAP_power.h"
#include "dspqueue.h"
#include "fake_dsp.h"
#include "qurt.h"

enum { QUEUES_MAX = 64, MESSAGE_MAX = 256, VTCM_BYTES = 1 << 20 };

struct packet {
    int is_there;
    uint32_t bytes, n_buffers;
    uint8_t message[MESSAGE_MAX];
};
struct fake_queue {
    uint64_t id;
    int session, is_imported, is_dead, error;
    struct packet request, response;
    pthread_mutex_t lock;
    pthread_cond_t change;
};

static struct fake_queue* g_queues[QUEUES_MAX];
static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int t_session;
static void* (*g_get)(int session, int fd);
static int (*g_put)(int session, int fd);

// Until the packet is there, the queue is dead, or the time is over; under the queue's lock. 1: it
// is there.
static int wait_for(struct fake_queue* q, const struct packet* p, uint32_t us) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += us / 1000000;
    end.tv_nsec += (long)(us % 1000000) * 1000;
    if (end.tv_nsec >= 1000000000) end.tv_sec++, end.tv_nsec -= 1000000000;
    while (!p->is_there && !q->is_dead)
        if (pthread_cond_timedwait(&q->change, &q->lock, &end)) break;
    return p->is_there && !q->is_dead;
}

static void put(struct fake_queue* q, struct packet* p, const void* message, uint32_t bytes,
                uint32_t n_buffers) {
    pthread_mutex_lock(&q->lock);
    *p = (struct packet){1, bytes, n_buffers, {0}};
    memcpy(p->message, message, bytes);
    pthread_cond_broadcast(&q->change);
    pthread_mutex_unlock(&q->lock);
}

// --- the driver's half ---

struct fake_queue* fake_queue_new(int session, uint64_t id) {
    struct fake_queue* q = calloc(1, sizeof *q);
    q->session = session, q->id = id;
    pthread_mutex_init(&q->lock, 0);
    pthread_cond_init(&q->change, 0);
    pthread_mutex_lock(&g_lock);
    for (int i = 0; i < QUEUES_MAX; i++)
        if (!g_queues[i]) {
            g_queues[i] = q;
            break;
        }
    pthread_mutex_unlock(&g_lock);
    return q;
}
void fake_queue_free(struct fake_queue* q) {  // only from the list: a thread of a process that died
                                              // may still look at it
    pthread_mutex_lock(&g_lock);
    for (int i = 0; i < QUEUES_MAX; i++)
        if (g_queues[i] == q) g_queues[i] = 0;
    pthread_mutex_unlock(&g_lock);
}
void fake_queue_die(struct fake_queue* q) {
    pthread_mutex_lock(&q->lock);
    q->is_dead = 1;
    pthread_cond_broadcast(&q->change);
    pthread_mutex_unlock(&q->lock);
}
void fake_queue_fail(struct fake_queue* q, int error) { q->error = error; }
int fake_queue_is_imported(struct fake_queue* q) { return q->is_imported; }
void fake_queue_push(struct fake_queue* q, const void* message, uint32_t bytes, uint32_t n) {
    put(q, &q->request, message, bytes, n);
}
int fake_queue_pull(struct fake_queue* q, void* message, uint32_t most, uint32_t* bytes,
                    uint32_t timeout_us) {
    pthread_mutex_lock(&q->lock);
    const int is_there = wait_for(q, &q->response, timeout_us) && q->response.bytes <= most;
    if (is_there)
        memcpy(message, q->response.message, *bytes = q->response.bytes), q->response.is_there = 0;
    pthread_mutex_unlock(&q->lock);
    return is_there;
}
void fake_call_into(int session) { t_session = session; }
void fake_memory(void* (*get)(int session, int fd), int (*put_back)(int session, int fd)) {
    g_get = get, g_put = put_back;
}

// --- dspqueue.h, on the DSP ---

AEEResult dspqueue_import(uint64_t id, dspqueue_callback_t packet, dspqueue_callback_t error,
                          void* context, dspqueue_t* queue) {
    (void)error, (void)context;
    for (int i = 0; i < QUEUES_MAX; i++)
        if (g_queues[i] && g_queues[i]->id == id && !g_queues[i]->is_imported && !packet) {
            g_queues[i]->is_imported = 1;
            *queue = (dspqueue_t)g_queues[i];
            return AEE_SUCCESS;
        }
    return (int)AEE_EBADPARM;
}
AEEResult dspqueue_close(dspqueue_t queue) { return ((struct fake_queue*)queue)->is_imported = 0; }

AEEResult dspqueue_read(dspqueue_t queue, uint32_t* flags, uint32_t max_buffers,
                        uint32_t* num_buffers, struct dspqueue_buffer* buffers, uint32_t max_length,
                        uint32_t* length, uint8_t* message, uint32_t timeout_us) {
    struct fake_queue* q = (struct fake_queue*)queue;
    t_session = q->session;
    pthread_mutex_lock(&q->lock);
    int e = 0;
    if (!wait_for(q, &q->request, timeout_us))
        e = q->is_dead ? (int)(AEE_EOFFSET + 0x0D) : (int)AEE_EEXPIRED;
    else if (q->error) e = q->error;
    else if (q->request.n_buffers > max_buffers || q->request.bytes > max_length)
        e = (int)AEE_EBADPARM;
    if (!e) {
        memcpy(message, q->request.message, q->request.bytes);
        memset(buffers, 0, q->request.n_buffers * sizeof *buffers);
        *flags = 0x10 | 1, *num_buffers = q->request.n_buffers, *length = q->request.bytes;
        q->request.is_there = 0;
    }
    pthread_mutex_unlock(&q->lock);
    return e;
}

AEEResult dspqueue_write(dspqueue_t queue, uint32_t flags, uint32_t num_buffers,
                         struct dspqueue_buffer* buffers, uint32_t length, const uint8_t* message,
                         uint32_t timeout_us) {
    (void)buffers, (void)timeout_us;
    if (flags || num_buffers || length > MESSAGE_MAX) return (int)AEE_EBADPARM;
    put((struct fake_queue*)queue, &((struct fake_queue*)queue)->response, message, length, 0);
    return AEE_SUCCESS;
}

// --- memory, time, caches, power, VTCM ---

int HAP_mmap_get(int fd, void** vaddr, uint64* paddr) {
    *vaddr = g_get(t_session, fd), *paddr = 0;
    return *vaddr ? AEE_SUCCESS : (int)(AEE_EOFFSET + 0x48);
}
int HAP_mmap_put(int fd) { return g_put(t_session, fd); }

uint64 HAP_perf_get_qtimer_count(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64)t.tv_sec * 19200000u + (uint64)t.tv_nsec * 192 / 10000;
}
uint64 HAP_perf_qtimer_count_to_us(uint64 count) { return count * 10 / 192; }

int qurt_mem_cache_clean(qurt_addr_t address, qurt_size_t size, qurt_mem_cache_op_t opcode,
                         qurt_mem_cache_type_t type) {
    (void)address, (void)size;
    return opcode == QURT_MEM_CACHE_FLUSH && type == QURT_MEM_DCACHE ? 0 : 1;
}
int qurt_hvx_get_units(void) { return 2 << 8 | 1; }

int HAP_power_set(void* context, HAP_power_request_t* request) {
    (void)request;
    return context ? 0 : 1;
}

int HAP_compute_res_attr_init(compute_res_attr_t* attributes) {
    return memset(attributes, 0, sizeof *attributes), 0;
}
int HAP_compute_res_attr_set_serialize(compute_res_attr_t* attributes, unsigned char serialize) {
    return (void)attributes, serialize;
}
int HAP_compute_res_attr_set_vtcm_param(compute_res_attr_t* attributes, unsigned size,
                                        unsigned char single_page) {
    attributes->parameters[0] = size;
    return single_page != 1;
}
void* HAP_compute_res_attr_get_vtcm_ptr(compute_res_attr_t* attributes) {
    return (void*)(uintptr_t)attributes->parameters[1];
}
static void* g_vtcm[QUEUES_MAX];
unsigned HAP_compute_res_acquire(compute_res_attr_t* attributes, unsigned timeout_us) {
    (void)timeout_us;
    for (unsigned i = 0; i < QUEUES_MAX; i++)
        if (!g_vtcm[i] && attributes->parameters[0] <= VTCM_BYTES) {
            g_vtcm[i] = aligned_alloc(4096, (attributes->parameters[0] + 4095) / 4096 * 4096);
            attributes->parameters[1] = (uintptr_t)g_vtcm[i];
            return i + 1;
        }
    return 0;
}
int HAP_compute_res_release(unsigned context) {
    return free(g_vtcm[context - 1]), g_vtcm[context - 1] = 0, 0;
}
int HAP_compute_res_query_VTCM(unsigned application, unsigned* total,
                               compute_res_vtcm_page_t* total_layout, unsigned* available,
                               compute_res_vtcm_page_t* available_layout) {
    (void)application;
    memset(total_layout, 0, sizeof *total_layout),
        memset(available_layout, 0, sizeof *available_layout);
    *total = 8u << 20, *available = VTCM_BYTES;
    return 0;
}

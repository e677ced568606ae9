// A libcdsprpc that plays driver and DSP in the process that opens it: the functions that the host opens at run time, over the DSP's own
// sources built for the PC. Behaves as FAKE_CDSPRPC says, words "name=number" apart by commas; codes are AEE codes as the driver gives them:
//   arch=0x73       the architecture it tells, as the driver's number          unsigned=0     no unsigned process domains
//   unsigned_error= of the request for one          open_error= of opening the program          start_error= of its first call
//   reserve_error=  of a second session             mmap_error= of mapping memory               sessions=1   how many there may be
//   lose=N          the N-th run is not answered: the queue's error callback is called with `lose_error` (104) and all calls fail after it
//   hang=N          the N-th run is never answered
//   version=N       the program accepts this wire version only
// FAKE_CDSPRPC_LOG names a file that gets a line a call. Memory must be announced (fastrpc_mmap) before the DSP may map it.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backends/htp/dsp/session.h"
#include "backends/htp/dsp/vtcm.h"
#include "backends/htp/dsp/workers.h"
#include "backends/htp/wire/htp_fastrpc.h"

enum { MEMORY_MAX = 256, SESSIONS_MAX = 8, ECONNRESET_DSP = 104, EEXPIRED = 0x0C, ENOSUCHMAP = 0x48, EBADPARM = 0x0E, EVERSION = 0x04 };
enum { FIRST_DOMAIN = 3, RESERVED_DOMAIN = 16 };

struct memory { void* host; size_t bytes; int fd; };

typedef void (*queue_callback)(void* queue, int error, void* context);
struct queue {
    int session;
    queue_callback error;
    void* context;
    struct htp_message answer;
    int has_answer;
};

struct session {
    int is_open, is_started;
    int mapped[MEMORY_MAX];    // by memory: announced
    struct dsp_session dsp;
};

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static struct memory g_memory[MEMORY_MAX];
static struct session g_session[SESSIONS_MAX];
static int g_reserved, g_runs, g_lost, g_workers, g_current;

static long setting(const char* name, long otherwise) {
    const char* text = getenv("FAKE_CDSPRPC");
    char key[64];
    snprintf(key, sizeof key, "%s=", name);
    for (const char* at = text; at && *at; at = strchr(at, ','), at = at ? at + 1 : 0)
        if (strncmp(at, key, strlen(key)) == 0) return strtol(at + strlen(key), 0, 0);
    return otherwise;
}

__attribute__((format(printf, 1, 2))) static void note(const char* format, ...) {
    const char* path = getenv("FAKE_CDSPRPC_LOG");
    FILE* f = path ? fopen(path, "a") : 0;
    if (!f) return;
    va_list args;
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    fputc('\n', f);
    fclose(f);
}

static int session_of(int domain) { return domain == FIRST_DOMAIN ? 0 : domain - RESERVED_DOMAIN + 1; }

static int memory_of_fd(int fd) {
    for (int i = 0; i < MEMORY_MAX; i++)
        if (g_memory[i].host && g_memory[i].fd == fd) return i;
    return -1;
}

// --- what the DSP's sources ask of their platform ---

uint8_t* platform_map(const struct htp_map* m) {
    const int i = memory_of_fd(m->fd);
    if (i < 0 || !g_session[g_current].mapped[i] || m->bytes > g_memory[i].bytes) return 0;
    return g_memory[i].host;
}
void platform_unmap(uint8_t* base, uint32_t bytes) { (void)base, (void)bytes; }
uint32_t platform_usecs(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)(t.tv_sec * 1000000 + t.tv_nsec / 1000);
}
int32_t platform_before_op(uint32_t op) { return (void)op, HTP_OK; }
void platform_run_begins(void) {}

// --- rpcmem ---

void* rpcmem_alloc2(int heap, uint32_t flags, size_t bytes) {
    if (heap != 25 || flags != 1) return 0;
    pthread_mutex_lock(&g_lock);
    void* p = 0;
    for (int i = 0; i < MEMORY_MAX && !p; i++) {
        if (g_memory[i].host) continue;
        const int fd = memfd_create("fake-rpcmem", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, (off_t)bytes)) break;
        p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) p = 0;
        if (p) g_memory[i] = (struct memory){p, bytes, fd};
    }
    pthread_mutex_unlock(&g_lock);
    return p;
}
void* rpcmem_alloc(int heap, uint32_t flags, int bytes) { return rpcmem_alloc2(heap, flags, (size_t)bytes); }
void rpcmem_free(void* p) {
    pthread_mutex_lock(&g_lock);
    for (int i = 0; i < MEMORY_MAX; i++)
        if (g_memory[i].host == p && p) {
            for (int s = 0; s < SESSIONS_MAX; s++)
                if (g_session[s].mapped[i]) note("memory freed while session %d has it", s);
            munmap(p, g_memory[i].bytes);
            close(g_memory[i].fd);
            g_memory[i] = (struct memory){0};
        }
    pthread_mutex_unlock(&g_lock);
}
int rpcmem_to_fd(void* p) {
    for (int i = 0; i < MEMORY_MAX; i++)
        if (g_memory[i].host == p && p) return g_memory[i].fd;
    return -1;
}

int fastrpc_mmap(int domain, int fd, void* address, int offset, size_t bytes, int flags) {
    const int i = memory_of_fd(fd), e = (int)setting("mmap_error", 0);
    note("mmap domain %d bytes %zu flags %d", domain, bytes, flags);
    if (e) return e;
    if (i < 0 || address != g_memory[i].host || offset || bytes != g_memory[i].bytes || flags != 3) return EBADPARM;
    g_session[session_of(domain)].mapped[i] = 1;
    return 0;
}
int fastrpc_munmap(int domain, int fd, void* address, size_t bytes) {
    const int i = memory_of_fd(fd);
    note("munmap domain %d bytes %zu", domain, bytes);
    if (i < 0 || address != g_memory[i].host || !g_session[session_of(domain)].mapped[i]) return ENOSUCHMAP;
    g_session[session_of(domain)].mapped[i] = 0;
    return 0;
}

// --- sessions ---

int remote_handle_control(uint32_t request, void* data, uint32_t bytes) {
    struct { uint32_t domain, attribute, capability; }* c = data;
    if (request != 2 || bytes != sizeof *c || c->domain != FIRST_DOMAIN) return EBADPARM;
    if (c->attribute == 6) c->capability = (uint32_t)setting("arch", 0x8873);
    else if (c->attribute == 1) c->capability = (uint32_t)setting("unsigned", 1);
    else return EBADPARM;
    return 0;
}

int remote_session_control(uint32_t request, void* data, uint32_t bytes) {
    struct reserve { char* domain; uint32_t n_domain; char* name; uint32_t n_name; uint32_t effective, session; };
    struct uri { char* domain; uint32_t n_domain, session; char* module; uint32_t n_module; char* uri; uint32_t n_uri; };
    note("session control %u", request);
    if (request == 2 && bytes == 8) return (int)setting("unsigned_error", 0);
    if (request == 6) return 0;
    if (request == 13 && bytes == sizeof(struct reserve)) {
        struct reserve* r = data;
        if (setting("reserve_error", 0)) return (int)setting("reserve_error", 0);
        if (g_reserved + 1 >= setting("sessions", 4)) return 0x73;
        r->session = (uint32_t)++g_reserved;
        r->effective = RESERVED_DOMAIN + r->session - 1;
        return 0;
    }
    if (request == 15 && bytes == sizeof(struct uri)) {
        struct uri* u = data;
        snprintf(u->uri, u->n_uri, "%.*s&_dom=%.*s&_session=%u", (int)u->n_module, u->module, (int)u->n_domain, u->domain, u->session);
        return 0;
    }
    return EBADPARM;
}

int remote_handle64_open(const char* uri, uint64_t* handle) {
    const char* at = strstr(uri, "&_session=");
    const int session = at ? atoi(at + 10) : 0;
    note("open %s", uri);
    if (setting("open_error", 0)) return (int)setting("open_error", 0);
    if (strncmp(uri, "file:///libpillion_htp_v", 24) != 0 || !strstr(uri, "?" HTP_RPC_ENTRY "&_modver=1.0")) return EBADPARM;
    pthread_mutex_lock(&g_lock);
    if (!g_workers) g_workers = 1, workers_start(2), vtcm_open(1 << 20);
    g_lost = 0;    // a new process
    pthread_mutex_unlock(&g_lock);
    if (session >= SESSIONS_MAX || g_session[session].is_open) return 0x20;
    g_session[session].is_open = 1;
    session_begin(&g_session[session].dsp);
    *handle = (uint64_t)session + 1000;
    return 0;
}
int remote_handle64_close(uint64_t handle) {
    struct session* s = &g_session[handle - 1000];
    note("close session %d", (int)(handle - 1000));
    session_end(&s->dsp);
    s->is_open = s->is_started = 0;
    return 0;
}
int remote_handle64_control(uint64_t handle, uint32_t request, void* data, uint32_t bytes) {
    return (void)data, handle < 1000 || request != 1 || bytes != 8 ? EBADPARM : 0;
}

int remote_handle64_invoke(uint64_t handle, uint32_t scalars, void* arguments) {
    struct { void* data; size_t bytes; }* buffer = arguments;
    struct session* s = &g_session[handle - 1000];
    if (g_lost) return ECONNRESET_DSP;
    if (scalars >> 24 == HTP_RPC_STOP) return s->is_started = 0;
    if (scalars != (HTP_RPC_START << 24 | 1 << 16) || buffer->bytes != sizeof(struct htp_rpc_start)) return EBADPARM;
    if (setting("start_error", 0)) return (int)setting("start_error", 0);
    struct htp_rpc_start start;
    memcpy(&start, buffer->data, sizeof start);
    if (start.version != setting("version", HTP_WIRE_VERSION)) return EVERSION;
    if (start.queue != (uint64_t)(handle - 1000) + 77) return EBADPARM;
    return s->is_started = 1, 0;
}

// --- queues ---

int dspqueue_create(int domain, uint32_t flags, uint32_t request, uint32_t response, queue_callback packet, queue_callback error, void* context,
                    void** queue) {
    struct queue* q = calloc(1, sizeof *q);
    if (!q || flags || packet || request < 4096 || response < 4096) return EBADPARM;
    q->session = session_of(domain), q->error = error, q->context = context;
    *queue = q;
    return 0;
}
int dspqueue_close(void* queue) { return free(queue), 0; }
int dspqueue_export(void* queue, uint64_t* id) { return *id = (uint64_t)((struct queue*)queue)->session + 77, 0; }

int dspqueue_write(void* queue, uint32_t flags, uint32_t n_buffers, void* buffers, uint32_t bytes, const uint8_t* message, uint32_t timeout_us) {
    struct buffer { uint32_t fd, size, offset, flags; uint64_t address; }* b = buffers;
    struct queue* q = queue;
    (void)timeout_us;
    if (g_lost) return ECONNRESET_DSP;
    if (flags || bytes != sizeof(struct htp_message) || !g_session[q->session].is_started) return EBADPARM;
    for (uint32_t i = 0; i < n_buffers; i++) {
        const int m = memory_of_fd((int)b[i].fd);
        if (m < 0 || !g_session[q->session].mapped[m] || (uint64_t)b[i].offset + b[i].size > g_memory[m].bytes) return ENOSUCHMAP;
        if (b[i].flags != 0x90 || b[i].address != (uint64_t)(uintptr_t)g_memory[m].host + b[i].offset) return EBADPARM;
    }
    memcpy(&q->answer, message, bytes);
    if (q->answer.kind == HTP_MSG_RUN) {
        g_runs++;
        if (n_buffers == 0) return EBADPARM;    // nothing was handed over
        if (g_runs == setting("hang", -1)) return 0;
        if (g_runs == setting("lose", -1)) {
            g_lost = 1;
            q->error(q, (int)setting("lose_error", ECONNRESET_DSP), q->context);
            return 0;
        }
    }
    pthread_mutex_lock(&g_lock);
    g_current = q->session;
    session_answer(&g_session[q->session].dsp, &q->answer);
    pthread_mutex_unlock(&g_lock);
    q->has_answer = 1;
    return 0;
}

int dspqueue_read(void* queue, uint32_t* flags, uint32_t buffers_max, uint32_t* n_buffers, void* buffers, uint32_t message_max,
                  uint32_t* message_bytes, uint8_t* message, uint32_t timeout_us) {
    struct queue* q = queue;
    (void)buffers, (void)buffers_max;
    if (g_lost) return ECONNRESET_DSP;
    if (!q->has_answer) {
        usleep(timeout_us);
        return EEXPIRED;
    }
    if (message_max < sizeof q->answer) return EBADPARM;
    *flags = 1, *n_buffers = 0, *message_bytes = sizeof q->answer;
    memcpy(message, &q->answer, sizeof q->answer);
    q->has_answer = 0;
    return 0;
}

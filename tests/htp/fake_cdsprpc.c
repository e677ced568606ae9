// A fake libcdsprpc: emulates the driver in the process that opens it, with the functions that the
// host opens at run time. Opening a program loads the DSP's library from ADSP_LIBRARY_PATH, built
// for this PC with its device sources, once for each session, and calls its entry. The fake keeps
// the public driver's rules (docs/hexagon_driver.md) and answers with its codes. FAKE_CDSPRPC
// controls it: words "name=number" separated by commas. Codes are AEE codes as the driver returns
// them:
//   arch=0x73        the reported architecture, as the driver's number
//   unsigned=0       no unsigned process domains
//   unsigned_error=  error of the request for one
//   open_error=      error of opening the program
//   start_error=     error of its first call
//   reserve_error=   error of a second session
//   mmap_error=      error of mapping memory
//   sessions=1       most sessions
//   uri=0            an older system: no FASTRPC_GET_URI
//   space=N          MB that a process can map
//   lose=N           the N-th run is not answered: the queue's error callback is called with
//                    `lose_error` (104) and all calls fail after it
//   hang=N           the N-th run is never answered; killing the process ends that, and calls the
//                    callback with 39
//   silent=1         ... but does not call it
//   interrupt=N      every read is interrupted by a signal N times first
//   dsp_read=N       the DSP can't read the packet of the N-th run, with error `dsp_read_error`
//   version=N        the host's first call reports this version of its wire
// FAKE_CDSPRPC_LOG names a file that gets a line per call; a broken rule is a line that begins with
// "rule". Built with -DNO_ALLOC2 it lacks rpcmem_alloc2, as older systems do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backends/htp/wire/htp_fastrpc.h"
#include "fake_dsp.h"

enum {
    MEMORY_MAX = 256,
    SESSIONS_MAX = 4,
    BUFFERS_MAX = 64,
    MESSAGE_MAX = 65536,
    QUEUE_MAX = 16 << 20
};
enum {
    EFAILED = 0x01,
    EUNABLETOLOAD = 0x06,
    EEXPIRED = 0x0C,
    EBADPARM = 0x0E,
    EUNSUPPORTED = 0x14,
    EALREADY_MAPPED = 0x1A,
    EITEMBUSY = 0x20,
    ENOSUCH = 39,
    EINTERRUPTED = 46,
    ENOSUCHSYMBOL = 0x42,
    ENOSUCHMAP = 0x48,
    EBADSIZE = 0x4D,
    ECONNRESET_DSP = 104,
    EUNSIGNEDMOD = 0x81,
    ENOSESSION = 0x8A,
    ERPC = 0x200
};
enum { CDSP = 3, DOMAINS = 4, FIRST_HANDLE = 1000, FIRST_QUEUE = 77 };
static int dsp_error(int code) { return (int)(0x80000400u + (unsigned)code); }

struct memory {
    void* host;
    size_t bytes;
    int fd;
};

typedef void (*queue_callback)(void* queue, int error, void* context);
struct queue {
    int session;
    queue_callback error;
    void* context;
    pthread_t reporter;
    int is_reporting, reported, interrupts;
    struct fake_queue* packets;
};
union argument {
    struct {
        void* data;
        size_t bytes;
    } buffer;
    uint64_t handle;
};
typedef int (*entry_function)(uint64_t handle, uint32_t scalars, union argument* arguments);

struct session {
    int is_reserved, is_unsigned, is_open, is_started, is_dead;
    int mapped[MEMORY_MAX], held[MEMORY_MAX];  // by memory: mapped by the host, held by the DSP
    struct queue* queue;
    void* library;
    entry_function entry;
    uint64_t remote;  // what the DSP's program gave as its handle
};

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static struct memory g_memory[MEMORY_MAX];
static struct session g_session[SESSIONS_MAX];
static int g_runs;

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

// An effective domain: of the default session the DSP's number, of each further one so many more.
static struct session* session_of(int domain) {
    const int s = (domain - CDSP) / DOMAINS;
    if (domain < CDSP || (domain - CDSP) % DOMAINS || s >= SESSIONS_MAX)
        return note("rule: domain %d", domain), (struct session*)0;
    return &g_session[s];
}

static int memory_of_fd(int fd) {
    for (int i = 0; i < MEMORY_MAX; i++)
        if (g_memory[i].host && g_memory[i].fd == fd) return i;
    return -1;
}

// --- what the DSP's system asks ---

static void* hold(int session, int fd) {
    const int i = memory_of_fd(fd);
    if (i < 0 || !g_session[session].mapped[i]) return 0;
    g_session[session].held[i]++;
    return g_memory[i].host;
}
static int let_go(int session, int fd) {
    const int i = memory_of_fd(fd);
    if (i >= 0 && g_session[session].held[i] > 0) return g_session[session].held[i]--, 0;
    note("rule: the DSP lets go of what it does not hold");
    return -1;
}

// --- rpcmem ---

static void* allocate(int heap, uint32_t flags, size_t bytes) {
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
void* rpcmem_alloc(int heap, uint32_t flags, int bytes) {
    return bytes > 0 ? allocate(heap, flags, (size_t)bytes) : 0;
}
#ifndef NO_ALLOC2
void* rpcmem_alloc2(int heap, uint32_t flags, size_t bytes) { return allocate(heap, flags, bytes); }
#endif
void rpcmem_free(void* p) {
    pthread_mutex_lock(&g_lock);
    for (int i = 0; i < MEMORY_MAX; i++)
        if (g_memory[i].host == p && p) {
            for (int s = 0; s < SESSIONS_MAX; s++)
                if (g_session[s].mapped[i] && !g_session[s].is_dead)
                    note("rule: memory freed while session %d has it", s);
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

// The public driver answers EFAILED to whatever the kernel had against it.
int fastrpc_mmap(int domain, int fd, void* address, int offset, size_t bytes, int flags) {
    const int i = memory_of_fd(fd), e = (int)setting("mmap_error", 0);
    struct session* s = session_of(domain);
    note("mmap domain %d bytes %zu flags %d", domain, bytes, flags);
    if (e) return e;
    if (i < 0 || !s || address != g_memory[i].host || offset || bytes != g_memory[i].bytes ||
        flags != 2)
        return EBADPARM;
    if (!s->is_open || s->is_dead) return EFAILED;
    if (s->mapped[i]) return note("rule: fd %d mapped twice", fd), EALREADY_MAPPED;
    size_t all = bytes;
    for (int k = 0; k < MEMORY_MAX; k++) all += s->mapped[k] ? g_memory[k].bytes : 0;
    if (all >> 20 >= (size_t)setting("space", 4096)) return EFAILED;
    s->mapped[i] = 1;
    return 0;
}
int fastrpc_munmap(int domain, int fd, void* address, size_t bytes) {
    const int i = memory_of_fd(fd);
    struct session* s = session_of(domain);
    note("munmap domain %d bytes %zu", domain, bytes);
    if (i < 0 || !s || address != g_memory[i].host || !s->mapped[i]) return ENOSUCHMAP;
    if (s->is_dead) return EFAILED;  // and forgotten when the session is closed
    if (s->held[i]) return note("rule: unmapped while the DSP holds it"), EBADPARM;
    s->mapped[i] = 0;
    return 0;
}

// --- sessions ---

int remote_handle_control(uint32_t request, void* data, uint32_t bytes) {
    struct { uint32_t domain, attribute, capability; }* c = data;
    if (request != 2 || bytes != sizeof *c || c->domain != CDSP) return EBADPARM;
    if (c->attribute == 6) c->capability = (uint32_t)setting("arch", 0x8873);
    else if (c->attribute == 1) c->capability = (uint32_t)setting("unsigned", 1);
    else return EBADPARM;
    return 0;
}

struct reserve {
    char* domain;
    uint32_t n_domain;
    char* name;
    uint32_t n_name;
    uint32_t effective, session;
};
struct uri {
    char* domain;
    uint32_t n_domain, session;
    char* module;
    uint32_t n_module;
    char* uri;
    uint32_t n_uri;
};

static int reserve(struct reserve* r) {
    if (setting("reserve_error", 0)) return (int)setting("reserve_error", 0);
    if (!r->domain || strcmp(r->domain, "cdsp") || r->n_domain != 4 || !r->name ||
        r->n_name != strlen(r->name))
        return EBADPARM;
    for (int s = 1; s < SESSIONS_MAX && s < setting("sessions", 4); s++) {
        if (g_session[s].is_reserved) continue;
        g_session[s].is_reserved = 1;
        r->session = (uint32_t)s, r->effective = (uint32_t)(CDSP + DOMAINS * s);
        return 0;
    }
    return ENOSESSION;
}

static int make_uri(struct uri* u) {
    if (!setting("uri", 1)) return EUNSUPPORTED;
    if (strcmp(u->domain, "cdsp") || u->n_domain != 4 || u->session >= SESSIONS_MAX ||
        u->n_module != strlen(u->module))
        return EBADPARM;
    const int n = snprintf(0, 0, "%s&_dom=cdsp&_session=%u", u->module, u->session);
    if (u->n_uri <= (uint32_t)n) return EBADSIZE;
    snprintf(u->uri, u->n_uri, "%s&_dom=cdsp&_session=%u", u->module, u->session);
    return 0;
}

static int is_known(struct session* s) { return s && (s == g_session || s->is_reserved); }

static void* report(void* argument) {
    struct queue* q = argument;
    q->error(q, q->reported, q->context);
    return 0;
}
// As the driver does: once for a process, on a thread of its own that closing the queue waits for.
static void die(struct session* s, int error) {
    s->is_dead = 1;
    if (s->queue) fake_queue_die(s->queue->packets);
    if (!s->queue || s->queue->is_reporting || setting("silent", 0)) return;
    s->queue->reported = error;
    s->queue->is_reporting = pthread_create(&s->queue->reporter, 0, report, s->queue) == 0;
}

int remote_session_control(uint32_t request, void* data, uint32_t bytes) {
    const int* words = data;
    note("session control %u", request);
    if (request == 2 && bytes == 8) {
        struct session* s = session_of(words[0]);
        if (setting("unsigned_error", 0)) return (int)setting("unsigned_error", 0);
        if (!is_known(s) || words[1] != 1) return EBADPARM;
        s->is_unsigned = 1;
        return 0;
    }
    if (request == 6 && bytes == 4) {
        struct session* s = session_of(words[0]);
        if (!s || !s->is_open) return ERPC;
        die(s, ENOSUCH);
        return 0;
    }
    if (request == 13 && bytes == sizeof(struct reserve)) return reserve(data);
    if (request == 15 && bytes == sizeof(struct uri)) return make_uri(data);
    return EBADPARM;
}

// Each process on the DSP has the library for itself: a copy is another library to the loader.
static void* load_copy(const char* path) {
    char copy[] = "/tmp/fake-dsp-XXXXXX", piece[1 << 16];
    const int from = open(path, O_RDONLY), to = mkstemp(copy);
    for (ssize_t n; (n = read(from, piece, sizeof piece)) > 0;)
        if (write(to, piece, (size_t)n) != n) break;
    close(from), close(to);
    void* library = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
    if (!library) note("%s does not load: %s", path, dlerror());
    unlink(copy);
    return library;
}

static void* load(const char* name) {
    const char* variable = getenv("DSP_LIBRARY_PATH") ? "DSP_LIBRARY_PATH" : "ADSP_LIBRARY_PATH";
    char folders[4096], path[8192];
    snprintf(folders, sizeof folders, "%s", getenv(variable) ? getenv(variable) : "");
    for (char *rest = folders, *folder; (folder = strsep(&rest, ";"));)
        for (int own = 1; own >= 0; own--) {
            snprintf(path, sizeof path, "%s/%s%s", folder, own ? "cdsp/" : "", name);
            if (*folder && access(path, R_OK) == 0) return load_copy(path);
        }
    return 0;
}

static int call(struct session* s, uint32_t scalars, union argument* arguments) {
    fake_call_into((int)(s - g_session));
    return s->entry(s->remote, scalars, arguments);
}

int remote_handle64_open(const char* uri, uint64_t* handle) {
    char library[128], function[128];
    const char* at = strstr(uri, "&_session=");
    const int session = at ? atoi(at + 10) : 0;
    note("open %s", uri);
    if (setting("open_error", 0)) return (int)setting("open_error", 0);
    if (sscanf(uri, "file:///%127[^?]?%127[^&]", library, function) != 2 ||
        !strstr(uri, "&_modver=1.0&_dom=cdsp"))
        return EBADPARM;
    if (session >= SESSIONS_MAX || !is_known(&g_session[session])) return EBADPARM;
    struct session* s = &g_session[session];
    if (s->is_open) return EITEMBUSY;
    if (!s->is_unsigned) return dsp_error(EUNSIGNEDMOD);
    fake_memory(hold, let_go);
    if (!(s->library = load(library))) return dsp_error(EUNABLETOLOAD);
    if (!(s->entry = (entry_function)dlsym(s->library, function))) return dsp_error(ENOSUCHSYMBOL);
    int32_t length = (int32_t)strlen(uri) + 1;
    union argument arguments[3] = {{.buffer = {&length, sizeof length}},
                                   {.buffer = {(void*)uri, (size_t)length}},
                                   {.handle = 0}};
    const int e = call(s, 0x00020001, arguments);  // method 0: two in buffers, one out handle
    if (e) return e;
    s->remote = arguments[2].handle;
    s->is_open = 1, s->is_dead = s->is_started = 0;
    *handle = (uint64_t)session + FIRST_HANDLE;
    return 0;
}

// The last handle: the process ends, and what the driver knew of its memory with it. A dead one's
// threads may still be in the library.
int remote_handle64_close(uint64_t handle) {
    struct session* s = &g_session[handle - FIRST_HANDLE];
    const int number = (int)(s - g_session);
    note("close session %d", number);
    if (s->queue) note("rule: session %d closed with its queue open", number);
    for (int i = 0; i < MEMORY_MAX && !s->is_dead; i++)
        if (s->mapped[i]) note("rule: session %d closed with memory mapped", number);
    if (!s->is_dead) dlclose(s->library);
    *s = (struct session){0};
    return 0;
}
int remote_handle64_control(uint64_t handle, uint32_t request, void* data, uint32_t bytes) {
    return (void)data, handle < FIRST_HANDLE || request != 1 || bytes != 8 ? EBADPARM : 0;
}

int remote_handle64_invoke(uint64_t handle, uint32_t scalars, void* arguments) {
    union argument* in = arguments;
    struct session* s = &g_session[handle - FIRST_HANDLE];
    struct htp_rpc_start start;
    if (s->is_dead) return ECONNRESET_DSP;
    if (scalars >> 24 != HTP_RPC_START) return s->is_started = 0, call(s, scalars, arguments);
    if (setting("start_error", 0)) return (int)setting("start_error", 0);
    memcpy(&start, in->buffer.data, sizeof start);
    start.version =
        (uint32_t)setting("version", start.version);  // as a host of another version would have it
    union argument copy = {.buffer = {&start, in->buffer.bytes}};
    const int e = call(s, scalars, &copy);
    s->is_started = e == 0;
    return e;
}

// --- queues ---

int dspqueue_create(int domain, uint32_t flags, uint32_t request, uint32_t response,
                    queue_callback packet, queue_callback error, void* context, void** queue) {
    struct session* s = session_of(domain);
    if (!s || !s->is_open || flags || packet || request > QUEUE_MAX || response > QUEUE_MAX)
        return EBADPARM;
    struct queue* q = calloc(1, sizeof *q);
    q->session = (int)(s - g_session), q->error = error, q->context = context;
    q->packets = fake_queue_new(q->session, (uint64_t)q->session + FIRST_QUEUE);
    *queue = s->queue = q;
    return 0;
}

// Of a dead process the driver closes a queue only when it was told of the death; otherwise it asks
// the DSP, which does not answer.
int dspqueue_close(void* queue) {
    struct queue* q = queue;
    struct session* s = &g_session[q->session];
    note("close queue of session %d", q->session);
    if (s->is_dead && !q->is_reporting) return note("a queue is left behind"), ECONNRESET_DSP;
    if (!s->is_dead && fake_queue_is_imported(q->packets))
        return note("rule: queue closed while the DSP has it"), EBADPARM;
    if (q->is_reporting) pthread_join(q->reporter, 0);
    fake_queue_free(q->packets);
    s->queue = 0;
    free(q);
    return 0;
}
int dspqueue_export(void* queue, uint64_t* id) {
    return *id = (uint64_t)((struct queue*)queue)->session + FIRST_QUEUE, 0;
}

struct buffer {
    uint32_t fd, size, offset, flags;
    uint64_t address;
};

static int check_buffers(const struct session* s, const struct buffer* b, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const int m = memory_of_fd((int)b[i].fd);
        if (m < 0 || !s->mapped[m]) return ENOSUCHMAP;
        if ((uint64_t)b[i].offset + b[i].size > g_memory[m].bytes || b[i].size == 0)
            return EBADPARM;
        if (b[i].flags != 0x90 ||
            b[i].address != (uint64_t)(uintptr_t)g_memory[m].host + b[i].offset)
            return EBADPARM;
    }
    return 0;
}

int dspqueue_write(void* queue, uint32_t flags, uint32_t n_buffers, void* buffers, uint32_t bytes,
                   const uint8_t* message, uint32_t timeout_us) {
    struct queue* q = queue;
    struct session* s = &g_session[q->session];
    (void)timeout_us;
    if (s->is_dead) return ECONNRESET_DSP;
    if (flags || bytes > MESSAGE_MAX || bytes != sizeof(struct htp_message) ||
        n_buffers > BUFFERS_MAX || !s->is_started)
        return EBADPARM;
    const int e = check_buffers(s, buffers, n_buffers);
    if (e) return e;
    q->interrupts = (int)setting("interrupt", 0);
    if (((const struct htp_message*)message)->kind == HTP_MSG_RUN) {
        g_runs++;
        if (n_buffers == 0) return EBADPARM;  // nothing was handed over
        size_t handed_over = 0;
        for (uint32_t i = 0; i < n_buffers; i++)
            handed_over += ((const struct buffer*)buffers)[i].size;
        note("run hands over %zu bytes", handed_over);
        if (g_runs == setting("dsp_read", -1))
            fake_queue_fail(q->packets, (int)setting("dsp_read_error", 0));
        if (g_runs == setting("hang", -1)) return 0;
        if (g_runs == setting("lose", -1))
            return die(s, (int)setting("lose_error", ECONNRESET_DSP)), 0;
    }
    fake_queue_push(q->packets, message, bytes, n_buffers);
    return 0;
}

int dspqueue_read(void* queue, uint32_t* flags, uint32_t buffers_max, uint32_t* n_buffers,
                  void* buffers, uint32_t message_max, uint32_t* message_bytes, uint8_t* message,
                  uint32_t timeout_us) {
    struct queue* q = queue;
    (void)buffers, (void)buffers_max;
    if (q->interrupts > 0) return q->interrupts--, EINTERRUPTED;
    if (!fake_queue_pull(q->packets, message, message_max, message_bytes, timeout_us))
        return g_session[q->session].is_dead ? EINTERRUPTED
                                             : EEXPIRED;  // waits of a dead process are cancelled
    *flags = 1 | 0x10, *n_buffers = 0;
    return 0;
}

// The device library's entry. FastRPC calls it to open, start, stop and close (wire/htp_fastrpc.h).
// Work arrives in a dspqueue; one thread answers it through session_answer. One process domain, one
// session.
//
// Compiled here for every architecture, and run on a PC over a fake of the system
// (tests/htp/fake_dsp_system.c), never on a DSP.
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "backends/htp/dsp/device/device_sdk.h"
#include "backends/htp/dsp/session.h"
#include "backends/htp/dsp/vtcm.h"
#include "backends/htp/dsp/workers.h"
#include "backends/htp/wire/htp_fastrpc.h"

enum { OPEN = 0, CLOSE = 1, WAIT_US = 100000, ANSWER_US = 1000000 };
// two chunks of weights (htp_tiling.cpp); the rest stays free for other sessions and programs
enum { VTCM_THREAD = 128 << 10 };

static struct dsp_session session;
static dspqueue_t queue;
static pthread_t server;
static int is_started;
static volatile int is_stopping;

// --- the platform functions of session.h ---

// The host has mapped the fd into this process (fastrpc_mmap, FASTRPC_MAP_FD), and packets refer to
// that mapping. This function looks it up and holds it.
uint8_t* platform_map(const struct htp_map* m) {
    void* base = 0;
    unsigned long long physical = 0;
    const int e = HAP_mmap_get(m->fd, &base, &physical);
    if (e || !base) return errno = e ? e : EFAULT, (uint8_t*)0;
    return (uint8_t*)base + m->file_offset;
}
void platform_unmap(uint8_t* base, uint32_t bytes, int fd) {
    (void)base;
    (void)bytes;
    (void)HAP_mmap_put(fd);
}

void platform_flush(const uint8_t* at, uint64_t bytes) {
    (void)qurt_mem_cache_clean((unsigned)(uintptr_t)at, (unsigned)bytes, QURT_MEM_CACHE_FLUSH,
                               QURT_MEM_DCACHE);
}

// Also writes the line back: if the DSP wrote to it, its data must survive.
void platform_refresh(const void* word) {
#ifdef __hexagon__
    __asm__ volatile("dccleaninva(%0)" : : "r"(word) : "memory");
#else  // the tests' build for a PC
    (void)word;
#endif
}

uint32_t platform_usecs(void) {
    return (uint32_t)HAP_perf_qtimer_count_to_us(HAP_perf_get_qtimer_count());
}
void platform_run_begins(void) {}
int32_t platform_before_op(uint32_t op) {
    (void)op;
    return HTP_OK;
}

// --- power ---

// Sets the highest corners while a session is open. A token is many short ops, and a clock that
// follows their load is always late.
static void power(int on) {
#ifdef HTP_HAS_SDK
    HAP_power_request_t r;
    memset(&r, 0, sizeof r);
    r.type = HAP_power_set_apptype;
    r.apptype = HAP_POWER_COMPUTE_CLIENT_CLASS;
    (void)HAP_power_set(&session, &r);
    memset(&r, 0, sizeof r);
    r.type = HAP_power_set_DCVS_v3;
    r.dcvs_v3.set_dcvs_enable = TRUE;
    r.dcvs_v3.dcvs_enable = on ? FALSE : TRUE;
    r.dcvs_v3.set_core_params = r.dcvs_v3.set_bus_params = TRUE;
    r.dcvs_v3.core_params.target_corner = r.dcvs_v3.core_params.min_corner =
        r.dcvs_v3.core_params.max_corner = on ? HAP_DCVS_VCORNER_MAX : HAP_DCVS_VCORNER_DISABLE;
    r.dcvs_v3.bus_params = r.dcvs_v3.core_params;
    // The DSP would fall asleep between two runs of one token.
    r.dcvs_v3.set_sleep_disable = TRUE;
    r.dcvs_v3.sleep_disable = on ? TRUE : FALSE;
    (void)HAP_power_set(&session, &r);
    memset(&r, 0, sizeof r);
    r.type = HAP_power_set_HVX;
    r.hvx.power_up = on;
    (void)HAP_power_set(&session, &r);
#else
    (void)on;
#endif
}

// --- the queue ---

// Reports the end to the host, which would otherwise wait for ever.
static void say_goodbye(int error) {
    struct htp_message m;
    memset(&m, 0, sizeof m);
    m.version = HTP_WIRE_VERSION;
    m.answer.status = HTP_FAILED;
    m.answer.value = (uint32_t)error;
    (void)dspqueue_write(queue, 0, 0, 0, sizeof m, (const uint8_t*)&m, ANSWER_US);
}

static void* serve(void* unused) {
    // The queue invalidates the memory that they name; the session knows the buffers already.
    struct dspqueue_buffer ranges[HTP_RPC_RANGES_MAX];
    (void)unused;
    while (!is_stopping) {
        struct htp_message m;
        uint32_t flags = 0, n_ranges = 0, length = 0;
        const int e = dspqueue_read(queue, &flags, HTP_RPC_RANGES_MAX, &n_ranges, ranges, sizeof m,
                                    &length, (uint8_t*)&m, WAIT_US);
        if (e == (int)AEE_EEXPIRED || e == AEE_EWOULDBLOCK || e == AEE_EINTERRUPTED)
            continue;  // is_stopping ends the loop
        if (e || length != sizeof m) return say_goodbye(e ? e : (int)AEE_EBADPARM), (void*)0;
        const int last = session_answer(&session, &m);
        if (dspqueue_write(queue, 0, 0, 0, sizeof m, (const uint8_t*)&m, ANSWER_US) || last) break;
    }
    return 0;
}

static void queue_error(dspqueue_t q, int error, void* context) {
    (void)q;
    (void)error;
    (void)context;
    is_stopping = 1;
}

static int start(const struct htp_rpc_start* s) {
    if (s->version != HTP_WIRE_VERSION) return AEE_EVERSIONNOTSUPPORT;
    if (is_started) return AEE_EFAILED;
    power(1);
    session_begin(&session);
    const unsigned units = (unsigned)qurt_hvx_get_units() >> 8 & 0xff;  // contexts of 128 bytes
    const unsigned n = workers_start(s->threads ? s->threads : units ? units : 1);
    // Without VTCM, weights are read where they lie.
    (void)vtcm_open(n * VTCM_THREAD);
    is_stopping = 0;
    const int e = dspqueue_import(s->queue, 0, queue_error, 0, &queue);
    if (e || workers_thread(&server, serve, 0)) {
        if (!e) (void)dspqueue_close(queue);
        workers_stop();
        vtcm_close();
        power(0);
        return e ? e : AEE_ENOMEMORY;
    }
    is_started = 1;
    return AEE_SUCCESS;
}

static int stop(void) {
    if (!is_started) return AEE_SUCCESS;
    is_stopping = 1;
    pthread_join(server, 0);
    (void)dspqueue_close(queue);
    workers_stop();
    session_end(&session);
    vtcm_close();
    power(0);
    is_started = 0;
    return AEE_SUCCESS;
}

int pillion_htp_skel_handle_invoke(remote_handle64 handle, uint32_t scalars, remote_arg* args);
__attribute__((visibility("default"))) int pillion_htp_skel_handle_invoke(remote_handle64 handle,
                                                                          uint32_t scalars,
                                                                          remote_arg* args) {
    const uint32_t in = REMOTE_SCALARS_INBUFS(scalars), out = REMOTE_SCALARS_OUTBUFS(scalars),
                   in_handles = REMOTE_SCALARS_INHANDLES(scalars);
    (void)handle;
    switch (REMOTE_SCALARS_METHOD(scalars)) {
        // uri in, a handle out; with one session any number except 0 serves
        case OPEN:
            if (REMOTE_SCALARS_OUTHANDLES(scalars) != 1) return AEE_EBADPARM;
            args[in + out + in_handles].h64 = (remote_handle64)(uintptr_t)&session;
            return AEE_SUCCESS;
        case CLOSE: return stop();
        case HTP_RPC_START: {
            struct htp_rpc_start s;
            if (in != 1 || args[0].buf.nLen != sizeof s) return AEE_EBADPARM;
            memcpy(&s, args[0].buf.pv, sizeof s);
            return start(&s);
        }
        case HTP_RPC_STOP: return stop();
        default: return AEE_EUNSUPPORTED;
    }
}

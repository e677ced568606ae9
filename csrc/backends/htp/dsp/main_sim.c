// The simulator's DSP process: maps the control block and answers messages until it is told to stop
// or its parent is gone. It replaces a device's FastRPC entry points and queue reader; the code
// below session_answer is the same on both. Built for Hexagon (run by qemu-hexagon) or for the PC.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "backends/htp/dsp/session.h"
#include "backends/htp/dsp/vtcm.h"
#include "backends/htp/dsp/workers.h"
#include "backends/htp/wire/htp_sim_ring.h"

enum { FUTEX_WAIT_OP = 0, FUTEX_WAKE_OP = 1, DIED = 86 };

static struct htp_sim_control* control;
static pid_t host;
static uint32_t fault_now;  // fault of the current run

static uint32_t load(const uint32_t* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static void publish(uint32_t* p, uint32_t value) {
    __atomic_store_n(p, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, p, FUTEX_WAKE_OP, 1, 0, 0, 0);
}
// Waits until *p differs from `old`, at most half a second.
static void wait_change(uint32_t* p, uint32_t old) {
    // The layout that SYS_futex reads, on 32 and 64 bit alike.
    const long timeout[2] = {0, 500000000};
    for (int i = 0; i < 200; i++)
        if (load(p) != old) return;
    syscall(SYS_futex, p, FUTEX_WAIT_OP, old, timeout, 0, 0);
}

// --- the platform functions of session.h ---

// Inaccessible pages before and behind a buffer.
enum { GUARD = 1 << 16 };

static uint64_t pages(uint64_t bytes) { return (bytes + GUARD - 1) / GUARD * GUARD; }

static uint8_t* map_fd_of_host(int fd_of_host, uint64_t offset, uint64_t bytes) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)host, fd_of_host);
    const int fd = open(path, O_RDWR);
    if (fd < 0) return 0;
    struct stat st;
    uint8_t* p = MAP_FAILED;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= offset + bytes) {
        p = mmap(0, pages(bytes) + 2 * GUARD, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p != MAP_FAILED && mmap(p + GUARD, bytes, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
            munmap(p, pages(bytes) + 2 * GUARD);
            p = MAP_FAILED;
        }
    } else {
        errno = EINVAL;
    }
    const int error = errno;
    close(fd);
    errno = error;
    return p == MAP_FAILED ? 0 : p + GUARD;
}
uint8_t* platform_map(const struct htp_map* m) {
    return map_fd_of_host(m->fd, m->file_offset, m->bytes);
}
void platform_unmap(uint8_t* base, uint32_t bytes, int fd) {
    (void)fd, munmap(base - GUARD, pages(bytes) + 2 * GUARD);
}

uint32_t platform_usecs(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u);
}

// qemu-hexagon keeps three counts of its own in control registers c20 to c22. Hardware lacks them
// and the assembler does not know them: r0 = c20 as a number.
#ifdef __hexagon__
#define COUNT(reg)                                       \
    do {                                                 \
        uint32_t n;                                      \
        __asm__ volatile(".word %1\n\t%0 = r0"           \
                         : "=r"(n)                       \
                         : "i"(0x6a00c000 | (reg) << 16) \
                         : "r0", "memory");              \
        return n;                                        \
    } while (0)
#else
#define COUNT(reg) return 0
#endif
static uint32_t packets(void) { COUNT(20); }
static uint32_t instructions(void) { COUNT(21); }
static uint32_t hvx_instructions(void) { COUNT(22); }
uint32_t platform_profile(void) {
    switch (load(&control->counter)) {
        case HTP_COUNT_PACKETS: return packets();
        case HTP_COUNT_INSTRUCTIONS: return instructions();
        case HTP_COUNT_HVX: return hvx_instructions();
        default: return platform_usecs();
    }
}

static void sleep_ms(uint32_t ms) {
    const struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&t, 0);
}
void platform_run_begins(void) {
    fault_now = HTP_FAULT_NONE;
    if (load(&control->fault) == HTP_FAULT_NONE) return;
    if (control->fault_runs > 0) control->fault_runs--;
    else fault_now = control->fault;
}
int32_t platform_before_op(uint32_t op) {
    if (fault_now == HTP_FAULT_NONE || op != control->fault_op) return HTP_OK;
    const uint32_t fault = fault_now;
    fault_now = HTP_FAULT_NONE;
    __atomic_store_n(&control->fault, HTP_FAULT_NONE, __ATOMIC_RELEASE);
    if (fault == HTP_FAULT_DIE) _exit(DIED);
    if (fault == HTP_FAULT_SLEEP) sleep_ms(control->fault_ms);
    return fault == HTP_FAULT_FAIL ? HTP_INJECTED : HTP_OK;
}

// --- the ring ---

static struct htp_sim_control* map_control(const char* path) {
    const int fd = open(path, O_RDWR);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return 0;
    void* p = MAP_FAILED;
    if ((uint64_t)st.st_size >= sizeof(struct htp_sim_control))
        p = mmap(0, sizeof(struct htp_sim_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    else errno = EINVAL;
    close(fd);
    return p == MAP_FAILED ? 0 : p;
}

static void serve(struct dsp_session* session) {
    for (uint32_t done = control->completed;;) {
        if (load(&control->submitted) == done) {
            wait_change(&control->submitted, done);
            if (getppid() != host) return;
            continue;
        }
        const int last = session_answer(session, &control->slot[done % HTP_SIM_SLOTS]);
        publish(&control->completed, ++done);
        if (last) return;
    }
}

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: pillion_htp_sim CONTROL\n");
        return 2;
    }
    // before `ready`: the host may be gone afterwards
    host = getppid();
    control = map_control(argv[1]);
    if (!control) {
        fprintf(stderr, "pillion_htp_sim: cannot map %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    if (control->magic != HTP_SIM_MAGIC || control->version != HTP_WIRE_VERSION ||
        control->slots != HTP_SIM_SLOTS) {
        fprintf(stderr, "pillion_htp_sim: wire version %u, this program has %u\n",
                (unsigned)control->version, (unsigned)HTP_WIRE_VERSION);
        return 1;
    }
    if (vtcm_open(control->vtcm_bytes)) {
        fprintf(stderr, "pillion_htp_sim: no memory for %u bytes of VTCM\n",
                (unsigned)control->vtcm_bytes);
        return 1;
    }
    workers_start(control->threads);
    static struct dsp_session session;
    session_begin(&session);
    publish(&control->ready, 1);
    serve(&session);
    workers_stop();
    session_end(&session);
    vtcm_close();
    return 0;
}

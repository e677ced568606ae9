// The functions of the DSP's system that the device library uses. With Qualcomm's SDK (HTP_HAS_SDK,
// set by the build) they come from its headers. Without it they are declared here from their public
// descriptions, so that any Hexagon compiler can compile and check the sources.
#ifndef PILLION_DSP_DEVICE_SDK_H
#define PILLION_DSP_DEVICE_SDK_H

#include <stddef.h>
#include <stdint.h>

#ifdef HTP_HAS_SDK
#include <AEEStdErr.h>
#include <HAP_compute_res.h>
#include <HAP_mem.h>
#include <HAP_perf.h>
#include <HAP_power.h>
#include <dspqueue.h>
#include <qurt.h>
#include <remote.h>
#else

// On the DSP the codes carry an offset; the host subtracts it (htp_errors.cpp).
enum { AEE_SUCCESS = 0 };
#define HTP_AEE(code) ((int)(0x80000400u + (code)))
#define AEE_EFAILED HTP_AEE(0x01)
#define AEE_ENOMEMORY HTP_AEE(0x02)
#define AEE_EVERSIONNOTSUPPORT HTP_AEE(0x04)
#define AEE_EEXPIRED HTP_AEE(0x0C)
#define AEE_EBADPARM HTP_AEE(0x0E)
#define AEE_EUNSUPPORTED HTP_AEE(0x14)
#define AEE_EINTERRUPTED 46
#define AEE_EWOULDBLOCK 516

// --- remote.h ---
typedef uint64_t remote_handle64;
typedef union {
    struct {
        void* pv;
        size_t nLen;
    } buf;
    remote_handle64 h64;
} remote_arg;
#define REMOTE_SCALARS_METHOD(sc) ((sc) >> 24 & 0x1f)
#define REMOTE_SCALARS_INBUFS(sc) ((sc) >> 16 & 0xff)
#define REMOTE_SCALARS_OUTBUFS(sc) ((sc) >> 8 & 0xff)
#define REMOTE_SCALARS_INHANDLES(sc) ((sc) >> 4 & 0x0f)
#define REMOTE_SCALARS_OUTHANDLES(sc) ((sc) & 0x0f)

// --- dspqueue.h ---
struct dspqueue;
typedef struct dspqueue* dspqueue_t;
struct dspqueue_buffer {
    uint32_t fd, size, offset, flags;
    union {
        void* ptr;
        uint64_t address;
    };
};
typedef void (*dspqueue_callback_t)(dspqueue_t queue, int error, void* context);
int dspqueue_import(uint64_t id, dspqueue_callback_t packet, dspqueue_callback_t error,
                    void* context, dspqueue_t* queue);
int dspqueue_close(dspqueue_t queue);
int dspqueue_read(dspqueue_t queue, uint32_t* flags, uint32_t max_buffers, uint32_t* n_buffers,
                  struct dspqueue_buffer* buffers, uint32_t max_length, uint32_t* length,
                  uint8_t* message, uint32_t timeout_us);
int dspqueue_write(dspqueue_t queue, uint32_t flags, uint32_t n_buffers,
                   struct dspqueue_buffer* buffers, uint32_t length, const uint8_t* message,
                   uint32_t timeout_us);

// --- HAP_mem.h ---
int HAP_mmap_get(int fd, void** address, unsigned long long* physical);
int HAP_mmap_put(int fd);

// --- HAP_perf.h ---
uint64_t HAP_perf_get_qtimer_count(void);
uint64_t HAP_perf_qtimer_count_to_us(uint64_t count);

// --- qurt.h ---
enum { QURT_MEM_CACHE_FLUSH = 0, QURT_MEM_DCACHE = 1 };
int qurt_mem_cache_clean(unsigned address, unsigned bytes, int operation, int type);
int qurt_hvx_get_units(void);

#endif
#endif

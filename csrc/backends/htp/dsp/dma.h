// Copies of one thread from memory into VTCM, in the order of their start: while the thread
// computes on one chunk, the next chunk is on its way. At most two copies are open. On the device
// (v68 and later) the user DMA unit copies. Elsewhere the wait does the copy, so that code that
// reads a chunk too early reads the old bytes.
#ifndef PILLION_DSP_DMA_H
#define PILLION_DSP_DMA_H

#include <stdint.h>
#include <string.h>

#if defined(__hexagon__) && __HVX_ARCH__ >= 68
#define HTP_DMA_UNIT 1
#else
#define HTP_DMA_UNIT 0
#endif

enum { DMA_OPEN = 2 };

// The unit's linear descriptor: the unit itself reads these 16 bytes.
struct dma_copy {
    uint32_t next;  // address of the next descriptor; 0: last
    // length in the low 24 bits; the others are 0: linear, cached. The unit sets bit 31 when it is
    // done.
    uint32_t control;
    uint32_t from, to;
} __attribute__((aligned(16)));

struct dma {
#if HTP_DMA_UNIT
    struct dma_copy copy[DMA_OPEN];
#else
    struct {
        void* to;
        const void* from;
        uint32_t bytes;
    } copy[DMA_OPEN];
#endif
    uint32_t started, waited;
};

static inline void dma_begin(struct dma* d) { memset(d, 0, sizeof *d); }

#if HTP_DMA_UNIT
static inline void dma_start(struct dma* d, void* to, const void* from, uint32_t bytes) {
    struct dma_copy* c = &d->copy[d->started % DMA_OPEN];
    c->next = 0;
    c->control = bytes;
    c->from = (uint32_t)(uintptr_t)from;
    c->to = (uint32_t)(uintptr_t)to;
    // The unit reads the descriptor from memory. Stores before the release are visible to it.
    __asm__ volatile("release(%0):at" : : "r"(c) : "memory");
    if (d->started++ == 0) {
        uint32_t state;
        // The previous user of the thread's unit is done.
        __asm__ volatile("%0 = dmwait" : "=r"(state) : : "memory");
        __asm__ volatile("dmstart(%0)" : : "r"(c) : "memory");
    } else {
        __asm__ volatile("dmlink(%0,%1)"
                         :
                         : "r"(&d->copy[(d->started - 2) % DMA_OPEN]), "r"(c)
                         : "memory");
    }
}
// Waits for the oldest open copy and returns its destination.
static inline const uint8_t* dma_wait(struct dma* d) {
    volatile struct dma_copy* c = &d->copy[d->waited++ % DMA_OPEN];
    while (!(c->control >> 31)) {
        uint32_t state;
        // Also lets the unit write the bit back.
        __asm__ volatile("%0 = dmpoll" : "=r"(state) : : "memory");
    }
    return (const uint8_t*)(uintptr_t)c->to;
}
#else
static inline void dma_start(struct dma* d, void* to, const void* from, uint32_t bytes) {
    const uint32_t i = d->started++ % DMA_OPEN;
    d->copy[i].to = to;
    d->copy[i].from = from;
    d->copy[i].bytes = bytes;
}
// Chunks are whole vectors. Copies eight bytes at a time: the emulator's libc copies words.
static inline void dma_copy_now(uint64_t* to, const uint64_t* from, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes / 8; i += 4)
        to[i] = from[i], to[i + 1] = from[i + 1], to[i + 2] = from[i + 2], to[i + 3] = from[i + 3];
}
// Waits for the oldest open copy and returns its destination.
static inline const uint8_t* dma_wait(struct dma* d) {
    const uint32_t i = d->waited++ % DMA_OPEN;
    dma_copy_now(d->copy[i].to, d->copy[i].from, d->copy[i].bytes);
    return d->copy[i].to;
}
#endif

#endif

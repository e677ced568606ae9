#include <stdlib.h>

#include "backends/htp/dsp/vtcm.h"

static uint8_t* base;
static uint32_t size;

int vtcm_open(uint32_t bytes) {
    size = (bytes + 127u) / 128u * 128u;
    base = size ? aligned_alloc(128, size) : 0;
    if (size && !base) return size = 0, -1;
    return 0;
}
uint8_t* vtcm_base(void) { return base; }
uint32_t vtcm_bytes(void) { return size; }
void vtcm_close(void) {
    free(base);
    base = 0;
    size = 0;
}

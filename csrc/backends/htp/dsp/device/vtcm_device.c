// The real VTCM, from the compute resource manager: the requested size in one page, else as much as
// there is.
#include "backends/htp/dsp/device/device_sdk.h"
#include "backends/htp/dsp/vtcm.h"

#ifdef HTP_HAS_SDK

static uint8_t* base;
static uint32_t size;
static unsigned context;

void vtcm_close(void) {
    if (context) HAP_compute_res_release(context);
    base = 0, size = 0, context = 0;
}
// Another program (for example the phone's own assistant) may hold all VTCM. Weights are then read
// where they lie.
int vtcm_open(uint32_t bytes) {
    const unsigned one_second_us = 1000000;
    compute_res_attr_t wish;
    unsigned total = 0, largest = 0;
    compute_res_vtcm_page_t layout, available;
    if (HAP_compute_res_query_VTCM(0, &total, &layout, &largest, &available)) return -1;
    // largest: the part that is free
    const unsigned most = largest ? largest : total;
    size = bytes < most ? bytes : most;
    HAP_compute_res_attr_init(&wish);
    HAP_compute_res_attr_set_serialize(&wish, 0);
    HAP_compute_res_attr_set_vtcm_param(&wish, size, 1);
    context = HAP_compute_res_acquire(&wish, one_second_us);
    if (!context) return size = 0, -1;
    base = HAP_compute_res_attr_get_vtcm_ptr(&wish);
    if (base) return 0;
    vtcm_close();
    return -1;
}
uint8_t* vtcm_base(void) { return base; }
uint32_t vtcm_bytes(void) { return size; }

#else  // without the SDK there is no VTCM: weights are read where they lie

int vtcm_open(uint32_t bytes) { return bytes ? -1 : 0; }
void vtcm_close(void) {}
uint8_t* vtcm_base(void) { return 0; }
uint32_t vtcm_bytes(void) { return 0; }

#endif

// The fast memory beside the vector unit. Only vector instructions and DMA should touch it. Under
// emulation it is an aligned array.
#ifndef PILLION_DSP_VTCM_H
#define PILLION_DSP_VTCM_H

#include <stdint.h>

int vtcm_open(uint32_t bytes);  // returns 0, or -1 without memory
uint8_t* vtcm_base(void);
uint32_t vtcm_bytes(void);
void vtcm_close(void);

#endif

#ifndef PILLION_DSP_PLAN_CHECK_H
#define PILLION_DSP_PLAN_CHECK_H

#include "backends/htp/dsp/buffers.h"

// 0, or -1 with the reason. `op` lies in our own memory.
int plan_check_op(const struct dsp_buffer* buffers, const struct htp_op* op, uint32_t rows_max,
                  uint32_t out_rows_max, struct dsp_why* why);

#endif

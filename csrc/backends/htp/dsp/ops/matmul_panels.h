// Panels of a packed matrix times a few rows: the inner loops of matmul, moe_matmul and
// centroid_head. Lane r of every vector is output row r of the panel. A weight vector is loaded and
// unpacked once for all rows.
#ifndef PILLION_DSP_PANELS_H
#define PILLION_DSP_PANELS_H

#include "backends/htp/dsp/dma.h"
#include "backends/htp/dsp/ops/ops.h"

struct panel_rows {  // up to HTP_MICROKERNEL_ROWS rows
    unsigned n;
    const uint8_t* act[HTP_MICROKERNEL_ROWS];  // quantized formats: htp_act_row_bytes
    const float* x[HTP_MICROKERNEL_ROWS];      // float formats
    float* out[HTP_MICROKERNEL_ROWS];          // [rows of the matrix]
};

struct panel_matrix {
    uint32_t dtype, inputs, rows;
    const uint8_t* panels;
    uint64_t panel_bytes;
};

// acc[i][32] += the groups [first, first + n_groups) of one panel, at `groups`, times row i. acc is
// aligned.
void panel_groups(uint32_t dtype, const uint8_t* groups, uint32_t n_groups, uint32_t first,
                  uint32_t inputs, const struct panel_rows* rows, float* acc);

// Computes panels [begin, end) for any number of sets of rows. Weights go in chunks through `vtcm`
// (2 * fetch_bytes, see htp_tiling), or are read where they lie if fetch_groups is 0.
void panel_range(const struct panel_matrix* m, uint32_t begin, uint32_t end,
                 const struct panel_rows* sets, unsigned n_sets, const struct htp_tiling* t,
                 uint8_t* vtcm);

#endif

// How an op is cut on the DSP: parts for its threads, rows per pass over the weights, chunks that
// come through VTCM. The host decides, the DSP obeys.
#pragma once
#include "backends/htp/wire/htp_sizes.h"

namespace pillion::htp {

// Fills op.tiling but for where its scratch lies; code, params and operands must be there. Returns
// the bytes of scratch it needs. rows_max: rows of the op in a run at most; plan_rows_max: of the
// run itself.
uint64_t tile(htp_op& op, uint32_t rows_max, uint32_t plan_rows_max, const htp_info& dsp);

}  // namespace pillion::htp

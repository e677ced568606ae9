#include "backends/htp/host/htp_tiling.h"

#include <algorithm>

namespace pillion::htp {
namespace {

// A part of an op should outweigh handing it to a thread: some 10 us of vector work, 64 KB of f32
// values at least.
constexpr uint64_t kPartValues = 16384;
// Quantized rows that are kept for one pass over the weights: they are read once per panel, so they
// should stay in the cache (L2, 1 MB).
constexpr uint64_t kActivationBytes = 512u << 10;
// A chunk of weights: long enough for a DMA transfer to run at full speed, short enough that the
// first is there soon.
constexpr uint64_t kChunkBytes = 64u << 10;

bool reads_weights(uint32_t code) {
    return code == Op_matmul || code == Op_moe_matmul || code == Op_centroid_head;
}

const htp_tensor& weight_of(const htp_op& op) { return op.in[op.code == Op_centroid_head ? 2 : 0]; }

// Values that the op works on in one row.
uint64_t row_values(const htp_op& op) {
    if (op.code == Op_qkv_norm_rope)
        return uint64_t(op.in[0].width) + op.in[1].width + op.in[2].width;
    if (op.code == Op_kv_store) return uint64_t(op.in[1].width) + op.in[2].width;
    return std::max(op.out[0].width, op.in[0].layout == HTP_ROWS ? op.in[0].width : 0u);
}

uint32_t threads_of(const htp_op& op, uint32_t rows_max, const htp_info& dsp) {
    const uint32_t all = std::max(1u, std::min<uint32_t>(dsp.threads, HTP_THREADS_MAX));
    if (op.code == Op_attend || op.code == Op_centroid_head) return all;
    if (reads_weights(op.code)) {
        const htp_tensor& w = weight_of(op);
        return uint32_t(std::min<uint64_t>(all, std::max<uint64_t>(1, htp_panels(w.rows) *
                                                                          std::max(1u, w.depth))));
    }
    return uint32_t(std::min<uint64_t>(all, row_values(op) * rows_max / kPartValues + 1));
}

void tile_weights(htp_op& op, uint32_t rows_max, const htp_info& dsp) {
    const htp_tensor& w = weight_of(op);
    htp_tiling& t = op.tiling;
    if (op.code == Op_centroid_head)
        return;  // its clusters are short and scattered: read where they lie
    if (op.code == Op_matmul && !htp_is_float(w.dtype)) {
        const uint64_t fit = kActivationBytes / std::max<uint64_t>(1, htp_act_row_bytes(w.width));
        t.rows_at_once = uint32_t(std::min<uint64_t>(
            {rows_max, std::max<uint64_t>(fit, HTP_MICROKERNEL_ROWS), HTP_MATMUL_ROWS_MAX}));
    }
    const uint32_t group = htp_group_bytes(w.dtype);
    if (group == 0) return;
    const uint64_t room = std::min<uint64_t>(dsp.vtcm_bytes / (2ull * t.threads), kChunkBytes);
    t.fetch_groups = uint32_t(std::min(room / group, htp_groups(w.dtype, w.width)));
    t.fetch_bytes = uint32_t(htp_fetch_bytes(w.dtype, t.fetch_groups));
}

}  // namespace

uint64_t tile(htp_op& op, uint32_t rows_max, uint32_t plan_rows_max, const htp_info& dsp) {
    op.tiling = {};
    op.tiling.threads = threads_of(op, rows_max, dsp);
    if (reads_weights(op.code)) tile_weights(op, rows_max, dsp);
    return htp_scratch_bytes(&op, plan_rows_max);
}

}  // namespace pillion::htp

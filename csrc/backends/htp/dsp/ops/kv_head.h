// Addresses of a KV head's keys and values in a page of a cache (layout in
// core/contract/kv_lanes.h).
#ifndef PILLION_DSP_KV_H
#define PILLION_DSP_KV_H

#include "backends/htp/wire/htp_sizes.h"

struct kv_head {
    uint8_t *k, *v;
    uint32_t dtype, head_dim, capacity, k_block_bytes, v_row_bytes;
};

static inline struct kv_head kv_head_of(const struct htp_tensor* t, uint8_t* base, uint32_t head) {
    const KvType type = htp_kv_type(t->dtype);
    const uint64_t k = kv_k_bytes(type, t->width, t->rows), v = kv_v_bytes(type, t->width, t->rows);
    base += (k + v) * head;
    return (struct kv_head){base,
                            base + k,
                            t->dtype,
                            t->width,
                            t->rows,
                            (uint32_t)kv_k_block_bytes(type, t->width),
                            (uint32_t)kv_v_row_bytes(type, t->width)};
}

#endif

// f32 activations -> int8 with scale and sums per block of 32 (htp_sizes.h). The rules are the CPU
// backend's (activations.h):
//     top = max |x| finite, top >= 2^-110    q = round to even of x * (127 / top), d = top / 127
//     top < 2^-110                           q = 0, d = 0
//     an infinity or a NaN                   q = 0, d = d_sum = NaN: the output row becomes NaN,
//                                            visibly
#include "backends/htp/dsp/ops/ops.h"

enum { TOP_MIN = 0x08800000 /* 2^-110 */, TOP_MAX = 0x7F7FFFFF };

// Bits of the largest magnitude of each of four blocks. After two shuffles, blocks 0, 2, 1, 3 own
// every fourth lane.
HVX_INLINE void four_tops(const HVX_Vector x[4], int32_t top[4]) {
    const HVX_Vector mask = Q6_V_vsplat_R(0x7fffffff);
    const HVX_VectorPair a =
        Q6_W_vshuff_VVR(Q6_V_vand_VV(x[1], mask), Q6_V_vand_VV(x[0], mask), -4);
    const HVX_VectorPair b =
        Q6_W_vshuff_VVR(Q6_V_vand_VV(x[3], mask), Q6_V_vand_VV(x[2], mask), -4);
    const HVX_VectorPair c = Q6_W_vshuff_VVR(Q6_Vw_vmax_VwVw(Q6_V_lo_W(b), Q6_V_hi_W(b)),
                                             Q6_Vw_vmax_VwVw(Q6_V_lo_W(a), Q6_V_hi_W(a)), -4);
    HVX_Vector m = Q6_Vw_vmax_VwVw(Q6_V_lo_W(c), Q6_V_hi_W(c));
    for (int n = 64; n >= 16; n >>= 1) m = Q6_Vw_vmax_VwVw(m, Q6_V_vror_VR(m, n));
    top[0] = Q6_R_vextract_VR(m, 0), top[1] = Q6_R_vextract_VR(m, 8),
    top[2] = Q6_R_vextract_VR(m, 4), top[3] = Q6_R_vextract_VR(m, 12);
}

// top / 127 to the last bit: one step from the product with the rounded reciprocal. Exact for every
// top that reaches it.
static inline float over_127(float top) {
    const float inverse = 1.0f / 127.0f, quotient = top * inverse;
    return __builtin_fmaf(__builtin_fmaf(-127.0f, quotient, top), inverse, quotient);
}

// Turns 32 floats in a vector into 32 integers; the scale goes to its record.
HVX_INLINE HVX_Vector quantize_block(HVX_Vector x, int32_t top_bits, struct htp_act_block* b) {
    const float top = float_of(top_bits > TOP_MAX   ? 0x7FC00000u
                               : top_bits < TOP_MIN ? 0u
                                                    : (uint32_t)top_bits);
    b->d = over_127(top);
    if (top_bits < TOP_MIN || top_bits > TOP_MAX) return Q6_V_vzero();
    return f32_scale_to_small_i32(x, 127.0f / top);
}

void quantize_chunk(const float* x, uint32_t inputs, uint8_t* act, uint32_t first, uint32_t end) {
    struct htp_act_block* blocks = (struct htp_act_block*)act;
    const HVX_Vector ones = Q6_V_vsplat_R(0x01010101);
    uint64_t codes[HTP_VECTOR / 8] __attribute__((aligned(128)));
    for (uint32_t i = first; i < end; i += 128) {
        const uint32_t left = (inputs - i) / 32, n = left < 4 ? left : 4;
        struct htp_act_block* b = blocks + i / 32;
        HVX_Vector w[4] = {Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero(), Q6_V_vzero()};
        int32_t top[4];
        HVX_UNROLL(4)
        for (uint32_t k = 0; k < 4; k++)
            if (k < n) w[k] = f32_load(x + i + 32 * k);
        four_tops(w, top);
        HVX_UNROLL(4)
        for (uint32_t k = 0; k < 4; k++)
            if (k < n) w[k] = quantize_block(w[k], top[k], b + k);
        const HVX_Vector q = Q6_Vb_vpack_VhVh_sat(Q6_Vh_vpack_VwVw_sat(w[3], w[2]),
                                                  Q6_Vh_vpack_VwVw_sat(w[1], w[0]));
        hvx_store(codes, q);

        // Sums of four, then of sixteen. After two rotations lane 4k holds the sum of bytes 16k ..
        // 16k + 15.
        HVX_Vector s = Q6_Vw_vrmpy_VbVb(q, ones);
        s = Q6_Vw_vadd_VwVw(s, Q6_V_vror_VR(s, 4));
        s = Q6_Vw_vadd_VwVw(s, Q6_V_vror_VR(s, 8));
        for (uint32_t k = 0; k < n; k++) {
            b[k].sum_high = Q6_R_vextract_VR(s, (int)(32 * k + 16));
            b[k].sum = Q6_R_vextract_VR(s, (int)(32 * k)) + b[k].sum_high;
            b[k].d_sum = b[k].d * (float)b[k].sum;
            uint64_t* to = (uint64_t*)b[k].q;  // 48 k bytes from a multiple of 128
            HVX_UNROLL(4)
            for (int j = 0; j < 4; j++) to[j] = codes[4 * k + (uint32_t)j];
        }
    }
}

void quantize_row(const float* x, uint32_t inputs, uint8_t* act) {
    quantize_chunk(x, inputs, act, 0, inputs);
}

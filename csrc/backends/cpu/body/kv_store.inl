// Writes one key row and one value row into their slot, in the layout of
// core/contract/kv_lanes.h.
//
//   f16     to nearest even; magnitudes above 65504 become 65504 (also infinities), NaN stays NaN
//   q8_0    per 32: top = max|x|, scale = f16(top / 127) as above, inverse = top > 0 ? 127 / top :
//           0, code = round to even(max(-127, min(127, x * inverse))), 0 for NaN. A NaN in the
//           block makes the scale NaN, and so every value of the block. Missing elements of the
//           last block are +0.

PILLION_INLINE Floats saturate_f16(Floats v) {
    return max(splat(-65504.0f), min(splat(65504.0f), v));
}  // propagates NaN

PILLION_INLINE void halves_of(const float* x, int n, uint8_t* halves) {  // writes whole registers
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) store_f16(halves + 2 * i, saturate_f16(load(x + i)));
    if (i < n) store_f16(halves + 2 * i, saturate_f16(load_first(x + i, n - i)));
}

// Writes codes[32] and the two bytes of the scale.
PILLION_INLINE void quantize_32(const float* x, int n, int8_t* codes, uint8_t* scale) {
    constexpr int kRegs = 32 / kLanes;
    Floats v[kRegs];
    Ints top_bits = zero_ints();
    PILLION_UNROLL
    for (int r = 0; r < kRegs; r++) {
        v[r] = n == 32 ? load(x + r * kLanes) : load_left(x, n, r);
        // Without their signs, floats order like their bits.
        top_bits = max(top_bits, and_constant(bits_of(v[r]), 0x7FFFFFFF));
    }
    int32_t lanes[kLanes], most = 0;
    store_bytes((uint8_t*)lanes, top_bits);
    for (int i = 0; i < kLanes; i++) most = lanes[i] > most ? lanes[i] : most;
    float top;
    __builtin_memcpy(&top, &most, 4);
    const Floats inverse = splat(top > 0.0f ? 127.0f / top : 0.0f);
    uint8_t halves[2 * kLanes];
    store_f16(halves, saturate_f16(splat(top / 127.0f)));
    __builtin_memcpy(scale, halves, 2);
    int32_t whole[32];
    PILLION_UNROLL
    for (int r = 0; r < kRegs; r++) {
        const Floats c = max(splat(-127.0f), min(splat(127.0f), mul(v[r], inverse)));
        store_bytes((uint8_t*)(whole + r * kLanes), to_int(c));
    }
    for (int i = 0; i < 32; i++)
        codes[i] = int8_t(uint8_t(uint32_t(whole[i])));  // the integer of a NaN ends in zeros
}

static void kv_store(const KvHead& kv, int32_t slot, const float* k, const float* v) {
    const int n = kv.head_dim, at = slot % KV_BLOCK;
    uint8_t* key = kv.k + kv_k_block_bytes(kv.type, n) * size_t(slot / KV_BLOCK);
    uint8_t* value = kv.v + kv_v_row_bytes(kv.type, n) * size_t(slot);
    const int kPiece = 64;
    if (kv.type == KvType::f16) {
        uint8_t halves[2 * kPiece];
        for (int d = 0; d < n; d += kPiece) {
            const int count = n - d < kPiece ? n - d : kPiece;
            halves_of(k + d, count, halves);
            for (int i = 0; i < count; i++)
                __builtin_memcpy(key + 2 * ((d + i) * KV_BLOCK + at), halves + 2 * i, 2);
            halves_of(v + d, count, halves);
            __builtin_memcpy(value + 2 * d, halves, 2 * size_t(count));
        }
    } else {
        const int blocks = int(kv_padded_dim(n) / 32);
        for (int b = 0; b < blocks; b++, key += 2 * KV_BLOCK + 32 * KV_BLOCK) {
            const int count = n - 32 * b < 32 ? n - 32 * b : 32;
            int8_t codes[32];
            quantize_32(k + 32 * b, count, codes, key + 2 * at);
            for (int i = 0; i < 32; i++) key[2 * KV_BLOCK + i * KV_BLOCK + at] = uint8_t(codes[i]);
            quantize_32(v + 32 * b, count, codes, value + 32 * blocks + 2 * b);
            __builtin_memcpy(value + 32 * b, codes, 32);
        }
    }
}

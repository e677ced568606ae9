// Attention of 32 queries of one head over all positions, with int8 products, over dot.h. Included
// after matmul.inl. Queries are lanes, so that nothing is summed across lanes; positions and
// dimensions are columns, in blocks of 32.
//
// The arithmetic of a block (same in generic/attend_all.cpp), for each query; q_scale has the
// factor log2(e), so that powers are those of 2:
//   s     float(the exact dot of q and k) * k.d, for each position
//   top   max s; t = top * q_scale; M = max(m, t)
//   e     power(fma(s, q_scale, -t)); code = round to even(e * 255)
//   a, c  power(m - M), power(t - M); m = M
//   l     fma(sum of e in order from +0, c, l * a)
//   o     fma(float(the exact dot of codes and v), c * (1 / 255) * v.d, o * a), for each dimension
// At the end o * (1 / l).
//
//   power(x)   2^x: x = max(-125, x); n = (x + 1.5 * 2^23) - 1.5 * 2^23; r = x - n;
//              p = 1 + r * (c1 + r * (c2 + r * c3)) by Horner, one fma each; p * 2^n.
//              Within 1.1e-4, a twentieth of what rounding to a code costs; power(0) is 1.
//
// A block's weights are relative to the largest of them: one large weight
// rounds only its 31 neighbours to 0.
#include "backends/cpu/body/math.inl"

constexpr int kQueryRegs = kPanel / kLanes;
// Registers of queries, and columns, of a tile of sums.
constexpr int kAttendRegs = kLanes == 16 ? 2 : 1, kAttendColumns = kLanes == 16 ? 8 : 4;

struct AttendBlock {
    alignas(64) float s[kPanel][kPanel];        // [position][query]
    alignas(64) uint8_t codes[8][kPlaneBytes];  // [4 positions][query]
    alignas(64) float m[kPanel], t[kPanel], weight[kPanel], old[kPanel], l[kPanel];
};

PILLION_INLINE Floats power(Floats x) {
    const Floats shift = splat(12582912.0f);
    x = max(splat(-125.0f), x);
    const Floats t = add(x, shift), n = subtract(t, shift), r = subtract(x, n);
    Floats p = splat(0.055008933f);
    p = fma(p, r, splat(0.24221097f));
    p = fma(p, r, splat(0.6932829f));
    p = fma(p, r, splat(1.0f));
#ifdef PILLION_TIMES_POWER
    return times_power(p, n);
#else
    return of_bits(add(bits_of(p), shift_left<23>(bits_of(t))));  // the low bits of t are n
#endif
}

template <int J, int N, int R, int C>
PILLION_INLINE void attend_plane(Dot<8> (&dots)[R][C], const uint8_t* codes, const Act* x) {
    Ints w[R];
    PILLION_UNROLL
    for (int r = 0; r < R; r++)
        w[r] = eight_bits(load_bytes(codes + J * kPlaneBytes + r * kRegBytes));
    add_plane<J, N>(dots, w, x);
}
// 32 inputs: `blocks` apart from column to column.
template <int N, int R, int C>  // N: planes before
PILLION_INLINE void attend_planes(Dot<8> (&dots)[R][C], const uint8_t* codes, const ActBlock* x,
                                  int blocks) {
    Act act[C] = {};
    PILLION_UNROLL
    for (int c = 0; c < C; c++) act[c] = Act(x + c * blocks);
    attend_plane<0, N>(dots, codes, act);
    attend_plane<1, N + 1>(dots, codes, act);
    attend_plane<2, N + 2>(dots, codes, act);
    attend_plane<3, N + 3>(dots, codes, act);
    attend_plane<4, N + 4>(dots, codes, act);
    attend_plane<5, N + 5>(dots, codes, act);
    attend_plane<6, N + 6>(dots, codes, act);
    attend_plane<7, N + 7>(dots, codes, act);
}

// -128 times the sum of a column's codes: what products of codes + 128 have too much.
PILLION_INLINE Ints zero128(const ActBlock* x) { return shift_left<4>(broadcast(&x->zero8)); }

// C positions against R registers of queries, from register `reg` on.
template <int R, int C>
PILLION_INLINE void score_columns(const AttendAllArgs& a, const ActBlock* keys, int reg,
                                  float (*s)[kPanel], Floats* top) {
    const int blocks = a.dims / 32;
    Dot<8> dots[R][C];
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        const Ints init = zero128(keys + c * blocks);
        PILLION_UNROLL
        for (int r = 0; r < R; r++) dots[r][c] = Dot<8>::start(init);
    }
    const uint8_t* codes = a.q + reg * kRegBytes;
    attend_planes<0, R, C>(dots, codes, keys, blocks);
    for (int b = 1; b < blocks; b++)
        attend_planes<8, R, C>(dots, codes + b * 8 * kPlaneBytes, keys + b, blocks);
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        const Floats d = broadcast(&keys[c * blocks].d);
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            const Floats v = mul(to_float(dots[r][c].finish(zero_ints())), d);
            top[r] = max(top[r], v);
            store(s[c] + (reg + r) * kLanes, v);
        }
    }
}

// The scores of a block of positions, and t.
static void score_positions(const AttendAllArgs& a, const ActBlock* keys, int count,
                            AttendBlock& block) {
    constexpr int R = kAttendRegs, C = kAttendColumns;
    const int blocks = a.dims / 32;
    const Floats none = splat(-__builtin_inff());
    for (int reg = 0; reg < kQueryRegs; reg += R) {
        Floats top[R];
        PILLION_UNROLL
        for (int r = 0; r < R; r++) top[r] = none;
        int p = 0;
        for (; p + C <= count; p += C)
            score_columns<R, C>(a, keys + p * blocks, reg, block.s + p, top);
        for (; p < count; p++) score_columns<R, 1>(a, keys + p * blocks, reg, block.s + p, top);
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            const int at = (reg + r) * kLanes;
            store(block.t + at, mul(top[r], load(a.q_scale + at)));
        }
    }
}

// Codes of the weights, m, l, and the factors of o. kWhole: count is kPanel. Returns whether any
// query has a new maximum.
template <bool kWhole>
static bool weigh_positions(const AttendAllArgs& a, int count, AttendBlock& block) {
    bool moved = false;
    for (int reg = 0; reg < kQueryRegs; reg++) {
        const int at = reg * kLanes;
        const Floats scale = load(a.q_scale + at), t = load(block.t + at), m = load(block.m + at),
                     both = max(m, t), minus = negate(t);
        Floats sum = zero_floats();
        for (int j = 0; j < 8; j++) {
            Ints code[4];
            PILLION_UNROLL
            for (int i = 0; i < 4; i++) {
                code[i] = zero_ints();
                if (!kWhole && 4 * j + i >= count) continue;
                const Floats e = power(fma(load(block.s[4 * j + i] + at), scale, minus));
                sum = add(sum, e);
                code[i] = to_int(mul(e, splat(255.0f)));
            }
            const Ints low = bit_or(code[0], shift_left<8>(code[1])),
                       high = bit_or(shift_left<16>(code[2]), shift_left<24>(code[3]));
            store_bytes(block.codes[j] + reg * kRegBytes, bit_or(low, high));
        }
        const Floats old = power(subtract(m, both)), now = power(subtract(t, both));
        store(block.m + at, both);
        store(block.l + at, fma(sum, now, mul(load(block.l + at), old)));
        store(block.old + at, old);
        store(block.weight + at, mul(now, splat(1.0f / 255.0f)));
        float lanes[kLanes];
        store(lanes, old);
        for (int i = 0; i < kLanes; i++) moved |= lanes[i] != 1.0f;
    }
    return moved;
}

// C dimensions of o.
template <int R, int C, bool kMoved>
PILLION_INLINE void add_columns(const AttendBlock& block, const ActBlock* values, int reg,
                                float* o) {
    Dot<8> dots[R][C];
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++)
            dots[r][c] = Dot<8>::start(kUnsignedCodes ? zero_ints() : zero128(values + c));
    }
    attend_planes<0, R, C>(dots, block.codes[0] + reg * kRegBytes, values, 1);
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        const Floats d = broadcast(&values[c].d);
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            const int at = (reg + r) * kLanes;
            Ints dot = dots[r][c].finish(zero_ints());
            // Signed products see codes - 128.
            if (!kUnsignedCodes) dot = subtract(dot, zero128(values + c));
            Floats v = load(o + c * kPanel + at);
            if (kMoved) v = mul(v, load(block.old + at));
            store(o + c * kPanel + at, fma(to_float(dot), mul(load(block.weight + at), d), v));
        }
    }
}
template <bool kMoved>
static void add_values(const AttendAllArgs& a, const AttendBlock& block, const ActBlock* values) {
    constexpr int R = kAttendRegs, C = kAttendColumns;
    for (int reg = 0; reg < kQueryRegs; reg += R) {
        int d = 0;
        for (; d + C <= a.head_dim; d += C)
            add_columns<R, C, kMoved>(block, values + d, reg, a.o + d * kPanel);
        for (; d < a.head_dim; d++)
            add_columns<R, 1, kMoved>(block, values + d, reg, a.o + d * kPanel);
    }
}

static void attend_all(const AttendAllArgs& a) {
    AttendBlock block;
    for (int i = 0; i < kPanel; i++) block.m[i] = -__builtin_inff(), block.l[i] = 0.0f;
    __builtin_memset(a.o, 0, sizeof(float) * size_t(a.head_dim) * kPanel);
    const int blocks = a.dims / 32;
    for (int p = 0; p < a.n; p += kPanel) {
        const int count = a.n - p < kPanel ? a.n - p : kPanel;
        const ActBlock* values = a.values + ptrdiff_t(p / kPanel) * a.head_dim;
        score_positions(a, a.keys + ptrdiff_t(p) * blocks, count, block);
        const bool moved = count == kPanel ? weigh_positions<true>(a, count, block)
                                           : weigh_positions<false>(a, count, block);
        if (moved) add_values<true>(a, block, values);
        else add_values<false>(a, block, values);
    }
    for (int i = 0; i < kPanel; i += kLanes) {
        const Floats by = divide(splat(1.0f), load(block.l + i));
        for (int d = 0; d < a.head_dim; d++)
            store(a.o + d * kPanel + i, mul(load(a.o + d * kPanel + i), by));
    }
}

// As quantize, with one scale for all blocks, and all sums in the first one's zero8.
static void quantize_row(const float* x, int inputs, ActBlock* act) {
    constexpr int kWords = 32 / kLanes;
    Ints top = zero_ints();
    for (int i = 0; i < inputs; i += kLanes)
        top = max(top, and_constant(bits_of(load(x + i)), 0x7FFFFFFF));
    const int32_t top_bits = max_of(top);
    const float inverse = act_inverse(top_bits);
    const Floats factor = splat(inverse);
    const Ints keep = splat_int(inverse == 0.0f ? 0 : -1);
    for (int b = 0; b < inputs / 32; b++, x += 32) {
        Ints q[kWords];
        PILLION_UNROLL
        for (int i = 0; i < kWords; i++)
            q[i] = to_int(mul(of_bits(bit_and(bits_of(load(x + i * kLanes)), keep)), factor));
        store_i8(act[b].q, q);
        Ints low = q[0], high = q[kWords / 2];
        PILLION_UNROLL
        for (int i = 1; i < kWords / 2; i++)
            low = add(low, q[i]), high = add(high, q[kWords / 2 + i]);
        act_finish(act[b], top_bits, sum_of(low), sum_of(high));
        if (b > 0) act[0].zero8 += act[b].zero8;
    }
}

static void fill_attend_all(KernelTable& t) {
    t.attend_all = attend_all;
    t.quantize_row = quantize_row;
}

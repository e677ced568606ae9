// Attention of up to 16 query vectors over one split of at most 256 positions of one KV head
// (core/contract/kv_lanes.h). Three passes:
//
//   scores   s = q . k for 32 positions x kScoreQueries queries in registers; positions are lanes,
//            so no horizontal sum
//   weights  per query, once per split: scale, soft cap, mask, maximum, exp, sum
//   values   o += weight * v; output dimensions are lanes, a tile of dimensions x queries stays in
//            registers while a run of positions streams past
//
// The arithmetic (same in generic/ops.cpp):
//   s   fma(q[d], k[d], s) over d = 0, 1, ... from +0; k is the stored value as f32 (f16, or
//       f32(scale) * code, both exact); then s * scale; then cap * tanh(s / cap) if cap > 0;
//       -inf where the mask hides the position from the query
//   m   acc[i % 16] = acc > s ? acc : s from -inf, i = p - begin, folded
//   w   exp(s - t), t = m, or 0 if m = -inf (a NaN still shows then)
//   l   acc[i % 16] += w, folded
//   o   fma(w, v, o) over the visible positions in order from +0
// A hidden position adds +0 to l and takes no part in o, whatever lies in its slot. Results
// therefore do not depend on the other queries of the call.
//
// The ISA defines, before it includes this file: kGroup (queries that go through the registers
// together), kScoreSums and kValueSums (registers that may hold the sums of a tile).
//
// Keys and values each lie in one straight line, so the next addresses are known; the next split of
// a sequence follows. Prefetches are spread evenly over all passes that read a piece (several, if
// there are more queries than a tile takes). A burst in the first pass would leave memory idle
// during the others.

constexpr int kBlockRegs = KV_BLOCK / kLanes;

constexpr int kKeyAhead = 4096;  // bytes; 2 to 16 KB measure the same

struct Scores {
    // [query][position - begin]: scores, then weights
    alignas(64) float s[kAttendQueriesMax][KV_SPLIT];
};

// ---- scores ----

constexpr int score_regs(int q) {
    int regs = kBlockRegs;
    while (regs > 1 && regs * q > kScoreSums) regs /= 2;
    return regs;
}

// Adds dimensions [begin, end) to the scores of one block. begin % 32 == 0; begin 0 starts the
// scores. Prefetches `spread` bytes a step from `fetch` on and returns where it stopped.
template <KvType kFormat, int Q>
static const uint8_t* score_block(const uint8_t* block, int begin, int end, const float* const* q,
                                  float* scores, const uint8_t* fetch, int spread) {
    constexpr int R = score_regs(Q);
    const float* x[Q];
    PILLION_UNROLL
    for (int c = 0; c < Q; c++) x[c] = q[c];
    for (int reg = 0; reg < kBlockRegs; reg += R) {
        Floats sum[R][Q];
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            PILLION_UNROLL
            for (int c = 0; c < Q; c++)
                sum[r][c] =
                    begin == 0 ? zero_floats() : load(scores + c * KV_SPLIT + kLanes * (reg + r));
        }
        if constexpr (kFormat == KvType::f16) {
            const uint8_t* keys = block + 2 * KV_BLOCK * begin + 2 * kLanes * reg;
            for (int d = begin; d < end; d++, keys += 2 * KV_BLOCK, fetch += spread) {
                fetch_ahead(fetch);
                Floats k[R];
                PILLION_UNROLL
                for (int r = 0; r < R; r++) k[r] = load_f16(keys + 2 * kLanes * r);
                PILLION_UNROLL
                for (int c = 0; c < Q; c++) {
                    const Floats v = broadcast(x[c] + d);
                    PILLION_UNROLL
                    for (int r = 0; r < R; r++) sum[r][c] = fma(v, k[r], sum[r][c]);
                }
            }
        } else {
            constexpr int kPart = 2 * KV_BLOCK + 32 * KV_BLOCK;
            const uint8_t* part = block + begin / 32 * kPart;
            for (int first = begin; first < end; first += 32, part += kPart) {
                const uint8_t* codes = part + 2 * KV_BLOCK + kLanes * reg;
                const int stop = end - first < 32 ? end : first + 32;
                Floats scale[R];
                PILLION_UNROLL
                for (int r = 0; r < R; r++) scale[r] = load_f16(part + 2 * kLanes * (reg + r));
                for (int d = first; d < stop; d++, codes += KV_BLOCK, fetch += spread) {
                    fetch_ahead(fetch);
                    Floats k[R];
                    PILLION_UNROLL
                    for (int r = 0; r < R; r++) k[r] = mul(scale[r], load_i8(codes + kLanes * r));
                    PILLION_UNROLL
                    for (int c = 0; c < Q; c++) {
                        const Floats v = broadcast(x[c] + d);
                        PILLION_UNROLL
                        for (int r = 0; r < R; r++) sum[r][c] = fma(v, k[r], sum[r][c]);
                    }
                }
            }
        }
        PILLION_UNROLL
        for (int c = 0; c < Q; c++) {
            PILLION_UNROLL
            for (int r = 0; r < R; r++)
                store(scores + c * KV_SPLIT + kLanes * (reg + r), sum[r][c]);
        }
    }
    return fetch;
}

// ---- weights ----

// Turns the scores of positions first..last (counted from the split's begin) into weights. The rest
// of their groups of 16 becomes 0.
template <bool kCap>
PILLION_INLINE void softmax_block(float* s, int first, int last, float scale, float softcap,
                                  float* top, float* total) {
    const float kNone = -__builtin_inff();
    const Floats by = splat(scale), cap = splat(softcap), none = splat(kNone);
    const Ints before = splat_int(first - 1), after = splat_int(last + 1);
    const int from = first / kVirtualLanes * kVirtualLanes;
    Lanes16 m = splat16(kNone);
    for (int i = from; i <= last; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            float* at = s + i + p * kLanes;
            Floats v = mul(load(at), by);
            if (kCap) v = capped(v, cap);
            const Ints index = add(splat_int(i + p * kLanes), count_ints());
            v = select(greater(index, before), v, none);
            v = select(greater(after, index), v, none);
            m.part[p] = max(m.part[p], v);
            store(at, v);
        }
    }
    *top = fold_max(m);
    const Floats t = splat(*top == kNone ? 0.0f : *top);
    Lanes16 l = splat16(0.0f);
    for (int i = from; i <= last; i += kVirtualLanes) {
        PILLION_UNROLL
        for (int p = 0; p < kParts; p++) {
            float* at = s + i + p * kLanes;
            const Floats w = exp(subtract(load(at), t));
            l.part[p] = add(l.part[p], w);
            store(at, w);
        }
    }
    *total = fold_add(l);
}

// ---- values ----

// Reads a value row; a q8_0 row has one scale for kScaleRegs registers.
template <KvType kFormat>
struct Value;
template <>
struct Value<KvType::f16> {
    static constexpr int kBytes = 2, kScaleRegs = 1;
    PILLION_INLINE Floats scale(const uint8_t*, int, int) { return zero_floats(); }
    PILLION_INLINE Floats get(const uint8_t* row, int dim, Floats) {
        return load_f16(row + 2 * dim);
    }
    PILLION_INLINE Floats get_first(const uint8_t* row, int dim, Floats, int n) {
        return load_f16_first(row + 2 * dim, n);
    }
};
template <>
struct Value<KvType::q8_0> {
    static constexpr int kBytes = 1, kScaleRegs = 32 / kLanes;
    PILLION_INLINE Floats scale(const uint8_t* row, int dim, int padded) {
        return splat_f16(row + padded + dim / 32 * 2);
    }
    PILLION_INLINE Floats get(const uint8_t* row, int dim, Floats by) {
        return mul(by, load_i8(row + dim));
    }
    PILLION_INLINE Floats get_first(const uint8_t* row, int dim, Floats by, int) {
        return get(row, dim, by);
    }  // padded with zeros
};

// Computes dimensions [dim, dim + D * kLanes) of Q outputs over `count` positions from `row` on.
// Prefetches from `fetch` on, `spread` bytes for 64 bytes read, and returns where it stopped. The
// tiles of a run together fetch the next run in one straight line, in whatever order they read
// their own. (Prefetching in the order of reading, short pieces of many rows, makes one query read
// at 11 GB/s instead of 26.)
template <KvType kFormat, int D, int Q>
PILLION_INLINE const uint8_t* value_tile(const uint8_t* row, size_t row_bytes, int padded, int dim,
                                         int count, const uint8_t* fetch, int spread,
                                         const float* w, float* const* o) {
    constexpr int kStepBytes = D * kLanes * Value<kFormat>::kBytes;
    Floats sum[D][Q];
    PILLION_UNROLL
    for (int r = 0; r < D; r++) {
        PILLION_UNROLL
        for (int c = 0; c < Q; c++) sum[r][c] = load(o[c] + dim + r * kLanes);
    }
    for (int i = 0; i < count; i++, row += row_bytes, fetch += kStepBytes * spread / 64) {
        PILLION_UNROLL
        for (int b = 0; b < kStepBytes; b += 64) fetch_ahead(fetch + b / 64 * spread);
        Floats weight[Q];
        PILLION_UNROLL
        for (int c = 0; c < Q; c++) weight[c] = broadcast(w + c * KV_SPLIT + i);
        Floats by = zero_floats();
        PILLION_UNROLL
        for (int r = 0; r < D; r++) {
            // `dim` is a multiple of the tile, so a tile below 32 dimensions has one scale.
            if (r % Value<kFormat>::kScaleRegs == 0)
                by = Value<kFormat>::scale(row, dim + r * kLanes, padded);
            const Floats v = Value<kFormat>::get(row, dim + r * kLanes, by);
            PILLION_UNROLL
            for (int c = 0; c < Q; c++) sum[r][c] = fma(weight[c], v, sum[r][c]);
        }
    }
    PILLION_UNROLL
    for (int r = 0; r < D; r++) {
        PILLION_UNROLL
        for (int c = 0; c < Q; c++) store(o[c] + dim + r * kLanes, sum[r][c]);
    }
    return fetch;
}

constexpr int value_regs(int q) {
    return 16 * q <= kValueSums  ? 16
           : 8 * q <= kValueSums ? 8
           : 4 * q <= kValueSums ? 4
           : 2 * q <= kValueSums ? 2
                                 : 1;
}

template <KvType kFormat, int Q>
static void value_run(const uint8_t* row, size_t row_bytes, int head_dim, int count,
                      const uint8_t* fetch, int spread, const float* w, float* const* o) {
    constexpr int D = value_regs(Q);
    const int padded = int(kv_padded_dim(head_dim));
    int dim = 0;
    for (; dim + D * kLanes <= head_dim; dim += D * kLanes)
        fetch = value_tile<kFormat, D, Q>(row, row_bytes, padded, dim, count, fetch, spread, w, o);
    if constexpr (D > 4)
        for (; dim + 4 * kLanes <= head_dim; dim += 4 * kLanes)
            fetch =
                value_tile<kFormat, 4, Q>(row, row_bytes, padded, dim, count, fetch, spread, w, o);
    for (; dim + kLanes <= head_dim; dim += kLanes)
        fetch = value_tile<kFormat, 1, Q>(row, row_bytes, padded, dim, count, fetch, spread, w, o);
    const int left = head_dim - dim;
    if (left == 0) return;
    for (int c = 0; c < Q; c++) {
        Floats sum = load_first(o[c] + dim, left);
        const uint8_t* at = row;
        for (int i = 0; i < count; i++, at += row_bytes)
            sum = fma(broadcast(w + c * KV_SPLIT + i),
                      Value<kFormat>::get_first(at, dim, Value<kFormat>::scale(at, dim, padded),
                                                left),
                      sum);
        store_first(o[c] + dim, sum, left);
    }
}

// ---- split ----

// The functions for a number of queries that go through the registers together.
struct Kernels {
    const uint8_t* (*score)(const uint8_t*, int, int, const float* const*, float*, const uint8_t*,
                            int);
    void (*value)(const uint8_t*, size_t, int, int, const uint8_t*, int, const float*,
                  float* const*);
    int passes;  // passes of `score` over a block
};

template <int Q>
static Kernels pick_kernels(KvType format, int q) {
    if constexpr (Q > 1)
        if (q < Q) return pick_kernels<Q - 1>(format, q);
    constexpr int kPasses = kBlockRegs / score_regs(Q);
    if (format == KvType::f16)
        return {score_block<KvType::f16, Q>, value_run<KvType::f16, Q>, kPasses};
    return {score_block<KvType::q8_0, Q>, value_run<KvType::q8_0, Q>, kPasses};
}

struct Group {  // queries [c0, c1)
    int c0, c1;
    Kernels run;
};

static void attend_split(const AttendArgs& a) {
    const KvHead& kv = a.kv;
    const int n = a.end - a.begin;
    const int32_t slot = a.begin % kv.capacity;
    const size_t block_bytes = kv_k_block_bytes(kv.type, kv.head_dim),
                 row_bytes = kv_v_row_bytes(kv.type, kv.head_dim);
    const uint8_t* keys = kv.k + block_bytes * size_t(slot / KV_BLOCK);
    const uint8_t* values = kv.v + row_bytes * size_t(slot);

    Scores scores;
    // counted from begin; last < first: nothing is visible
    int first[kAttendQueriesMax], last[kAttendQueriesMax];
    int all_first = n, all_last = -1;
    for (int c = 0; c < a.n_q; c++) {
        const int f = a.first[c] <= a.begin ? 0 : a.first[c] >= a.end ? n : a.first[c] - a.begin;
        const int l = a.last[c] >= a.end ? n - 1 : a.last[c] < a.begin ? -1 : a.last[c] - a.begin;
        const bool any = f <= l;
        first[c] = any ? f : n, last[c] = any ? l : -1;
        all_first = first[c] < all_first ? first[c] : all_first;
        all_last = last[c] > all_last ? last[c] : all_last;
        __builtin_memset(a.o[c], 0, sizeof(float) * size_t(kv.head_dim));
        a.m[c] = -__builtin_inff(), a.l[c] = 0.0f;
    }
    if (all_last < 0) return;

    const Kernels one = pick_kernels<kGroup>(kv.type, 1);
    const int groups = (a.n_q + kGroup - 1) / kGroup;
    Group group[kAttendQueriesMax];
    int passes = 0;
    for (int g = 0; g < groups; g++) {
        const int c0 = g * a.n_q / groups, c1 = (g + 1) * a.n_q / groups;
        group[g] = {c0, c1, pick_kernels<kGroup>(kv.type, c1 - c0)};
        passes += group[g].run.passes;
    }

    // A block is read in pieces of 4 KB. All passes but the first then find their piece in the
    // first cache, and the next piece has room beside it. A single pass reads the whole block.
    const int piece = passes == 1 ? kv.head_dim : kv.type == KvType::f16 ? 64 : 128;
    const int spread = (kv.type == KvType::f16 ? 64 : 34) / passes;
    for (int b = all_first / KV_BLOCK; b <= all_last / KV_BLOCK; b++) {
        const uint8_t* block = keys + size_t(b) * block_bytes;
        for (int d = 0; d < kv.head_dim; d += piece) {
            const int end = kv.head_dim - d < piece ? kv.head_dim : d + piece;
            const uint8_t* fetch =
                block + size_t(d) * block_bytes / size_t(kv.head_dim) + kKeyAhead;
            for (int g = 0; g < groups; g++) {
                bool seen = false;
                for (int c = group[g].c0; c < group[g].c1; c++)
                    seen |= first[c] < (b + 1) * KV_BLOCK && last[c] >= b * KV_BLOCK;
                if (!seen) continue;
                fetch = group[g].run.score(block, d, end, a.q + group[g].c0,
                                           scores.s[group[g].c0] + b * KV_BLOCK, fetch, spread);
            }
        }
    }

    for (int c = 0; c < a.n_q; c++) {
        if (last[c] < 0) continue;
        if (a.softcap > 0.0f)
            softmax_block<true>(scores.s[c], first[c], last[c], a.scale, a.softcap, &a.m[c],
                                &a.l[c]);
        else softmax_block<false>(scores.s[c], first[c], last[c], a.scale, 0.0f, &a.m[c], &a.l[c]);
    }

    // A run is 8 to 16 KB of rows, so that the next run, fetched during this one, stays in the
    // first cache.
    const int run = row_bytes >= 1024 ? 16 : 32;
    for (int p = all_first / run * run; p <= all_last; p += run) {
        const int run_last = p + run - 1 < n - 1 ? p + run - 1 : n - 1;
        const uint8_t* fetch = values + row_bytes * size_t(p + run);
        for (int g = 0; g < groups; g++) {
            // The tile takes the positions that every query of the group sees. The others go one
            // query at a time.
            const int c0 = group[g].c0, c1 = group[g].c1;
            int shared_first = p, shared_last = run_last;
            for (int c = c0; c < c1; c++) {
                shared_first = first[c] > shared_first ? first[c] : shared_first;
                shared_last = last[c] < shared_last ? last[c] : shared_last;
            }
            const bool shared = shared_first <= shared_last;
            const auto alone = [&](int c, int from, int to) {
                from = from > first[c] ? from : first[c];
                to = to < last[c] ? to : last[c];
                const uint8_t* row = values + row_bytes * size_t(from);
                if (from <= to)
                    one.value(row, row_bytes, kv.head_dim, to - from + 1, row, 0,
                              scores.s[c] + from, a.o + c);
            };
            for (int c = c0; c < c1; c++) alone(c, p, shared ? shared_first - 1 : run_last);
            if (!shared) continue;
            group[g].run.value(values + row_bytes * size_t(shared_first), row_bytes, kv.head_dim,
                               shared_last - shared_first + 1,
                               fetch + row_bytes * size_t(run) * size_t(g) / size_t(groups),
                               64 / groups, scores.s[c0] + shared_first, a.o + c0);
            for (int c = c0; c < c1; c++) alone(c, shared_last + 1, run_last);
        }
    }
}

static void attend_merge(float* m, float* l, float* o, float ms, float ls, const float* os,
                         int head_dim) {
    const float kNone = -__builtin_inff();
    const float top = *m > ms ? *m : ms;
    float both[kLanes] = {};
    both[0] = *m - top, both[1] = ms - top;
    float weights[kLanes];
    store(weights, exp(load(both)));
    const float old = *m == kNone ? 0.0f : weights[0], now = ms == kNone ? 0.0f : weights[1];
    *m = top;
    *l = *l * old + ls * now;
    const Floats a = splat(old), b = splat(now);
    int i = 0;
    for (; i + kLanes <= head_dim; i += kLanes)
        store(o + i, fma(load(os + i), b, mul(load(o + i), a)));
    if (i < head_dim)
        store_first(o + i,
                    fma(load_first(os + i, head_dim - i), b,
                        mul(load_first(o + i, head_dim - i), a)),
                    head_dim - i);
}

// Quantized matmul over dot.h, the code of every vector table. Included inside the namespace of an
// instruction set. Two kernels with one arithmetic:
//
//     matvec   1..9 columns, sums in registers, each code plane unpacked once and used for all
//              columns
//     matmul   many columns, unpacked codes of 32 inputs stay in registers while columns stream
//              past, sums in the first cache
//
// Where unpacking is cheap, groups of columns by `matvec` are faster than `matmul`
// (KernelTable::matvec_group): sums in registers need no stores, and stores of results, which may
// wait for memory, then hold nothing up.
//
// generic/matmul.cpp defines the result of both: an exact integer dot product per block, then
// single float operations in the order of the blocks. Results are therefore bit-equal between the
// kernels, the column counts and the instruction sets.

#define PILLION_INLINE static inline __attribute__((always_inline))
#define PILLION_UNROLL _Pragma("GCC unroll 32")

constexpr int kRegs = kPanel / kLanes;  // registers for the rows of a panel
constexpr int kRegBytes = 4 * kLanes;   // of a code plane

// The narrow planes of 32 inputs, if the format has them, read once and held in registers.
template <class F>
struct Narrow {
    Ints plane[F::kNarrowPlanes ? F::kNarrowPlanes : 1];
};
template <class F>
PILLION_INLINE Narrow<F> load_narrow(const uint8_t* codes) {
    Narrow<F> n = {};
    PILLION_UNROLL
    for (int i = 0; i < F::kNarrowPlanes; i++)
        n.plane[i] = hold_in_register(load_bytes(codes + i * kPlaneBytes));
    return n;
}
// The bytes that contain plane J. `codes` already points to the wanted register.
template <class F, int J>
PILLION_INLINE Ints wide_plane(const uint8_t* codes) {
    constexpr int kPlane = F::kBits == 8 ? J : F::kBits >= 4 ? J % 4 : J % 2;
    return load_bytes(codes + F::kWide + kPlane * kPlaneBytes);
}
// Extracts plane J from those bytes, in the form that Dot multiplies.
template <class F, int J>
PILLION_INLINE Ints code_plane(Ints wide, const Narrow<F>& narrow) {
    if constexpr (F::kBits == 8) {
        return eight_bits(wide);
    } else if constexpr (F::kBits <= 3) {
        const Ints low = field<J / 2 * 2, 0, 2>(wide);
        if constexpr (F::kLookUp)
            return look_up<F::kTable>(join_field<J, 2, 1>(low, narrow.plane[0]));
        if constexpr (F::kBits == 3) return join_field<J, 2, 1>(low, narrow.plane[0]);
        return low;
    } else {
        const Ints low = field<J / 4 * 4, 0, 4>(wide);
        if constexpr (F::kBits == 5) return join_field<J, 4, 1>(low, narrow.plane[0]);
        if constexpr (F::kBits == 6) return join_field<J / 2 * 2, 4, 2>(low, narrow.plane[J % 2]);
        if constexpr (F::kLookUp) return look_up<F::kTable>(low);
        return low;
    }
}

#include "matmul_scales.inl"

// ---- blocks ----

// -8 times the sum of a block's activations. Half: 0 or 1 for 16 inputs, -1 for all 32.
template <int Half>
PILLION_INLINE Ints zero8(const ActBlock* act) {
    if constexpr (Half == 1) return broadcast(&act->zero8_high);
    if constexpr (Half == 0) return subtract(broadcast(&act->zero8), broadcast(&act->zero8_high));
    return broadcast(&act->zero8);
}
// The start of a dot product: -kZero times that sum.
template <class F, int Half>
PILLION_INLINE Ints start_of(const ActBlock* act) {
    if constexpr (F::kZero == 0) return zero_ints();
    if constexpr (F::kZero == 1) return shift_right_signed<3>(zero8<Half>(act));
    if constexpr (F::kZero == 4) return shift_right_signed<1>(zero8<Half>(act));
    if constexpr (F::kZero == 8) return zero8<Half>(act);
    if constexpr (F::kZero == 16) return shift_left<1>(zero8<Half>(act));
    if constexpr (F::kZero == 32) return shift_left<2>(zero8<Half>(act));
    if constexpr (F::kZero == 128) return shift_left<4>(zero8<Half>(act));
}

template <class F, int Half>
PILLION_INLINE Floats add_block(Floats sum, Ints dot, const ActBlock* act, Floats scale,
                                Floats low) {
    sum = fma(mul(to_float(dot), broadcast(&act->d)), scale, sum);
    if constexpr (F::kLowInputs == 32)
        sum = Scales<F>::kLowNegative ? fma(low, broadcast(&act->d_sum), sum)
                                      : fma_minus(low, broadcast(&act->d_sum), sum);
    if constexpr (F::kLowInputs == 16)
        sum = fma(low, mul(to_float(zero8<Half>(act)), broadcast(&act->d)), sum);
    return sum;
}

// Prefetches block b's share of a step, evenly, because a burst would fill the line buffers and
// stall. PanelArgs::prefetch above 0: that many bytes ahead, into the first cache. Below 0: into
// the second cache, for machines whose own prefetchers follow one straight line at full bandwidth.
// It then prefetches only if arithmetic is slower than memory, so that the reorder window fills
// before enough lines are requested.
template <class F>
PILLION_INLINE void prefetch_block(const uint8_t* step, int distance, int b, int columns) {
    constexpr int kLines = (F::kStepBytes + 63) / 64,
                  kShare = (kLines + F::kBlocks - 1) / F::kBlocks;
    if (distance > 0) {
        PILLION_UNROLL
        for (int i = 0; i < kShare; i++) fetch_ahead(step + distance + (b * kShare + i) * 64);
    } else if (distance < 0 && columns > (F::kBits == 8 ? 5 : 2)) {
        PILLION_UNROLL
        for (int i = 0; i < kShare; i++) fetch_far(step - distance + (b * kShare + i) * 64);
    }
}

// Prefetches the lines of a panel's results, a few with each block. Without this the stores of the
// results wait for memory or for another core's cache, and all later stores wait for them.
class Results {
  public:
    explicit Results(const PanelArgs& a)
        : a_(a), each_((32 * a.columns + a.inputs - 1) / a.inputs), next_(0) {}
    inline __attribute__((always_inline)) void prefetch_some(int panel) {
        for (int i = 0; i < each_ && next_ < a_.columns; i++, next_++) {
            const float* to = a_.out[next_] + size_t(panel) * kPanel;
            fetch_to_write(to);
            fetch_to_write(to + kPanel / 2);
        }
    }

  private:
    const PanelArgs& a_;
    const int each_;
    int next_;
};

template <class F, int Half, int R, int C>
PILLION_INLINE void start_dots(Dot<F::kDotBits> (&dots)[R][C], const ActBlock* act) {
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        const Ints init = start_of<F, Half>(act + c);
        PILLION_UNROLL
        for (int r = 0; r < R; r++) dots[r][c] = Dot<F::kDotBits>::start(init);
    }
}
template <int J, int N, int Bits, int R, int C>
PILLION_INLINE void add_plane(Dot<Bits> (&dots)[R][C], const Ints (&w)[R], const Act* x) {
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++) dots[r][c].template add<J, N>(w[r], x[c]);
    }
}

// Writes one column's sums of a panel to the existing rows. A whole panel is stored as a few
// registers: a call of memcpy took 3 % of a prefill.
PILLION_INLINE void store_rows(const PanelArgs& a, int panel, int column, const float* sums) {
    float* to = a.out[column] + size_t(panel) * kPanel;
    const int left = a.rows - panel * kPanel;
    if (left >= kPanel) {
        PILLION_UNROLL
        for (int i = 0; i < kPanel; i += kLanes) store(to + i, load(sums + i));
    } else {
        for (int i = 0; i < left; i++) to[i] = sums[i];
    }
}

// Writes all sums of a panel, through memory and in loops: this happens once a panel.
template <int C>
PILLION_INLINE void store_panel(const PanelArgs& a, int panel, const Floats (&sum)[kRegs][C]) {
    alignas(64) float rows[C][kPanel];
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < kRegs; r++) store(rows[c] + r * kLanes, sum[r][c]);
    }
    for (int c = 0; c < C; c++) store_rows(a, panel, c, rows[c]);
}

// ---- matvec ----

template <class F, int J, int N, int R, int C>
PILLION_INLINE void matvec_plane(Dot<F::kDotBits> (&dots)[R][C], const uint8_t* codes,
                                 const Narrow<F> (&narrow)[R], const Act* x) {
    Ints w[R];
    PILLION_UNROLL
    for (int r = 0; r < R; r++)
        w[r] = code_plane<F, J>(wide_plane<F, J>(codes + r * kRegBytes), narrow[r]);
    add_plane<J, N>(dots, w, x);
}
// Multiplies planes J and J + 4, which share bytes.
template <class F, int J, int N, int R, int C>
PILLION_INLINE void matvec_pair(Dot<F::kDotBits> (&dots)[R][C], const uint8_t* codes,
                                const Narrow<F> (&narrow)[R], const Act* x) {
    Ints both[R], w[R];
    PILLION_UNROLL
    for (int r = 0; r < R; r++) {
        both[r] = wide_plane<F, J>(codes + r * kRegBytes);
        // With one column, loads are cheap, and Q4_K then reads at 98 % instead of 80 %.
        if (C > 1) both[r] = hold_in_register(both[r]);
    }
    PILLION_UNROLL
    for (int r = 0; r < R; r++) w[r] = code_plane<F, J>(both[r], narrow[r]);
    add_plane<J, N>(dots, w, x);
    PILLION_UNROLL
    for (int r = 0; r < R; r++) w[r] = code_plane<F, J + 4>(both[r], narrow[r]);
    add_plane<J + 4, N + 1>(dots, w, x);
}
template <class F, int Half, int R, int C>
PILLION_INLINE void matvec_finish(const Dot<F::kDotBits> (&dots)[R][C], const ActBlock* act,
                                  const Scales<F>& scales, int group, int reg, Floats (*sum)[C]) {
    PILLION_UNROLL
    for (int r = 0; r < R; r++) {
        const Floats scale = scales.scale(group, reg + r), low = scales.low(group, reg + r);
        PILLION_UNROLL
        for (int c = 0; c < C; c++)
            sum[r][c] = add_block<F, Half>(sum[r][c], dots[r][c].finish(start_of<F, Half>(act + c)),
                                           act + c, scale, low);
    }
}

// 32 inputs, R registers of rows, C columns.
template <class F, int R, int C>
PILLION_INLINE void matvec_block(const uint8_t* codes, const Act* x, const ActBlock* act,
                                 const Scales<F>& scales, int block, int reg, Floats (*sum)[C]) {
    Dot<F::kDotBits> dots[R][C];
    Narrow<F> n[R];
    PILLION_UNROLL
    for (int r = 0; r < R; r++) n[r] = load_narrow<F>(codes + r * kRegBytes);
    if constexpr (F::kScaleInputs == 32) {
        start_dots<F, -1>(dots, act);
        if constexpr (F::kBits == 8) {
            matvec_plane<F, 0, 0>(dots, codes, n, x);
            matvec_plane<F, 1, 1>(dots, codes, n, x);
            matvec_plane<F, 2, 2>(dots, codes, n, x);
            matvec_plane<F, 3, 3>(dots, codes, n, x);
            matvec_plane<F, 4, 4>(dots, codes, n, x);
            matvec_plane<F, 5, 5>(dots, codes, n, x);
            matvec_plane<F, 6, 6>(dots, codes, n, x);
            matvec_plane<F, 7, 7>(dots, codes, n, x);
        } else if constexpr (F::kBits <= 3) {  // four planes share bytes
            matvec_plane<F, 0, 0>(dots, codes, n, x);
            matvec_plane<F, 2, 1>(dots, codes, n, x);
            matvec_plane<F, 4, 2>(dots, codes, n, x);
            matvec_plane<F, 6, 3>(dots, codes, n, x);
            matvec_plane<F, 1, 4>(dots, codes, n, x);
            matvec_plane<F, 3, 5>(dots, codes, n, x);
            matvec_plane<F, 5, 6>(dots, codes, n, x);
            matvec_plane<F, 7, 7>(dots, codes, n, x);
        } else {
            matvec_pair<F, 0, 0>(dots, codes, n, x);
            matvec_pair<F, 1, 2>(dots, codes, n, x);
            matvec_pair<F, 2, 4>(dots, codes, n, x);
            matvec_pair<F, 3, 6>(dots, codes, n, x);
        }
        matvec_finish<F, -1>(dots, act, scales, block, reg, sum);
    } else {
        start_dots<F, 0>(dots, act);
        matvec_plane<F, 0, 0>(dots, codes, n, x);
        matvec_plane<F, 1, 1>(dots, codes, n, x);
        matvec_plane<F, 2, 2>(dots, codes, n, x);
        matvec_plane<F, 3, 3>(dots, codes, n, x);
        matvec_finish<F, 0>(dots, act, scales, 2 * block, reg, sum);
        start_dots<F, 1>(dots, act);
        matvec_plane<F, 4, 0>(dots, codes, n, x);
        matvec_plane<F, 5, 1>(dots, codes, n, x);
        matvec_plane<F, 6, 2>(dots, codes, n, x);
        matvec_plane<F, 7, 3>(dots, codes, n, x);
        matvec_finish<F, 1>(dots, act, scales, 2 * block + 1, reg, sum);
    }
}

template <class F, int C>
static void matvec_panels(const PanelArgs& a) {
    constexpr int R = matvec_regs(C);
    static_assert(kRegs % R == 0, "registers of a panel in equal passes");
    const int steps = a.inputs / F::kInputs;
    for (int panel = a.begin; panel < a.end; panel++) {
        const uint8_t* step = a.weights + size_t(panel) * a.panel_bytes;
        const ActBlock* act = a.act;
        Results results(a);
        Floats sum[kRegs][C];
        PILLION_UNROLL
        for (int r = 0; r < kRegs; r++) {
            PILLION_UNROLL
            for (int c = 0; c < C; c++) sum[r][c] = zero_floats();
        }
        for (int s = 0; s < steps; s++, step += F::kStepBytes) {
            const Scales<F> scales(step);
            const uint8_t* codes = step + F::kScaleBytes * kPanel;
            for (int b = 0; b < F::kBlocks; b++, codes += F::kCodeBytes, act += a.act_columns) {
                // A tile's groups of columns prefetch alike: the first of them reads for all.
                prefetch_block<F>(step, a.prefetch, b, a.act_columns);
                if constexpr (C > 2) results.prefetch_some(panel);
                Act x[C] = {};
                PILLION_UNROLL
                for (int c = 0; c < C; c++) x[c] = Act(act + c);
                if constexpr (kRegs <= 2 * R) {
                    PILLION_UNROLL
                    for (int reg = 0; reg < kRegs; reg += R)
                        matvec_block<F, R, C>(codes + reg * kRegBytes, x, act, scales, b, reg,
                                              sum + reg);
                    // The sums of many passes do not fit registers. They stay in memory, so that
                    // the code stays small.
                } else {
                    for (int reg = 0; reg < kRegs; reg += R) {
                        Floats part[R][C];
                        PILLION_UNROLL
                        for (int r = 0; r < R; r++) {
                            PILLION_UNROLL
                            for (int c = 0; c < C; c++) part[r][c] = sum[reg + r][c];
                        }
                        matvec_block<F, R, C>(codes + reg * kRegBytes, x, act, scales, b, reg,
                                              part);
                        PILLION_UNROLL
                        for (int r = 0; r < R; r++) {
                            PILLION_UNROLL
                            for (int c = 0; c < C; c++) sum[reg + r][c] = part[r][c];
                        }
                    }
                }
            }
        }
        store_panel(a, panel, sum);
    }
}

// ---- matmul ----

// 2 rows x 8 inputs times 8 inputs x 2 columns
#ifdef PILLION_MATRIX_PRODUCTS
// Holds codes: planes 2k and 2k + 1 of rows 0, 1 in [2k], of rows 2, 3 in [2k + 1].
template <int R>
PILLION_INLINE void hold(Ints (&w)[R][8]) {
    PILLION_UNROLL
    for (int r = 0; r < R; r++) {
        PILLION_UNROLL
        for (int j = 0; j < 8; j += 2) {
            const Ints low = zip_low(w[r][j], w[r][j + 1]), high = zip_high(w[r][j], w[r][j + 1]);
            w[r][j] = low, w[r][j + 1] = high;
        }
    }
}
template <class F, int Half, int R, int C>
PILLION_INLINE void matmul_dots(const Ints (&w)[R][8], const ActBlock* act, Ints (&dots)[R][C]) {
    constexpr int kFirst = Half == 1 ? 4 : 0, kLast = Half == 0 ? 4 : 8;
    PILLION_UNROLL
    for (int c = 0; c < C; c += 2) {
        // An odd last column pairs with itself.
        const ActBlock* other = act + (c + 1 < C ? c + 1 : c);
        const Ints init = zip_low(start_of<F, Half>(act + c), start_of<F, Half>(other));
        Ints low[R], high[R];
        PILLION_UNROLL
        for (int r = 0; r < R; r++) low[r] = init, high[r] = init;
        PILLION_UNROLL
        for (int j = kFirst; j < kLast; j += 2) {
            const Ints x = join_eights(act[c].q + 4 * j, other->q + 4 * j);
            PILLION_UNROLL
            for (int r = 0; r < R; r++) {
                low[r] = matrix_product<F::kDotBits>(low[r], w[r][j], x);
                high[r] = matrix_product<F::kDotBits>(high[r], w[r][j + 1], x);
            }
        }
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            dots[r][c] = even_lanes(low[r], high[r]);
            if (c + 1 < C) dots[r][c + 1] = odd_lanes(low[r], high[r]);
        }
    }
}
#else
template <int R>
PILLION_INLINE void hold(Ints (&)[R][8]) {}
template <int J, int N, int Bits, int R, int C>
PILLION_INLINE void add_held(Dot<Bits> (&dots)[R][C], const Ints (&w)[R][8], const Act* x) {
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++) dots[r][c].template add<J, N>(w[r][J], x[c]);
    }
}
template <class F, int Half, int R, int C>
PILLION_INLINE void matmul_dots(const Ints (&w)[R][8], const ActBlock* act, Ints (&out)[R][C]) {
    Act x[C] = {};
    PILLION_UNROLL
    for (int c = 0; c < C; c++) x[c] = Act(act + c);
    Dot<F::kDotBits> dots[R][C];
    start_dots<F, Half>(dots, act);
    if constexpr (Half != 1) {
        add_held<0, 0>(dots, w, x);
        add_held<1, 1>(dots, w, x);
        add_held<2, 2>(dots, w, x);
        add_held<3, 3>(dots, w, x);
    }
    constexpr int N = Half == 1 ? 0 : 4;
    if constexpr (Half != 0) {
        add_held<4, N>(dots, w, x);
        add_held<5, N + 1>(dots, w, x);
        add_held<6, N + 2>(dots, w, x);
        add_held<7, N + 3>(dots, w, x);
    }
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++) out[r][c] = dots[r][c].finish(start_of<F, Half>(act + c));
    }
}
#endif

template <class F, int Half, int R, int C>
PILLION_INLINE void matmul_half(const Ints (&w)[R][8], const Floats (&scale)[R],
                                const Floats (&low)[R], const ActBlock* act, float* sum) {
    Ints dots[R][C];
    matmul_dots<F, Half>(w, act, dots);
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++) {
            float* at = sum + c * kPanel + r * kLanes;
            store(at, add_block<F, Half>(load(at), dots[r][c], act + c, scale[r], low[r]));
        }
    }
}
template <class F, int R, int C>
PILLION_INLINE void matmul_columns(const Ints (&w)[R][8], const Floats (&scale)[2][R],
                                   const Floats (&low)[2][R], const ActBlock* act, float* sum) {
    if constexpr (F::kScaleInputs == 32) {
        matmul_half<F, -1, R, C>(w, scale[0], low[0], act, sum);
    } else {
        matmul_half<F, 0, R, C>(w, scale[0], low[0], act, sum);
        matmul_half<F, 1, R, C>(w, scale[1], low[1], act, sum);
    }
}

template <class F>
static void matmul_panels(const PanelArgs& a) {
    constexpr int R = kTileRegs, C = kMatmulColumns, kGroups = 32 / F::kScaleInputs;
    const int steps = a.inputs / F::kInputs;
    alignas(64) float sum[kMatmulMax * kPanel];
    for (int panel = a.begin; panel < a.end; panel++) {
        const uint8_t* step = a.weights + size_t(panel) * a.panel_bytes;
        const ActBlock* act = a.act;
        Results results(a);
        __builtin_memset(sum, 0, sizeof(float) * size_t(a.columns) * kPanel);
        for (int s = 0; s < steps; s++, step += F::kStepBytes) {
            const Scales<F> scales(step);
            const uint8_t* codes = step + F::kScaleBytes * kPanel;
            for (int b = 0; b < F::kBlocks; b++, codes += F::kCodeBytes, act += a.act_columns) {
                prefetch_block<F>(step, a.prefetch, b, a.columns);
                results.prefetch_some(panel);
                for (int reg = 0; reg < kRegs; reg += R) {
                    Ints w[R][8];
                    Floats scale[2][R], low[2][R];
                    PILLION_UNROLL
                    for (int r = 0; r < R; r++) {
                        const uint8_t* p = codes + (reg + r) * kRegBytes;
                        const Narrow<F> n = load_narrow<F>(p);
#define PILLION_PLANE(J) w[r][J] = code_plane<F, J>(wide_plane<F, J>(p), n);
                        PILLION_PLANE(0)
                        PILLION_PLANE(1)
                        PILLION_PLANE(2)
                        PILLION_PLANE(3)
                        PILLION_PLANE(4)
                        PILLION_PLANE(5)
                        PILLION_PLANE(6)
                        PILLION_PLANE(7)
#undef PILLION_PLANE
                        PILLION_UNROLL
                        for (int g = 0; g < kGroups; g++) {
                            scale[g][r] = scales.scale(kGroups * b + g, reg + r);
                            low[g][r] = scales.low(kGroups * b + g, reg + r);
                        }
                    }
                    hold(w);
                    float* sums = sum + reg * kLanes;
                    int c = 0;
                    for (; c + C <= a.columns; c += C)
                        matmul_columns<F, R, C>(w, scale, low, act + c, sums + c * kPanel);
                    for (; c + 2 <= a.columns; c += 2)
                        matmul_columns<F, R, 2>(w, scale, low, act + c, sums + c * kPanel);
                    for (; c < a.columns; c++)
                        matmul_columns<F, R, 1>(w, scale, low, act + c, sums + c * kPanel);
                }
            }
        }
        for (int c = 0; c < a.columns; c++) store_rows(a, panel, c, sum + c * kPanel);
    }
}

// ---- activations ----

// Quantizes one column; activations.h defines a block. Finds the largest magnitude in the integers:
// without the sign bit, floats order like their bits, and infinities and NaNs are the largest.
static void quantize(const float* x, int inputs, ActBlock* act, ptrdiff_t stride) {
    constexpr int kWords = 32 / kLanes;
    for (int b = 0; b < inputs / 32; b++, x += 32) {
        ActBlock& out = act[b * stride];
        Floats v[kWords];
        Ints q[kWords], top = zero_ints();
        PILLION_UNROLL
        for (int i = 0; i < kWords; i++) {
            v[i] = load(x + i * kLanes);
            top = max(top, and_constant(bits_of(v[i]), 0x7FFFFFFF));
        }
        const int32_t top_bits = max_of(top);
        const float inverse = act_inverse(top_bits);
        const Floats factor = splat(inverse);
        // A factor of 0 does not turn an infinity into a 0.
        const Ints keep = splat_int(inverse == 0.0f ? 0 : -1);
        PILLION_UNROLL
        for (int i = 0; i < kWords; i++)
            q[i] = to_int(mul(of_bits(bit_and(bits_of(v[i]), keep)), factor));
        store_i8(out.q, q);
        Ints low = q[0], high = q[kWords / 2];
        PILLION_UNROLL
        for (int i = 1; i < kWords / 2; i++)
            low = add(low, q[i]), high = add(high, q[kWords / 2 + i]);
        act_finish(out, top_bits, sum_of(low), sum_of(high));
    }
}

// ---- table ----

template <class F>
static void fill_format(KernelTable& t) {
    const int f = int(F::kFormat);
    t.matvec[f][0] = nullptr;
    t.matvec[f][1] = matvec_panels<F, 1>;
    t.matvec[f][2] = matvec_panels<F, 2>;
    t.matvec[f][3] = matvec_panels<F, 3>;
    t.matvec[f][4] = matvec_panels<F, 4>;
    t.matvec[f][5] = matvec_panels<F, 5>;
    t.matvec[f][6] = matvec_panels<F, 6>;
    t.matvec[f][7] = matvec_panels<F, 7>;
    t.matvec[f][8] = matvec_panels<F, 8>;
    t.matvec[f][9] = matvec_panels<F, 9>;
    t.matmul[f] = matmul_panels<F>;
    // A group unpacks a panel's codes and scales again, which costs little where they are plain.
    constexpr bool kPlain =
        F::kInputs == 32 && F::kScaleInputs == 32 && F::kLowInputs == 0 && F::kNarrowPlanes == 0;
    t.matvec_group[f] = matvec_group(F::kBits, kPlain);
}
// Enough sums in flight to hide the latency of a dot product, and few enough for the registers.
static int64_t dot_peak(int64_t rounds) {
    constexpr int kSums = kLanes == 8 ? 8 : 12;
    // Codes of each sum. With equal codes the compiler would compute one sum.
    alignas(64) uint8_t bytes[kSums][kRegBytes];
    for (int i = 0; i < kSums; i++)
        for (int k = 0; k < kRegBytes; k++) bytes[i][k] = uint8_t((i + k) % 15);
    ActBlock block = {};
    for (int i = 0; i < 32; i++) block.q[i] = int8_t(i);
    const Act x(&block);
    Ints sums[kSums];
    PILLION_UNROLL
    for (int i = 0; i < kSums; i++) sums[i] = zero_ints();
    for (int64_t round = 0; round < rounds; round++) {
        // The codes may have changed, so the compiler does not carry products over.
        asm volatile("" ::"r"(bytes) : "memory");
        Ints codes[kSums];
        PILLION_UNROLL
        for (int i = 0; i < kSums; i++) codes[i] = load_bytes(bytes[i]);
        Dot<4> dots[kSums];
        PILLION_UNROLL
        for (int i = 0; i < kSums; i++) dots[i] = Dot<4>::start(sums[i]);
#define PILLION_PLANE(J) \
    PILLION_UNROLL       \
    for (int i = 0; i < kSums; i++) dots[i].template add<J, J>(codes[i], x);
        PILLION_PLANE(0)
        PILLION_PLANE(1)
        PILLION_PLANE(2)
        PILLION_PLANE(3)
        PILLION_PLANE(4)
        PILLION_PLANE(5)
        PILLION_PLANE(6)
        PILLION_PLANE(7)
#undef PILLION_PLANE
        PILLION_UNROLL
        for (int i = 0; i < kSums; i++) sums[i] = dots[i].finish(sums[i]);
    }
    volatile int32_t sink = 0;
    PILLION_UNROLL
    for (int i = 0; i < kSums; i++) sink = sum_of(sums[i]);
    (void)sink;
    return rounds * kSums * 32 * kLanes;
}

static void fill_quantized(KernelTable& t) {
    t.quantize = quantize;
    t.dot_peak = dot_peak;
#define PILLION_FILL(F) fill_format<F>(t);
    PILLION_QUANT_FORMATS(PILLION_FILL)
#undef PILLION_FILL
}

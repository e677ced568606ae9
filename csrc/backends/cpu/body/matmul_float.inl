// Float matmul (f32, f16, bf16 weights, f32 activations) over simd.h, included after matmul.inl.
// Each row is one chain sum = fma(weight, x, sum), input after input. Splits over rows, columns and
// runs of inputs therefore do not change a bit.
//
//     matvec   1..9 columns: runs of 32 inputs, as many rows and columns at once as the registers
//              hold
//     matmul   many columns: runs of 64 inputs widened to f32 once, sums in the first cache

struct F32 {
    static constexpr Format kFormat = Format::f32;
    static constexpr int kBytes = 4;
};
struct F16 {
    static constexpr Format kFormat = Format::f16;
    static constexpr int kBytes = 2;
};
struct BF16 {
    static constexpr Format kFormat = Format::bf16;
    static constexpr int kBytes = 2;
};
template <class T>
PILLION_INLINE Floats load_weights(const uint8_t* p) {  // kLanes rows of one input
    if constexpr (T::kFormat == Format::f32) return of_bits(load_bytes(p));
    if constexpr (T::kFormat == Format::f16) return load_f16(p);
    if constexpr (T::kFormat == Format::bf16) return load_bf16(p);
}

// As prefetch_block.
template <class T>
PILLION_INLINE void prefetch_input(const uint8_t* w, int distance, int columns) {
    constexpr int kBytes = kPanel * T::kBytes;
    if (distance > 0) {
        PILLION_UNROLL
        for (int line = 0; line < kBytes; line += 64) fetch_ahead(w + distance + line);
    } else if (columns > (T::kBytes == 4 ? 5 : 2)) {
        PILLION_UNROLL
        for (int line = 0; line < kBytes; line += 64) fetch_far(w - distance + line);
    }
}

// Multiplies `n` inputs at `first`, R registers of rows at `w`, C columns.
template <class T, int R, int C>
PILLION_INLINE void float_run(const uint8_t* w, const float* const* x, int first, int n,
                              int prefetch, Floats (&sum)[R][C]) {
    const float* at[C];
    PILLION_UNROLL
    for (int c = 0; c < C; c++) at[c] = x[c] + first;
    for (int i = 0; i < n; i++, w += kPanel * T::kBytes) {
        if (prefetch) prefetch_input<T>(w, prefetch, C);
        Floats weight[R];
        PILLION_UNROLL
        for (int r = 0; r < R; r++) weight[r] = load_weights<T>(w + r * kLanes * T::kBytes);
        PILLION_UNROLL
        for (int c = 0; c < C; c++) {
            const Floats v = broadcast(at[c] + i);
            PILLION_UNROLL
            for (int r = 0; r < R; r++) sum[r][c] = fma(weight[r], v, sum[r][c]);
        }
    }
}

template <class T, int C>
static void matvec_float(const PanelArgs& a) {
    constexpr int R = matvec_float_regs(C);
    // With all rows in registers, one run covers all inputs.
    constexpr int kRun = R == kRegs ? 1 << 30 : 32;
    for (int panel = a.begin; panel < a.end; panel++) {
        const uint8_t* w = a.weights + size_t(panel) * a.panel_bytes;
        Floats sum[kRegs][C];
        PILLION_UNROLL
        for (int r = 0; r < kRegs; r++) {
            PILLION_UNROLL
            for (int c = 0; c < C; c++) sum[r][c] = zero_floats();
        }
        for (int first = 0, n; first < a.inputs; first += n) {
            n = a.inputs - first < kRun ? a.inputs - first : kRun;
            if constexpr (R == kRegs) {
                float_run<T, R, C>(w, a.x, first, n, a.prefetch, sum);
            } else {
                for (int reg = 0; reg < kRegs; reg += R) {
                    Floats part[R][C];
                    PILLION_UNROLL
                    for (int r = 0; r < R; r++) {
                        PILLION_UNROLL
                        for (int c = 0; c < C; c++) part[r][c] = sum[reg + r][c];
                    }
                    float_run<T, R, C>(w + reg * kLanes * T::kBytes, a.x, first, n,
                                       reg == 0 ? a.prefetch : 0, part);
                    PILLION_UNROLL
                    for (int r = 0; r < R; r++) {
                        PILLION_UNROLL
                        for (int c = 0; c < C; c++) sum[reg + r][c] = part[r][c];
                    }
                }
            }
            w += size_t(n) * kPanel * T::kBytes;
        }
        store_panel(a, panel, sum);
    }
}

template <int R, int C>
PILLION_INLINE void matmul_float_columns(const uint8_t* w, const float* const* x, int first, int n,
                                         float* sum) {
    Floats s[R][C];
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++) s[r][c] = load(sum + c * kPanel + r * kLanes);
    }
    float_run<F32, R, C>(w, x, first, n, /*prefetch=*/0, s);
    PILLION_UNROLL
    for (int c = 0; c < C; c++) {
        PILLION_UNROLL
        for (int r = 0; r < R; r++) store(sum + c * kPanel + r * kLanes, s[r][c]);
    }
}

template <class T>
static void matmul_float(const PanelArgs& a) {
    constexpr int R = kFloatTileRegs, C = kFloatTileColumns, kRun = 64;
    alignas(64) float sum[kMatmulMax * kPanel], wide[kRun * kPanel];
    for (int panel = a.begin; panel < a.end; panel++) {
        const uint8_t* w = a.weights + size_t(panel) * a.panel_bytes;
        __builtin_memset(sum, 0, sizeof(float) * size_t(a.columns) * kPanel);
        for (int first = 0; first < a.inputs; first += kRun) {
            const int n = a.inputs - first < kRun ? a.inputs - first : kRun;
            for (int i = 0; i < n; i++, w += kPanel * T::kBytes) {
                if (a.prefetch) prefetch_input<T>(w, a.prefetch, a.columns);
                PILLION_UNROLL
                for (int r = 0; r < kRegs; r++)
                    store(wide + i * kPanel + r * kLanes,
                          load_weights<T>(w + r * kLanes * T::kBytes));
            }
            for (int reg = 0; reg < kRegs; reg += R) {
                const uint8_t* from = (const uint8_t*)(wide + reg * kLanes);
                float* sums = sum + reg * kLanes;
                int c = 0;
                for (; c + C <= a.columns; c += C)
                    matmul_float_columns<R, C>(from, a.x + c, first, n, sums + c * kPanel);
                for (; c + 2 <= a.columns; c += 2)
                    matmul_float_columns<R, 2>(from, a.x + c, first, n, sums + c * kPanel);
                for (; c < a.columns; c++)
                    matmul_float_columns<R, 1>(from, a.x + c, first, n, sums + c * kPanel);
            }
        }
        for (int c = 0; c < a.columns; c++) store_rows(a, panel, c, sum + c * kPanel);
    }
}

template <class T>
static void fill_float_format(KernelTable& t) {
    const int f = int(T::kFormat);
    t.matvec[f][0] = nullptr;
    t.matvec[f][1] = matvec_float<T, 1>;
    t.matvec[f][2] = matvec_float<T, 2>;
    t.matvec[f][3] = matvec_float<T, 3>;
    t.matvec[f][4] = matvec_float<T, 4>;
    t.matvec[f][5] = matvec_float<T, 5>;
    t.matvec[f][6] = matvec_float<T, 6>;
    t.matvec[f][7] = matvec_float<T, 7>;
    t.matvec[f][8] = matvec_float<T, 8>;
    t.matvec[f][9] = matvec_float<T, 9>;
    t.matmul[f] = matmul_float<T>;
}
static void fill_float(KernelTable& t) {
    fill_float_format<F32>(t);
    fill_float_format<F16>(t);
    fill_float_format<BF16>(t);
}

// The reference kernel: plain scalar loops over the packed layout. It reads codes and scales
// through the readers of formats.h and shares no line with the vector kernels. Its results are the
// definition:
//
//     sum = fma(float(dot) * act.d, scale, sum)        block after block; dot = sum of
//                                                      (code - zero) * q, an exact integer
//     sum = fma(-low, act.d_sum, sum)                  then, if the format has a minimum per 32
//                                                      inputs
//     sum = fma(low / 8, float(-8 * sum(q)) * act.d, sum)
//                                                      if it has one per 16 (q of those 16; then
//                                                      the next 16)
//
// Float formats: sum = fma(weight, x, sum), input after input.
#include <math.h>

#include "backends/cpu/kernel_table.h"

namespace pillion::cpu::generic {

template <class F>
static void quant_row(const uint8_t* step, int r, const PanelArgs& a, float* sum) {
    const ActBlock* act = a.act;
    for (int s = 0; s < a.inputs / F::kInputs; s++, step += F::kStepBytes) {
        typename F::Block block;
        float scale[16], low[16];
        take_scales(block, step, r);
        scales_of<F>(block, scale, low);
        for (int b = 0; b < F::kBlocks; b++, act += a.act_columns) {
            uint8_t codes[32];
            int16_t w[32];
            take_codes<F>(step + F::kScaleBytes * kPanel + b * F::kCodeBytes, r, codes);
            for (int i = 0; i < 32; i++) w[i] = int16_t(signed_code<F>(codes[i]));
            for (int c = 0; c < a.columns; c++) {
                const ActBlock& x = act[c];
                for (int first = 0; first < 32; first += F::kScaleInputs) {
                    int32_t dot = 0;
                    for (int i = first; i < first + F::kScaleInputs; i++) dot += w[i] * x.q[i];
                    const int group = (32 * b + first) / F::kScaleInputs;
                    sum[c] = fmaf(float(dot) * x.d, scale[group], sum[c]);
                    if (F::kLowInputs == 16)
                        sum[c] = fmaf(low[group] * 0.125f,
                                      float(first ? x.zero8_high : x.zero8 - x.zero8_high) * x.d,
                                      sum[c]);
                    if (F::kLowInputs == 32) sum[c] = fmaf(-low[group], x.d_sum, sum[c]);
                }
            }
        }
    }
}

static float weight_of(float, const uint8_t* p) { return float_of_bits(take32(p, 0)); }
struct Half {};
struct Brain {};
static float weight_of(Half, const uint8_t* p) { return f16_to_f32(take16(p, 0)); }
static float weight_of(Brain, const uint8_t* p) { return bf16_to_f32(take16(p, 0)); }

template <class T, int Bytes>
static void float_row(const uint8_t* panel, int r, const PanelArgs& a, float* sum) {
    for (int i = 0; i < a.inputs; i++) {
        const float w = weight_of(T(), panel + (size_t(i) * kPanel + r) * Bytes);
        for (int c = 0; c < a.columns; c++) sum[c] = fmaf(w, a.x[c][i], sum[c]);
    }
}

template <void (*kRow)(const uint8_t*, int, const PanelArgs&, float*)>
static void panels(const PanelArgs& a) {
    for (int panel = a.begin; panel < a.end; panel++)
        for (int r = 0; r < kPanel && panel * kPanel + r < a.rows; r++) {
            float sum[kMatmulMax] = {};
            kRow(a.weights + size_t(panel) * a.panel_bytes, r, a, sum);
            for (int c = 0; c < a.columns; c++) a.out[c][panel * kPanel + r] = sum[c];
        }
}

static void quantize(const float* x, int inputs, ActBlock* act, ptrdiff_t stride) {
    for (int b = 0; b < inputs / 32; b++, x += 32) {
        ActBlock& out = act[b * stride];
        int32_t top = 0, sum[2] = {};
        // Without the sign bit, floats order like their bits.
        for (int i = 0; i < 32; i++) {
            const int32_t magnitude = int32_t(float_bits(x[i]) & 0x7FFFFFFF);
            top = magnitude > top ? magnitude : top;
        }
        const float inverse = act_inverse(top);
        for (int i = 0; i < 32; i++) {
            out.q[i] = inverse == 0.0f ? int8_t(0) : int8_t(rintf(x[i] * inverse));
            sum[i / 16] += out.q[i];
        }
        act_finish(out, top, sum[0], sum[1]);
    }
}

template <void (*kRow)(const uint8_t*, int, const PanelArgs&, float*)>
static void fill(KernelTable& table, Format format) {
    for (int c = 1; c <= kMatvecMax; c++) table.matvec[int(format)][c] = panels<kRow>;
    table.matmul[int(format)] = panels<kRow>;
}

void fill_matmul(KernelTable& table) {
    table.matvec_most = kMatvecMax;
    table.prefetch = 0;
    table.quantize = quantize;
    fill<float_row<float, 4>>(table, Format::f32);
    fill<float_row<Half, 2>>(table, Format::f16);
    fill<float_row<Brain, 2>>(table, Format::bf16);
#define PILLION_FILL(F) fill<quant_row<F>>(table, F::kFormat);
    PILLION_QUANT_FORMATS(PILLION_FILL)
#undef PILLION_FILL
}

}  // namespace pillion::cpu::generic

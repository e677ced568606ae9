#include "media/audio_weights.h"

#include <math.h>

#include <string>

namespace pillion {
namespace {

// Queries are scaled by 1 / (sqrt(head_dim) ln 2), keys by this.
const double kKeyScale = log(1.0 + exp(1.0)) / log(2.0);

std::vector<float> scaled(std::vector<float> values, double by) {
    for (float& v : values) v = float(double(v) * by);
    return values;
}

// [columns][rows] of the transposed: values [rows][columns].
std::vector<float> transposed(const std::vector<float>& values, size_t rows) {
    const size_t columns = values.size() / rows;
    std::vector<float> out(values.size());
    for (size_t i = 0; i < values.size(); i++) out[i % columns * rows + i / columns] = values[i];
    return out;
}

// The scores are (q s) . (k t) + (q s) . r with s = per_dim_scale / (sqrt(head_dim) ln 2) and
// t = kKeyScale. That is (q s t) . (k + r / t): s t is q_scale, r / t is `relative`.
TowerTensors::Change to_q_scale(int head_dim) {
    return [=](std::vector<float> per_dim_scale) {
        return scaled(std::move(per_dim_scale), kKeyScale / (sqrt(double(head_dim)) * log(2.0)));
    };
}

// r of a distance d = attn_k_rel [sin(d f_i), cos(d f_i)], i < n_embd / 2, with frequencies from 1
// down to 1/10000.
TowerTensors::Change to_relative(int n_embd) {
    return [=](const std::vector<float>& attn_k_rel) {
        const size_t n = size_t(n_embd), half = n / 2;
        std::vector<double> angles(n * kAudioWindow, 0.0);  // [input][distance]
        for (size_t i = 0; i < half; i++)
            for (int d = 0; d < kAudioWindow; d++) {
                const double f = pow(10000.0, -double(i) / double(half > 1 ? half - 1 : 1));
                angles[i * kAudioWindow + size_t(d)] = sin(d * f);
                angles[(half + i) * kAudioWindow + size_t(d)] = cos(d * f);
            }
        std::vector<float> out(n * kAudioWindow);
        for (size_t row = 0; row < n; row++) {
            double sums[kAudioWindow] = {};
            for (size_t i = 0; i < n; i++)
                for (size_t d = 0; d < kAudioWindow; d++)
                    sums[d] += double(attn_k_rel[row * n + i]) * angles[i * kAudioWindow + d];
            for (size_t d = 0; d < kAudioWindow; d++) out[d * n + row] = float(sums[d] / kKeyScale);
        }
        return out;
    };
}

std::vector<int32_t> second_half_first(int half) {
    std::vector<int32_t> order(size_t(2 * half));
    for (int i = 0; i < 2 * half; i++) order[size_t(i)] = (i + half) % (2 * half);
    return order;
}

void list_feed_forward(TowerTensors& f, const AudioParams& p, AudioFeedForward& ffn,
                       const std::string& block, const std::string& number) {
    const int64_t h = p.n_embd;
    f.vector(ffn.norm, block + "ffn_norm" + number + ".weight", {h});
    f.vector(ffn.post_norm, block + "ffn_post_norm" + number + ".weight", {h},
             [](std::vector<float> values) { return scaled(std::move(values), 0.5); });
    f.linear(ffn.up, block + "ffn_up" + number, {h, p.n_ff});
    f.linear(ffn.down, block + "ffn_down" + number, {p.n_ff, h});
}

void list_layer(TowerTensors& f, const AudioParams& p, AudioLayer& l, const std::string& block) {
    const int64_t h = p.n_embd;
    const int head_dim = p.n_embd / p.n_heads;
    list_feed_forward(f, p, l.ffn[0], block, "");
    list_feed_forward(f, p, l.ffn[1], block, "_1");
    f.vector(l.attn_pre_norm, block + "attn_pre_norm.weight", {h});
    f.vector(l.attn_post_norm, block + "attn_post_norm.weight", {h});
    f.vector(l.ln2, block + "ln2.weight", {h});
    f.linear(l.attn_q, block + "attn_q", {h, h});
    f.linear(l.attn_k, block + "attn_k", {h, h});
    f.linear(l.attn_v, block + "attn_v", {h, h});
    f.linear(l.attn_out, block + "attn_out", {h, h});
    f.vector(l.q_scale, block + "per_dim_scale.weight", {head_dim}, to_q_scale(head_dim));
    f.vector(l.relative, block + "attn_k_rel.weight", {h, h}, to_relative(p.n_embd));
    f.vector(l.conv_norm, block + "conv_norm.weight", {h});
    f.vector(l.norm_conv, block + "norm_conv.weight", {h});
    f.linear(l.conv_pw1, block + "conv_pw1", {h, 2 * h}, second_half_first(p.n_embd));
    f.linear(l.conv_pw2, block + "conv_pw2", {h, h});
    f.vector(l.conv_dw, block + "conv_dw.weight", {kAudioTaps, h},
             [=](std::vector<float> values) { return transposed(values, size_t(h)); });
}

// The last dimension of a tensor, which only the file knows; 1: there is none, and listing it
// fails.
int64_t last_dim(const TowerTensors& f, const std::string& name, int dim) {
    const GgufTensor* t = f.find(name);
    return t ? t->dims[dim] : 1;
}

void list_gemma4a(TowerTensors& f, const AudioParams& p, AudioWeights& w) {
    int64_t before = 1;
    for (int i = 0; i < 2; i++) {
        const std::string conv = "a.conv1d." + std::to_string(i) + ".";
        const int64_t after = last_dim(f, conv + "weight", 3);
        // [channel][channel before][frame][band] in the file
        f.vector(w.conv1d[i], conv + "weight", {3, 3, before, after},
                 [=](const std::vector<float>& values) {
                     std::vector<float> out(values.size());
                     for (size_t k = 0; k < values.size(); k++) {
                         const size_t at = k % 9, in = k / 9 % size_t(before),
                                      channel = k / 9 / size_t(before);
                         out[(at * size_t(before) + in) * size_t(after) + channel] = values[k];
                     }
                     return out;
                 });
        f.vector(w.conv_norm[i], conv + "norm.weight", {after});
        w.channels[i] = int(after);
        before = after;
    }
    f.matrix(w.input_projection, "a.input_projection.weight",
             {(p.n_mel + 3) / 4 * before, p.n_embd});
    w.layers.resize(size_t(p.n_layers));
    for (int l = 0; l < p.n_layers; l++)
        list_layer(f, p, w.layers[size_t(l)], "a.blk." + std::to_string(l) + ".");
    const int64_t width = last_dim(f, "a.pre_encode.out.weight", 1);
    f.matrix(w.out, "a.pre_encode.out.weight", {p.n_embd, width});
    f.vector(w.out_bias, "a.pre_encode.out.bias", {width});
    w.n_projected = int(width);
}

}  // namespace

void list_audio(TowerTensors& f, const AudioParams& p, AudioWeights& w) {
    const char* name = "mm.a.input_projection.weight";
    if (p.kind == AudioKind::gemma4a) list_gemma4a(f, p, w);
    else w.n_projected = int(last_dim(f, name, 0));
    f.matrix(w.projection, name, {w.n_projected, p.n_embd_out});
}

}  // namespace pillion

#include "media/vision_weights.h"

#include <string>

namespace pillion {
namespace {

// Rows of heads in the order in which 2-D rotation becomes the ordinary one. The file's quarters of
// a head are [x0 x1 y0 y1], each half turning by one axis in pairs (i, i + head_dim / 4). As
// [x0 y0 x1 y1] the pairs are (i, i + head_dim / 2), the angles of x beside those of y. q . k does
// not care about an order that both share.
std::vector<int32_t> head_order(int n_heads, int head_dim) {
    const int quarter = head_dim / 4, from[4] = {0, 2, 1, 3};
    std::vector<int32_t> order;
    for (int h = 0; h < n_heads; h++)
        for (const int q : from)
            for (int i = 0; i < quarter; i++) order.push_back(h * head_dim + q * quarter + i);
    return order;
}

TowerTensors::Change in_head_order(int head_dim) {
    return [head_dim](std::vector<float> values) {
        const std::vector<int32_t> order = head_order(1, head_dim);
        std::vector<float> out;
        for (const int32_t i : order) out.push_back(values[size_t(i)]);
        return out;
    };
}

void list_layer(TowerTensors& f, const VisionParams& p, VisionLayer& l, const std::string& block) {
    const int64_t h = p.n_embd, ff = p.n_ff, heads = int64_t(p.n_heads) * p.head_dim;
    f.vector(l.ln1, block + "ln1.weight", {h});
    f.vector(l.attn_post_norm, block + "attn_post_norm.weight", {h});
    f.vector(l.ln2, block + "ln2.weight", {h});
    f.vector(l.ffn_post_norm, block + "ffn_post_norm.weight", {h});
    f.vector(l.attn_q_norm, block + "attn_q_norm.weight", {p.head_dim}, in_head_order(p.head_dim));
    f.vector(l.attn_k_norm, block + "attn_k_norm.weight", {p.head_dim}, in_head_order(p.head_dim));
    f.linear(l.attn_q, block + "attn_q", {h, heads}, head_order(p.n_heads, p.head_dim));
    f.linear(l.attn_k, block + "attn_k", {h, heads}, head_order(p.n_heads, p.head_dim));
    f.linear(l.attn_v, block + "attn_v", {h, heads});
    f.linear(l.attn_out, block + "attn_out", {heads, h});
    f.linear(l.ffn_gate, block + "ffn_gate", {h, ff});
    f.linear(l.ffn_up, block + "ffn_up", {h, ff});
    f.linear(l.ffn_down, block + "ffn_down", {ff, h});
}

// The table's length is the file's own.
void list_positions(TowerTensors& f, VisionWeights& w, int64_t width) {
    const char* name = "v.position_embd.weight";
    const GgufTensor* t = f.find(name);
    // Ids of its rows are 32 bits.
    w.n_positions = t && t->dims[1] < 1 << 24 ? t->dims[1] : 1;
    f.table(w.position_embd, name, {width, w.n_positions, 2});
}

void list_gemma4v(TowerTensors& f, const VisionParams& p, VisionWeights& w) {
    f.matrix(w.patch_embd, "v.patch_embd.weight", {p.patch, p.patch, 3, p.n_embd});
    list_positions(f, w, p.n_embd);
    w.layers.resize(size_t(p.n_layers));
    for (int l = 0; l < p.n_layers; l++)
        list_layer(f, p, w.layers[size_t(l)], "v.blk." + std::to_string(l) + ".");
    if (f.find("v.std_bias") || f.find("v.std_scale")) {
        f.vector(w.std_bias, "v.std_bias", {p.n_embd});
        f.vector(w.std_scale, "v.std_scale", {p.n_embd});
    }
    f.matrix(w.input_projection, "mm.input_projection.weight", {p.n_embd, p.n_embd_out});
}

void list_gemma4uv(TowerTensors& f, const VisionParams& p, VisionWeights& w) {
    const int64_t inputs = int64_t(p.unit()) * p.unit() * 3, width = p.n_embd_out;
    f.matrix(w.patch_embd, "v.patch_embd.weight", {inputs, width});
    f.vector(w.patch_bias, "v.patch_embd.bias", {width});
    for (int i = 0; i < 3; i++) {
        const std::string name = "v.patch_norm." + std::to_string(i + 1);
        const int64_t n = i == 0 ? inputs : width;
        f.vector(w.patch_norm[i], name + ".weight", {n});
        f.vector(w.norm_bias[i], name + ".bias", {n});
    }
    list_positions(f, w, width);
    f.matrix(w.input_projection, "mm.input_projection.weight", {width, width});
}

}  // namespace

void list_vision(TowerTensors& f, const VisionParams& p, VisionWeights& w) {
    if (p.kind == VisionKind::gemma4v) list_gemma4v(f, p, w);
    else list_gemma4uv(f, p, w);
}

}  // namespace pillion

// The rules are data: one line per tensor, shapes in letters (spec 5.2, 5.3). GGUF order, the
// contiguous dimension first.
#include "model/tensor_check.h"

#include <inttypes.h>
#include <string.h>

#include <algorithm>
#include <array>

namespace pillion {
namespace {

// clang-format off
// Architectures, as bits; short, because the tables below are read by column.
constexpr unsigned g4 = 1, as = 2, g3 = 4, ll = 8;
constexpr unsigned gemma = g4 | as | g3, owners = g4 | g3 | ll, every = gemma | ll;

enum Dim : uint8_t {
    x1,      // 1
    H,       // n_embd
    V,       // n_vocab
    P, LP,   // per-layer embedding width; times the layers
    Q, KV,   // query heads, KV heads, times head size
    QKV,     // Q + 2 KV
    D,       // head size
    F,       // feed-forward width
    E,       // experts
    FE, FE2, // expert width; twice that
    R,       // RoPE pairs of full layers
    T, T2,   // assistant: the target's n_embd; twice that
    C,       // centroids
};

// When a rule holds. A tensor that is there though its rule does not hold is unknown, or ignored
// where the rule says so.
enum When : uint8_t {
    always,
    has_full,     // the model has full layers
    ple,          // per-layer embeddings
    separate,     // no fused attn_qkv
    fused,
    own_k,        // separate, and the layer has a cache of its own
    own_v,        // own_k, and V does not come from K
    own_norm,     // the layer has a cache of its own
    moe,
    moe_fused,    // gate and up of the experts in one tensor
    moe_separate,
    masked,       // centroid head in tensors; its shapes were checked with the metadata
};

enum Need : uint8_t { must, may, never };
// matrix: quantised or float; vector: float; plain: F32 only, because the host reads it as it lies.
enum Kind : uint8_t { matrix, vector, plain };

struct Rule {
    const char* name;
    std::array<Dim, 3> shape;
    unsigned archs;
    When when = always;
    Kind kind = matrix;
    Need need = must;
};

constexpr Rule kModelRules[] = {
    {"token_embd.weight", {H, V}, every},
    {"output_norm.weight", {H}, every, always, vector},
    {"output.weight", {H, V}, owners, always, matrix, may},    // absent: tied to token_embd
    {"rope_freqs.weight", {R}, g4 | as, has_full, plain},
    {"rope_freqs.weight", {R}, ll, always, plain, may},
    {"per_layer_token_embd.weight", {LP, V}, g4, ple},
    {"per_layer_model_proj.weight", {H, LP}, g4, ple},
    {"per_layer_proj_norm.weight", {P}, g4, ple, vector},
    {"nextn.pre_projection.weight", {T2, H}, as},
    {"nextn.post_projection.weight", {H, T}, as},
    {"masked_embd_centroids.weight", {H, C}, as, masked, matrix, may},
    {"masked_embd_centroids", {H, C}, as, masked, matrix, may},
    {"masked_embd_ordering.weight", {V}, as, masked, matrix, may},
    {"masked_embd_ordering", {V}, as, masked, matrix, may},
    {"output.bias", {V}, every, always, vector, never},
    {"rope_factors_long.weight", {R}, every, always, vector, never},
    {"rope_factors_short.weight", {R}, every, always, vector, never},
};

// Each with "blk.N." in front.
constexpr Rule kLayerRules[] = {
    {"attn_norm.weight", {H}, every, always, vector},
    {"attn_q.weight", {H, Q}, every, separate},
    {"attn_k.weight", {H, KV}, owners, own_k},
    {"attn_v.weight", {H, KV}, owners, own_v},
    {"attn_qkv.weight", {H, QKV}, owners, fused},
    {"attn_q_norm.weight", {D}, gemma, always, vector},
    {"attn_k_norm.weight", {D}, g4 | g3, own_norm, vector},
    {"attn_output.weight", {Q, H}, every},
    {"post_attention_norm.weight", {H}, gemma, always, vector},
    {"ffn_norm.weight", {H}, every, always, vector},
    {"ffn_gate.weight", {H, F}, every},
    {"ffn_up.weight", {H, F}, every},
    {"ffn_down.weight", {F, H}, every},
    {"post_ffw_norm.weight", {H}, gemma, always, vector},
    {"layer_output_scale.weight", {x1}, g4 | as, always, plain, may},    // absent: 1
    {"inp_gate.weight", {H, P}, g4, ple},
    {"proj.weight", {P, H}, g4, ple},
    {"post_norm.weight", {H}, g4, ple, vector},
    {"ffn_gate_inp.weight", {H, E}, g4, moe},
    {"ffn_gate_inp.scale", {H}, g4, moe, vector},
    {"ffn_gate_up_exps.weight", {H, FE2, E}, g4, moe_fused},
    {"ffn_gate_exps.weight", {H, FE, E}, g4, moe_separate},
    {"ffn_up_exps.weight", {H, FE, E}, g4, moe_separate},
    {"ffn_down_exps.weight", {FE, H, E}, g4, moe},
    {"ffn_down_exps.scale", {E}, g4, moe, vector},
    {"pre_ffw_norm_2.weight", {H}, g4, moe, vector},
    {"post_ffw_norm_1.weight", {H}, g4, moe, vector},
    {"post_ffw_norm_2.weight", {H}, g4, moe, vector},
    // Llama-like checkpoints exist with these; leaving them out would compute something else
    // without a word.
    {"attn_q.bias", {Q}, every, always, vector, never},
    {"attn_k.bias", {KV}, every, always, vector, never},
    {"attn_v.bias", {KV}, every, always, vector, never},
    {"attn_qkv.bias", {QKV}, every, always, vector, never},
    {"attn_output.bias", {H}, every, always, vector, never},
    {"ffn_gate.bias", {F}, every, always, vector, never},
    {"ffn_up.bias", {F}, every, always, vector, never},
    {"ffn_down.bias", {H}, every, always, vector, never},
};
// clang-format on

unsigned arch_bit(Arch arch) {
    switch (arch) {
        case Arch::gemma4: return g4;
        case Arch::gemma4_assistant: return as;
        case Arch::gemma3: return g3;
        case Arch::llama: return ll;
    }
    return 0;
}

std::string shape_text(const int64_t* dims, int n) {
    std::string out = "[";
    for (int d = 0; d < n; ++d) out += (d ? ", " : "") + std::to_string(dims[d]);
    return out + "]";
}

class Checker {
  public:
    Checker(const GgufFile& file, const HParams& hp)
        : f_(file), hp_(hp), met_(file.tensors().size(), Met::no) {}

    TensorReport run() {
        static const LayerParams kNone;
        for (const Rule& rule : kModelRules) apply(rule, "", kNone);
        for (int l = 0; l < hp_.n_layers; ++l) {
            const std::string block = "blk." + std::to_string(l) + ".";
            is_fused_ = (arch_bit(hp_.arch) & owners) && f_.find_tensor(block + "attn_qkv.weight");
            experts_fused_ = !f_.find_tensor(block + "ffn_gate_exps.weight");
            for (const Rule& rule : kLayerRules) apply(rule, block, hp_.layers[size_t(l)]);
        }
        for (size_t i = 0; i < met_.size(); ++i) {
            report_.used.push_back(met_[i] == Met::used);
            if (met_[i] == Met::no && is_scale_of_weight(f_.tensors()[i]))
                problem(Status::unsupported_model,
                        "tensor " + printable(f_.tensors()[i].name) +
                            ": a factor for a whole quantised tensor, which is not applied here");
            if (met_[i] == Met::no) report_.unknown.push_back(f_.tensors()[i].name);
            if (met_[i] == Met::ignored) report_.ignored.push_back(f_.tensors()[i].name);
        }
        return std::move(report_);
    }

  private:
    enum class Met : uint8_t { no, used, ignored };

    // NVFP4 files may hold NAME.scale beside NAME.weight: leaving it out would give other values in
    // silence. Ones change nothing.
    bool is_scale_of_weight(const GgufTensor& t) const {
        constexpr std::string_view kEnd = ".scale";
        if (t.name.size() <= kEnd.size() || t.name.substr(t.name.size() - kEnd.size()) != kEnd)
            return false;
        const GgufTensor* weight =
            f_.find_tensor(std::string(t.name.substr(0, t.name.size() - kEnd.size())) + ".weight");
        if (!weight || !info(weight->dtype).is_quantized ||
            met_[size_t(weight - f_.tensors().data())] != Met::used)
            return false;
        for (int64_t i = 0; t.dtype == DType::f32 && i < t.n_values(); i++) {
            float v;
            memcpy(&v, t.data + 4 * i, 4);
            if (v != 1.0f) return true;
        }
        return t.dtype != DType::f32;
    }

    bool holds(When when, const LayerParams& layer) const {
        switch (when) {
            case always: return true;
            case has_full: return hp_.any_full();
            case ple: return hp_.ple_width > 0;
            case separate: return !is_fused_;
            case fused: return is_fused_;
            case own_k: return !is_fused_ && layer.owns_kv;
            case own_v: return !is_fused_ && layer.owns_kv && !layer.v_from_k;
            case own_norm: return layer.owns_kv;
            case moe: return layer.moe;
            case moe_fused: return layer.moe && experts_fused_;
            case moe_separate: return layer.moe && !experts_fused_;
            case masked: return hp_.centroid_head == CentroidHead::tensors;
        }
        return false;
    }

    // Known, but the model computes without it.
    bool is_ignored(When when, const LayerParams& layer) const {
        const bool kv = when == own_k || when == own_v || when == own_norm;
        return (kv && (is_fused_ || !layer.owns_kv)) || (when == separate && is_fused_) ||
               when == masked;
    }

    int64_t size(Dim dim, const LayerParams& layer) const {
        const int64_t q = int64_t(layer.n_heads) * layer.head_dim,
                      kv = int64_t(layer.n_kv_heads) * layer.head_dim;
        switch (dim) {
            case x1: return 1;
            case H: return hp_.n_embd;
            case V: return hp_.n_vocab;
            case P: return hp_.ple_width;
            case LP: return int64_t(hp_.n_layers) * hp_.ple_width;
            case Q: return q;
            case KV: return kv;
            case QKV: return q + 2 * kv;
            case D: return layer.head_dim;
            case F: return layer.ff;
            case E: return hp_.n_experts;
            case FE: return hp_.expert_ff;
            case FE2: return 2 * int64_t(hp_.expert_ff);
            case R: return hp_.rope_dims / 2;
            case T: return hp_.n_embd_out;
            case T2: return 2 * int64_t(hp_.n_embd_out);
            case C: return hp_.n_centroids;
        }
        return 0;
    }

    void apply(const Rule& rule, const std::string& block, const LayerParams& layer) {
        if (!(rule.archs & arch_bit(hp_.arch))) return;
        const std::string name = block + rule.name;
        const GgufTensor* tensor = f_.find_tensor(name);
        const bool holds_here = holds(rule.when, layer);
        if (tensor && (holds_here || is_ignored(rule.when, layer)))
            met_[size_t(tensor - f_.tensors().data())] = holds_here ? Met::used : Met::ignored;
        if (!holds_here) return;
        int64_t want[4] = {1, 1, 1, 1};
        for (size_t d = 0; d < rule.shape.size(); ++d) want[d] = size(rule.shape[d], layer);
        int n_want = 1;
        for (size_t d = 1; d < rule.shape.size(); ++d)
            if (rule.shape[d] != x1) n_want = int(d) + 1;
        if (!tensor) {
            if (rule.need == must)
                problem(Status::file_corrupt,
                        "tensor " + name + ": missing, expected " + shape_text(want, n_want));
            return;
        }
        if (rule.need == never) {
            problem(Status::unsupported_model,
                    "tensor " + name + ": not supported in " + arch_name(hp_.arch));
            return;
        }
        if (rule.when == masked) return;
        // A trailing dimension of 1 says nothing: [1024, 1] is [1024].
        if (!std::equal(want, want + 4, tensor->dims))
            problem(Status::file_corrupt, "tensor " + name + ": shape " +
                                              shape_text(tensor->dims, tensor->n_dims) +
                                              ", expected " + shape_text(want, n_want));
        if (tensor->is_known()) check_type(rule, name, tensor->dtype);
        else
            problem(Status::unsupported_model, "tensor " + name + " has " +
                                                   gguf_tensor_type_text(tensor->dtype) +
                                                   ", which is not supported");
    }

    void check_type(const Rule& rule, const std::string& name, DType dtype) {
        const bool is_float = dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
        const bool fits = rule.kind == plain
                              ? dtype == DType::f32
                              : is_float || (rule.kind == matrix && info(dtype).is_quantized);
        const char* allowed = rule.kind == plain    ? "F32"
                              : rule.kind == vector ? "F32, F16, BF16"
                                                    : "F32, F16, BF16 or quantised";
        if (!fits)
            problem(Status::unsupported_model, "tensor " + name + ": type " + info(dtype).name +
                                                   " is not supported here (" + allowed + ")");
    }

    void problem(Status code, std::string text) {
        if (report_.problems.empty()) report_.code = code;
        report_.problems.push_back(std::move(text));
    }

    const GgufFile& f_;
    const HParams& hp_;
    std::vector<Met> met_;
    TensorReport report_;
    bool is_fused_ = false, experts_fused_ = false;
};

}  // namespace

TensorReport inspect_tensors(const GgufFile& file, const HParams& hparams) {
    return Checker(file, hparams).run();
}

TensorReport check_tensors(const GgufFile& file, const HParams& hparams) {
    TensorReport report = inspect_tensors(file, hparams);
    if (report.problems.empty()) return report;
    const std::string more =
        report.problems.size() > 1
            ? " (and " + std::to_string(report.problems.size() - 1) + " more like it)"
            : "";
    file.fail(report.code, "%s%s", report.problems[0].c_str(), more.c_str());
}

}  // namespace pillion

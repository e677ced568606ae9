#include "model/tensor_check.h"

#include <inttypes.h>
#include <string.h>

#include <algorithm>

#include "model/architecture.h"

namespace pillion {
namespace {

using namespace rules;

// clang-format off
// No architecture computes with these. Llama-like checkpoints exist that have them; leaving them
// out would compute something else without a word.
constexpr ModelRule kRefused[] = {
    {"output.bias", {}, vector, {V}, always, never},
    {"rope_factors_long.weight", {}, vector, {R}, always, never},
    {"rope_factors_short.weight", {}, vector, {R}, always, never},
};

constexpr LayerRule kRefusedInLayers[] = {
    {"attn_q.bias", {}, vector, {Q}, always, never},
    {"attn_k.bias", {}, vector, {KV}, always, never},
    {"attn_v.bias", {}, vector, {KV}, always, never},
    {"attn_qkv.bias", {}, vector, {QKV}, always, never},
    {"attn_output.bias", {}, vector, {H}, always, never},
    {"ffn_gate.bias", {}, vector, {F}, always, never},
    {"ffn_up.bias", {}, vector, {F}, always, never},
    {"ffn_down.bias", {}, vector, {H}, always, never},
};
// clang-format on

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
        const Architecture& arch = *hp_.arch;
        for (const auto& list : {arch.front, arch.back, List<ModelRule>(kRefused)})
            for (const ModelRule& rule : list) apply(rule, "", kNone);
        for (int l = 0; l < hp_.n_layers; ++l) {
            const std::string block = "blk." + std::to_string(l) + ".";
            is_fused_ = has_fused(arch.layer, block);
            experts_fused_ = !f_.find_tensor(block + "ffn_gate_exps.weight");
            for (const auto& list : {arch.layer, List<LayerRule>(kRefusedInLayers)})
                for (const LayerRule& rule : list) apply(rule, block, hp_.layers[size_t(l)]);
        }
        for (size_t i = 0; i < met_.size(); ++i) {
            report_.used.push_back(met_[i] == Met::used);
            if (met_[i] == Met::no && is_scale_of_weight(f_.tensors()[i]))
                problem(Status::unsupported_model,
                        "tensor " + printable(f_.tensors()[i].name) +
                            ": a factor for a whole quantized tensor, which is not applied here");
            if (met_[i] == Met::no) report_.unknown.push_back(f_.tensors()[i].name);
            if (met_[i] == Met::ignored) report_.ignored.push_back(f_.tensors()[i].name);
        }
        return std::move(report_);
    }

  private:
    enum class Met : uint8_t { no, used, ignored };

    bool has_fused(List<LayerRule> rules, const std::string& block) const {
        for (const LayerRule& rule : rules)
            if (rule.when == fused && f_.find_tensor(block + rule.name)) return true;
        return false;
    }

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
            case centroids: return hp_.centroid_head == CentroidHead::tensors;
        }
        return false;
    }

    // Known, but the model computes without it.
    bool is_ignored(When when, const LayerParams& layer) const {
        const bool kv = when == own_k || when == own_v || when == own_norm;
        return (kv && (is_fused_ || !layer.owns_kv)) || (when == separate && is_fused_) ||
               when == centroids;
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

    template <class Owner>
    void apply(const TensorRule<Owner>& rule, const std::string& block, const LayerParams& layer) {
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
                    "tensor " + name + ": not supported in " + hp_.arch_name());
            return;
        }
        if (rule.when == centroids) return;
        // A trailing dimension of 1 says nothing: [1024, 1] is [1024].
        if (!std::equal(want, want + 4, tensor->dims))
            problem(Status::file_corrupt, "tensor " + name + ": shape " +
                                              shape_text(tensor->dims, tensor->n_dims) +
                                              ", expected " + shape_text(want, n_want));
        if (tensor->is_known()) check_type(rule.use, name, tensor->dtype);
        else
            problem(Status::unsupported_model, "tensor " + name + " has " +
                                                   gguf_tensor_type_text(tensor->dtype) +
                                                   ", which is not supported");
    }

    void check_type(Use use, const std::string& name, DType dtype) {
        const bool is_float = dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
        const bool fits = use == plain    ? dtype == DType::f32
                          : use == vector ? is_float
                                          : is_float || info(dtype).is_quantized;
        const char* allowed = use == plain    ? "F32"
                              : use == vector ? "F32, F16, BF16"
                                              : "F32, F16, BF16 or quantized";
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

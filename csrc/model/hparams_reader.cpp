#include "model/hparams_reader.h"

#include <inttypes.h>

#include <algorithm>

namespace pillion {

HParamsReader::HParamsReader(const GgufFile& f, HParams& h, const Architecture& architecture)
    : file(f), hp(h) {
    // Third-party assistants spell the prefix in two ways; that of the file's own name goes first.
    const std::string_view own = file.string("general.architecture");
    prefixes_ = {std::string(own) + "."};
    if (own != architecture.name) prefixes_.push_back(std::string(architecture.name) + ".");
    for (const std::string_view alias : architecture.aliases)
        if (own != alias) prefixes_.push_back(std::string(alias) + ".");
}

std::string HParamsReader::key(const char* name) const {
    asked_.insert(name);
    for (const std::string& prefix : prefixes_)
        if (file.find(prefix + name)) return prefix + name;
    return prefixes_[0] + name;
}

float HParamsReader::real(const char* name, float lo, float hi) const {
    const float value = file.f32(key(name));
    if (!(value >= lo && value <= hi))  // NaN too
        file.fail(Status::file_corrupt, "key %s: %g is outside %g to %g", key(name).c_str(),
                  double(value), double(lo), double(hi));
    return value;
}

void HParamsReader::read_sizes() {
    hp.name = std::string(file.string("general.name", ""));
    hp.n_layers = count("block_count", 1, kMaxLayers);
    hp.n_embd = count("embedding_length", 1, kMaxWidth);
    hp.n_ctx_train = count("context_length", 1, kMaxContext);
    hp.rms_eps = real("attention.layer_norm_rms_epsilon", 1e-12f, 0.1f);
    hp.n_vocab = read_vocab();
    const int64_t nextn = file.integer_or(key("nextn_predict_layers"), 0, 0, INT32_MAX);
    if (nextn > hp.n_layers)
        file.fail(Status::file_corrupt, "key %s: %" PRId64 " exceeds block_count, which is %d",
                  key("nextn_predict_layers").c_str(), nextn, hp.n_layers);
    if (real_or("attn_logit_softcapping", 0, 0, 1e6f) != 0)
        file.fail(Status::unsupported_model,
                  "key %s: soft-capped attention scores are not supported",
                  key("attn_logit_softcapping").c_str());
    hp.layers.resize(size_t(hp.n_layers));
    const auto ff = per_layer("feed_forward_length", 1, kMaxWidth);
    for (int l = 0; l < hp.n_layers; ++l) {
        hp.layers[size_t(l)].ff = int(ff[size_t(l)]);
        hp.layers[size_t(l)].kv_source = l;
    }
}

// The table decides: it is what ids index. The keys stand in where only metadata is at hand.
int HParamsReader::read_vocab() const {
    if (const GgufTensor* table = file.find_tensor("token_embd.weight")) {
        if (table->dims[1] > kMaxVocab)
            file.fail(Status::unsupported_model,
                      "tensor token_embd.weight: %" PRId64 " tokens, the limit is %" PRId64,
                      table->dims[1], kMaxVocab);
        return int(table->dims[1]);
    }
    if (has("vocab_size")) return count("vocab_size", 1, kMaxVocab);
    const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
    if (!tokens || !tokens->is_array || tokens->count < 1 || tokens->count > uint64_t(kMaxVocab))
        file.fail(
            Status::file_corrupt,
            "the vocabulary's size is unknown: neither tensor token_embd.weight nor key %s exists",
            key("vocab_size").c_str());
    return int(tokens->count);
}

void HParamsReader::read_layer_kinds(int default_period) {
    const std::string pattern = key("attention.sliding_window_pattern");
    if (file.find(pattern)) read_pattern(pattern);
    else if (!has("attention.sliding_window")) return;
    else if (default_period > 0)
        for (int l = 0; l < hp.n_layers; ++l)
            hp.layers[size_t(l)].sliding = l % default_period != default_period - 1;
    else file.fail(Status::file_corrupt, "key %s is missing", pattern.c_str());
    if (!hp.any_sliding()) return;
    hp.window = count("attention.sliding_window", INT32_MIN, kMaxContext);
    if (hp.window < 1)
        file.fail(Status::file_corrupt,
                  "key %s: %d, but the model has sliding layers, which need at least 1",
                  key("attention.sliding_window").c_str(), hp.window);
}

// One bool (or 0 and 1) per layer, one bool for all, or the period: every n-th layer is full.
void HParamsReader::read_pattern(const std::string& name) {
    const GgufValue& value = *file.find(name);
    if (value.is_array || value.element == GgufType::boolean) {
        const auto sliding = file.per_layer(name, size_t(hp.n_layers), 0, 1);
        for (int l = 0; l < hp.n_layers; ++l)
            hp.layers[size_t(l)].sliding = sliding[size_t(l)] != 0;
        return;
    }
    const int period = int(file.integer(name, 1, kMaxLayers));
    for (int l = 0; l < hp.n_layers; ++l) hp.layers[size_t(l)].sliding = l % period != period - 1;
}

void HParamsReader::read_head_dims(std::vector<int64_t>& dims, const char* lengths,
                                   const char* value_lengths) const {
    if (has(lengths)) dims = per_layer(lengths, 1, kMaxWidth);
    if (!has(value_lengths)) return;
    const auto values = per_layer(value_lengths, 1, kMaxWidth);
    for (size_t l = 0; l < dims.size(); ++l)
        if (values[l] != dims[l])
            file.fail(Status::unsupported_model,
                      "key %s: %" PRId64 " differs from the key length %" PRId64
                      ", which is not supported",
                      key(value_lengths).c_str(), values[l], dims[l]);
}

void HParamsReader::read_heads() {
    const auto heads = per_layer("attention.head_count", 1, kMaxHeads);
    const auto kv_heads =
        has("attention.head_count_kv") ? per_layer("attention.head_count_kv", 1, kMaxHeads) : heads;
    std::vector<int64_t> full(heads.size());
    if (!has("attention.key_length")) {
        for (size_t l = 0; l < full.size(); ++l) {
            full[l] = hp.n_embd / heads[l];
            if (hp.n_embd % heads[l] != 0)
                file.fail(
                    Status::file_corrupt,
                    "key %s is missing, and embedding_length %d is not divisible by head_count "
                    "%" PRId64,
                    key("attention.key_length").c_str(), hp.n_embd, heads[l]);
        }
    }
    read_head_dims(full, "attention.key_length", "attention.value_length");
    std::vector<int64_t> swa = full;
    read_head_dims(swa, "attention.key_length_swa", "attention.value_length_swa");
    for (size_t l = 0; l < hp.layers.size(); ++l) {
        LayerParams& layer = hp.layers[l];
        layer.n_heads = int(heads[l]);
        layer.n_kv_heads = int(kv_heads[l]);
        layer.head_dim = int(layer.sliding ? swa[l] : full[l]);
    }
}

void HParamsReader::read_rope(float default_base, bool interleaved) {
    hp.rope_base = real_or("rope.freq_base", default_base, 1, 1e12f);
    hp.rope_base_swa = real_or("rope.freq_base_swa", 1e4f, 1, 1e12f);
    hp.rope_scale = read_rope_scale();
    hp.rope_scale_swa = 1;  // no known file scales its sliding layers
    hp.rope_dims = read_rope_dims("rope.dimension_count", /*sliding=*/false);
    hp.rope_dims_swa = read_rope_dims("rope.dimension_count_swa", /*sliding=*/true);
    hp.rope_interleaved = interleaved;
}

float HParamsReader::read_rope_scale() const {
    const std::string_view type = file.string(key("rope.scaling.type"), "linear");
    if (type == "none") return 1;
    if (type != "linear")
        file.fail(Status::unsupported_model,
                  "key %s: RoPE scaling '%s' is not supported (none, linear)",
                  key("rope.scaling.type").c_str(), printable(type).c_str());
    // rope.scale_linear is the older spelling. Both write 0 for "none".
    const float factor =
        real_or(has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear", 1, 0,
                1e6f);
    return factor == 0 ? 1 : factor;
}

int HParamsReader::read_rope_dims(const char* name, bool sliding) const {
    const int l = first_layer(sliding);
    if (l < 0) return 0;  // no such layer
    const int head_dim = hp.layers[size_t(l)].head_dim;
    const int dims = count_or(name, head_dim, 1, kMaxWidth);
    if (dims % 2 != 0 || dims > head_dim)
        file.fail(Status::file_corrupt, "key %s: %d must be even and at most the head size %d",
                  key(name).c_str(), dims, head_dim);
    return dims;
}

int HParamsReader::first_layer(bool sliding) const {
    for (int l = 0; l < hp.n_layers; ++l)
        if (hp.layers[size_t(l)].sliding == sliding) return l;
    return -1;
}

void HParamsReader::refuse_experts() const {
    const int n = count_or("expert_count", 0, 0, INT32_MAX);
    if (n != 0)
        file.fail(Status::unsupported_model, "key %s: %d; experts are not supported in %s",
                  key("expert_count").c_str(), n, hp.arch_name());
}

void HParamsReader::check_layers() const {
    for (int l = 0; l < hp.n_layers; ++l) {
        const LayerParams& layer = hp.layers[size_t(l)];
        const LayerParams& like = hp.layers[size_t(first_layer(layer.sliding))];
        const std::string lengths =
            key(layer.sliding && has("attention.key_length_swa") ? "attention.key_length_swa"
                                                                 : "attention.key_length");
        if (layer.head_dim % 2 != 0)  // RoPE turns pairs
            file.fail(Status::file_corrupt, "key %s: layer %d has head size %d, it must be even",
                      lengths.c_str(), l, layer.head_dim);
        if (layer.head_dim > kMaxHeadDim)
            file.fail(Status::unsupported_model,
                      "key %s: layer %d has head size %d, the limit is %d", lengths.c_str(), l,
                      layer.head_dim, kMaxHeadDim);
        if (layer.head_dim != like.head_dim)  // one rope_dims and one attention_scale per kind
            file.fail(
                Status::unsupported_model,
                "key %s: layer %d has head size %d, other layers of its kind %d; they must agree",
                lengths.c_str(), l, layer.head_dim, like.head_dim);
        if (layer.n_heads % layer.n_kv_heads != 0)
            file.fail(Status::file_corrupt,
                      "key %s: layer %d has %d KV heads, which do not divide its %d query heads",
                      key("attention.head_count_kv").c_str(), l, layer.n_kv_heads, layer.n_heads);
        if (layer.kv_source < 0 || layer.kv_source == l) continue;
        const LayerParams& source = hp.layers[size_t(layer.kv_source)];
        if (layer.n_kv_heads != source.n_kv_heads)
            file.fail(Status::file_corrupt,
                      "key %s: layer %d has %d KV heads, layer %d, whose cache it reads, has %d",
                      key("attention.head_count_kv").c_str(), l, layer.n_kv_heads, layer.kv_source,
                      source.n_kv_heads);
    }
}

namespace {

// Asked for or not, these are understood: tensors or other keys say the same, or it concerns what
// the model hasn't got.
constexpr std::string_view kUnderstood[] = {
    "vocab_size",
    "masked_embedding.num_centroids",
    "masked_embedding.centroid_top_k",
    "masked_embedding.centroids",
    "masked_embedding.token_ordering",
    "rope.dimension_count_swa",
    "rope.scaling.factor",
    "rope.scale_linear",
    "expert_used_count",
    "expert_feed_forward_length",
};

}  // namespace

void HParamsReader::find_unread() {
    for (const GgufValue& value : file.values())
        for (const std::string& prefix : prefixes_) {
            if (value.key.substr(0, prefix.size()) != prefix) continue;
            const std::string_view name = value.key.substr(prefix.size());
            const bool understood = std::find(std::begin(kUnderstood), std::end(kUnderstood),
                                              name) != std::end(kUnderstood);
            if (!understood && !asked_.count(name)) hp.unread_keys.emplace_back(value.key);
        }
}

}  // namespace pillion

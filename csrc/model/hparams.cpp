// Order of reading: architecture, sizes, layer kinds, heads, RoPE, then what one architecture has
// and others don't. Each number is bounded where it is read; what ties two numbers together is
// checked in check_layers().
#include "model/hparams.h"

#include <inttypes.h>
#include <math.h>

#include <algorithm>
#include <set>

#include "model/centroid_head.h"

namespace pillion {
namespace {

// clang-format off
constexpr struct {
    Arch arch;
    const char* name;
} kArchs[] = {
    {Arch::gemma4, "gemma4"},
    {Arch::gemma4_assistant, "gemma4-assistant"},
    {Arch::gemma3, "gemma3"},
    {Arch::llama, "llama"},
};
// clang-format on

// Bounds that no model comes near; they keep products of two of these numbers inside an int.
constexpr int64_t kMaxWidth = 1 << 20;  // hidden sizes, feed-forward widths
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxVocab = 1 << 24;  // the centroid head may store ids as float32
constexpr int64_t kMaxContext = 1 << 30;
constexpr int kGemma3Period = 6;  // five sliding layers, one full; its files carry no pattern

class Reader {
  public:
    Reader(const GgufFile& file, HParams& hp, std::vector<std::string> prefixes)
        : f_(file), hp_(hp), prefixes_(std::move(prefixes)) {}

    void read() {
        read_sizes();
        read_layer_kinds();
        read_heads();
        read_rope();
        if (hp_.arch == Arch::gemma4) read_gemma4();
        if (hp_.arch == Arch::gemma4_assistant) read_assistant();
        if (hp_.arch == Arch::gemma3) read_gemma3();
        if (hp_.arch == Arch::llama) read_llama();
        check_layers();
        find_unread();
    }

  private:
    // The key under the first prefix that has it: third-party assistants spell the prefix in two
    // ways.
    std::string key(const char* name) const {
        asked_.insert(name);
        for (const std::string& prefix : prefixes_)
            if (f_.find(prefix + name)) return prefix + name;
        return prefixes_[0] + name;
    }
    bool has(const char* name) const { return f_.find(key(name)) != nullptr; }
    int count(const char* name, int64_t lo, int64_t hi) const {
        return int(f_.integer(key(name), lo, hi));
    }
    int count_or(const char* name, int fallback, int64_t lo, int64_t hi) const {
        return int(f_.integer_or(key(name), fallback, lo, hi));
    }
    std::vector<int64_t> per_layer(const char* name, int64_t lo, int64_t hi) const {
        return f_.per_layer(key(name), size_t(hp_.n_layers), lo, hi);
    }
    float real(const char* name, float lo, float hi) const {
        const float value = f_.f32(key(name));
        if (!(value >= lo && value <= hi))  // NaN too
            f_.fail(Status::file_corrupt, "key %s: %g is outside %g to %g", key(name).c_str(),
                    double(value), double(lo), double(hi));
        return value;
    }
    float real_or(const char* name, float fallback, float lo, float hi) const {
        return has(name) ? real(name, lo, hi) : fallback;
    }

    void find_unread();
    void read_sizes();
    int read_vocab() const;
    void read_layer_kinds();
    void read_pattern(const std::string& name);
    void read_heads();
    void read_head_dims(std::vector<int64_t>& dims, const char* lengths,
                        const char* value_lengths) const;
    void read_rope();
    float read_rope_scale() const;
    int read_rope_dims(const char* name, bool sliding) const;
    void read_gemma4();
    void share_kv(int n_shared);
    void find_experts();
    void find_v_from_k();
    void read_assistant();
    void read_gemma3();
    void read_llama();
    void refuse_experts() const;
    void check_layers() const;
    int first_layer(bool sliding) const;

    const GgufFile& f_;
    HParams& hp_;
    std::vector<std::string> prefixes_;
    mutable std::set<std::string, std::less<>> asked_;  // without prefix
};

void Reader::read_sizes() {
    hp_.name = std::string(f_.string("general.name", ""));
    hp_.n_layers = count("block_count", 1, kMaxLayers);
    hp_.n_embd = count("embedding_length", 1, kMaxWidth);
    hp_.n_ctx_train = count("context_length", 1, kMaxContext);
    hp_.rms_eps = real("attention.layer_norm_rms_epsilon", 1e-12f, 0.1f);
    hp_.n_vocab = read_vocab();
    const int64_t nextn = f_.integer_or(key("nextn_predict_layers"), 0, 0, INT32_MAX);
    if (nextn > hp_.n_layers)
        f_.fail(Status::file_corrupt, "key %s: %" PRId64 " exceeds block_count, which is %d",
                key("nextn_predict_layers").c_str(), nextn, hp_.n_layers);
    if (real_or("attn_logit_softcapping", 0, 0, 1e6f) != 0)
        f_.fail(Status::unsupported_model, "key %s: soft-capped attention scores are not supported",
                key("attn_logit_softcapping").c_str());
    hp_.layers.resize(size_t(hp_.n_layers));
    const auto ff = per_layer("feed_forward_length", 1, kMaxWidth);
    for (int l = 0; l < hp_.n_layers; ++l) {
        hp_.layers[size_t(l)].ff = int(ff[size_t(l)]);
        hp_.layers[size_t(l)].kv_source = l;
    }
}

// The table decides: it is what ids index. The keys stand in where only metadata is at hand.
int Reader::read_vocab() const {
    if (const GgufTensor* table = f_.find_tensor("token_embd.weight")) {
        if (table->dims[1] > kMaxVocab)
            f_.fail(Status::unsupported_model,
                    "tensor token_embd.weight: %" PRId64 " tokens, the limit is %" PRId64,
                    table->dims[1], kMaxVocab);
        return int(table->dims[1]);
    }
    if (has("vocab_size")) return count("vocab_size", 1, kMaxVocab);
    const GgufValue* tokens = f_.find("tokenizer.ggml.tokens");
    if (!tokens || !tokens->is_array || tokens->count < 1 || tokens->count > uint64_t(kMaxVocab))
        f_.fail(
            Status::file_corrupt,
            "the vocabulary's size is unknown: neither tensor token_embd.weight nor key %s exists",
            key("vocab_size").c_str());
    return int(tokens->count);
}

void Reader::read_layer_kinds() {
    if (hp_.arch == Arch::llama) return;  // full attention throughout
    const std::string pattern = key("attention.sliding_window_pattern");
    if (f_.find(pattern)) read_pattern(pattern);
    else if (!has("attention.sliding_window")) return;
    else if (hp_.arch == Arch::gemma3)
        for (int l = 0; l < hp_.n_layers; ++l)
            hp_.layers[size_t(l)].sliding = l % kGemma3Period != kGemma3Period - 1;
    else  // the period differs between Gemma 4 sizes: no guess
        f_.fail(Status::file_corrupt, "key %s is missing", pattern.c_str());
    if (!hp_.any_sliding()) return;
    hp_.window = count("attention.sliding_window", INT32_MIN, kMaxContext);
    if (hp_.window < 1)
        f_.fail(Status::file_corrupt,
                "key %s: %d, but the model has sliding layers, which need at least 1",
                key("attention.sliding_window").c_str(), hp_.window);
}

// One bool (or 0 and 1) per layer, one bool for all, or the period: every n-th layer is full.
void Reader::read_pattern(const std::string& name) {
    const GgufValue& value = *f_.find(name);
    if (value.is_array || value.element == GgufType::boolean) {
        const auto sliding = f_.per_layer(name, size_t(hp_.n_layers), 0, 1);
        for (int l = 0; l < hp_.n_layers; ++l)
            hp_.layers[size_t(l)].sliding = sliding[size_t(l)] != 0;
        return;
    }
    const int period = int(f_.integer(name, 1, kMaxLayers));
    for (int l = 0; l < hp_.n_layers; ++l) hp_.layers[size_t(l)].sliding = l % period != period - 1;
}

void Reader::read_head_dims(std::vector<int64_t>& dims, const char* lengths,
                            const char* value_lengths) const {
    if (has(lengths)) dims = per_layer(lengths, 1, kMaxWidth);
    if (!has(value_lengths)) return;
    const auto values = per_layer(value_lengths, 1, kMaxWidth);
    for (size_t l = 0; l < dims.size(); ++l)
        if (values[l] != dims[l])
            f_.fail(Status::unsupported_model,
                    "key %s: %" PRId64 " differs from the key length %" PRId64
                    ", which is not supported",
                    key(value_lengths).c_str(), values[l], dims[l]);
}

void Reader::read_heads() {
    const auto heads = per_layer("attention.head_count", 1, kMaxHeads);
    const auto kv_heads =
        has("attention.head_count_kv") ? per_layer("attention.head_count_kv", 1, kMaxHeads) : heads;
    std::vector<int64_t> full(heads.size());
    if (!has("attention.key_length")) {
        for (size_t l = 0; l < full.size(); ++l) {
            full[l] = hp_.n_embd / heads[l];
            if (hp_.n_embd % heads[l] != 0)
                f_.fail(Status::file_corrupt,
                        "key %s is missing, and embedding_length %d is not divisible by head_count "
                        "%" PRId64,
                        key("attention.key_length").c_str(), hp_.n_embd, heads[l]);
        }
    }
    read_head_dims(full, "attention.key_length", "attention.value_length");
    std::vector<int64_t> swa = full;
    read_head_dims(swa, "attention.key_length_swa", "attention.value_length_swa");
    for (size_t l = 0; l < hp_.layers.size(); ++l) {
        LayerParams& layer = hp_.layers[l];
        layer.n_heads = int(heads[l]);
        layer.n_kv_heads = int(kv_heads[l]);
        layer.head_dim = int(layer.sliding ? swa[l] : full[l]);
    }
}

void Reader::read_rope() {
    const bool gemma = hp_.arch != Arch::llama;
    hp_.rope_base = real_or("rope.freq_base", gemma ? 1e6f : 1e4f, 1, 1e12f);
    hp_.rope_base_swa = real_or("rope.freq_base_swa", 1e4f, 1, 1e12f);
    hp_.rope_scale = read_rope_scale();
    hp_.rope_scale_swa = 1;  // no known file scales its sliding layers
    hp_.rope_dims = read_rope_dims("rope.dimension_count", /*sliding=*/false);
    hp_.rope_dims_swa = read_rope_dims("rope.dimension_count_swa", /*sliding=*/true);
    hp_.rope_interleaved = !gemma;
}

float Reader::read_rope_scale() const {
    const std::string_view type = f_.string(key("rope.scaling.type"), "linear");
    if (type == "none") return 1;
    if (type != "linear")
        f_.fail(Status::unsupported_model,
                "key %s: RoPE scaling '%s' is not supported (none, linear)",
                key("rope.scaling.type").c_str(), printable(type).c_str());
    // rope.scale_linear is the older spelling. Both write 0 for "none".
    const float factor =
        real_or(has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear", 1, 0,
                1e6f);
    return factor == 0 ? 1 : factor;
}

int Reader::read_rope_dims(const char* name, bool sliding) const {
    const int l = first_layer(sliding);
    if (l < 0) return 0;  // no such layer
    const int head_dim = hp_.layers[size_t(l)].head_dim;
    const int dims = count_or(name, head_dim, 1, kMaxWidth);
    if (dims % 2 != 0 || dims > head_dim)
        f_.fail(Status::file_corrupt, "key %s: %d must be even and at most the head size %d",
                key(name).c_str(), dims, head_dim);
    return dims;
}

int Reader::first_layer(bool sliding) const {
    for (int l = 0; l < hp_.n_layers; ++l)
        if (hp_.layers[size_t(l)].sliding == sliding) return l;
    return -1;
}

void Reader::read_gemma4() {
    hp_.embed_scale = sqrtf(float(hp_.n_embd));
    hp_.softcap = real_or("final_logit_softcapping", 0, 0, 1e6f);
    hp_.ple_width = count_or("embedding_length_per_layer_input", 0, 0, 1 << 16);
    hp_.n_experts = count_or("expert_count", 0, 0, 1024);
    if (hp_.n_experts > 0) {
        hp_.n_experts_used = count("expert_used_count", 1, kMaxWidth);
        hp_.expert_ff = count("expert_feed_forward_length", 1, kMaxWidth);
        if (hp_.n_experts_used > hp_.n_experts)
            f_.fail(Status::file_corrupt, "key %s: %d exceeds expert_count, which is %d",
                    key("expert_used_count").c_str(), hp_.n_experts_used, hp_.n_experts);
    }
    find_experts();
    const int n_shared = count_or("attention.shared_kv_layers", 0, 0, INT32_MAX);
    if (n_shared > hp_.n_layers)
        f_.fail(Status::file_corrupt, "key %s: %d exceeds block_count, which is %d",
                key("attention.shared_kv_layers").c_str(), n_shared, hp_.n_layers);
    share_kv(n_shared);
    find_v_from_k();
}

// The last layers own no cache; each reads the one of the last owning layer of its kind.
void Reader::share_kv(int n_shared) {
    const int n_own = hp_.n_layers - n_shared;
    int source[2] = {-1, -1};  // [sliding]
    for (int l = 0; l < n_own; ++l) source[hp_.layers[size_t(l)].sliding] = l;
    for (int l = n_own; l < hp_.n_layers; ++l) {
        LayerParams& layer = hp_.layers[size_t(l)];
        layer.owns_kv = false;
        layer.kv_source = source[layer.sliding];
        if (layer.kv_source < 0)
            f_.fail(Status::file_corrupt,
                    "key %s: %d of %d layers share, but layer %d finds no %s layer before them to "
                    "share with",
                    key("attention.shared_kv_layers").c_str(), n_shared, hp_.n_layers, l,
                    layer.sliding ? "sliding" : "full");
    }
}

// The router marks an expert layer; so does any expert tensor, so that a lost router is reported
// and not taken for a dense layer.
void Reader::find_experts() {
    for (int l = 0; l < hp_.n_layers; ++l) {
        const std::string block = "blk." + std::to_string(l) + ".";
        for (const char* name : {"ffn_gate_inp.weight", "ffn_down_exps.weight",
                                 "ffn_gate_up_exps.weight", "ffn_gate_exps.weight"})
            if (f_.find_tensor(block + name)) hp_.layers[size_t(l)].moe = true;
        if (hp_.layers[size_t(l)].moe && hp_.n_experts == 0)
            f_.fail(Status::file_corrupt, "layer %d has experts, but key %s is %s", l,
                    key("expert_count").c_str(), has("expert_count") ? "0" : "missing");
        if (f_.tensors().empty()) hp_.layers[size_t(l)].moe = hp_.n_experts > 0;  // metadata alone
    }
}

// V comes from K when the owning layers of a kind have no V, all of them: a single missing V is a
// damaged file.
void Reader::find_v_from_k() {
    for (const bool sliding : {false, true}) {
        std::vector<LayerParams*> owning, without_v;
        for (int l = 0; l < hp_.n_layers; ++l) {
            LayerParams& layer = hp_.layers[size_t(l)];
            if (layer.sliding != sliding || !layer.owns_kv) continue;
            const std::string block = "blk." + std::to_string(l) + ".";
            owning.push_back(&layer);
            if (f_.find_tensor(block + "attn_qkv.weight")) continue;  // has all three
            if (f_.find_tensor(block + "attn_k.weight") && !f_.find_tensor(block + "attn_v.weight"))
                without_v.push_back(&layer);
        }
        if (without_v.size() == owning.size())
            for (LayerParams* layer : without_v) layer->v_from_k = true;
    }
}

void Reader::read_assistant() {
    hp_.n_embd_out = count("embedding_length_out", 1, kMaxWidth);
    hp_.embed_scale = sqrtf(float(hp_.n_embd_out));  // it is fed the target's rows
    if (count_or("embedding_length_per_layer_input", 0, 0, INT32_MAX) != 0)
        f_.fail(Status::unsupported_model,
                "key %s: per-layer embeddings in an assistant are not supported",
                key("embedding_length_per_layer_input").c_str());
    refuse_experts();
    // Every layer borrows, whatever the file says; but a count in between would mean layers with a
    // cache of their own.
    const int n_shared = count_or("attention.shared_kv_layers", hp_.n_layers, 0, INT32_MAX);
    if (n_shared != hp_.n_layers && n_shared != 0)
        f_.fail(Status::file_corrupt, "key %s: %d, expected block_count, which is %d",
                key("attention.shared_kv_layers").c_str(), n_shared, hp_.n_layers);
    for (LayerParams& layer : hp_.layers) {
        layer.owns_kv = false;
        layer.kv_source = -1;
    }
    find_centroid_head(f_, hp_);
}

void Reader::read_gemma3() {
    refuse_experts();
    hp_.embed_scale = sqrtf(float(hp_.n_embd));
    hp_.softcap = real_or("final_logit_softcapping", 0, 0, 1e6f);
    // The 27B model, known by its 62 layers, was trained with another divisor than the rest.
    const LayerParams& layer = hp_.layers[0];
    const float divisor =
        hp_.n_layers == 62 ? float(hp_.n_embd) / float(layer.n_heads) : float(layer.head_dim);
    hp_.attention_scale = real_or("attention.scale", 1 / sqrtf(divisor), 1e-6f, 1e6f);
}

void Reader::read_llama() {
    refuse_experts();
    hp_.activation = Activation::silu;
    hp_.attention_scale =
        real_or("attention.scale", 1 / sqrtf(float(hp_.layers[0].head_dim)), 1e-6f, 1e6f);
}

void Reader::refuse_experts() const {
    const int n = count_or("expert_count", 0, 0, INT32_MAX);
    if (n != 0)
        f_.fail(Status::unsupported_model, "key %s: %d; experts are not supported in %s",
                key("expert_count").c_str(), n, arch_name(hp_.arch));
}

void Reader::check_layers() const {
    for (int l = 0; l < hp_.n_layers; ++l) {
        const LayerParams& layer = hp_.layers[size_t(l)];
        const LayerParams& like = hp_.layers[size_t(first_layer(layer.sliding))];
        const std::string lengths =
            key(layer.sliding && has("attention.key_length_swa") ? "attention.key_length_swa"
                                                                 : "attention.key_length");
        if (layer.head_dim % 2 != 0)  // RoPE turns pairs
            f_.fail(Status::file_corrupt, "key %s: layer %d has head size %d, it must be even",
                    lengths.c_str(), l, layer.head_dim);
        if (layer.head_dim > kMaxHeadDim)
            f_.fail(Status::unsupported_model, "key %s: layer %d has head size %d, the limit is %d",
                    lengths.c_str(), l, layer.head_dim, kMaxHeadDim);
        if (layer.head_dim != like.head_dim)  // one rope_dims and one attention_scale per kind
            f_.fail(
                Status::unsupported_model,
                "key %s: layer %d has head size %d, other layers of its kind %d; they must agree",
                lengths.c_str(), l, layer.head_dim, like.head_dim);
        if (layer.n_heads % layer.n_kv_heads != 0)
            f_.fail(Status::file_corrupt,
                    "key %s: layer %d has %d KV heads, which do not divide its %d query heads",
                    key("attention.head_count_kv").c_str(), l, layer.n_kv_heads, layer.n_heads);
        if (layer.kv_source < 0 || layer.kv_source == l) continue;
        const LayerParams& source = hp_.layers[size_t(layer.kv_source)];
        if (layer.n_kv_heads != source.n_kv_heads)
            f_.fail(Status::file_corrupt,
                    "key %s: layer %d has %d KV heads, layer %d, whose cache it reads, has %d",
                    key("attention.head_count_kv").c_str(), l, layer.n_kv_heads, layer.kv_source,
                    source.n_kv_heads);
    }
}

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

void Reader::find_unread() {
    for (const GgufValue& value : f_.values())
        for (const std::string& prefix : prefixes_) {
            if (value.key.substr(0, prefix.size()) != prefix) continue;
            const std::string_view name = value.key.substr(prefix.size());
            const bool understood = std::find(std::begin(kUnderstood), std::end(kUnderstood),
                                              name) != std::end(kUnderstood);
            if (!understood && !asked_.count(name)) hp_.unread_keys.emplace_back(value.key);
        }
}

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

Arch read_arch(const GgufFile& file, std::vector<std::string>& prefixes) {
    const std::string name(file.string("general.architecture"));
    for (const auto& known : kArchs)
        if (name == known.name) {
            prefixes = {name + "."};
            if (known.arch == Arch::gemma4_assistant) prefixes.push_back("gemma4_assistant.");
            return known.arch;
        }
    if (name == "gemma4_assistant") {
        prefixes = {"gemma4_assistant.", "gemma4-assistant."};
        return Arch::gemma4_assistant;
    }
    if (contains(name, "gemma4") &&
        (contains(name, "mtp") || contains(name, "assist") || contains(name, "draft")))
        file.fail(Status::unsupported_model,
                  "architecture '%s' is not supported; a Gemma 4 drafter is expected as "
                  "'gemma4-assistant', convert the checkpoint "
                  "again",
                  printable(name).c_str());
    file.fail(Status::unsupported_model,
              "architecture '%s' is not supported (gemma4, gemma4-assistant, gemma3, llama)",
              printable(name).c_str());
}

}  // namespace

int HParams::count_layers(bool sliding) const {
    return int(std::count_if(layers.begin(), layers.end(),
                             [&](const LayerParams& l) { return l.sliding == sliding; }));
}

const char* arch_name(Arch arch) {
    for (const auto& known : kArchs)
        if (known.arch == arch) return known.name;
    return "?";
}

HParams read_hparams(const GgufFile& file) {
    // A part by itself, whose others nobody looked for: all but one lack the rest of the metadata,
    // and would be refused for that.
    const int64_t n_parts = file.integer_or("split.count", 1);
    if (n_parts > 1)
        file.fail(Status::unsupported_model,
                  "this is one of %" PRId64
                  " parts of a split model; open it by its path, with the others beside it",
                  n_parts);
    HParams hp;
    std::vector<std::string> prefixes;
    hp.arch = read_arch(file, prefixes);
    Reader(file, hp, std::move(prefixes)).read();
    return hp;
}

}  // namespace pillion

// GGUF files for the fuzz programs: complete tiny models of every architecture, with the input's
// sizes, and edits that damage them. Written by hand instead of by GgufWriter, because every field
// must be able to be wrong.
#pragma once
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "core/dtype.h"
#include "fuzz_input.h"
#include "gguf/gguf.h"

namespace fuzz {

using pillion::DType;
using pillion::GgufType;

class Bytes {
  public:
    template <class T>
    Bytes& put(T value) {
        const auto* p = reinterpret_cast<const uint8_t*>(&value);
        data.insert(data.end(), p, p + sizeof value);
        return *this;
    }
    Bytes& text(const std::string& s) {
        put(uint64_t(s.size()));
        data.insert(data.end(), s.begin(), s.end());
        return *this;
    }
    std::vector<uint8_t> data;
};

struct Key {
    std::string name;
    uint32_t type;
    std::vector<uint8_t> bytes;
};

enum class Fill : uint8_t { random, zero, nan, infinite, huge, tiny, bytes, kinds };

struct TinyTensor {
    std::string name;
    uint32_t dtype;
    std::vector<uint64_t> dims;
    Fill fill = Fill::random;
};

struct TinyFile {
    std::vector<Key> keys;
    std::vector<TinyTensor> tensors;
    std::vector<uint8_t> order;  // content of masked_embd_ordering

    void add(const std::string& name, uint32_t value) {
        keys.push_back({name, uint32_t(GgufType::u32), Bytes().put(value).data});
    }
    void add(const std::string& name, float value) {
        keys.push_back({name, uint32_t(GgufType::f32), Bytes().put(value).data});
    }
    void add(const std::string& name, const std::string& value) {
        keys.push_back({name, uint32_t(GgufType::string), Bytes().text(value).data});
    }
    void add_bools(const std::string& name, const std::vector<uint8_t>& values) {
        Bytes b;
        b.put(uint32_t(GgufType::boolean)).put(uint64_t(values.size()));
        b.data.insert(b.data.end(), values.begin(), values.end());
        keys.push_back({name, uint32_t(GgufType::array), b.data});
    }
    void tensor(const std::string& name, DType dtype, std::vector<uint64_t> dims) {
        tensors.push_back({name, uint32_t(dtype), std::move(dims)});
    }

    std::vector<uint8_t> serialize() const;
};

inline uint16_t half_of(float v) {  // of small normal numbers only
    uint32_t u;
    memcpy(&u, &v, 4);
    return uint16_t((u >> 16 & 0x8000) | (((u >> 23 & 0xff) - 112) << 10 & 0x7c00) |
                    (u >> 13 & 0x3ff));
}

// Bytes of a tensor; a size that overflows or is absurd gives none, and the reader has to notice.
inline size_t content_bytes(const TinyTensor& t) {
    const pillion::DTypeInfo* type = pillion::find_dtype(t.dtype);
    if (!type) return 64;
    double n = 1;
    for (const uint64_t d : t.dims) n *= double(d);
    const double bytes = n / type->block * type->block_bytes;
    return bytes > 4e6 ? 64 : size_t(bytes);
}

inline void fill_content(const TinyTensor& t, uint8_t* to, size_t n, uint64_t& seed) {
    const auto next = [&seed] {
        return seed = seed * 6364136223846793005u + 1442695040888963407u, uint32_t(seed >> 33);
    };
    const auto value = [&] {
        return t.fill == Fill::zero ? 0.0f : (float(next() % 2001) - 1000) * 1e-3f;
    };
    const float special = t.fill == Fill::nan        ? NAN
                          : t.fill == Fill::infinite ? INFINITY
                          : t.fill == Fill::huge     ? 3e38f
                                                     : 1e-42f;
    const bool ordinary = t.fill == Fill::random || t.fill == Fill::zero;
    if (t.fill == Fill::bytes) {
        for (size_t i = 0; i < n; i++) to[i] = uint8_t(next());
    } else if (t.dtype == uint32_t(DType::f32)) {
        for (size_t i = 0; i + 4 <= n; i += 4) {
            const float v = ordinary || next() % 4 ? value() : special;
            memcpy(to + i, &v, 4);
        }
    } else if (t.dtype == uint32_t(DType::f16) || t.dtype == uint32_t(DType::bf16)) {
        const bool bf16 = t.dtype == uint32_t(DType::bf16);
        for (size_t i = 0; i + 2 <= n; i += 2) {
            const float v = value();
            uint32_t word;
            memcpy(&word, &v, 4);
            uint16_t h = bf16               ? uint16_t(word >> 16)
                         : v == 0           ? uint16_t(0)
                         : fabsf(v) < 0.01f ? half_of(0.01f)
                                            : half_of(v);
            if (!ordinary && next() % 4 == 0)
                h = t.fill == Fill::nan        ? 0x7fff
                    : t.fill == Fill::infinite ? (bf16 ? 0x7f80 : 0x7c00)
                    : t.fill == Fill::huge     ? (bf16 ? 0x7f7f : 0x7bff)
                                               : 1;
            memcpy(to + i, &h, 2);
        }
    } else {  // blocks: small scales wherever a scale may lie (exponent bits of both bytes low), or
              // what was asked for
        for (size_t i = 0; i < n; i++) to[i] = uint8_t(next() & 0x1f);
        if (!ordinary)
            for (size_t i = 0; i < n; i += 1 + next() % 64)
                to[i] = t.fill == Fill::nan ? 0xff : 0x7c;
    }
}

inline std::vector<uint8_t> TinyFile::serialize() const {
    Bytes out;
    out.put(uint32_t(0x46554747))
        .put(uint32_t(3))
        .put(uint64_t(tensors.size()))
        .put(uint64_t(keys.size()));
    for (const Key& k : keys) {
        out.text(k.name).put(k.type);
        out.data.insert(out.data.end(), k.bytes.begin(), k.bytes.end());
    }
    uint64_t at = 0;
    for (const TinyTensor& t : tensors) {
        out.text(t.name).put(uint32_t(t.dims.size()));
        for (const uint64_t d : t.dims) out.put(d);
        out.put(t.dtype).put(at);
        at += (content_bytes(t) + 31) / 32 * 32;
    }
    out.data.resize((out.data.size() + 31) / 32 * 32);
    uint64_t seed = 7;
    for (const TinyTensor& t : tensors) {
        const size_t n = content_bytes(t), begin = out.data.size();
        out.data.resize(begin + (n + 31) / 32 * 32);
        if (t.name == "masked_embd_ordering.weight" && order.size() == n)
            memcpy(out.data.data() + begin, order.data(), n);
        else fill_content(t, out.data.data() + begin, n, seed);
    }
    return out.data;
}

// ---- complete models ----

enum class Kind : uint8_t { gemma4, assistant, gemma3, llama };

struct TinySizes {
    Kind kind = Kind::gemma4;
    int layers = 3, embd = 32, heads = 2, kv_heads = 1, dim = 32, dim_swa = 16, ff = 32,
        vocab = 320, window = 5;
    int shared = 0, ple = 0, experts = 0, used = 1, expert_ff = 32, centroids = 0, embd_out = 32;
    bool v_from_k = false, fused = false, own_head = false, tokenizer = true;
    DType weights = DType::f16, table = DType::q8_0;
};

inline void add_tokenizer(TinyFile& f, int vocab) {
    f.add("tokenizer.ggml.model", std::string("gemma4"));
    Bytes tokens, types, scores, merges;
    tokens.put(uint32_t(GgufType::string)).put(uint64_t(vocab));
    types.put(uint32_t(GgufType::i32)).put(uint64_t(vocab));
    scores.put(uint32_t(GgufType::f32)).put(uint64_t(vocab));
    static constexpr const char* kFirst[] = {"<pad>",        "<eos>", "<bos>", "<unk>", "<turn|>",
                                             "\xE2\x96\x81", "a",     "b",     "ab",    "\n"};
    for (int i = 0; i < vocab; i++) {
        char text[24];
        const int byte = i - 10;
        if (i < 10) snprintf(text, sizeof text, "%s", kFirst[i]);
        else if (byte < 256) snprintf(text, sizeof text, "<0x%02X>", unsigned(byte));
        else snprintf(text, sizeof text, "<unused%d>", i);
        tokens.text(text);
        types.put(int32_t(i < 3 || i == 4 ? 3 : i == 3 ? 2 : i < 10 ? 1 : byte < 256 ? 6 : 5));
        scores.put(-float(i));
    }
    merges.put(uint32_t(GgufType::string)).put(uint64_t(1)).text("a b");
    const uint32_t array = uint32_t(GgufType::array);
    f.keys.push_back({"tokenizer.ggml.tokens", array, tokens.data});
    f.keys.push_back({"tokenizer.ggml.token_type", array, types.data});
    f.keys.push_back({"tokenizer.ggml.scores", array, scores.data});
    f.keys.push_back({"tokenizer.ggml.merges", array, merges.data});
    f.add("tokenizer.ggml.bos_token_id", 2u), f.add("tokenizer.ggml.eos_token_id", 1u),
        f.add("tokenizer.ggml.unknown_token_id", 3u);
}

inline void add_layer(TinyFile& f, const TinySizes& s, int l, bool sliding) {
    const std::string b = "blk." + std::to_string(l) + ".";
    const bool gemma = s.kind != Kind::llama,
               owns = s.kind != Kind::assistant && l < s.layers - s.shared;
    const uint64_t h = uint64_t(s.embd), d = uint64_t(sliding ? s.dim_swa : s.dim),
                   q = uint64_t(s.heads) * d, kv = uint64_t(s.kv_heads) * d, ff = uint64_t(s.ff);
    const auto matrix = [&](const char* name, std::vector<uint64_t> dims) {
        // What can't hold whole blocks stays a float.
        const bool fits = dims[0] % uint64_t(pillion::info(s.weights).block) == 0;
        f.tensor(b + name, fits ? s.weights : DType::f16, std::move(dims));
    };
    const auto vector = [&](const char* name, uint64_t n) { f.tensor(b + name, DType::f32, {n}); };
    vector("attn_norm.weight", h), vector("ffn_norm.weight", h);
    if (gemma)
        vector("attn_q_norm.weight", d), vector("post_attention_norm.weight", h),
            vector("post_ffw_norm.weight", h);
    if (gemma && owns) vector("attn_k_norm.weight", d);
    if (s.fused && s.kind != Kind::assistant) {
        matrix("attn_qkv.weight", {h, q + 2 * kv});
    } else {
        matrix("attn_q.weight", {h, q});
        if (owns) matrix("attn_k.weight", {h, kv});
        if (owns && !s.v_from_k) matrix("attn_v.weight", {h, kv});
    }
    matrix("attn_output.weight", {q, h});
    matrix("ffn_gate.weight", {h, ff}), matrix("ffn_up.weight", {h, ff}),
        matrix("ffn_down.weight", {ff, h});
    if (s.kind == Kind::gemma4 && s.ple > 0) {
        matrix("inp_gate.weight", {h, uint64_t(s.ple)}),
            matrix("proj.weight", {uint64_t(s.ple), h});
        vector("post_norm.weight", h);
    }
    if (s.kind == Kind::gemma4 && s.experts > 0) {
        const uint64_t e = uint64_t(s.experts), fe = uint64_t(s.expert_ff);
        f.tensor(b + "ffn_gate_inp.weight", DType::f32, {h, e});
        vector("ffn_gate_inp.scale", h);
        matrix("ffn_gate_up_exps.weight", {h, 2 * fe, e}),
            matrix("ffn_down_exps.weight", {fe, h, e});
        vector("ffn_down_exps.scale", e);
        vector("pre_ffw_norm_2.weight", h), vector("post_ffw_norm_1.weight", h),
            vector("post_ffw_norm_2.weight", h);
    }
}

inline void add_sizes(TinyFile& f, const TinySizes& s, const std::string& p) {
    f.add(p + "block_count", uint32_t(s.layers)), f.add(p + "embedding_length", uint32_t(s.embd)),
        f.add(p + "context_length", 64u);
    f.add(p + "feed_forward_length", uint32_t(s.ff)),
        f.add(p + "attention.layer_norm_rms_epsilon", 1e-6f);
    f.add(p + "attention.head_count", uint32_t(s.heads)),
        f.add(p + "attention.head_count_kv", uint32_t(s.kv_heads));
    f.add(p + "attention.key_length", uint32_t(s.dim)),
        f.add(p + "attention.value_length", uint32_t(s.dim));
    f.add(p + "rope.freq_base", 1e4f);
    if (s.kind != Kind::llama) {
        f.add(p + "attention.sliding_window", uint32_t(s.window));
        f.add(p + "attention.key_length_swa", uint32_t(s.dim_swa)),
            f.add(p + "attention.value_length_swa", uint32_t(s.dim_swa));
    }
    if (s.kind == Kind::gemma4) {
        f.add(p + "final_logit_softcapping", 30.0f),
            f.add(p + "attention.shared_kv_layers", uint32_t(s.shared));
        f.add(p + "embedding_length_per_layer_input", uint32_t(s.ple)),
            f.add(p + "expert_count", uint32_t(s.experts));
        f.add(p + "expert_used_count", uint32_t(s.used)),
            f.add(p + "expert_feed_forward_length", uint32_t(s.expert_ff));
    }
}

inline void add_assistant(TinyFile& f, const TinySizes& s, const std::string& p) {
    const uint64_t h = uint64_t(s.embd), t = uint64_t(s.embd_out);
    f.add(p + "embedding_length_out", uint32_t(s.embd_out));
    f.tensor("nextn.pre_projection.weight", DType::f16, {2 * t, h});
    f.tensor("nextn.post_projection.weight", DType::f16, {h, t});
    if (s.centroids < 1) return;
    f.add(p + "masked_embedding.centroid_top_k", 2u);
    f.tensor("masked_embd_centroids.weight", DType::f16, {h, uint64_t(s.centroids)});
    f.tensor("masked_embd_ordering.weight", DType::i32, {uint64_t(s.vocab)});
    Bytes order;
    for (int i = 0; i < s.vocab; i++) order.put(int32_t(s.vocab - 1 - i));
    f.order = order.data;
}

inline TinyFile tiny_model(const TinySizes& s) {
    static constexpr const char* kNames[] = {"gemma4", "gemma4-assistant", "gemma3", "llama"};
    TinyFile f;
    const std::string arch = kNames[int(s.kind)], p = arch + ".";
    f.add("general.architecture", arch);
    add_sizes(f, s, p);
    std::vector<uint8_t> sliding;
    for (int l = 0; l < s.layers; l++) sliding.push_back(s.kind != Kind::llama && l % 2 == 0);
    if (s.kind != Kind::llama) f.add_bools(p + "attention.sliding_window_pattern", sliding);
    const uint64_t h = uint64_t(s.embd), v = uint64_t(s.vocab);
    const bool fits = h % uint64_t(pillion::info(s.table).block) == 0;
    f.tensor("token_embd.weight", fits ? s.table : DType::f16, {h, v});
    f.tensor("output_norm.weight", DType::f32, {h});
    if (s.own_head && s.kind != Kind::assistant)
        f.tensor("output.weight", fits ? s.table : DType::f16, {h, v});
    if ((s.kind == Kind::gemma4 || s.kind == Kind::assistant) && s.layers > 1)
        f.tensor("rope_freqs.weight", DType::f32, {uint64_t(s.dim / 2)});
    if (s.kind == Kind::gemma4 && s.ple > 0) {
        const uint64_t all = uint64_t(s.layers) * uint64_t(s.ple);
        f.tensor("per_layer_token_embd.weight", DType::f16, {all, v});
        f.tensor("per_layer_model_proj.weight", DType::f16, {h, all});
        f.tensor("per_layer_proj_norm.weight", DType::f32, {uint64_t(s.ple)});
    }
    if (s.kind == Kind::assistant) add_assistant(f, s, p);
    for (int l = 0; l < s.layers; l++) add_layer(f, s, l, sliding[size_t(l)] != 0);
    if (s.tokenizer) add_tokenizer(f, s.vocab);
    return f;
}

// Sizes that fit each other, ordinary or odd.
inline TinySizes read_sizes(Input& in) {
    static constexpr int kWidths[] = {32, 32, 64, 1, 2, 3, 31, 33, 48, 96, 256, 288, 512};
    static constexpr int kDims[] = {32, 16, 2, 4, 6, 30, 34, 48, 64, 66, 128, 256, 1024};
    static constexpr DType kTypes[] = {DType::f16,     DType::f32,     DType::bf16,   DType::q8_0,
                                       DType::q4_0,    DType::q4_1,    DType::q5_0,   DType::q5_1,
                                       DType::q2_k,    DType::q3_k,    DType::q4_k,   DType::q5_k,
                                       DType::q6_k,    DType::iq4_nl,  DType::iq4_xs, DType::iq1_s,
                                       DType::iq1_m,   DType::iq2_xxs, DType::iq2_xs, DType::iq2_s,
                                       DType::iq3_xxs, DType::iq3_s,   DType::tq1_0,  DType::tq2_0,
                                       DType::mxfp4,   DType::nvfp4};
    static constexpr int kVocabs[] = {320, 1, 2, 31, 32, 33, 64, 300, 512};
    TinySizes s;
    s.kind = Kind(in.byte() % 4);
    if (in.chance(100)) return s;
    s.layers = 1 + in.byte() % 6;
    s.embd = in.pick(kWidths), s.ff = in.pick(kWidths), s.vocab = in.pick(kVocabs),
    s.embd_out = in.pick(kWidths);
    s.kv_heads = 1 + in.byte() % 3, s.heads = s.kv_heads * (1 + in.byte() % 9);
    s.dim = in.pick(kDims), s.dim_swa = in.pick(kDims);
    if (s.heads * s.dim > 2048) s.heads = s.kv_heads = 1;
    s.window = 1 + in.byte() % 40;
    s.weights = in.pick(kTypes), s.table = in.pick(kTypes);
    const uint8_t bits = in.byte();
    s.v_from_k = bits & 1, s.fused = bits & 2 && !s.v_from_k, s.own_head = bits & 4,
    s.tokenizer = bits & 8;
    if (bits & 16) s.ple = in.pick(kWidths);
    if (bits & 32)
        s.experts = 1 + in.byte() % 9, s.used = 1 + in.byte() % s.experts,
        s.expert_ff = in.pick(kWidths);
    if (bits & 64) s.centroids = 1 + in.byte() % 40;
    if (bits & 128) s.shared = in.byte() % s.layers;
    if (s.centroids > 0 && s.vocab % s.centroids != 0) s.centroids = s.vocab;
    return s;
}

// ---- making them wrong ----

inline void edit_key(TinyFile& f, Input& in) {
    if (f.keys.empty()) return;
    Key& k = f.keys[in.below(f.keys.size())];
    switch (in.byte() % 6) {
        case 0: {  // a number of the same width
            const int64_t v = in.number();
            memcpy(k.bytes.data(), &v, std::min<size_t>(k.bytes.size(), sizeof v));
            break;
        }
        case 1: k = f.keys.back(), f.keys.pop_back(); break;
        case 2: k.type = in.byte() % 16; break;
        case 3: {
            const float v =
                in.chance(64) ? NAN : float(in.number()) * (in.chance(64) ? 1e30f : 1e-3f);
            if (k.type == uint32_t(GgufType::f32)) k.bytes = Bytes().put(v).data;
            break;
        }
        case 4: {  // one value for each of some layers
            Bytes b;
            const int n = in.byte() % 8;
            b.put(uint32_t(in.chance(128) ? GgufType::u32 : GgufType::i32)).put(uint64_t(n));
            for (int i = 0; i < n; i++) b.put(uint32_t(in.number()));
            k.type = uint32_t(GgufType::array), k.bytes = b.data;
            break;
        }
        default:
            if (!k.bytes.empty()) k.bytes[in.below(k.bytes.size())] = in.byte();
    }
}

inline void edit_tensor(TinyFile& f, Input& in) {
    static constexpr const char* kNames[] = {
        "attn_norm.weight",      "attn_q.weight",         "attn_k.weight",
        "attn_v.weight",         "attn_qkv.weight",       "attn_q_norm.weight",
        "attn_k_norm.weight",    "attn_output.weight",    "post_attention_norm.weight",
        "ffn_norm.weight",       "ffn_gate.weight",       "ffn_up.weight",
        "ffn_down.weight",       "post_ffw_norm.weight",  "layer_output_scale.weight",
        "inp_gate.weight",       "proj.weight",           "post_norm.weight",
        "ffn_gate_inp.weight",   "ffn_gate_inp.scale",    "ffn_gate_up_exps.weight",
        "ffn_gate_exps.weight",  "ffn_up_exps.weight",    "ffn_down_exps.weight",
        "ffn_down_exps.scale",   "pre_ffw_norm_2.weight", "post_ffw_norm_1.weight",
        "post_ffw_norm_2.weight"};
    static constexpr const char* kGlobal[] = {"output.weight",
                                              "rope_freqs.weight",
                                              "per_layer_token_embd.weight",
                                              "per_layer_model_proj.weight",
                                              "per_layer_proj_norm.weight",
                                              "nextn.pre_projection.weight",
                                              "nextn.post_projection.weight",
                                              "masked_embd_centroids",
                                              "masked_embd_ordering",
                                              "token_embd.weight"};
    if (f.tensors.empty()) return;
    const size_t at = in.below(f.tensors.size());
    TinyTensor& t = f.tensors[at];
    switch (in.byte() % 8) {
        case 0: t.dtype = in.byte() % 42; break;
        case 1: t.dims[in.byte() % t.dims.size()] = uint64_t(in.number()); break;
        case 2: t = f.tensors.back(), f.tensors.pop_back(); break;
        case 3: t.fill = Fill(in.byte() % uint8_t(Fill::kinds)); break;
        case 4: {  // a tensor that the architecture doesn't have, or has already
            TinyTensor extra = t;
            extra.name = in.chance(64)
                             ? std::string(in.pick(kGlobal))
                             : "blk." + std::to_string(in.byte() % 4) + "." + in.pick(kNames);
            if (in.chance(128)) extra.dims.assign(1 + in.byte() % 4, uint64_t(in.byte() % 65));
            f.tensors.push_back(extra);
            break;
        }
        case 5: t.dims.push_back(1 + in.byte() % 3); break;
        case 6:
            for (TinyTensor& every : f.tensors) every.fill = Fill(in.byte() % uint8_t(Fill::kinds));
            break;
        default: t.dims.resize(1 + in.byte() % t.dims.size());
    }
}

// A file as the input wants it: sizes, then edits.
inline std::vector<uint8_t> read_file(Input& in) {
    TinyFile f = tiny_model(read_sizes(in));
    for (int n = in.byte() % 6; n > 0; n--) in.chance(110) ? edit_key(f, in) : edit_tensor(f, in);
    std::vector<uint8_t> bytes = f.serialize();
    if (in.chance(20)) bytes.resize(1 + in.below(bytes.size()));
    if (in.chance(20)) bytes[in.below(std::min<size_t>(bytes.size(), 65536))] = in.byte();
    return bytes;
}

// A file without a name on any disk.
class MemoryFile {
  public:
    explicit MemoryFile(const std::vector<uint8_t>& bytes) : fd_(memfd_create("pillion-fuzz", 0)) {
        if (fd_ < 0 || write(fd_, bytes.data(), bytes.size()) != ssize_t(bytes.size()))
            broken("no memory file");
        path_ = "/proc/self/fd/" + std::to_string(fd_);
    }
    ~MemoryFile() { close(fd_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;
    const char* path() const { return path_.c_str(); }

  private:
    int fd_;
    std::string path_;
};

}  // namespace fuzz

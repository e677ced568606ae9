// Fuzzes pillion_mmproj_* with a file of tiny towers made from the input, then edited. What opens
// describes itself and encodes, or says why not; no call crashes, whatever the file holds.
#include "checked_call.h"
#include "tiny_gguf.h"

using fuzz::Input;
using fuzz::ok;
using pillion::DType;

namespace {

struct Sizes {
    bool layered, has_audio;
    uint64_t embd, heads, dim, ff, layers, patch, positions, out;
    DType weights;
};

Sizes tower_sizes(Input& in) {
    static constexpr uint64_t kWidths[] = {32, 64, 4, 12, 36, 96, 1, 33};
    static constexpr uint64_t kDims[] = {4, 16, 36, 64, 8, 100};
    static constexpr uint64_t kPatches[] = {2, 4, 1, 16, 32};
    static constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0,
                                       DType::q4_0};
    Sizes s = {};
    s.layered = in.byte() % 3 != 0, s.has_audio = in.byte() % 2;
    s.embd = in.pick(kWidths), s.heads = 1 + in.byte() % 3, s.dim = in.pick(kDims);
    s.ff = in.pick(kWidths), s.layers = 1 + in.byte() % 2, s.patch = in.pick(kPatches);
    s.positions = 3 + in.byte() % 80, s.out = in.pick(kWidths), s.weights = in.pick(kTypes);
    return s;
}

void add_bool(fuzz::TinyFile& f, const char* name) {
    f.keys.push_back({name, uint32_t(pillion::GgufType::boolean), {1}});
}

class Towers {
  public:
    explicit Towers(const Sizes& s) : s_(s) {}
    fuzz::TinyFile build() {
        f_.add("general.architecture", std::string("clip"));
        add_bool(f_, "clip.has_vision_encoder");
        f_.add("clip.vision.projector_type", std::string(s_.layered ? "gemma4v" : "gemma4uv"));
        number("clip.vision.projection_dim", s_.out), number("clip.vision.patch_size", s_.patch);
        if (s_.layered) add_layers();
        else add_plain();
        matrix("mm.input_projection", {s_.layered ? s_.embd : s_.out, s_.out});
        if (s_.has_audio) add_audio();
        return std::move(f_);
    }

  private:
    void number(const std::string& key, uint64_t value) { f_.add(key, uint32_t(value)); }
    void vector(const std::string& name, uint64_t n) { f_.tensor(name, DType::f32, {n}); }
    void matrix(const std::string& name, std::vector<uint64_t> dims) {
        // What can't hold whole blocks stays a float.
        const bool fits = dims[0] % uint64_t(pillion::info(s_.weights).block) == 0;
        f_.tensor(name + ".weight", fits ? s_.weights : DType::f16, std::move(dims));
    }
    void bounds(const std::string& name) {
        for (const char* end : {".input_min", ".input_max", ".output_min", ".output_max"})
            vector(name + end, 1);
    }

    void add_layers() {
        const std::string v = "clip.vision.";
        number(v + "embedding_length", s_.embd), number(v + "feed_forward_length", s_.ff);
        number(v + "block_count", s_.layers), number(v + "attention.head_count", s_.heads);
        number(v + "attention.head_dim", s_.dim);
        f_.add(v + "attention.layer_norm_epsilon", 1e-6f);
        f_.tensor("v.patch_embd.weight", DType::f32, {s_.patch, s_.patch, 3, s_.embd});
        f_.tensor("v.position_embd.weight", DType::f32, {s_.embd, s_.positions, 2});
        for (uint64_t l = 0; l < s_.layers; l++) add_layer("v.blk." + std::to_string(l) + ".");
        if (s_.has_audio) vector("v.std_bias", s_.embd), vector("v.std_scale", s_.embd);
    }
    void add_layer(const std::string& b) {
        const uint64_t h = s_.embd, q = s_.heads * s_.dim;
        for (const char* name : {"ln1", "attn_post_norm", "ln2", "ffn_post_norm"})
            vector(b + name + ".weight", h);
        for (const char* name : {"attn_q", "attn_k"}) vector(b + name + "_norm.weight", s_.dim);
        for (const char* name : {"attn_q", "attn_k", "attn_v"}) matrix(b + name, {h, q});
        matrix(b + "attn_out", {q, h}), matrix(b + "ffn_down", {s_.ff, h});
        matrix(b + "ffn_gate", {h, s_.ff}), matrix(b + "ffn_up", {h, s_.ff});
        bounds(b + "attn_v"), bounds(b + "ffn_down");
    }
    void add_plain() {
        const uint64_t side = 3 * s_.patch, inputs = 3 * side * side;
        matrix("v.patch_embd", {inputs, s_.out}), vector("v.patch_embd.bias", s_.out);
        for (const int i : {1, 2, 3})
            for (const char* what : {".weight", ".bias"})
                vector("v.patch_norm." + std::to_string(i) + what, i == 1 ? inputs : s_.out);
        f_.tensor("v.position_embd.weight", DType::f32, {s_.out, s_.positions, 2});
    }
    void add_audio() {
        add_bool(f_, "clip.has_audio_encoder");
        f_.add("clip.audio.projector_type", std::string("gemma4ua"));
        number("clip.audio.projection_dim", s_.out);
        matrix("mm.a.input_projection", {640, s_.out});
    }

    const Sizes s_;
    fuzz::TinyFile f_;
};

int64_t width_of(pillion_mmproj* mmproj) {
    char text[1 << 14];
    size_t n = 0;
    if (!ok(pillion_mmproj_json(mmproj, text, sizeof text - 1, &n)))
        fuzz::broken("it does not describe itself:", pillion_last_error());
    text[n] = 0;
    const char* at = strstr(text, "\"n_embd\": ");
    return at ? atoll(at + 10) : 0;
}

void look(pillion_mmproj* mmproj, Input& in, int64_t width) {
    const size_t height = 1 + in.below(90), columns = 1 + in.below(90);
    const int32_t n_tokens = in.chance(20) ? int32_t(in.number()) : 1 + in.byte() % 16;
    int32_t rows = 0, cols = 0;
    if (!ok(pillion_mmproj_image_grid(mmproj, height, columns, n_tokens, &rows, &cols))) return;
    const int64_t n = int64_t(rows) * cols;
    const int32_t most = n_tokens == 0 ? 1120 : n_tokens;  // 0: what the file says
    if (n < 1 || n > most) fuzz::broken("a grid of more than was allowed");
    if (n > 64) return;
    const std::vector<uint8_t> rgb(height * columns * 3, in.byte());
    std::vector<float> out(size_t(n * width) + 1, 7.0f);
    ok(pillion_mmproj_encode_image(mmproj, rgb.data(), height, columns, n_tokens, out.data(),
                                   size_t(n)));
    if (out.back() != 7.0f) fuzz::broken("rows behind the last one");
}

void listen(pillion_mmproj* mmproj, Input& in, int64_t width) {
    const std::vector<float> samples(in.below(3000), 0.5f);
    size_t n = 0;
    if (!ok(pillion_mmproj_audio_tokens(mmproj, samples.size(), &n)) || n > 64) return;
    std::vector<float> out(n * size_t(width) + 1, 7.0f);
    const float none = 0;
    ok(pillion_mmproj_encode_audio(mmproj, samples.empty() ? &none : samples.data(), samples.size(),
                                   out.data(), n));
    if (out.back() != 7.0f) fuzz::broken("rows behind the last one");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in(data, size);
    fuzz::TinyFile towers = Towers(tower_sizes(in)).build();
    for (int n = in.byte() % 3; n > 0; n--)
        in.chance(60) ? fuzz::edit_key(towers, in) : fuzz::edit_tensor(towers, in);
    const fuzz::MemoryFile file(towers.serialize());
    pillion_mmproj* mmproj = nullptr;
    if (!ok(pillion_mmproj_open(file.path(), 1, &mmproj))) return 0;
    const int64_t width = width_of(mmproj);
    for (int n = 0; n < 2; n++) look(mmproj, in, width), listen(mmproj, in, width);
    pillion_mmproj_free(mmproj);
    return 0;
}

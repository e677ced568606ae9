#include "media/mmproj_params.h"

#include <math.h>

#include <string>

#include "media/log_mel.h"

namespace pillion {
namespace {

constexpr int kWidthMax = 1 << 16, kLayersMax = 1024, kHeadsMax = 1024, kPatchMax = 256;
// Every released Gemma 4 pools 3 x 3 patches; the converter writes no key for it.
constexpr int kPool = 3;
// What the released models take by default. Files of others say their number, by a key of pillion's
// converter.
constexpr int kImageTokens = 280;
// So that a picture of the most tokens stays within what resize.h takes.
constexpr int kUnitMax = 128;

class Reader {
  public:
    Reader(const GgufFile& file, const char* tower)
        : file_(file), prefix_(std::string("clip.") + tower + "."), tower_(tower) {}

    bool is_there() const {
        return file_.boolean(std::string("clip.has_") + tower_ + "_encoder", false);
    }
    int number(const char* key, int low, int high) const {
        return int(file_.integer(prefix_ + key, low, high));
    }
    int number_or(const char* key, int fallback, int low, int high) const {
        return int(file_.integer_or(prefix_ + key, fallback, low, high));
    }
    // The projector's place in `known`, which `none` leads.
    int projector(const char* const (&known)[3]) const {
        const std::string key = prefix_ + "projector_type";
        // Older converters wrote one key for the whole file.
        const std::string_view type = file_.find(key) || !file_.find("clip.projector_type")
                                          ? file_.string(key)
                                          : file_.string("clip.projector_type");
        for (int i = 1; i < 3; i++)
            if (type == known[i]) return i;
        file_.fail(Status::unsupported_model, "%s projector \"%s\" is not supported (%s, %s)",
                   tower_, printable(type).c_str(), known[1], known[2]);
    }
    float eps() const {
        const std::string key = prefix_ + "attention.layer_norm_epsilon";
        const float eps = file_.f32(key);
        if (!(eps > 0.0f && eps < 1.0f))
            file_.fail(Status::file_corrupt, "key %s is %g, expected a number between 0 and 1",
                       key.c_str(), double(eps));
        return eps;
    }
    [[noreturn]] void no_multiple(const char* key, int value, const char* of, int divisor) const {
        file_.fail(Status::file_corrupt, "key %s%s is %d, expected a multiple of %s, %d",
                   prefix_.c_str(), key, value, of, divisor);
    }

  private:
    const GgufFile& file_;
    std::string prefix_;
    const char* tower_;
};

constexpr const char* kVision[] = {"none", "gemma4v", "gemma4uv"};
constexpr const char* kAudio[] = {"none", "gemma4a", "gemma4ua"};

VisionParams read_vision(const GgufFile& file) {
    const Reader r(file, "vision");
    VisionParams v;
    if (!r.is_there()) return v;
    v.kind = VisionKind(r.projector(kVision));
    v.n_embd_out = r.number("projection_dim", 1, kWidthMax);
    v.patch = r.number("patch_size", 1, kPatchMax);
    v.pool = r.number_or("projector.scale_factor", kPool, 1, 16);
    v.image_tokens = r.number_or("image_tokens", kImageTokens, 1, kImageTokensMax);
    if (v.unit() > kUnitMax)
        file.fail(Status::file_corrupt,
                  "patches of %d and a pooling of %d make %d pixels a token, "
                  "at most %d are supported",
                  v.patch, v.pool, v.unit(), kUnitMax);
    if (v.kind == VisionKind::gemma4uv) return v;
    v.n_embd = r.number("embedding_length", 1, kWidthMax);
    v.n_ff = r.number("feed_forward_length", 1, 4 * kWidthMax);
    v.n_layers = r.number("block_count", 1, kLayersMax);
    v.n_heads = r.number("attention.head_count", 1, kHeadsMax);
    v.eps = r.eps();
    if (v.n_embd % v.n_heads) r.no_multiple("embedding_length", v.n_embd, "heads", v.n_heads);
    v.head_dim = r.number_or("attention.head_dim", v.n_embd / v.n_heads, 1, 1024);
    // Each half of a head rotates by one axis, in pairs.
    if (v.head_dim % 4)
        file.fail(Status::file_corrupt, "vision heads have %d dimensions, expected a multiple of 4",
                  v.head_dim);
    return v;
}

AudioParams read_audio(const GgufFile& file) {
    const Reader r(file, "audio");
    AudioParams a;
    if (!r.is_there()) return a;
    a.kind = AudioKind(r.projector(kAudio));
    a.n_embd_out = r.number("projection_dim", 1, kWidthMax);
    if (a.kind == AudioKind::gemma4ua) return a;
    a.n_embd = r.number("embedding_length", 1, kWidthMax);
    a.n_ff = r.number("feed_forward_length", 1, 4 * kWidthMax);
    a.n_layers = r.number("block_count", 1, kLayersMax);
    a.n_heads = r.number("attention.head_count", 1, kHeadsMax);
    a.n_mel = r.number("num_mel_bins", kMelBands, kMelBands);
    if (a.n_embd % a.n_heads) r.no_multiple("embedding_length", a.n_embd, "heads", a.n_heads);
    return a;
}

}  // namespace

const char* name_of(VisionKind kind) { return kVision[int(kind)]; }
const char* name_of(AudioKind kind) { return kAudio[int(kind)]; }

MmprojParams read_mmproj_params(const GgufFile& file) {
    const std::string_view arch = file.string("general.architecture");
    if (arch != "clip")
        file.fail(Status::unsupported_model,
                  "general.architecture is \"%s\", an mmproj file has \"clip\"",
                  printable(arch).c_str());
    MmprojParams p;
    p.vision = read_vision(file);
    p.audio = read_audio(file);
    if (!p.vision && !p.audio)
        file.fail(Status::file_corrupt,
                  "neither clip.has_vision_encoder nor clip.has_audio_encoder is true");
    if (p.vision && p.audio && p.vision.n_embd_out != p.audio.n_embd_out)
        file.fail(
            Status::file_corrupt,
            "clip.vision.projection_dim is %d, clip.audio.projection_dim %d: both must be the "
            "target's n_embd",
            p.vision.n_embd_out, p.audio.n_embd_out);
    return p;
}

}  // namespace pillion

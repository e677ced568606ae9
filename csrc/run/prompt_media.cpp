#include "run/prompt_media.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <memory>

#include "run/decode_image.h"
#include "run/decode_sound.h"

namespace pillion::run {
namespace {

constexpr size_t kFileMost = size_t(50) << 20;  // bytes of a picture or sound
constexpr size_t kPieceSamples = 480000;        // what an encoder hears at a time: 30 s

struct CloseMmproj {
    void operator()(pillion_mmproj* p) const { pillion_mmproj_free(p); }
};

std::string read_file(const std::string& path) {
    const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path.c_str(), "rb"), fclose);
    std::string bytes;
    char piece[1 << 16];
    for (size_t n = 1; file && n > 0 && bytes.size() <= kFileMost;) {
        n = fread(piece, 1, sizeof piece, file.get());
        bytes.append(piece, n);
    }
    if (!file || ferror(file.get())) throw UsageError(path + " can't be read: " + strerror(errno));
    if (bytes.size() > kFileMost)
        throw UsageError(path + " has more than " + std::to_string(kFileMost >> 20) + " MB");
    return bytes;
}

// The id of a token that the vocabulary must have.
int32_t id_of(const pillion_tokenizer* tokenizer, const char* text) {
    int32_t ids[8];
    size_t n = 0;
    const pillion_status status =
        pillion_tokenizer_encode(tokenizer, text, strlen(text), 0, 1, ids, 8, &n);
    if (status != PILLION_OK || n != 1)
        throw UsageError(std::string("the model takes no media: it has no token ") + text);
    return ids[0];
}

class Encoder {
  public:
    Encoder(const Options& o, pillion_model* model) : o_(o), model_(model) {
        pillion_mmproj* mmproj = nullptr;
        check(pillion_mmproj_open(o.mmproj.c_str(), o.n_threads, &mmproj));
        mmproj_.reset(mmproj);
        check(pillion_model_get_info(model, &info_, sizeof info_));
        n_embd_ = size_t(read_n_embd());
        if (int32_t(n_embd_) != info_.n_embd)
            throw UsageError(o.mmproj + " makes rows of " + std::to_string(n_embd_) +
                             ", the model has rows of " + std::to_string(info_.n_embd) +
                             ": it belongs to another model");
    }

    // The ids of its rows.
    std::vector<int32_t> ids_of(const Medium& medium) {
        const std::string bytes = read_file(medium.path);
        rows_.clear(), rows_.reserve(n_embd_);  // data() is none without room
        if (medium.is_image) encode_image(decode_image(bytes, medium.path));
        else encode_sound(decode_sound(bytes, medium.path), medium.path);
        // One run, one text: a number tells the media apart.
        uint8_t digest[32] = {};
        n_media_++;
        memcpy(digest, &n_media_, sizeof n_media_);
        const size_t n = rows_.size() / n_embd_;
        int32_t first = 0;
        check(pillion_model_add_media(model_, digest, rows_.data(), n, n_embd_,
                                      medium.is_image && info_.image_bidirectional, &first));
        std::vector<int32_t> ids(n);
        for (size_t i = 0; i < n; i++) ids[i] = first - int32_t(i);
        return ids;
    }

  private:
    int read_n_embd() const {
        std::string json(1 << 16, '\0');
        size_t n = 0;
        check(pillion_mmproj_json(mmproj_.get(), &json[0], json.size(), &n));
        // The first behind the path, in which a quote has a backslash before it.
        const std::string key = ", \"n_embd\": ";
        return std::stoi(json.substr(json.find(key) + key.size(), 12));
    }

    void encode_image(const Image& image) {
        int32_t rows = 0, cols = 0;
        const size_t height = size_t(image.height), width = size_t(image.width);
        check(
            pillion_mmproj_image_grid(mmproj_.get(), height, width, o_.image_tokens, &rows, &cols));
        const size_t n = size_t(rows) * size_t(cols);
        rows_.resize(n * n_embd_);
        check(pillion_mmproj_encode_image(mmproj_.get(), image.rgb.data(), height, width,
                                          o_.image_tokens, rows_.data(), n));
    }

    // A sound that is too long for the encoder in pieces, one behind the other.
    void encode_sound(const std::vector<float>& samples, const std::string& name) {
        size_t n = 0, pieces = 1;
        const bool is_whole =
            pillion_mmproj_audio_tokens(mmproj_.get(), samples.size(), &n) == PILLION_OK;
        const size_t most = is_whole ? samples.size() : kPieceSamples;
        encode_piece(samples.data(), std::min(most, samples.size()));
        for (size_t at = most; at < samples.size(); at += most) {
            const size_t left = std::min(most, samples.size() - at);
            check(pillion_mmproj_audio_tokens(mmproj_.get(), left, &n));
            if (n == 0) break;  // less than a token
            encode_piece(samples.data() + at, left), pieces++;
        }
        if (pieces > 1) fprintf(stderr, "%s: %zu pieces of up to 30 s\n", name.c_str(), pieces);
    }

    void encode_piece(const float* samples, size_t n_samples) {
        size_t n = 0;
        check(pillion_mmproj_audio_tokens(mmproj_.get(), n_samples, &n));
        const size_t begin = rows_.size();
        rows_.resize(begin + n * n_embd_);
        check(pillion_mmproj_encode_audio(mmproj_.get(), samples, n_samples, rows_.data() + begin,
                                          n));
    }

    const Options& o_;
    pillion_model* model_;
    std::unique_ptr<pillion_mmproj, CloseMmproj> mmproj_;
    pillion_model_info info_;
    size_t n_embd_ = 0;
    uint64_t n_media_ = 0;
    std::vector<float> rows_;  // of the medium under way
};

struct Frame { int32_t begin, marker, end; };

void check_count(const std::vector<int32_t>& tokens, int32_t marker, const char* text,
                 const Options& o, bool is_image) {
    const auto markers = std::count(tokens.begin(), tokens.end(), marker);
    const auto files = std::count_if(o.media.begin(), o.media.end(),
                                     [&](const Medium& m) { return m.is_image == is_image; });
    if (markers == files) return;
    throw UsageError("the prompt has " + std::to_string(markers) + " times " + text + ", but " +
                     std::to_string(files) + (is_image ? " --image" : " --audio") +
                     " are given: one for each, or no marker at all");
}

}  // namespace

void check(pillion_status status) {
    if (status != PILLION_OK) throw Failure{status, pillion_last_error()};
}

std::vector<int32_t> put_media(const Options& o, pillion_model* model,
                               const pillion_tokenizer* tokenizer, std::vector<int32_t> tokens) {
    const Frame frames[2] = {{id_of(tokenizer, "<|audio>"), id_of(tokenizer, "<|audio|>"),
                              id_of(tokenizer, "<audio|>")},
                             {id_of(tokenizer, "<|image>"), id_of(tokenizer, "<|image|>"),
                              id_of(tokenizer, "<image|>")}};
    const auto is_marker = [&](int32_t t) {
        return t == frames[0].marker || t == frames[1].marker;
    };
    if (std::none_of(tokens.begin(), tokens.end(), is_marker)) {
        int32_t in_front[4];
        size_t n = 0;
        check(pillion_tokenizer_encode(tokenizer, "", 0, 1, 1, in_front, 4, &n));
        std::vector<int32_t> markers;
        for (const Medium& m : o.media) markers.push_back(frames[m.is_image].marker);
        tokens.insert(tokens.begin() + ptrdiff_t(std::min(n, tokens.size())), markers.begin(),
                      markers.end());
    }
    check_count(tokens, frames[0].marker, "<|audio|>", o, /*is_image=*/false);
    check_count(tokens, frames[1].marker, "<|image|>", o, /*is_image=*/true);
    Encoder encoder(o, model);
    size_t next[2] = {0, 0};  // of o.media, by kind
    std::vector<int32_t> out;
    for (const int32_t token : tokens) {
        if (!is_marker(token)) {
            out.push_back(token);
            continue;
        }
        const bool is_image = token == frames[1].marker;
        size_t& at = next[is_image];
        while (o.media[at].is_image != is_image) at++;
        const std::vector<int32_t> ids = encoder.ids_of(o.media[at++]);
        out.push_back(frames[is_image].begin);
        out.insert(out.end(), ids.begin(), ids.end());
        out.push_back(frames[is_image].end);
    }
    return out;
}

}  // namespace pillion::run

#include "media/mmproj.h"

#include "core/json.h"
#include "gguf/gguf_json.h"

namespace pillion {

// Has the towers to itself, with the cancel flag cleared.
class Mmproj::Turn {
  public:
    explicit Turn(Mmproj& m) : lock_(m.mutex_) {
        m.is_broken_ |= lock_.orphaned();
        if (m.is_broken_)
            fail(Status::closed,
                 "another thread was encoding with %s when fork() copied it: open the file again "
                 "in this process",
                 m.file_.path().c_str());
        m.queue_->cancel.store(false);
    }

  private:
    ForkLock lock_;
};

Mmproj::Mmproj(const std::string& path, int n_threads)
    : file_(GgufFile::open(path)), params_(read_mmproj_params(file_)),
      backend_(find_backend("cpu")),
      queue_(backend_.make_queue(n_threads).value_or_throw("mmproj")) {
    if (params_.vision) {
        TowerTensors tensors(file_);
        VisionWeights unused;
        list_vision(tensors, params_.vision, unused);
        vision_bytes_ = tensors.file_bytes();
    }
    if (params_.audio) {
        TowerTensors tensors(file_);
        AudioWeights listed;
        list_audio(tensors, params_.audio, listed);
        audio_bytes_ = tensors.file_bytes();
        audio_width_ = listed.n_projected;
    }
}

const VisionParams& Mmproj::vision() const {
    if (params_.vision) return params_.vision;
    fail(Status::invalid_argument, "%s has no vision tower: it reads no images",
         file_.path().c_str());
}

const AudioParams& Mmproj::audio() const {
    if (params_.audio) return params_.audio;
    fail(Status::invalid_argument, "%s has no audio tower: it hears no sound",
         file_.path().c_str());
}

namespace {

void check_capacity(int64_t rows, int64_t capacity) {
    if (capacity < rows)
        fail(Status::buffer_too_small, "%ld rows needed, the buffer has %ld", long(rows),
             long(capacity));
}

Json vision_json(const VisionParams& p, uint64_t file_bytes) {
    if (!p) return nullptr;
    return JsonObject()
        .add("projector", name_of(p.kind))
        .add("n_embd", p.n_embd)
        .add("n_ff", p.n_ff)
        .add("n_layers", p.n_layers)
        .add("n_heads", p.n_heads)
        .add("head_dim", p.head_dim)
        .add("patch", p.patch)
        .add("pool", p.pool)
        .add("unit", p.unit())
        .add("image_tokens", p.image_tokens)
        .add("tokens_max", kImageTokensMax)
        .add("file_bytes", file_bytes);
}

Json audio_json(const AudioParams& p, uint64_t file_bytes) {
    if (!p) return nullptr;
    return JsonObject()
        .add("projector", name_of(p.kind))
        .add("n_embd", p.n_embd)
        .add("n_ff", p.n_ff)
        .add("n_layers", p.n_layers)
        .add("n_heads", p.n_heads)
        .add("n_mel", p.n_mel)
        .add("file_bytes", file_bytes);
}

}  // namespace

std::string Mmproj::to_json() const {
    return JsonObject()
        .add("path", file_.path())
        .add("n_embd", params_.n_embd_out())
        .add("vision", vision_json(params_.vision, vision_bytes_))
        .add("audio", audio_json(params_.audio, audio_bytes_))
        .add("file_bytes", file_.file_bytes())
        .add("n_threads", queue_->n_threads())
        .add("tensor_types", tensor_types_json(file_))
        .text();
}

ImageGrid Mmproj::image_grid(int64_t height, int64_t width, int n_tokens) const {
    return pillion::image_grid(vision(), height, width, n_tokens);
}

void Mmproj::encode_image(const uint8_t* rgb, int64_t height, int64_t width, int n_tokens,
                          float* out, int64_t capacity) {
    const ImageGrid grid = image_grid(height, width, n_tokens);
    check_capacity(grid.n(), capacity);
    const Turn turn(*this);
    if (!vision_tower_)
        vision_tower_ =
            std::make_unique<VisionTower>(file_, vision(), TowerDevice{backend_, *queue_});
    vision_tower_->encode(rgb, height, width, grid, out);
}

int64_t Mmproj::audio_tokens(int64_t n_samples) const {
    return audio_token_count(audio(), audio_width_, n_samples);
}

void Mmproj::encode_audio(const float* samples, int64_t n_samples, float* out, int64_t capacity) {
    check_capacity(audio_tokens(n_samples), capacity);
    const Turn turn(*this);
    if (!audio_tower_)
        audio_tower_ = std::make_unique<AudioTower>(file_, audio(), TowerDevice{backend_, *queue_});
    audio_tower_->encode(samples, n_samples, out);
}

}  // namespace pillion

#include "media/audio_tower.h"

#include <string.h>

#include <algorithm>

#include "core/parallel.h"
#include "media/audio_graph.h"
#include "media/log_mel.h"

namespace pillion {
namespace {

// The longest run of gemma4ua, whose tokens do not see each other.
constexpr int64_t kFramesAtOnce = 512;
// A plan's size: its scratch is that of the longest sound so far, in steps.
constexpr int64_t kTokensStep = 128;

}  // namespace

int64_t audio_token_count(const AudioParams& p, int n_projected, int64_t n_samples) {
    if (n_samples < 0) fail(Status::invalid_argument, "a sound of %ld samples", long(n_samples));
    if (p.kind == AudioKind::gemma4ua) return (n_samples + n_projected - 1) / n_projected;
    if (n_samples > kAudioSamplesMax)
        fail(Status::invalid_argument,
             "a sound of %ld samples: %s hears at most %d, which is 30 seconds: cut it into pieces",
             long(n_samples), name_of(p.kind), kAudioSamplesMax);
    return (log_mel_frames(n_samples) + 3) / 4;
}

AudioTower::AudioTower(const GgufFile& file, const AudioParams& params, const TowerDevice& device)
    : p_(params), device_(device) {
    TowerTensors tensors(file);
    list_audio(tensors, p_, weights_);
    buffer_ = tensors.import(device_);
}

// Rows of a run.
int64_t AudioTower::rows_of(int64_t n_tokens) const {
    return p_.kind == AudioKind::gemma4a ? 4 * n_tokens : n_tokens;
}

void AudioTower::compile(int64_t n_tokens) {
    if (n_tokens <= tokens_max_) return;
    n_tokens = (n_tokens + kTokensStep - 1) / kTokensStep * kTokensStep;
    const int64_t rows = rows_of(n_tokens),
                  width = p_.kind == AudioKind::gemma4a ? p_.n_mel : weights_.n_projected;
    plan_ = nullptr, tokens_max_ = 0;
    const auto allocate = [&](int64_t n, int64_t of) {
        return device_.backend.allocate(size_t(n * of) * 4, BufferKind::state)
            .value_or_throw("audio tower");
    };
    in_ = allocate(rows, width), out_ = allocate(n_tokens, p_.n_embd_out);
    Graph graph{int32_t(rows), int32_t(n_tokens)};
    const Value x =
        graph.input({DType::f32, Layout::rows, width, rows, 1, in_.get(), 0}, "audio frames");
    graph.output(build_audio(graph, p_, weights_, x),
                 {DType::f32, Layout::rows, p_.n_embd_out, n_tokens, 1, out_.get(), 0},
                 "audio rows");
    plan_ = device_.backend.compile(graph, device_.queue).value_or_throw("audio tower");
    tokens_max_ = n_tokens;
}

// What the run reads of its first n_rows rows.
void AudioTower::fill(const float* samples, int64_t n_samples, int64_t n_rows) {
    float* in = reinterpret_cast<float*>(in_->host());
    if (p_.kind == AudioKind::gemma4ua) {
        const size_t floats = size_t(n_rows * weights_.n_projected);
        memcpy(in, samples, size_t(n_samples) * 4);
        std::fill(in + n_samples, in + floats, 0.0f);
        return;
    }
    constexpr int64_t kFrames = 256;
    parallel_for(device_.queue.n_threads(), size_t((n_rows + kFrames - 1) / kFrames),
                 [&](size_t part) {
                     const int64_t begin = int64_t(part) * kFrames;
                     log_mel(samples, n_samples, begin, std::min(begin + kFrames, n_rows),
                             in + begin * kMelBands);
                 });
}

void AudioTower::encode(const float* samples, int64_t n_samples, float* out) {
    check_samples(samples, n_samples);
    int64_t left = audio_token_count(p_, weights_.n_projected, n_samples);
    if (left == 0)
        fail(Status::invalid_argument,
             "a sound of %ld samples is too short: %s needs %d, at 16 kHz", long(n_samples),
             name_of(p_.kind), p_.kind == AudioKind::gemma4a ? kMelHop + 1 : 1);
    const bool is_mel = p_.kind == AudioKind::gemma4a;
    while (left > 0) {
        const int64_t tokens = is_mel ? left : std::min(left, kFramesAtOnce),
                      part = is_mel ? n_samples
                                    : std::min<int64_t>(n_samples, tokens * weights_.n_projected),
                      rows = is_mel ? log_mel_frames(n_samples) : tokens;
        compile(tokens);
        fill(samples, part, rows);
        plan_->run(one_segment(0, int(rows), int(tokens))).value_or_throw();
        plan_->wait().value_or_throw();
        memcpy(out, out_->host(), size_t(tokens * p_.n_embd_out) * 4);
        samples += part, n_samples -= part;
        out += tokens * p_.n_embd_out, left -= tokens;
    }
}

}  // namespace pillion

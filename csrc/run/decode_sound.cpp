#include "run/decode_sound.h"

#include "run/resample.h"
#include "run/run_options.h"

#define MINIAUDIO_IMPLEMENTATION
#define MA_API static
#define MA_NO_DEVICE_IO
#define MA_NO_ENCODING
#define MA_NO_ENGINE
#define MA_NO_GENERATION
#define MA_NO_NODE_GRAPH
#define MA_NO_RESOURCE_MANAGER
#define MA_NO_THREADING
#include <miniaudio/miniaudio.h>

namespace pillion::run {
namespace {

constexpr int kRate = 16000, kMinutesMost = 30;

struct Decoder {
    ma_decoder it;
    bool is_open = false;
    ~Decoder() {
        if (is_open) ma_decoder_uninit(&it);
    }
};

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
    throw UsageError("the sound " + name + " can't be read: " + why);
}

}  // namespace

std::vector<float> decode_sound(const std::string& bytes, const std::string& name) {
    Decoder decoder;
    // Channels and rate 0: the file's own.
    const ma_decoder_config config = ma_decoder_config_init(ma_format_f32, 0, 0);
    if (ma_decoder_init_memory(bytes.data(), bytes.size(), &config, &decoder.it) != MA_SUCCESS)
        refuse(name, "it is no WAV, FLAC or MP3 file");
    decoder.is_open = true;
    const ma_uint32 channels = decoder.it.outputChannels, rate = decoder.it.outputSampleRate;
    if (channels < 1 || rate < 1000 || rate > 768000)
        refuse(name, std::to_string(channels) + " channels at " + std::to_string(rate) + " Hz");
    const size_t most = size_t(rate) * 60 * kMinutesMost;
    std::vector<float> mono, piece(size_t(channels) * 4096);
    for (;;) {
        ma_uint64 n = 0;
        const ma_result status = ma_decoder_read_pcm_frames(&decoder.it, piece.data(), 4096, &n);
        if (status != MA_SUCCESS && status != MA_AT_END)
            refuse(name, ma_result_description(status));
        for (size_t i = 0; i < n; i++) {
            float sum = 0.0f;
            for (size_t c = 0; c < channels; c++) sum += piece[i * channels + c];
            mono.push_back(sum / float(channels));
        }
        if (mono.size() > most)
            refuse(name, "it is longer than " + std::to_string(kMinutesMost) + " minutes");
        if (n == 0 || status == MA_AT_END) break;
    }
    if (mono.empty()) refuse(name, "it holds no samples");
    return resample(mono, int(rate), kRate);
}

}  // namespace pillion::run

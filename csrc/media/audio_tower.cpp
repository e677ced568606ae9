#include "media/audio_tower.h"

namespace pillion {

uint64_t check_audio_tensors(const GgufFile&, const AudioParams&) { return 0; }

int64_t audio_token_count(const AudioParams&, int64_t) {
    fail(Status::unsupported_op, "the audio tower has no graph yet");
}

AudioTower::AudioTower(const GgufFile&, const AudioParams&, const TowerDevice&) {
    fail(Status::unsupported_op, "the audio tower has no graph yet");
}
AudioTower::~AudioTower() = default;
void AudioTower::encode(const float*, int64_t, float*) {}

}  // namespace pillion

#include "media/vision_tower.h"

namespace pillion {

VisionTower::VisionTower(const GgufFile& file, const VisionParams& params,
                         const TowerDevice& device)
    : p_(params), device_(device) {
    TowerTensors tensors(file);
    list_vision(tensors, p_, weights_);
    buffer_ = tensors.import(device_);
    mappings_ = tensors.take_mappings();
}

VisionTower::~VisionTower() = default;

void VisionTower::encode(const uint8_t*, const ImageGrid&, float*) {
    fail(Status::unsupported_op, "the vision tower has no graph yet");
}

}  // namespace pillion

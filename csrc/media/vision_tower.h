// A vision tower on a device: its weights, and plans by the number of soft tokens.
#pragma once
#include <memory>
#include <vector>

#include "media/image_grid.h"
#include "media/vision_weights.h"

namespace pillion {

class VisionTower {
  public:
    // Imports the weights. The file must outlive the tower.
    VisionTower(const GgufFile& file, const VisionParams& params, const TowerDevice& device);
    ~VisionTower();

    // rgb: [grid.rows * unit, grid.cols * unit, 3], the resized picture. out: [grid.n(),
    // n_embd_out]. Throws cancelled where the queue's flag was set.
    void encode(const uint8_t* rgb, const ImageGrid& grid, float* out);
    size_t weight_bytes() const { return buffer_->size(); }

  private:
    VisionParams p_;
    TowerDevice device_;
    VisionWeights weights_;
    std::unique_ptr<Buffer> buffer_;
    std::vector<std::unique_ptr<Buffer>> mappings_;
};

}  // namespace pillion

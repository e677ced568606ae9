// A vision tower on a device: its weights, and plans by the number of soft tokens.
#pragma once
#include <memory>
#include <vector>

#include "media/image_grid.h"
#include "media/vision_graph.h"

namespace pillion {

class VisionTower {
  public:
    // Imports the weights. The file must outlive the tower.
    VisionTower(const GgufFile& file, const VisionParams& params, const TowerDevice& device);
    ~VisionTower();

    // Stretches the picture to the grid and encodes it. rgb: [height, width, 3]; out: [grid.n(),
    // n_embd_out]. Throws cancelled where the queue's flag was set.
    void encode(const uint8_t* rgb, int64_t height, int64_t width, const ImageGrid& grid,
                float* out);

  private:
    struct Machine;  // a plan for so many tokens, with its buffers
    void run(Machine& machine, const uint8_t* resized, const ImageGrid& grid, float* out) const;
    void check_grid(const ImageGrid& grid) const;

    VisionParams p_;
    TowerDevice device_;
    VisionWeights weights_;
    std::unique_ptr<Buffer> buffer_;
    std::vector<std::unique_ptr<Buffer>> mappings_;
    std::vector<std::unique_ptr<Machine>> machines_;  // those that are kept
};

}  // namespace pillion

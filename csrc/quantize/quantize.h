// GGUF to GGUF with other tensor types. The plan says what becomes of each tensor and why; running
// it streams slices of rows through all threads, then reads the result back.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gguf/gguf.h"

namespace pillion {

struct QuantizeOptions {
    std::string type;     // "F16", "Q4_0", "Q4_K_M" ...: quantize_types()
    std::string imatrix;  // llama.cpp's GGUF importance matrix; empty: none
    std::vector<std::pair<std::string, std::string>>
        overrides;      // name, or regular expression; tensor type; the last that fits wins
    bool pure = false;  // every matrix in the type itself, no mix
    bool allow_requantize = false;  // the source may be quantised already
    int n_threads = 0;              // 0: all cores
};

struct PlannedTensor {
    const GgufTensor* source;
    DType target;
    size_t bytes;        // of the result
    std::string reason;  // why this type, when it is not the one asked for
    double error = 0;  // after the run: root mean square error over root mean square of the values
};

class Quantization {
  public:
    // Reads headers only. Throws Error naming the tensor or the type that can't be.
    Quantization(const std::string& path, const QuantizeOptions& options);

    const std::vector<PlannedTensor>& tensors() const { return tensors_; }
    size_t bytes() const;  // of all tensors of the result
    // False from `progress(done, total)` cancels. The file appears under `out` when it was read
    // back and found right.
    void run(const std::string& out, const std::function<bool(uint64_t, uint64_t)>& progress);

  private:
    void plan();
    void choose(PlannedTensor& t, size_t nth_layer_of_its_kind, size_t n_layers) const;
    std::vector<PlannedTensor*> meant(const std::string& pattern);
    void override_types();
    void load_importance();
    const float* importance(const GgufTensor& t) const;  // [matrices, inputs] or null
    uint64_t encode(PlannedTensor& t, class GgufWriter& writer,
                    const std::function<void(size_t)>& done) const;
    void verify(const std::string& path, const std::vector<uint64_t>& sums) const;

    GgufFile file_;
    QuantizeOptions options_;
    std::vector<PlannedTensor> tensors_;
    std::vector<std::pair<std::string_view, std::vector<float>>>
        importance_;  // by tensor name, [matrices, inputs]
};

// Names for people: "F32, F16, …".
std::string quantize_types();

}  // namespace pillion

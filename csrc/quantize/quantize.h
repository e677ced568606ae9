// Converts a GGUF file to one with other tensor types. The plan states the type of each tensor and
// the reason. A run streams slices of rows through all threads, then reads the result back.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gguf/gguf.h"

namespace pillion {

struct QuantizeOptions {
    std::string type;     // "F16", "Q4_0", "Q4_K_M" ...: one of quantize_types()
    std::string imatrix;  // llama.cpp's GGUF importance matrix; empty: no matrix
    // pairs of a tensor's name or a regular expression, and a tensor type; the last match wins
    std::vector<std::pair<std::string, std::string>> overrides;
    bool pure = false;              // every matrix gets the type itself, without a mix
    bool allow_requantize = false;  // accepts a source that is already quantized
    int n_threads = 0;              // 0: all cores
};

struct PlannedTensor {
    const GgufTensor* source;
    DType target;
    size_t bytes;  // of the result
    // why the tensor has another type than the one asked for
    std::string reason;
    // after the run: root mean square of the error over that of the values
    double error = 0;
};

class Quantization {
  public:
    // Reads only headers. Throws Error that names the impossible tensor or type.
    Quantization(const std::string& path, const QuantizeOptions& options);

    const std::vector<PlannedTensor>& tensors() const { return tensors_; }
    size_t bytes() const;  // of all tensors of the result
    // progress(done, total): in bytes of the source; false cancels. The file appears under `out`
    // only after it was read back and found correct.
    void run(const std::string& out, const std::function<bool(uint64_t, uint64_t)>& progress);

  private:
    void plan();
    // Why a tensor keeps its type (in an mmproj file: is F32); null if it does not.
    const char* stays_because(const GgufTensor& t) const;
    void choose(PlannedTensor& t, size_t nth_layer_of_its_kind, size_t n_layers) const;
    std::vector<PlannedTensor*> meant(const std::string& pattern);
    void override_types();
    void load_importance();
    // [matrices, inputs], or null
    const float* importance(const GgufTensor& t) const;
    uint64_t encode(PlannedTensor& t, class GgufWriter& writer,
                    const std::function<void(size_t)>& done) const;
    void verify(const std::string& path, const std::vector<uint64_t>& sums) const;

    GgufFile file_;
    QuantizeOptions options_;
    bool has_towers_ = false;  // an mmproj file
    std::vector<PlannedTensor> tensors_;
    // by tensor name: [matrices, inputs]
    std::vector<std::pair<std::string_view, std::vector<float>>> importance_;
};

// The names for messages: "F32, F16, …".
std::string quantize_types();

}  // namespace pillion

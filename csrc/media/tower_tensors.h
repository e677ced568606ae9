// The tensors of one tower. A tower lists them once, in a function over this class, which runs
// twice: at open, where each is looked at, and at the tower's first use, where they are imported.
//
//     void list_audio(TowerTensors& file, const AudioParams& p, AudioWeights& w) {
//         file.vector(w.norm, "a.norm.weight", {p.n_embd});
//         file.linear(w.layers[0].up, "a.blk.0.ffn_up", {p.n_embd, p.n_ff});
//         ...
//     }
//     AudioWeights unused; TowerTensors at_open(gguf); list_audio(at_open, p, unused);
//     TowerTensors to_import(gguf); list_audio(to_import, p, weights);
//     std::unique_ptr<Buffer> buffer = to_import.import(device);
//
// Each listing throws Error: file_corrupt for a tensor that is missing or has another shape,
// unsupported_model for a type that is no weight format.
#pragma once
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "gguf/gguf.h"

namespace pillion {

// Where a tower runs. Both outlive the tower.
struct TowerDevice {
    Backend& backend;
    Queue& queue;
};

// A matrix, and the bounds of its input and of its output. Bounds that the file lacks are infinite.
struct ClippedMatrix {
    Tensor weight;
    LinearParams bounds;
};

class TowerTensors {
  public:
    using Shape = std::initializer_list<int64_t>;  // as in the file: the first one is contiguous
    // What an import makes of a vector's values; the number of values may change.
    using Change = std::function<std::vector<float>(std::vector<float>)>;

    explicit TowerTensors(const GgufFile& file);

    // The tensor by its shape; null: the file has none. For what is optional.
    const GgufTensor* find(const std::string& name) const { return file_.find_tensor(name); }

    // `to` gets its place in import() and must stay where it is until then. name: with ".weight".
    // A matrix [product of the other dimensions, last dimension]. row_order: row r is that row of
    // the file.
    void matrix(Tensor& to, const std::string& name, Shape shape,
                std::vector<int32_t> row_order = {});
    // The same with its four scalars. name: without ".weight".
    void linear(ClippedMatrix& to, const std::string& name, Shape shape,
                std::vector<int32_t> row_order = {});
    // All values as one row of f32.
    void vector(Tensor& to, const std::string& name, Shape shape, Change change = {});
    // Rows of the first dimension that stay in the file's mapping, for embed.
    void table(Tensor& to, const std::string& name, Shape shape);
    // One number. Without a tensor: `fallback`.
    float scalar(const std::string& name, float fallback);

    size_t n_listed() const { return items_.size(); }
    uint64_t file_bytes() const { return file_bytes_; }  // of what was listed
    // Fills in all places. The buffer owns what was imported; tables lie in the mapping.
    std::unique_ptr<Buffer> import(const TowerDevice& device);
    // The file as a buffer, once a table was imported: keep it with the other one.
    std::vector<std::unique_ptr<Buffer>> take_mappings() { return std::move(mappings_); }

  private:
    struct Item {
        const GgufTensor* tensor;
        WeightSource source;
        Tensor* to;
        std::vector<int32_t> row_order;
        Change change;
        std::vector<float> values;  // what a change made
        size_t bytes = 0, offset = 0;
    };

    const GgufTensor& checked(const std::string& name, Shape shape);
    Item& add(Tensor& to, const std::string& name, Shape shape, WeightSource::Use use);
    void prepare(Item& item);
    template <class T>
    T take(Result<T> result) const;

    const GgufFile& file_;
    std::deque<Item> items_;  // stay put: sources point into them
    std::deque<std::string> names_;
    std::vector<std::unique_ptr<Buffer>> mappings_;  // by part of the file
    uint64_t file_bytes_ = 0;
};

}  // namespace pillion

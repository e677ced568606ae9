// A file, its numbers and its weights on one backend or two. Shared by contexts. Immutable after
// open, but for its table of media.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "core/backend.h"
#include "gguf/gguf.h"
#include "model/hparams.h"
#include "model/kv_places.h"
#include "model/media_table.h"
#include "model/tensor_check.h"
#include "model/weights.h"

namespace pillion {

class Model;

struct ModelOptions {
    bool use_mmap = true;
    bool metadata_only = false;
    int n_threads = 0;
    std::string device = "auto";
    int n_gpu_layers = -1;  // on the device, from the last one down: as of place_layers()
    std::function<int(const Model&)> count_fitting;  // layers that fit the device; null: all do
    LoadProgress progress;
};

// What a context lends to the graph: caches, where tokens come from and where results go.
struct GraphInputs {
    int32_t rows_max, out_rows_max;
    KvPlaces kv;
    Tensor tokens;             // i32 [rows_max]; -1 - i: row i of `media`
    Tensor media;              // f32 [rows_max, n_embd], rows in place of embeddings; may be absent
    Tensor until;              // i32 [rows_max], see Graph::attend; may be absent
    Tensor hidden;             // f32 [out_rows_max, n_embd], after the final norm
    Tensor logits;             // f32 [out_rows_max, n_vocab], after soft-capping
    Tensor argmax_tokens;      // i32 [out_rows_max], most likely token
    bool hidden_only = false;  // no head: logits and argmax_tokens are not made
};

class Model {
  public:
    static std::shared_ptr<Model> open(const std::string& path, const ModelOptions& options);

    // The same model with places for its weights and nothing in them: for sizes and plans, not for
    // runs. Throws what a load would say of its tensors.
    std::shared_ptr<Model> without_content(const Placement& placement) const;

    const GgufFile& file() const { return *file_; }
    const HParams& hparams() const { return hp_; }
    const Weights& weights() const { return weights_; }
    const Placement& placement() const;                     // throws when opened for metadata only
    Backend& backend() const { return *placement().back; }  // of the last layers and the head
    bool metadata_only() const { return placement_.back == nullptr; }
    bool is_drafter() const { return !hp_.drafts_for.empty(); }
    uint64_t n_params() const;
    uint64_t weight_bytes() const {
        return weights_.bytes(Part::front) + weights_.bytes(Part::back);
    }
    uint64_t mapped_bytes() const {
        return weights_.mapped_bytes;
    }  // of weights that are read where they lie in the file
    const std::vector<std::string>& warnings() const { return warnings_; }
    MediaTable& media() const { return *media_; }  // images and sounds of its contexts' texts

    Graph build_graph(const GraphInputs& inputs) const;
    std::string to_json() const;

  private:
    Model(std::shared_ptr<const GgufFile> file, HParams hp)
        : file_(std::move(file)), hp_(std::move(hp)),
          media_(std::make_unique<MediaTable>(hp_.n_embd)) {}
    std::shared_ptr<const GgufFile> file_;
    HParams hp_;
    Placement placement_;
    Weights weights_;
    std::vector<std::string> warnings_;
    TensorReport tensors_;
    std::unique_ptr<MediaTable> media_;
};

// What a draft plan borrows: the target's embedding and caches, and where its inputs and results
// lie.
struct DraftInputs {
    int32_t n_steps;        // drafts of one run, one after the other on the device
    int32_t rows = 1;       // sequences that a run may draft for; each row is one
    Tensor embedding;       // the target's token_embd, as this device reads it
    KvStore sliding, full;  // the target's last own caches of each kind, or copies of them
    Tensor token;           // i32 [rows]: stands at the position of its segment
    Tensor hidden;  // f32 [rows, target's n_embd], after the final norm, of the position before
    Tensor tokens;  // i32 [n_steps, rows]
    Tensor probabilities;  // f32 [n_steps, rows]: of each token, over what the head scored
    Tensor logits;         // f32 [scored_steps, rows, scores_width]
    Tensor ids;            // i32 [scored_steps, rows, scores_width], centroid head only
    Tensor hiddens;        // f32 [n_steps, rows, target's n_embd]: handed to the next step
    bool keeps_scores;     // scored_steps is n_steps; else 1: each step overwrites the last
    bool dense_head;       // score the whole vocabulary, in the order of the table
};
int64_t draft_scores_width(const HParams& assistant, bool dense_head);
// n_steps times for each row: a Gemma 4 assistant on its target (gemma4_assistant.cpp).
Graph build_draft_graph(const Model& assistant, const DraftInputs& inputs);

}  // namespace pillion

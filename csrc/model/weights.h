// The tensors of a model, imported once into the backend's layout. Names are those of the file
// without prefix and suffix; an absent one is a Tensor without buffer.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "gguf/gguf.h"
#include "model/hparams.h"
#include "model/placement.h"
#include "model/tensor_check.h"

namespace pillion {

struct LayerWeights {
    Tensor attn_norm, post_attention_norm, ffn_norm, post_ffw_norm;  // [n_embd]
    Tensor attn_q, attn_k, attn_v, attn_output;                      // [out, in]
    Tensor attn_q_norm, attn_k_norm;                                 // [head_dim]
    Tensor ffn_gate, ffn_up, ffn_down;
    float output_scale = 1.0f;  // layer_output_scale

    Tensor inp_gate, proj, post_norm;  // per-layer embedding branch

    Tensor ffn_gate_inp, ffn_gate_inp_scale;  // router [experts, n_embd], [n_embd]
    Tensor ffn_gate_up_exps, ffn_gate_exps, ffn_up_exps, ffn_down_exps;  // [experts, out, in]
    Tensor ffn_down_exps_scale;                                          // [experts]
    Tensor pre_ffw_norm_2, post_ffw_norm_1, post_ffw_norm_2;
};

struct Weights {
    Tensor token_embd;  // [n_vocab, n_embd]
    Tensor output;      // the head; token_embd itself when tied, but where the two lie on different
                        // devices
    Tensor output_norm;
    Tensor rope_freqs;            // [rope_dims / 2] divisors, full layers
    Tensor per_layer_token_embd;  // [n_vocab, n_layers * ple_width], stays in the file
    Tensor per_layer_model_proj, per_layer_proj_norm;
    std::vector<LayerWeights> layers;

    // Assistant: in and out of the target's width, and the centroid head. With it the rows of
    // token_embd lie in cluster order.
    Tensor pre_projection, post_projection;
    Tensor centroids;    // [n_centroids, n_embd]
    Tensor token_order;  // i32 [n_vocab]: token of each row of token_embd

    // What matmuls multiply with, under the names of the file. Of a fused tensor its first part:
    // all parts have the same input.
    struct Matrix {
        std::string name;
        Tensor tensor;
    };
    std::vector<Matrix> matrices;

    // By Part, without a split all of the back. They own what was imported.
    std::unique_ptr<Buffer> buffers[2];
    std::vector<std::unique_ptr<Buffer>> mapped[2];  // the model's files, for what stays there
    size_t mapped_bytes = 0;                         // of it
    size_t bytes(int part) const { return buffers[part] ? buffers[part]->size() : 0; }
};

// Return false to cancel.
using LoadProgress = std::function<bool(uint64_t done, uint64_t total)>;

// report: check_tensors of the same file and hp. Tensors that no rule asked for are not loaded.
Weights load_weights(const GgufFile& file, const HParams& hp, const TensorReport& report,
                     const Placement& placement, int n_threads, const LoadProgress& progress);
// The same places without content: enough to compile plans and to know all sizes, nothing to run
// on. Takes address space, no memory, where the backend gives out pages on first touch.
Weights place_weights(const GgufFile& file, const HParams& hp, const TensorReport& report,
                      const Placement& placement);

// A tensor of the file as rows on any backend, beside the model: for a drafter that looks up in it
// elsewhere. Nothing is copied where the backend reads the file in place.
struct SharedTable {
    Tensor tensor;
    std::unique_ptr<Buffer> mapped, buffer;
};
SharedTable share_table(const GgufFile& file, const char* name, Backend& backend);

}  // namespace pillion

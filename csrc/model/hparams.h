// The numbers of a model, read from GGUF metadata and checked: whoever holds an HParams need not
// doubt its ranges, divisibility or KV sharing. What pillion can't compute is refused here, by
// name. Shapes of tensors are tensor_check.h's business.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "core/op.h"
#include "gguf/gguf.h"

namespace pillion {

struct Architecture;

// Where the centroid head's two tables lie (centroid_head.h). none: the drafter's dense head.
enum class CentroidHead { none, tensors, keys };

constexpr int kMaxLayers = 1024;
constexpr int kMaxHeadDim = 1024;

struct LayerParams {
    bool sliding = false;
    int n_heads = 0, n_kv_heads = 0;
    int head_dim = 0;
    int ff = 0;           // width of the dense feed-forward
    bool owns_kv = true;  // writes a cache of its own
    int kv_source =
        -1;  // layer whose cache it reads: itself, an earlier one, or -1 (assistant: the target's)
    bool v_from_k = false;  // no V projection: V is the K projection's output
    bool moe = false;       // routed experts beside the dense part
};

struct HParams {
    const Architecture* arch = nullptr;  // set by read_hparams
    std::string name;                    // general.name, may be empty
    int n_layers = 0, n_embd = 0, n_vocab = 0;
    int n_ctx_train = 0;
    int window =
        0;  // rows a sliding layer sees, itself included; 0: the model has no sliding layers
    float rms_eps = 0;
    float softcap = 0;  // of the final logits; 0: none
    // Full layers use the plain numbers, sliding layers those with _swa. A scale divides the
    // position.
    float rope_base = 0, rope_base_swa = 0;
    float rope_scale = 1, rope_scale_swa = 1;
    int rope_dims = 0, rope_dims_swa = 0;
    bool rope_interleaved = false;  // pairs (2i, 2i+1) in place of (i, i + dims/2)
    float attention_scale = 1;
    bool norm_v = false;       // V gets a norm without weight
    float embed_scale = 1;     // assistant: of the target's embedding row it is fed
    int ple_width = 0;         // per-layer embeddings; 0: none
    bool takes_media = false;  // its texts may have rows of images and sounds (media_table.h)
    // Rows of an image see one another in sliding layers; the rows of the rest see what is before.
    bool image_bidirectional = false;
    int n_experts = 0, n_experts_used = 0, expert_ff = 0;
    Activation activation = Activation::gelu_tanh;
    std::vector<LayerParams> layers;
    std::vector<std::string> unread_keys;  // keys of the architecture that nothing here asked for

    // Assistant only.
    std::string drafts_for;  // architecture of its targets; empty: no assistant
    int n_embd_out = 0;      // the target's n_embd
    CentroidHead centroid_head = CentroidHead::none;
    int n_centroids = 0, centroid_top_k = 0;  // 0 with the dense head
    std::string centroid_head_problem;  // a sentence when the file has pieces of a centroid head
                                        // that can't be used

    bool any_sliding() const { return count_layers(true) > 0; }
    bool any_full() const { return count_layers(false) > 0; }
    int count_layers(bool sliding) const;
    int last_kv_layer() const;      // the last one that owns a cache; -1: none does
    const char* arch_name() const;  // as GGUF spells it: "gemma4-assistant"
};

// Throws Error with the file's path, the key, its value and the limit.
HParams read_hparams(const GgufFile& file);

}  // namespace pillion

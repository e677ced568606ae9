// What a model is, as JSON for people and tools.
#include "core/json.h"
#include "gguf/gguf_json.h"
#include "model/model.h"

namespace pillion {
namespace {

const char* attention_kind(bool sliding) { return sliding ? "sliding" : "full"; }

Json layers_json(const HParams& hp) {
    JsonArray list;
    for (const LayerParams& l : hp.layers)
        list.add(JsonObject()
                     .add("kind", attention_kind(l.sliding))
                     .add("heads", l.n_heads)
                     .add("kv_heads", l.n_kv_heads)
                     .add("head_dim", l.head_dim)
                     .add("ff", l.ff)
                     .add("kv_source", l.kv_source)
                     .add("moe", l.moe));
    return list;
}

// The caches that a drafter reads. The layers of one kind read one cache: the first of them speaks
// for it.
Json reads_json(const HParams& hp) {
    JsonObject reads;
    for (const bool sliding : {true, false}) {
        for (const LayerParams& l : hp.layers) {
            if (l.sliding != sliding) continue;
            reads.add(attention_kind(sliding),
                      JsonObject().add("kv_heads", l.n_kv_heads).add("head_dim", l.head_dim));
            break;
        }
    }
    return reads;
}

// What its target must have, and its head.
Json drafter_json(const HParams& hp) {
    static const Json kForms[] = {nullptr, "tensors", "keys"};
    const bool is_dense = hp.centroid_head == CentroidHead::none;
    return JsonObject()
        .add("target_n_embd", hp.n_embd_out)
        .add("head", is_dense ? "dense" : "centroid")
        .add("head_problem",
             hp.centroid_head_problem.empty() ? Json(nullptr) : Json(hp.centroid_head_problem))
        .add("n_centroids", hp.n_centroids)
        .add("centroid_top_k", hp.centroid_top_k)
        .add("centroid_form", kForms[int(hp.centroid_head)])
        .add("reads", reads_json(hp));
}

}  // namespace

std::string Model::to_json() const {
    JsonObject out;
    out.add("path", file().path())
        .add("arch", hp_.arch_name())
        .add("name", hp_.name)
        .add("gguf_version", file().version())
        .add("n_params", n_params())
        .add("file_bytes", file().file_bytes())
        .add("weight_bytes", weight_bytes())
        .add("mapped_bytes", mapped_bytes())
        .add("n_layers", hp_.n_layers)
        .add("n_embd", hp_.n_embd)
        .add("n_vocab", hp_.n_vocab)
        .add("n_ctx_train", hp_.n_ctx_train)
        .add("window", hp_.window)
        .add("softcap", double(hp_.softcap))
        .add("per_layer_width", hp_.ple_width)
        .add("n_experts", hp_.n_experts)
        .add("n_experts_used", hp_.n_experts_used);
    if (is_drafter()) out.add("drafter", drafter_json(hp_));
    return out.add("parts", parts_json(file()))
        .add("tensor_types", tensor_types_json(file()))
        .add("layers", layers_json(hp_))
        .add("warnings", json_array(warnings_))
        .add("problems", json_array(tensors_.problems))
        .add("unknown_tensors", json_array(tensors_.unknown))
        .add("ignored_tensors", json_array(tensors_.ignored))
        .add("unread_keys", json_array(hp_.unread_keys))
        .add("metadata", metadata_json(file()))
        .text();
}

}  // namespace pillion

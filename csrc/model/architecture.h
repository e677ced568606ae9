// An architecture is a file: gemma4.cpp, gemma4_assistant.cpp, gemma3.cpp, llama.cpp. Each defines
// one Architecture: how its metadata becomes HParams, which tensors it has and where they load to,
// and its forward pass. architectures.cpp lists them. Code outside these files asks HParams for a
// property (norm_v, drafts_for), never for the architecture.
#pragma once
#include <string_view>

#include "core/graph.h"
#include "gguf/gguf.h"
#include "model/tensor_rules.h"

namespace pillion {

class HParamsReader;
class Model;
struct GraphInputs;

struct Architecture {
    const char* name;           // general.architecture, and the prefix of its keys
    List<const char*> aliases;  // other spellings of the name, also as a prefix

    // Fills HParams; calls the reader's shared parts in the order of the checks. What ties the
    // layers together is checked afterwards, for all architectures.
    void (*read)(HParamsReader& reader);

    // Tensors before the layers, of each layer ("blk.N." in front of the name), behind the layers.
    // On a split model the first lie on the placement's front and the last on its back.
    List<ModelRule> front;
    List<LayerRule> layer;
    List<ModelRule> back;

    // Adds the forward pass of `inputs` to the graph.
    void (*build)(Graph& graph, const Model& model, const GraphInputs& inputs);

    // What to tell the owner of a file whose unknown architecture looks like this one under another
    // name; null: nothing. Optional.
    const char* (*advice)(std::string_view unknown_name) = nullptr;
};

// By the file's general.architecture. Throws Error{unsupported_model} with the name and the names
// that are known.
const Architecture& find_architecture(const GgufFile& file);

}  // namespace pillion

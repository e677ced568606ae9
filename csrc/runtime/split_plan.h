// A plan over several devices. Each part of a graph (core/graph_split.h) is compiled by its own
// backend; the parts run one after another.
#pragma once
#include <memory>
#include <vector>

#include "core/backend.h"

namespace pillion {

struct PartPlace {
    Backend* backend = nullptr;
    Queue* queue = nullptr;
};

// places[part]. Throws Error if a part does not compile, or if two parts lie on devices without
// common memory.
std::unique_ptr<Plan> compile_parts(const Graph& graph, const std::vector<PartPlace>& places,
                                    const CompileOptions& options);

}  // namespace pillion

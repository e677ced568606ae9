// A plan over several devices: the parts of a graph (core/graph_split.h), each compiled by its own
// backend, run one after another.
#pragma once
#include <memory>
#include <vector>

#include "core/backend.h"

namespace pillion {

struct PartPlace {
    Backend* backend = nullptr;
    Queue* queue = nullptr;
};

// places[part]. Throws Error, among others where two parts lie on devices that see no memory in
// common.
std::unique_ptr<Plan> compile_parts(const Graph& graph, const std::vector<PartPlace>& places,
                                    const CompileOptions& options);

}  // namespace pillion

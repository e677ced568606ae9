// A graph whose nodes belong to several parts, each on a device of its own, cut into a graph per
// part. Parts run in the order of their numbers; what one makes and a later one reads crosses in a
// buffer that both see. The values keep their numbers in every part.
#pragma once
#include <vector>

#include "core/graph.h"

namespace pillion {

int count_parts(const Graph& graph);  // highest part of a node, plus 1

// Values that one part makes and another reads; f32 all.
std::vector<Value> crossing_values(const Graph& graph);

// The nodes of one part. `places` gives each crossing value its buffer, in the order of
// crossing_values: the maker's part ends with copies into them, a reader's begins with copies out
// of them, so that nothing else reads across a bus.
Graph take_part(const Graph& graph, int part, const std::vector<Value>& crossing,
                const std::vector<Tensor>& places);

}  // namespace pillion

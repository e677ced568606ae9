// Cuts a graph whose nodes belong to several parts, each on its own device, into one graph per
// part. The parts run in the order of their numbers. A value that one part makes and a later part
// reads goes through a buffer that both devices see. Values keep their numbers in every part.
#pragma once
#include <vector>

#include "core/graph.h"

namespace pillion {

int count_parts(const Graph& graph);  // highest part of a node, plus 1

// Values that one part makes and another reads. All are f32.
std::vector<Value> crossing_values(const Graph& graph);

// The nodes of one part. `places` gives the buffer of each crossing value, in the order of
// crossing_values. The maker's part ends with copies into these buffers, and a reader's part begins
// with copies out of them, so that no other op reads across a bus.
Graph take_part(const Graph& graph, int part, const std::vector<Value>& crossing,
                const std::vector<Tensor>& places);

}  // namespace pillion

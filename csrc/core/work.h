// What a run asks of the machine, counted from its graph: the limits that a measured time is held
// against.
#pragma once
#include "core/graph.h"

namespace pillion {

struct Work {
    double multiply_adds = 0;  // of matrix products
    double weight_bytes = 0;   // of the matrices that are read, once each
    double kv_bytes = 0;       // cached rows that attention reads
};

// `rows` rows at positions pos .. pos + rows - 1, the last out_rows of them with output. Routed
// experts: as many different ones as are expected when each row takes its own at random.
Work work_of(const Graph& graph, int rows, int out_rows, int pos);

}  // namespace pillion

// Counts, from a graph, what a run asks of the machine. A measured time is compared with the limits
// that follow from it.
#pragma once
#include "core/graph.h"

namespace pillion {

struct Work {
    double multiply_adds = 0;  // in matrix products
    double weight_bytes = 0;   // of the matrices that the run reads, each counted once
    double kv_bytes = 0;       // of the cached rows that attention reads
};

// Counts a run of `rows` rows at positions pos .. pos + rows - 1, the last out_rows of them with
// output. Of routed experts it counts as many as are expected if each row chooses at random.
Work work_of(const Graph& graph, int rows, int out_rows, int pos);

}  // namespace pillion

// What a node of a graph is: an op of contract/ops.def, value ids, and a fixed block of parameters.
// Plain data, compared and copied freely.
#pragma once
#include <stdint.h>

#include "core/contract/op_params.h"
#include "core/contract/ops.h"

namespace pillion {

enum class Op : uint8_t {
#define PILLION_OP(name, inputs, outputs, params, scratch) name,
#include "core/contract/ops.def"
#undef PILLION_OP
    count
};

const OpInfo& info(Op op);

using Value = int32_t;  // index into Graph::values
constexpr Value kNone = -1;

// How many rows a value has in a run; the counts are read from the StepState.
enum class Rows : uint8_t {
#define PILLION_ROW_COUNT(name) name,
    PILLION_ROWS(PILLION_ROW_COUNT)
#undef PILLION_ROW_COUNT
};

struct Node {
    Op op = Op::count;
    Rows rows = Rows::run;  // over which rows it works
    int16_t layer = -1;     // for reports; -1: outside the layers
    uint8_t part = 0;       // which device of a model that lies on several (core/graph_split.h)
    Value in[OP_INPUTS_MAX] = {kNone, kNone, kNone, kNone, kNone, kNone};
    Value out[OP_OUTPUTS_MAX] = {kNone, kNone};
    Params params = {};
};

// A glu that only the encoders of sound use.
inline bool is_of_encoders(const Node& glu) {
    const GluParams& p = glu.params.glu;
    return p.activation == Activation::sigmoid || (p.groups == 0 && glu.in[1] == kNone);
}

}  // namespace pillion

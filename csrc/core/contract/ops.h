// The ops of ops.def as numbers and as a table, in plain C: read by the core, the backends, the DSP
// and the tests. C has Op_matmul for what is Op::matmul in C++ (core/op.h).
#pragma once
#include <stdint.h>

enum {
#define PILLION_OP(name, inputs, outputs, params, scratch) Op_##name,
#include "core/contract/ops.def"
#undef PILLION_OP
    Op_count
};

// What an operand is. "A row" is f32 [width] unless another type is named.
#define PILLION_OPERAND_KINDS(X)                               \
    X(none)                                                    \
    X(row)       /* a row for each row of the op */            \
    X(run_row)   /* a row for each row of the run */           \
    X(any_row)   /* either */                                  \
    X(token)     /* i32, width 1, for each row of the op */    \
    X(ids)       /* i32, a row for each row of the op */       \
    X(score_ids) /* i32, the same or one row for all */        \
    X(vector)    /* one row for all */                         \
    X(order)     /* i32, one row for all */                    \
    X(table)     /* rows in any weight format, or packed */    \
    X(matrix)    /* a weight that is multiplied, one matrix */ \
    X(stack)     /* the same, one matrix for each expert */    \
    X(cache)     /* keys and values of a layer */

enum OperandKind {
#define PILLION_KIND(name) Operand_##name,
    PILLION_OPERAND_KINDS(PILLION_KIND)
#undef PILLION_KIND
};

// Over which rows of a run an op works, and an operand has content. Rows::run in C++.
#define PILLION_ROWS(X)                  \
    X(fixed) /* none: weights, tables */ \
    X(run)   /* StepState.rows */        \
    X(out)   /* StepState.out_rows, the last of the run */

enum {
#define PILLION_ROW_COUNT(name) Rows_##name,
    PILLION_ROWS(PILLION_ROW_COUNT)
#undef PILLION_ROW_COUNT
};

enum { OP_INPUTS_MAX = 6, OP_OUTPUTS_MAX = 2 };

#ifdef __cplusplus
namespace pillion {
#endif

typedef struct OperandInfo {
    const char* name;     // of the builder function's argument; null: no such operand
    uint8_t kind;         // enum OperandKind
    uint8_t is_optional;  // may be absent
    uint8_t in_place;     // of an input: the op writes it too
} OperandInfo;

typedef struct OpInfo {
    const char* name;
    OperandInfo in[OP_INPUTS_MAX], out[OP_OUTPUTS_MAX];
    const char* params;    // struct of op_params.h; null: none
    uint8_t uses_scratch;  // a backend may need memory beside the operands
} OpInfo;

// Of a number that is no op's: "unknown", without operands.
static inline const OpInfo* op_info(uint32_t op) {
#define IN(name, kind) {#name, Operand_##kind, 0, 0},
#define OPT(name, kind) {#name, Operand_##kind, 1, 0},
#define INOUT(name, kind) {#name, Operand_##kind, 0, 1},
#define INOUT_OPT(name, kind) {#name, Operand_##kind, 1, 1},
#define OUT(name, kind) {#name, Operand_##kind, 0, 0},
#define OUT_OPT(name, kind) {#name, Operand_##kind, 1, 0},
#define PARAMS(type, field) #type
#define PARAMS_NONE 0
#define SCRATCH 1
#define NO_SCRATCH 0
#define PILLION_OP(name, inputs, outputs, params, scratch) \
    {#name, {inputs}, {outputs}, params, scratch},
    static const OpInfo table[Op_count + 1] = {
#include "core/contract/ops.def"
        {"unknown", {{0, 0, 0, 0}}, {{0, 0, 0, 0}}, 0, 0}};
#undef PILLION_OP
#undef NO_SCRATCH
#undef SCRATCH
#undef PARAMS_NONE
#undef PARAMS
#undef OUT_OPT
#undef OUT
#undef INOUT_OPT
#undef INOUT
#undef OPT
#undef IN
    return &table[op < (uint32_t)Op_count ? op : (uint32_t)Op_count];
}

#ifdef __cplusplus
}  // namespace pillion
#endif

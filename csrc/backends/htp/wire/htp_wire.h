// What host and DSP say to each other. Plain C11, little endian, fixed sizes, included by both
// sides and by tests.
//
// Memory: the host registers *buffers* (HTP_MSG_MAP); everything else names bytes as (buffer index,
// offset). On a phone a buffer is rpcmem known by its fd, in the simulator a file the child maps.
// Behind the last byte a tensor may use, a buffer has HTP_SLACK more bytes: vector loads at a row's
// end may read over it (never write).
//
// Work: a *plan* is an `htp_plan` and its array of `htp_op` records, written once in a buffer.
// HTP_MSG_PREPARE lets the DSP check every record against the wire version, the sizes and the
// buffers and keep a copy; what is refused names op, operand, value and limit. After that
// HTP_MSG_RUN is one short message: plan number and where its PillionStepState
// (core/contract/step_state.h) lies. Rows and segments are read from there, and pages from the
// tables that the plan names, so a prepared plan serves any rows of any sequences up to its
// maximum. The DSP checks both before the first op.
//
// Order: messages are answered in the order they were sent, by one thread. The host may send
// several before it reads an answer.
#ifndef PILLION_HTP_WIRE_H
#define PILLION_HTP_WIRE_H

#include <stdint.h>

#include "core/contract/formats.h"
#include "core/contract/op_params.h"
#include "core/contract/ops.h"

#ifdef __cplusplus
using pillion::AttendParams;
using pillion::MoeParams;
using pillion::Params;
#define HTP_ASSERT(cond, text) static_assert(cond, text)
#else
#define HTP_ASSERT(cond, text) _Static_assert(cond, text)
#endif

enum {
    HTP_WIRE_VERSION = 3,
    HTP_PLAN_MAGIC = 0x4C505448,  // "HTPL"

    HTP_VECTOR =
        128,          // bytes of an HVX vector; packed weights and caches start on a multiple of it
    HTP_SLACK = 128,  // bytes of a buffer behind the last tensor
    HTP_PANEL = 32,   // output rows side by side: the 32-bit lanes of a vector
    HTP_MICROKERNEL_ROWS = 9,  // rows the register kernels take at once: a token and eight drafts
    HTP_BUFFERS_MAX = 64,
    HTP_PLANS_MAX = 64,
    HTP_OPS_MAX = 16384,  // of one plan
    HTP_THREADS_MAX = 16,
    HTP_ROWS_MAX = 4096,       // rows of one run
    HTP_MATMUL_ROWS_MAX = 72,  // rows that one reading of the weights serves: 8 register tiles
    HTP_EXPERTS_USED_MAX = 64,

    HTP_IN = OP_INPUTS_MAX,
    HTP_OUT = OP_OUTPUTS_MAX
};

// ---- answers ----

enum htp_status {
    HTP_OK = 0,
    HTP_REFUSED = -1,    // malformed message or plan; `why` tells, nothing ran
    HTP_FAILED = -2,     // an op gave up; outputs of the run are undefined
    HTP_CANCELLED = -3,  // the cancel word was set
    HTP_INJECTED = -4    // a test asked for this failure
};

enum htp_why {
    HTP_WHY_NONE = 0,
    HTP_WHY_VERSION,  // value: the message's or plan's version, limit: ours
    HTP_WHY_MESSAGE,  // unknown kind
    HTP_WHY_BUFFER,   // no such buffer
    HTP_WHY_MAP,      // the buffer could not be mapped; value: errno
    HTP_WHY_PLAN,     // no such plan, or no room for another
    HTP_WHY_OP,       // unknown op code
    HTP_WHY_OPERAND,  // an operand is missing, or there is one too many
    HTP_WHY_DTYPE,    // the op does not take this number format there
    HTP_WHY_LAYOUT,
    HTP_WHY_SHAPE,   // widths, rows or depths that do not fit together, or beyond what the DSP has
    HTP_WHY_BOUNDS,  // the tensor does not lie inside its buffer; value: end in bytes, limit:
                     // usable bytes of the buffer
    HTP_WHY_ALIGNMENT,  // value: the offset or stride, limit: what it must be a multiple of
    HTP_WHY_PARAMS,     // a parameter out of range; operand: its index in 32-bit words
    HTP_WHY_TILING,     // scratch or VTCM too small; value: bytes given, limit: bytes needed
    HTP_WHY_STATE,      // the StepState's rows, out_rows or positions do not fit the plan
    HTP_WHY_TOKEN,      // a token id outside the table; value: the id, limit: rows of the table
    HTP_WHY_MEMORY,     // out of memory on the DSP
    HTP_WHY_SEGMENT,    // the segments do not cover the rows of the run in order
    HTP_WHY_TABLE,      // a segment's row of the page table; value: the row, limit: rows there are
    HTP_WHY_PAGE,       // an entry of a page table; value: the page, limit: pages of the cache
    HTP_WHY_COUNT
};

// A half sentence for people, without value and limit. Never null.
static inline const char* htp_why_text(int32_t why) {
    switch (why) {
        case HTP_WHY_NONE: return "no reason given";
        case HTP_WHY_VERSION: return "wire version differs";
        case HTP_WHY_MESSAGE: return "unknown message";
        case HTP_WHY_BUFFER: return "no such buffer";
        case HTP_WHY_MAP: return "the buffer could not be mapped";
        case HTP_WHY_PLAN: return "no such plan, or no room for one more";
        case HTP_WHY_OP: return "unknown op";
        case HTP_WHY_OPERAND: return "an operand is missing or surplus";
        case HTP_WHY_DTYPE: return "number format not supported here";
        case HTP_WHY_LAYOUT: return "memory layout not supported here";
        case HTP_WHY_SHAPE: return "shapes do not fit together";
        case HTP_WHY_BOUNDS: return "operand reaches past its buffer";
        case HTP_WHY_ALIGNMENT: return "offset or stride is not aligned";
        case HTP_WHY_PARAMS: return "parameter out of range";
        case HTP_WHY_TILING: return "scratch or VTCM of the op is too small";
        case HTP_WHY_STATE: return "rows or position of the run do not fit the plan";
        case HTP_WHY_TOKEN: return "token id outside the table";
        case HTP_WHY_MEMORY: return "out of memory on the DSP";
        case HTP_WHY_SEGMENT: return "the segments of the run do not cover its rows";
        case HTP_WHY_TABLE: return "sequence outside the page table";
        case HTP_WHY_PAGE: return "page outside the cache";
        default: return "unknown reason";
    }
}

// ---- operands ----

enum htp_layout {
    HTP_ABSENT = 0,  // the operand is not there; all other fields are zero
    HTP_ROWS = 1,  // row after row, `stride` bytes apart: activations (f32), tokens (i32), vectors,
                   // tables in the file's format
    HTP_PACKED = 2,  // lane-packed matrix (htp_pack.h); `stride` is the bytes of one panel of 32
                     // rows; depth matrices follow each other
    HTP_KV = 3       // a page of a layer's cache: width = head_dim, rows = slots, depth = KV heads,
                     // dtype F16 or Q8_0; layout of core/contract/kv_lanes.h. More pages: htp_pages
};

// [depth, rows, width]. Activations: rows = how many the memory holds; how many count in a run
// follows from `counts`. Rows of f32 or i32 need 4-byte alignment; multiples of 128 bytes for
// offset and stride are the fast case.
struct htp_tensor {
    uint16_t buffer;
    uint8_t dtype;    // DType_f32 ...
    uint8_t layout;   // htp_layout
    uint32_t offset;  // bytes
    uint32_t stride;  // bytes from row to row (from panel to panel)
    uint32_t width, rows, depth;
    uint32_t counts;    // Rows_fixed, Rows_run or Rows_out
    uint32_t reserved;  // zero
};
HTP_ASSERT(sizeof(struct htp_tensor) == 32, "wire: tensor");

// ---- ops ----

// An op's code is its number in core/contract/ops.def, its parameters are the node's 64 bytes
// (core/contract/op_params.h), and its operands are the node's in the same places. Where an operand
// differs from the graph's:
//   embed           table: ROWS in any weight format, or PACKED
//   matmul, centroid_head, moe_matmul   weights PACKED, depth = experts
//   rope_table      in[0]: always there, f32 frequencies [dims / 2] made by the host:
//                   f32(base^(-2i/dims) * position_scale / factor_i), 0 where factor_i >= 1e29.
//                   base and scale are not read.

// What the host decided about an op's memory and threads. Sizes by htp_scratch_bytes and
// htp_fetch_bytes of htp_sizes.h.
struct htp_tiling {
    uint32_t threads;       // parts the op is cut into, 1 .. HTP_THREADS_MAX; more than there are
                            // workers is fine
    uint32_t rows_at_once;  // matmul: rows for which the weights are read once, 1 ..
                            // HTP_MATMUL_ROWS_MAX; other ops: 0
    // Ordinary shared memory for quantized activations, lists and partial sums: the scalar unit
    // reads them, VTCM is not for that. The op's alone while it runs: it overlaps none of its
    // operands.
    uint16_t scratch_buffer, reserved0;
    uint32_t scratch_offset;  // multiple of 128
    uint32_t scratch_bytes;
    // Weights come through VTCM in chunks of fetch_groups groups (htp_pack.h), two chunks per
    // thread: part t has [vtcm_offset + 2 * t * fetch_bytes, ... + 2 * fetch_bytes). fetch_groups
    // 0: weights are read where they lie.
    uint32_t fetch_groups;
    uint32_t fetch_bytes;  // of one chunk, a multiple of 128
    uint32_t vtcm_offset;  // multiple of 128
};
HTP_ASSERT(sizeof(struct htp_tiling) == 32, "wire: tiling");

// The pages of the cache in[0] of kv_store and attend: page n lies n times the bytes of a page
// behind the first. Position p of the sequence with table row t lies in page table[t][p / slots %
// entries], slot p % slots. entries 0: the cache is one page, of one sequence, and all fields are
// zero.
struct htp_pages {
    uint16_t buffer, reserved;  // of the table: i32 [sequences][stride]
    uint32_t offset;            // of its first entry, bytes; a multiple of 4
    uint32_t stride;            // entries from one sequence to the next
    uint32_t entries;           // of a sequence that this cache looks at
    uint32_t sequences, n_pages;
};
HTP_ASSERT(sizeof(struct htp_pages) == 24, "wire: pages");

struct htp_op {
    uint16_t code;       // Op_embed ...
    uint8_t rows;        // Rows_run or Rows_out
    uint8_t n_operands;  // reserved, zero
    int32_t layer;       // for reports; -1: outside the layers
    struct htp_pages pages;
    Params params;
    struct htp_tiling tiling;
    struct htp_tensor in[HTP_IN];
    struct htp_tensor out[HTP_OUT];
};
HTP_ASSERT(sizeof(struct htp_op) == 384, "wire: op");

struct htp_plan {  // at a multiple of 128; the ops follow
    uint32_t magic, version;
    uint32_t op_bytes;  // sizeof(struct htp_op)
    uint32_t n_ops;
    uint32_t rows_max, out_rows_max;
    uint32_t reserved[26];
};
HTP_ASSERT(sizeof(struct htp_plan) == 128, "wire: plan");

// ---- messages ----

enum htp_message_kind {
    HTP_MSG_NONE = 0,     // answers at once: measures the round trip
    HTP_MSG_MAP = 1,      // buffer index -> memory
    HTP_MSG_UNMAP = 2,    // no plan that names it may run again
    HTP_MSG_PREPARE = 3,  // check and copy a plan under a number
    HTP_MSG_RUN = 4,
    HTP_MSG_RELEASE = 5,  // forget a plan
    HTP_MSG_INFO = 6,     // architecture, threads, VTCM
    HTP_MSG_STOP = 7      // the last message
};

enum { HTP_NOWHERE = 0xFFFF };  // buffer index of an address that is not given

struct htp_address {
    uint16_t buffer, reserved;
    uint32_t offset;
};

struct htp_map {      // MAP and UNMAP
    uint32_t buffer;  // 0 .. HTP_BUFFERS_MAX - 1
    int32_t fd;       // the host process's file descriptor of it (rpcmem's on a phone)
    uint32_t bytes;   // HTP_SLACK included
    uint32_t reserved;
    uint64_t file_offset;  // simulator: multiple of 64 KB
};
struct htp_prepare {  // PREPARE and RELEASE
    uint32_t plan;  // number chosen by the host, 0 .. HTP_PLANS_MAX - 1; an old plan of that number
                    // is replaced
    struct htp_address at;  // the htp_plan
};
struct htp_run {
    uint32_t plan;
    struct htp_address state;    // a PillionStepState; its status becomes the answer's
    struct htp_address cancel;   // u32, not zero: stop before the next op. buffer HTP_NOWHERE: none
    struct htp_address profile;  // u32 [n_ops]: microseconds of each op. buffer HTP_NOWHERE: none
};
struct htp_info {      // the answer to INFO
    uint32_t arch;     // 67 (emulator), 68 .. 81
    uint32_t threads;  // worker threads, the caller included
    uint32_t vtcm_bytes;
    uint32_t lanes;  // 1: float vectors are exact IEEE (emulation), 0: qf32
};

struct htp_answer {
    int32_t status;   // htp_status
    int32_t why;      // htp_why
    int32_t op;       // index of the op in the plan, -1: none in particular
    int32_t operand;  // 0..5 inputs, 6..7 outputs, params: word; -1: none in particular
    uint32_t value, limit;
    uint32_t usecs;  // spent on this message
    uint32_t reserved;
};
HTP_ASSERT(sizeof(struct htp_answer) == 32, "wire: answer");

struct htp_message {
    uint16_t version;   // HTP_WIRE_VERSION
    uint16_t kind;      // htp_message_kind
    uint32_t sequence;  // the host's; comes back untouched
    union {
        struct htp_map map;
        struct htp_prepare prepare;
        struct htp_run run;
        struct htp_info info;
        uint32_t words[14];
    } u;
    struct htp_answer answer;  // written by the DSP
    uint32_t reserved[8];
};
HTP_ASSERT(sizeof(struct htp_message) == 128, "wire: message");

#endif

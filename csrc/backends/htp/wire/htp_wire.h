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
// HTP_MSG_RUN is one short message: plan number and where its PillionStepState (core/step_state.h)
// lies. pos, rows and out_rows are read from there, so a prepared plan serves any number of rows up
// to its maximum.
//
// Order: messages are answered in the order they were sent, by one thread. The host may send
// several before it reads an answer.
#ifndef PILLION_HTP_WIRE_H
#define PILLION_HTP_WIRE_H

#include <stdint.h>

#ifdef __cplusplus
#define HTP_ASSERT(cond, text) static_assert(cond, text)
#else
#define HTP_ASSERT(cond, text) _Static_assert(cond, text)
#endif

enum {
    HTP_WIRE_VERSION = 1,
    HTP_PLAN_MAGIC = 0x4C505448,  // "HTPL"

    HTP_VECTOR =
        128,          // bytes of an HVX vector; packed weights and caches start on a multiple of it
    HTP_SLACK = 128,  // bytes of a buffer behind the last tensor
    HTP_PANEL = 32,   // output rows side by side: the 32-bit lanes of a vector
    HTP_FEW = 9,      // rows the register kernels take at once: a token and eight drafts
    HTP_BUFFERS_MAX = 64,
    HTP_PLANS_MAX = 64,
    HTP_OPS_MAX = 16384,  // of one plan
    HTP_THREADS_MAX = 16,
    HTP_ROWS_MAX = 4096,       // rows of one run
    HTP_MATMUL_ROWS_MAX = 72,  // rows that one reading of the weights serves: 8 register tiles
    HTP_EXPERTS_USED_MAX = 64,

    HTP_IN = 6,  // operands of an op, as in core/op.h
    HTP_OUT = 2
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
    HTP_WHY_STATE,      // the StepState's rows, out_rows or pos do not fit the plan
    HTP_WHY_TOKEN,      // a token id outside the table; value: the id, limit: rows of the table
    HTP_WHY_MEMORY,     // out of memory on the DSP
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
        default: return "unknown reason";
    }
}

// ---- operands ----

enum htp_dtype {  // GGUF's type ids, as core/dtype.h
    HTP_F32 = 0,
    HTP_F16 = 1,
    HTP_Q4_0 = 2,
    HTP_Q4_1 = 3,
    HTP_Q5_0 = 6,
    HTP_Q5_1 = 7,
    HTP_Q8_0 = 8,
    HTP_Q2_K = 10,
    HTP_Q3_K = 11,
    HTP_Q4_K = 12,
    HTP_Q5_K = 13,
    HTP_Q6_K = 14,
    HTP_IQ4_NL = 20,
    HTP_IQ4_XS = 23,
    HTP_I32 = 26,
    HTP_BF16 = 30,
    HTP_TQ2_0 = 35,
    HTP_MXFP4_X = 200,
    HTP_NVFP4_X = 201,
    HTP_IQ3_XXS_X = 202,
    HTP_IQ3_S_X = 203,
    HTP_IQ2_X = 204,
    HTP_IQ1_X = 205
};

enum htp_layout {
    HTP_ABSENT = 0,  // the operand is not there; all other fields are zero
    HTP_ROWS = 1,  // row after row, `stride` bytes apart: activations (f32), tokens (i32), vectors,
                   // tables in the file's format
    HTP_PACKED = 2,  // lane-packed matrix (htp_pack.h); `stride` is the bytes of one panel of 32
                     // rows; depth matrices follow each other
    HTP_KV = 3  // a layer's cache: width = head_dim, rows = capacity, depth = KV heads, dtype F16
                // or Q8_0; layout of htp_kv.h
};

enum htp_rows {     // over which rows of a run an op works, and an operand has content
    HTP_FIXED = 0,  // none: weights, tables
    HTP_RUN = 1,    // StepState.rows
    HTP_OUTS = 2    // StepState.out_rows, the last of the run
};

// [depth, rows, width]. Activations: rows = how many the memory holds; how many count in a run
// follows from `counts`. Rows of f32 or i32 need 4-byte alignment; multiples of 128 bytes for
// offset and stride are the fast case.
struct htp_tensor {
    uint16_t buffer;
    uint8_t dtype;    // htp_dtype
    uint8_t layout;   // htp_layout
    uint32_t offset;  // bytes
    uint32_t stride;  // bytes from row to row (from panel to panel)
    uint32_t width, rows, depth;
    uint32_t counts;    // htp_rows
    uint32_t reserved;  // zero
};
HTP_ASSERT(sizeof(struct htp_tensor) == 32, "wire: tensor");

// ---- ops ----

// The order of core/ops.def; operands are the node's in the same places. Where an operand differs
// from the graph's it is said here.
enum htp_op_code {
    HTP_OP_EMBED = 0,  // table: ROWS in any weight format, or PACKED; tokens i32
    HTP_OP_PER_LAYER_EMBED,
    HTP_OP_ROPE_TABLE,  // in[0]: always there, f32 frequencies [dims / 2] made by the host:
                        //   f32(base^(-2i/dims) * position_scale / factor_i), 0 where
                        //   factor_i >= 1e29. base and scale are not read.
    HTP_OP_SCALE,
    HTP_OP_ADD,
    HTP_OP_NORM,
    HTP_OP_NORM_ADD,
    HTP_OP_MATMUL,  // weight PACKED
    HTP_OP_QKV_NORM_ROPE,
    HTP_OP_KV_STORE,
    HTP_OP_ATTEND,
    HTP_OP_GLU,
    HTP_OP_MOE_ROUTE,
    HTP_OP_MOE_MATMUL,  // weights PACKED, depth = experts
    HTP_OP_MOE_SUM,
    HTP_OP_GATHER_ROWS,
    HTP_OP_SOFTCAP,
    HTP_OP_ARGMAX,
    HTP_OP_CONCAT,
    HTP_OP_CENTROID_HEAD,  // table PACKED
    HTP_OP_COUNT
};

// Bit for bit the structs of core/op.h: the host copies the node's 64 bytes.
enum htp_activation { HTP_GELU_TANH = 0, HTP_SILU = 1 };
struct htp_embed_params { float scale; };
struct htp_per_layer_embed_params {
    int32_t width, n_layers;
    float proj_scale, table_scale, out_scale, eps;
};
struct htp_rope_table_params {
    int32_t dims;
    float base, position_scale;
};
struct htp_scale_params { float scale; };
struct htp_norm_params { float eps, scale; };
struct htp_qkv_params {
    int32_t n_heads, n_kv_heads, head_dim, rope_dims;
    float eps;
    uint8_t interleaved, norm_v, v_from_k;
};
struct htp_attend_params {
    int32_t n_heads, n_kv_heads, head_dim, window;
    float scale, softcap;
    int32_t past_only;
};
struct htp_glu_params { int32_t activation, up_offset, groups; };
struct htp_moe_params { int32_t n_experts, n_used, per_row; };
struct htp_softcap_params { float cap; };
struct htp_centroid_params { int32_t n_centroids, n_active; };

union htp_params {
    struct htp_embed_params embed;
    struct htp_per_layer_embed_params per_layer_embed;
    struct htp_rope_table_params rope_table;
    struct htp_scale_params scale;
    struct htp_norm_params norm;
    struct htp_qkv_params qkv;
    struct htp_attend_params attend;
    struct htp_glu_params glu;
    struct htp_moe_params moe;
    struct htp_softcap_params softcap;
    struct htp_centroid_params centroid;
    uint32_t words[16];
};
HTP_ASSERT(sizeof(union htp_params) == 64, "wire: params");

// What the host decided about an op's memory and threads. Sizes by htp_scratch_bytes and
// htp_fetch_bytes of htp_sizes.h.
struct htp_tiling {
    uint32_t threads;       // parts the op is cut into, 1 .. HTP_THREADS_MAX; more than there are
                            // workers is fine
    uint32_t rows_at_once;  // matmul: rows for which the weights are read once, 1 ..
                            // HTP_MATMUL_ROWS_MAX; other ops: 0
    // Ordinary shared memory for quantised activations, lists and partial sums: the scalar unit
    // reads them, VTCM is not for that. The op's alone while it runs: it overlaps none of its
    // operands.
    uint16_t scratch_buffer, reserved0;
    uint32_t scratch_offset;  // multiple of 128
    uint32_t scratch_bytes;
    // Weights come through VTCM in pieces of fetch_groups groups (htp_pack.h), two pieces per
    // thread: part t has [vtcm_offset + 2 * t * fetch_bytes, ... + 2 * fetch_bytes). fetch_groups
    // 0: weights are read where they lie.
    uint32_t fetch_groups;
    uint32_t fetch_bytes;  // of one piece, a multiple of 128
    uint32_t vtcm_offset;  // multiple of 128
};
HTP_ASSERT(sizeof(struct htp_tiling) == 32, "wire: tiling");

struct htp_op {
    uint16_t code;       // htp_op_code
    uint8_t rows;        // htp_rows: HTP_RUN or HTP_OUTS
    uint8_t n_operands;  // reserved, zero
    int32_t layer;       // for reports; -1: outside the layers
    uint32_t reserved[6];
    union htp_params params;
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

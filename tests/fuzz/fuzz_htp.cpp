// Fuzzes what the DSP believes of its host: messages, plans, runs. The program is the platform
// under session.c; a buffer is a heap block of just its size, so that the sanitizers see every
// access beside it. A plan is refused with a reason, or runs within its buffers and its VTCM.
//
// Most plans begin as valid ones (operands that fit each other, scratch as the wire header says)
// and are then spoiled in a few fields: random records would never get past the first check.
#include <errno.h>
#include <stddef.h>

#include "fuzz_input.h"
extern "C" {
#include "backends/htp/dsp/session.h"
#include "backends/htp/dsp/vtcm.h"
#include "backends/htp/dsp/workers.h"
}

using fuzz::broken;
using fuzz::Input;

namespace {

constexpr uint32_t kBufferBytes = 96 << 10, kVtcmBytes = 64 << 10, kPlanAt = 0, kStateAt = 8 << 10,
                   kFirstOperand = 12 << 10;
dsp_session* g_session;
// Of the last plan with pages: where its table lies, and what a right one has.
struct Table { uint32_t at, entries, pages, sequences; } g_table;

}  // namespace

extern "C" {

uint8_t* platform_map(const htp_map* m) {
    void* base = nullptr;
    if (m->bytes > kBufferBytes || posix_memalign(&base, 128, m->bytes) != 0) {
        errno = ENOMEM;
        return nullptr;
    }
    memset(base, 0, m->bytes);
    return static_cast<uint8_t*>(base);
}
void platform_unmap(uint8_t* base, uint32_t, int) { free(base); }
uint32_t platform_usecs(void) { return 0; }
int32_t platform_before_op(uint32_t) { return HTP_OK; }
void platform_run_begins(void) {}
void platform_flush(const uint8_t* at, uint64_t bytes) {
    for (const dsp_buffer& b : g_session->buffer)
        if (b.base && at >= b.base && at + bytes <= b.base + b.bytes - HTP_SLACK) return;
    if (bytes > 0) broken("a range to flush that lies in no buffer");
}

}  // extern "C"

namespace {

htp_answer send(uint16_t kind, const htp_message& filled) {
    htp_message m = filled;
    m.version = HTP_WIRE_VERSION, m.kind = kind;
    session_answer(g_session, &m);
    const htp_answer& a = m.answer;
    if (a.status == HTP_OK ? a.why != HTP_WHY_NONE
                           : a.why <= HTP_WHY_NONE || a.why >= HTP_WHY_COUNT)
        if (a.status != HTP_CANCELLED) broken("a status without a reason, or the reverse");
    return a;
}

// Operands behind one another in buffer 1.
class PlanMaker {
  public:
    explicit PlanMaker(Input& in, uint32_t rows_max, uint32_t outs_max)
        : in_(in), rows_max_(rows_max), outs_max_(outs_max) {}

    htp_op op();

  private:
    // In place of its one page, up to three of them, and a table.
    void fill_pages(htp_op& op);
    uint32_t place(uint64_t bytes, uint32_t align = 128) {
        const uint64_t at = (at_ + align - 1) / align * align;
        at_ = at + bytes;
        return uint32_t(at);
    }
    htp_tensor rows(uint32_t width, uint32_t counts, uint32_t dtype = DType_f32) {
        const uint32_t n = counts == Rows_fixed ? 1
                           : counts == Rows_run ? rows_max_
                           : outs_max_          ? outs_max_
                                                : 1;
        const uint32_t stride = in_.chance(128) ? width * 4 : (width * 4 + 127) / 128 * 128;
        return {1, uint8_t(dtype), HTP_ROWS, place(uint64_t(n) * stride), stride, width, n,
                1, counts,         0};
    }
    htp_tensor vector(uint32_t width, uint32_t dtype = DType_f32) {
        return rows(width, Rows_fixed, dtype);
    }
    htp_tensor packed(uint32_t dtype, uint32_t width, uint32_t n, uint32_t depth = 1) {
        const uint64_t panel = htp_panel_bytes(dtype, width);
        return {1,
                uint8_t(dtype),
                HTP_PACKED,
                place(panel * htp_panels(n) * depth),
                uint32_t(panel),
                width,
                n,
                depth,
                Rows_fixed,
                0};
    }
    htp_tensor file_rows(uint32_t dtype, uint32_t width, uint32_t n) {
        const uint32_t stride = width / htp_block_inputs(dtype) * htp_block_bytes(dtype);
        return {1, uint8_t(dtype), HTP_ROWS, place(uint64_t(n) * stride), stride, width, n,
                1, Rows_fixed,     0};
    }
    htp_tensor cache(uint32_t dtype, uint32_t dim, uint32_t capacity, uint32_t heads) {
        return {1,          uint8_t(dtype),
                HTP_KV,     place(htp_kv_bytes(dtype, dim, capacity, heads)),
                0,          dim,
                capacity,   heads,
                Rows_fixed, 0};
    }
    uint32_t width_of(uint32_t dtype) {
        return htp_block_inputs(dtype) * (1 + in_.byte() % (htp_block_inputs(dtype) == 1 ? 70 : 3));
    }
    uint32_t weight_type() {
        static constexpr uint32_t kTypes[] = {
            DType_f32,       DType_f16,     DType_bf16,   DType_q4_0,  DType_q4_1,    DType_q5_0,
            DType_q5_1,      DType_q8_0,    DType_q2_k,   DType_q3_k,  DType_q4_k,    DType_q5_k,
            DType_q6_k,      DType_iq4_nl,  DType_iq4_xs, DType_tq2_0, DType_mxfp4_x, DType_nvfp4_x,
            DType_iq3_xxs_x, DType_iq3_s_x, DType_iq2_x,  DType_iq1_x};
        return in_.pick(kTypes);
    }
    htp_tensor table(uint32_t dtype, uint32_t width, uint32_t n) {
        return in_.chance(128) ? file_rows(dtype, width, n) : packed(dtype, width, n);
    }
    void fill(htp_op& op);
    void fill_moe(htp_op& op);

    Input& in_;
    uint32_t rows_max_, outs_max_;
    uint64_t at_ = kFirstOperand;
};

void PlanMaker::fill_moe(htp_op& op) {
    const uint32_t r = op.rows, experts = 1 + in_.byte() % 9, used = 1 + in_.byte() % experts,
                   n = 1 + in_.byte() % 70;
    op.params.moe = {int32_t(experts), int32_t(used), 1};
    if (op.code == Op_moe_route) {
        op.in[0] = rows(experts, r);
        if (in_.chance(128)) op.in[1] = vector(experts);
        op.out[0] = rows(used, r, DType_i32), op.out[1] = rows(used, r);
    } else if (op.code == Op_moe_sum) {
        op.in[0] = rows(n * used, r), op.in[1] = rows(used, r), op.out[0] = rows(n, r);
    } else {
        const uint32_t type = weight_type(), w = width_of(type),
                       per_row = in_.chance(128) ? used : 1;
        op.params.moe.per_row = int32_t(per_row);
        op.in[0] = packed(type, w, n, experts), op.in[1] = rows(w * per_row, r),
        op.in[2] = rows(used, r, DType_i32), op.out[0] = rows(n * used, r);
    }
}

void PlanMaker::fill(htp_op& op) {
    const uint32_t r = op.rows, n = 1 + in_.byte() % 100, type = weight_type(), w = width_of(type);
    const uint32_t heads = 1 + in_.byte() % 3, group = 1 + in_.byte() % 3,
                   dim = 2 * (1 + in_.byte() % 40);
    htp_tensor *x = op.in, *y = op.out;
    switch (op.code) {
        case Op_embed:
            x[0] = table(type, w, n), x[1] = rows(1, r, DType_i32), y[0] = rows(w, r),
            op.params.embed.scale = 2;
            break;
        case Op_per_layer_embed: {
            const uint32_t layers = w % 3 == 0 ? 3 : w % 2 == 0 ? 2 : 1;
            op.params.per_layer_embed = {int32_t(w / layers), int32_t(layers), 1, 1, 1, 1e-6f};
            x[0] = table(type, w, n), x[1] = rows(1, r, DType_i32), x[2] = rows(w, r),
            x[3] = vector(w / layers), y[0] = rows(w, r);
            break;
        }
        case Op_rope_table:
            x[0] = vector(dim / 2), y[0] = rows(dim, r),
            op.params.rope_table = {int32_t(dim), 1e4f, 1};
            break;
        case Op_scale:
        case Op_gather_rows:
            x[0] = rows(n, op.code == Op_scale ? r : uint32_t(Rows_run)), y[0] = rows(n, r);
            op.params.scale.scale = 3;
            break;
        case Op_add: x[0] = rows(n, r), x[1] = rows(n, r), y[0] = rows(n, r); break;
        case Op_norm:
            x[0] = rows(n, r), x[1] = vector(n), y[0] = rows(n, r), op.params.norm = {1e-6f, 1};
            break;
        case Op_norm_add:
            x[0] = rows(n, r), x[1] = vector(n), x[2] = rows(n, r), y[0] = rows(n, r),
            op.params.norm = {1e-6f, 1};
            break;
        case Op_matmul: x[0] = packed(type, w, n), x[1] = rows(w, r), y[0] = rows(n, r); break;
        case Op_qkv_norm_rope: {
            const uint32_t turned = 2 * (in_.byte() % (dim / 2 + 1));
            op.params.qkv = {int32_t(heads * group),
                             int32_t(heads),
                             int32_t(dim),
                             int32_t(turned),
                             1e-6f,
                             uint8_t(in_.byte() & 1),
                             uint8_t(in_.byte() & 1),
                             uint8_t(in_.byte() & 1)};
            x[0] = rows(heads * group * dim, r), x[1] = rows(heads * dim, r),
            x[2] = rows(heads * dim, r), x[3] = vector(dim), x[4] = vector(dim);
            x[5] = rows(dim, in_.chance(128) ? uint32_t(Rows_run) : r);
            break;
        }
        case Op_kv_store:
            x[0] = cache(in_.chance(128) ? DType_f16 : DType_q8_0, dim / 2, 256, heads),
            x[1] = rows(heads * (dim / 2), r), x[2] = rows(heads * (dim / 2), r);
            break;
        case Op_attend:
            op.params.attend = {
                int32_t(heads * group), int32_t(heads), int32_t(dim / 2),
                int32_t(in_.byte()),    0.1f,           in_.chance(128) ? 0.0f : 30.0f,
                in_.byte() & 1};
            x[0] = cache(in_.chance(128) ? DType_f16 : DType_q8_0, dim / 2, 256, heads),
            x[1] = rows(heads * group * (dim / 2), r), y[0] = rows(heads * group * (dim / 2), r);
            break;
        case Op_glu:
            op.params.glu = {pillion::Activation(in_.byte() & 1), 0, in_.chance(128) ? 1 : 0};
            if (op.params.glu.groups) x[0] = rows(2 * n, r);
            else x[0] = rows(n, r), x[1] = rows(n, r);
            y[0] = rows(n, r);
            break;
        case Op_softcap: x[0] = rows(n, r), op.params.softcap.cap = 30; break;
        case Op_argmax:
            x[0] = rows(n, r), y[0] = rows(1, r, DType_i32);
            if (in_.chance(128))
                x[1] = rows(n, in_.chance(128) ? uint32_t(Rows_fixed) : r, DType_i32);
            if (in_.chance(128)) y[1] = rows(1, r);
            break;
        case Op_concat: x[0] = rows(n, r), x[1] = rows(dim, r), y[0] = rows(n + dim, r); break;
        case Op_centroid_head: {
            const uint32_t centroids = 1 + in_.byte() % 9, active = 1 + in_.byte() % centroids,
                           size = 1 + in_.byte() % 40;
            op.params.centroid_head = {int32_t(centroids), int32_t(active)};
            x[0] = rows(centroids, r), x[1] = rows(w, r), x[2] = packed(type, w, centroids * size),
            x[3] = vector(centroids * size, DType_i32);
            y[0] = rows(active * size, r), y[1] = rows(active * size, r, DType_i32);
            break;
        }
        default: fill_moe(op);
    }
}

void PlanMaker::fill_pages(htp_op& op) {
    const uint32_t pages = 1 + in_.byte() % 3, entries = 1 + in_.byte() % 4,
                   sequences = 1 + in_.byte() % 3, stride = entries + in_.byte() % 2;
    op.in[0].offset = place(htp_page_bytes(&op) * pages, 64);
    op.pages = {1, 0, 0, stride, entries, sequences, pages};
    op.pages.offset = place(htp_table_bytes(&op.pages), 4);
    g_table = {op.pages.offset, sequences * stride, pages, sequences};
}

htp_op PlanMaker::op() {
    htp_op op;
    memset(&op, 0, sizeof op);
    op.code = uint16_t(in_.byte() % Op_count), op.layer = -1;
    op.rows = op.code == Op_rope_table                      ? Rows_run
              : op.code == Op_gather_rows || in_.chance(64) ? Rows_out
                                                            : Rows_run;
    fill(op);
    if (op.in[0].layout == HTP_KV && in_.chance(160)) fill_pages(op);
    op.tiling.threads = 1 + in_.byte() % 4;
    if (op.code == Op_matmul) op.tiling.rows_at_once = 1 + in_.byte() % 12;
    const uint64_t scratch = htp_scratch_bytes(&op, rows_max_);
    if (scratch > 0)
        op.tiling.scratch_buffer = 1, op.tiling.scratch_bytes = uint32_t(scratch),
        op.tiling.scratch_offset = place(scratch);
    if ((op.code == Op_matmul || op.code == Op_moe_matmul) && in_.chance(128)) {
        op.tiling.fetch_groups = 1 + in_.byte() % 3;
        op.tiling.fetch_bytes = uint32_t(htp_fetch_bytes(op.in[0].dtype, op.tiling.fetch_groups));
        op.tiling.vtcm_offset = 128 * (in_.byte() % 4);
    }
    return op;
}

// One to three fields of a record, by words, halves or bytes: near their value, or far away.
void spoil(void* record, size_t bytes, Input& in) {
    auto* p = static_cast<uint8_t*>(record);
    for (int n = 1 + in.byte() % 3; n > 0; n--) {
        const size_t size = size_t(1) << in.byte() % 3, at = in.below(bytes / size) * size;
        uint64_t old = 0;
        memcpy(&old, p + at, size);
        const uint8_t how = in.byte();
        const uint64_t now = how < 80    ? old + 1
                             : how < 120 ? old - 1
                             : how < 150 ? old * 2
                             : how < 180 ? old / 2
                                         : uint64_t(in.number());
        memcpy(p + at, &now, size);
    }
}

void fill_buffer(uint8_t* p, uint32_t n, uint8_t how, uint64_t seed) {
    for (uint32_t i = 0; i + 4 <= n; i += 4) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t word = uint32_t(seed >> 32);
        if (how % 4 == 1) word %= 10;                                 // ids and tokens that exist
        if (how % 4 == 2) word = 0x3F000000u | (word & 0x80FFFFFFu);  // floats about one
        if (how % 4 == 3 && word % 5 == 0) word = word & 1 ? 0x7FC00000u : 0xFF800000u;
        memcpy(p + i, &word, 4);
    }
}

void prepare(Input& in, uint32_t number) {
    uint8_t* heap = g_session->buffer[1].base;
    if (!heap || g_session->buffer[1].bytes < kFirstOperand) return;
    htp_plan head;
    memset(&head, 0, sizeof head);
    const uint32_t rows_max = 1 + in.byte() % 12;
    head = {HTP_PLAN_MAGIC,
            HTP_WIRE_VERSION,
            sizeof(htp_op),
            uint32_t(1 + in.byte() % 2),
            rows_max,
            1 + in.byte() % rows_max,
            {}};
    PlanMaker make(in, head.rows_max, head.out_rows_max);
    for (uint32_t i = 0; i < head.n_ops; i++) {
        htp_op op = make.op();
        if (in.chance(150)) spoil(&op, sizeof op, in);
        memcpy(heap + kPlanAt + sizeof head + i * sizeof op, &op, sizeof op);
    }
    if (in.chance(30)) spoil(&head, sizeof head, in);
    memcpy(heap + kPlanAt, &head, sizeof head);
    htp_message m = {};
    m.u.prepare = {number, {1, 0, kPlanAt}};
    if (in.chance(10)) spoil(&m.u, sizeof m.u, in);
    send(HTP_MSG_PREPARE, m);
}

// Segments that cover the rows, of sequences that the table may have.
PillionStepState make_state(Input& in) {
    PillionStepState state = {};
    state.rows = 1 + in.byte() % 12, state.out_rows = in.byte() % 4;
    for (int32_t row = 0; row < state.rows;) {
        PillionSegment& s = state.segments[state.n_segments++];
        s.row = row, s.n_rows = 1 + in.byte() % (state.rows - row);
        s.pos = in.chance(200) ? in.byte() * 3 : int32_t(in.number());
        s.table = in.byte() % int32_t(g_table.sequences + (in.chance(20) ? 2 : 0));
        row += s.n_rows;
    }
    const size_t used =
        offsetof(PillionStepState, segments) + sizeof(PillionSegment) * size_t(state.n_segments);
    if (in.chance(60)) spoil(&state, in.chance(80) ? sizeof state : used, in);
    return state;
}

// Pages of the cache, but for some.
void fill_table(Input& in, uint8_t* heap, uint32_t heap_bytes) {
    for (uint32_t i = 0; i < g_table.entries; i++) {
        const int32_t page =
            in.chance(250) ? in.byte() % int32_t(g_table.pages) : int32_t(in.number());
        if (g_table.at + 4 * (i + 1) <= heap_bytes - HTP_SLACK)
            memcpy(heap + g_table.at + 4 * i, &page, 4);
    }
}

void run(Input& in, uint32_t number) {
    uint8_t* heap = g_session->buffer[1].base;
    const uint32_t bytes = g_session->buffer[1].bytes;
    if (!heap || bytes < kFirstOperand) return;
    const PillionStepState state = make_state(in);
    memcpy(heap + kStateAt, &state, sizeof state);
    fill_buffer(heap + kFirstOperand, bytes - kFirstOperand - HTP_SLACK, in.byte(), in.byte());
    if (in.chance(230)) fill_table(in, heap, bytes);
    htp_message m = {};
    m.u.run = {number, {1, 0, kStateAt}, {HTP_NOWHERE, 0, 0}, {HTP_NOWHERE, 0, 0}};
    if (in.chance(10)) spoil(&m.u, sizeof m.u, in);
    send(HTP_MSG_RUN, m);
}

void map(uint32_t buffer, uint32_t bytes) {
    htp_message m = {};
    m.u.map = {buffer, 0, bytes, 0, 0};
    send(HTP_MSG_MAP, m);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (!g_session) {
        g_session = new dsp_session;
        workers_start(2);
        if (vtcm_open(kVtcmBytes)) broken("no VTCM");
    }
    Input in(data, size);
    session_begin(g_session);
    g_table = {0, 0, 1, 1};
    map(1, kBufferBytes);
    for (int n = 0; n < 8 && !in.empty(); n++) {
        const uint32_t number = in.byte() % 2;
        const uint8_t what = in.byte();
        if (what < 200) {
            prepare(in, number);
            run(in, number);
        } else if (what < 215) {
            map(in.byte() % 3, in.chance(128) ? kBufferBytes / 2 : uint32_t(in.number()));
        } else {
            htp_message m = {};
            for (uint32_t& word : m.u.words)
                word = in.byte() < 200 ? in.byte() % 3 : uint32_t(in.number());
            send(uint16_t(in.byte() % 10), m);
        }
    }
    session_end(g_session);
    return 0;
}

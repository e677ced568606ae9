// Attention of all rows over all rows, without a cache. The first step packs the keys and the
// values of each head, the second multiplies.
//
// f32: keys and values become matrices, and scores = keys * query and y = values^T * weights are
// products by the kernels of the matmuls. Positions are cut into splits of kSplit. Of each split:
// keys [panels of 32 positions][head_dim], values [panels of 32 dimensions][positions]; what a
// panel lacks is zero. The splits are joined by attend_merge, in order.
//
// int8: keys and values become blocks of activations, 32 queries at a time a panel of codes, and
// one kernel does the rest (KernelTable::attend_all).
#include <string.h>

#include <algorithm>

#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/lane_pack.h"

namespace pillion::cpu {
namespace {

// The scores of kMatmulColumns queries over a split are 128 KB: they stay in the second cache.
constexpr int kSplit = 512;

constexpr float kLog2E = 1.44269504f;

int up32(int n) { return (n + 31) / 32 * 32; }
size_t up64(size_t n) { return (n + 63) / 64 * 64; }

struct AttendAll {
    const KernelTable& table;
    Rows rows;
    AttendAllParams p;
    int rows_max;
    RowView q, k, v, out;
    uint8_t* scratch;
    int n_threads;

    int padded() const { return up32(p.head_dim); }
    // What of a head lies in scratch, and what a thread has for itself behind all heads.
    size_t head_bytes() const { return p.int8 ? int8_head_bytes() : f32_head_bytes(); }
    size_t worker_bytes() const { return up64(p.int8 ? int8_worker_bytes() : f32_worker_bytes()); }
    size_t bytes() const {
        return head_bytes() * size_t(p.n_heads) + worker_bytes() * size_t(n_threads);
    }
    uint8_t* head(int i) const { return scratch + head_bytes() * size_t(i); }
    uint8_t* worker(int i) const { return head(p.n_heads) + worker_bytes() * size_t(i); }

    // f32
    size_t key_bytes() const { return size_t(kSplit) * size_t(p.head_dim) * 4; }
    size_t split_bytes() const { return key_bytes() + size_t(kSplit) * size_t(padded()) * 4; }
    size_t f32_head_bytes() const {
        return split_bytes() * size_t((rows_max + kSplit - 1) / kSplit);
    }
    size_t f32_worker_bytes() const {
        return size_t(kMatmulColumns) * size_t(kSplit + padded()) * 4;
    }
    float* keys_f32(int h, int split) const {
        return reinterpret_cast<float*>(head(h) + split_bytes() * size_t(split));
    }
    float* values_f32(int h, int split) const { return keys_f32(h, split) + key_bytes() / 4; }

    // int8
    size_t int8_key_blocks() const { return size_t(up32(rows_max)) * size_t(padded() / 32); }
    size_t int8_head_bytes() const {
        return sizeof(ActBlock) *
               (int8_key_blocks() + size_t(up32(rows_max) / 32) * size_t(p.head_dim));
    }
    size_t int8_worker_bytes() const {  // codes, o, scales; floats of a panel
        return size_t(padded()) * kPanel * 9 + kPanel * 4;
    }
    ActBlock* keys_int8(int h) const { return reinterpret_cast<ActBlock*>(head(h)); }
    ActBlock* values_int8(int h) const { return keys_int8(h) + int8_key_blocks(); }
};

// One (head, 32 positions) a chunk.
class PackStep final : public CpuStep {
  public:
    PackStep(const AttendAll& a, int layer) : CpuStep(Op::attend_all, layer), a_(a) {}
    const char* kernel() const override { return "attend_all_pack"; }
    int chunks(const RunInfo& run) const override {
        return a_.p.n_heads * ((run.count(a_.rows) + kPanel - 1) / kPanel);
    }
    void run(const RunInfo& run, int chunk, int worker) const override {
        const int n = run.count(a_.rows), head = chunk % a_.p.n_heads,
                  first = chunk / a_.p.n_heads * kPanel;
        const Part part = {head, head * a_.p.head_dim, first, std::min(kPanel, n - first), n};
        if (a_.p.int8) {
            float* rows = reinterpret_cast<float*>(a_.worker(worker));
            quantize_keys(part, rows);
            quantize_values(part, rows);
        } else {
            copy_keys(part);
            copy_values(part);
        }
    }

  private:
    struct Part { int head, column, first, count, n; };  // n: positions of the run

    // [dimension][32 positions]
    void copy_keys(const Part& part) const {
        const int dim = a_.p.head_dim, at = part.first % kSplit;
        float* to = a_.keys_f32(part.head, part.first / kSplit) + at * dim;
        for (int r = 0; r < kPanel; r++)
            for (int d = 0; d < dim; d++)
                to[d * kPanel + r] =
                    r < part.count ? a_.k.row(part.first + r)[part.column + d] : 0.0f;
    }
    // [panel of dimensions][position][32 dimensions]
    void copy_values(const Part& part) const {
        const int dim = a_.p.head_dim, split = part.first / kSplit, at = part.first % kSplit,
                  in_split = std::min(kSplit, part.n - split * kSplit);
        float* to = a_.values_f32(part.head, split);
        for (int d = 0; d < dim; d += kPanel, to += in_split * kPanel)
            for (int r = 0; r < part.count; r++) {
                float* row = to + (at + r) * kPanel;
                const int n = std::min(kPanel, dim - d);
                memcpy(row, a_.v.row(part.first + r) + part.column + d, size_t(n) * 4);
                memset(row + n, 0, size_t(kPanel - n) * 4);
            }
    }

    // [position][32 dimensions]; a key has one scale
    void quantize_keys(const Part& part, float* row) const {
        const int dim = a_.p.head_dim, dims = a_.padded();
        ActBlock* to = a_.keys_int8(part.head) + ptrdiff_t(part.first) * (dims / 32);
        memset(row, 0, size_t(dims) * 4);
        for (int r = 0; r < part.count; r++, to += dims / 32) {
            memcpy(row, a_.k.row(part.first + r) + part.column, size_t(dim) * 4);
            a_.table.quantize_row(row, dims, to);
        }
    }
    // [dimension]: 32 positions
    void quantize_values(const Part& part, float* rows) const {
        const int dim = a_.p.head_dim;
        ActBlock* to = a_.values_int8(part.head) + ptrdiff_t(part.first / kPanel) * dim;
        memset(rows, 0, size_t(dim) * kPanel * 4);
        for (int r = 0; r < part.count; r++) {
            const float* v = a_.v.row(part.first + r) + part.column;
            for (int d = 0; d < dim; d++) rows[d * kPanel + r] = v[d];
        }
        a_.table.quantize(rows, dim * kPanel, to, 1);
    }

    AttendAll a_;
};

// One (head, up to `most` queries) a chunk.
class TileStep : public CpuStep {
  public:
    TileStep(const AttendAll& a, int most, int layer)
        : CpuStep(Op::attend_all, layer), a_(a), most_(most) {}
    int chunks(const RunInfo& run) const final {
        const int n = run.count(a_.rows);
        return n > 0 ? a_.p.n_heads * tiles(n) : 0;
    }
    void run(const RunInfo& run, int chunk, int worker) const final {
        const int n = run.count(a_.rows), cut = tiles(n), head = chunk / cut, tile = chunk % cut;
        const int begin = int(int64_t(n) * tile / cut), end = int(int64_t(n) * (tile + 1) / cut);
        attend(a_.worker(worker), n, head, begin, end - begin);
    }

  protected:
    // Queries [begin, begin + count) over n positions.
    virtual void attend(uint8_t* scratch, int n, int head, int begin, int count) const = 0;
    const AttendAll a_;

  private:
    int tiles(int n) const { return (n + most_ - 1) / most_; }
    const int most_;
};

class Int8Step final : public TileStep {
  public:
    Int8Step(const AttendAll& a, int layer) : TileStep(a, kPanel, layer) {}
    const char* kernel() const override { return "attend_all_int8"; }

  private:
    void attend(uint8_t* scratch, int n, int head, int begin, int count) const override {
        const int dim = a_.p.head_dim, dims = a_.padded();
        float* o = reinterpret_cast<float*>(scratch);
        float* scale = o + dims * kPanel;
        uint8_t* codes = reinterpret_cast<uint8_t*>(scale + kPanel);
        pack_queries(o, begin, count, head * dim, codes, scale);
        a_.table.attend_all(
            {codes, scale, dims, a_.keys_int8(head), n, a_.values_int8(head), dim, o});
        for (int c = 0; c < count; c++) {
            float* to = a_.out.row(begin + c) + head * dim;
            for (int d = 0; d < dim; d++) to[d] = o[d * kPanel + c];
        }
    }
    // Code + 128 of input 4j + b of a query is byte b of its word in plane j (formats.h). Queries
    // past `count` are zeros.
    void pack_queries(float* row, int begin, int count, int column, uint8_t* codes,
                      float* scale) const {
        const int dim = a_.p.head_dim, dims = a_.padded();
        ActBlock blocks[32];
        memset(row, 0, size_t(dims) * 4);
        memset(codes, 128, size_t(dims) * kPanel);
        for (int c = 0; c < kPanel; c++) {
            scale[c] = 0.0f;
            if (c >= count) continue;
            memcpy(row, a_.q.row(begin + c) + column, size_t(dim) * 4);
            a_.table.quantize_row(row, dims, blocks);
            scale[c] = blocks[0].d * (a_.p.scale * kLog2E);
            for (int j = 0; j < dims / 4; j++) {
                uint32_t four;
                memcpy(&four, blocks[j / 8].q + j % 8 * 4, 4);
                four ^= 0x80808080;
                memcpy(codes + j * kPlaneBytes + 4 * c, &four, 4);
            }
        }
    }
};

class F32Step final : public TileStep {
  public:
    F32Step(const AttendAll& a, int layer) : TileStep(a, kMatmulColumns, layer) {}
    const char* kernel() const override { return "attend_all_f32"; }

  private:
    struct Tile {
        int n;
        const float* q[kMatmulColumns];
        float m[kMatmulColumns], l[kMatmulColumns];
        float *out[kMatmulColumns], *scores[kMatmulColumns], *o[kMatmulColumns];
    };
    void attend(uint8_t* scratch, int n, int head, int begin, int count) const override {
        const int dim = a_.p.head_dim;
        float* scores = reinterpret_cast<float*>(scratch);
        Tile t = {count, {}, {}, {}, {}, {}, {}};
        for (int c = 0; c < count; c++) {
            t.q[c] = a_.q.row(begin + c) + head * dim,
            t.out[c] = a_.out.row(begin + c) + head * dim;
            t.scores[c] = scores + c * kSplit;
            t.o[c] = scores + kMatmulColumns * kSplit + c * a_.padded();
            t.m[c] = -INFINITY, t.l[c] = 0.0f;
            memset(t.out[c], 0, size_t(dim) * 4);
        }
        for (int s = 0; s * kSplit < n; s++)
            add_split(t, head, s, std::min(kSplit, n - s * kSplit));
        for (int c = 0; c < count; c++) a_.table.scale(t.out[c], 1.0f / t.l[c], t.out[c], dim);
    }
    void add_split(Tile& t, int head, int split, int n) const {
        const int dim = a_.p.head_dim;
        multiply(t, a_.keys_f32(head, split), n, dim, t.q, t.scores);
        float m[kMatmulColumns], l[kMatmulColumns];
        for (int c = 0; c < t.n; c++)
            a_.table.softmax_weights(t.scores[c], n, a_.p.scale, &m[c], &l[c]);
        multiply(t, a_.values_f32(head, split), dim, n, t.scores, t.o);
        for (int c = 0; c < t.n; c++)
            a_.table.attend_merge(&t.m[c], &t.l[c], t.out[c], m[c], l[c], t.o[c], dim);
    }
    void multiply(const Tile& t, const float* panels, int rows, int inputs, const float* const* x,
                  float* const* out) const {
        const PackedMatrix matrix = {reinterpret_cast<const uint8_t*>(panels), Format::f32, rows,
                                     inputs, panel_bytes(Format::f32, inputs)};
        cpu::multiply(a_.table, matrix, 0, matrix.n_panels(), nullptr, x, t.n, out);
    }
};

}  // namespace

size_t attend_all_bytes(const AttendAllParams& p, int rows_max, int n_threads) {
    static const KernelTable none = {};
    return AttendAll{none, Rows::run, p, rows_max, {}, {}, {}, {}, nullptr, n_threads}.bytes();
}

void add_attend_all_steps(StepList& steps, const StepArgs& a) {
    const AttendAll all = {a.table,
                           a.node.rows,
                           a.node.params.attend_all,
                           a.graph.rows_max(a.node.rows),
                           a.in[0],
                           a.in[1],
                           a.in[2],
                           a.out[0],
                           a.scratch,
                           a.n_threads};
    steps.push_back(std::make_unique<PackStep>(all, a.node.layer));
    if (all.p.int8) steps.push_back(std::make_unique<Int8Step>(all, a.node.layer));
    else steps.push_back(std::make_unique<F32Step>(all, a.node.layer));
}

}  // namespace pillion::cpu

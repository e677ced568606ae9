// Attention of all rows over all rows, without a cache. The first step packs the keys and the
// values of each head as matrices, the second multiplies: scores = keys * query, y = values^T *
// weights, both by the kernels of the matmuls. So they run at the matmuls' speed, in their formats
// (f32, or Q8_0 with int8 inputs) and with their bits.
//
// Positions are cut into splits of kSplit. Of each split: keys [panels of 32 positions][head_dim],
// values [panels of 32 dimensions][positions]; what a panel lacks is zero. The splits are joined by
// attend_merge, in order.
#include <string.h>

#include <algorithm>

#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/lane_pack.h"
#include "core/contract/blocks.h"

namespace pillion::cpu {
namespace {

// The scores of kMatmulColumns queries over a split are 128 KB: they stay in the second cache.
constexpr int kSplit = 512;

int up32(int n) { return (n + 31) / 32 * 32; }

struct Packed {
    AttendAllParams p;
    int rows_max;

    Format format() const { return p.int8 ? Format::q8_0 : Format::f32; }
    int dims() const { return p.int8 ? up32(p.head_dim) : p.head_dim; }  // inputs of the keys
    int slots(int positions) const { return p.int8 ? up32(positions) : positions; }
    size_t key_bytes() const {  // of a whole split
        return panel_bytes(format(), dims()) * (kSplit / kPanel);
    }
    size_t value_bytes(int n) const {
        return panel_bytes(format(), slots(n)) * size_t(up32(p.head_dim) / kPanel);
    }
    size_t split_bytes() const { return key_bytes() + value_bytes(kSplit); }
    int n_splits(int rows) const { return (rows + kSplit - 1) / kSplit; }
    size_t head_bytes() const { return split_bytes() * size_t(n_splits(rows_max)); }
    size_t bytes() const { return head_bytes() * size_t(p.n_heads); }
};

// What one thread needs: float rows, and blocks of int8 inputs.
struct Worker {
    float *scores, *o, *rows;
    ActBlock *query, *weights;

    static size_t floats(const Packed& k) {
        return size_t(kMatmulColumns) * size_t(kSplit + up32(k.p.head_dim)) +
               size_t(kPanel) * size_t(std::max(up32(k.p.head_dim), kPanel));
    }
    static size_t bytes(const Packed& k) {
        const size_t blocks =
            act_bytes(k.dims(), kMatmulColumns) + act_bytes(kSplit, kMatmulColumns);
        return (floats(k) * 4 + (k.p.int8 ? blocks : 0) + 63) / 64 * 64;
    }
    Worker(const Packed& k, uint8_t* at) {
        scores = reinterpret_cast<float*>(at);
        o = scores + kMatmulColumns * kSplit;
        rows = o + kMatmulColumns * up32(k.p.head_dim);
        query = reinterpret_cast<ActBlock*>(at + floats(k) * 4);
        weights = query + size_t(kMatmulColumns) * size_t(k.dims() / 32);
    }
};

struct AttendAll {
    const KernelTable& table;
    Rows rows;
    Packed packed;
    RowView q, k, v, out;
    uint8_t* scratch;
    int n_threads;

    uint8_t* keys(int head, int split) const {
        return scratch + packed.head_bytes() * size_t(head) + packed.split_bytes() * size_t(split);
    }
    uint8_t* values(int head, int split) const { return keys(head, split) + packed.key_bytes(); }
    Worker worker(int i) const {
        return Worker(packed, scratch + (packed.bytes() + 63) / 64 * 64 +
                                  Worker::bytes(packed) * size_t(i));
    }
};

// One (head, 32 positions) a chunk.
class PackStep final : public CpuStep {
  public:
    PackStep(const AttendAll& a, int layer) : CpuStep(Op::attend_all, layer), a_(a) {}
    const char* kernel() const override { return "attend_all_pack"; }
    int chunks(const RunInfo& run) const override {
        return a_.packed.p.n_heads * ((run.count(a_.rows) + kPanel - 1) / kPanel);
    }
    void run(const RunInfo& run, int chunk, int worker) const override {
        const int n = run.count(a_.rows), heads = a_.packed.p.n_heads, dim = a_.packed.p.head_dim;
        const int head = chunk % heads, first = chunk / heads * kPanel,
                  count = std::min(kPanel, n - first), split = first / kSplit;
        const int at = first % kSplit, in_split = std::min(kSplit, n - split * kSplit);
        uint8_t* keys = a_.keys(head, split) +
                        panel_bytes(a_.packed.format(), a_.packed.dims()) * size_t(at / kPanel);
        uint8_t* values = a_.values(head, split);
        if (a_.packed.p.int8) {
            const Worker w = a_.worker(worker);
            pack_keys(w, first, count, head * dim, keys);
            pack_values(w, first, count, head * dim, values, at,
                        panel_bytes(Format::q8_0, up32(in_split)));
        } else {
            copy_keys(first, count, head * dim, reinterpret_cast<float*>(keys));
            copy_values(first, count, head * dim, reinterpret_cast<float*>(values), at, in_split);
        }
    }

  private:
    // [dimension][32 positions]
    void copy_keys(int first, int count, int column, float* to) const {
        const int dim = a_.packed.p.head_dim;
        for (int r = 0; r < kPanel; r++)
            for (int d = 0; d < dim; d++)
                to[d * kPanel + r] = r < count ? a_.k.row(first + r)[column + d] : 0.0f;
    }
    // [panel of dimensions][position][32 dimensions]
    void copy_values(int first, int count, int column, float* to, int at, int in_split) const {
        const int dim = a_.packed.p.head_dim;
        for (int d = 0; d < dim; d += kPanel, to += in_split * kPanel)
            for (int r = 0; r < count; r++) {
                float* row = to + (at + r) * kPanel;
                const int n = std::min(kPanel, dim - d);
                memcpy(row, a_.v.row(first + r) + column + d, size_t(n) * 4);
                memset(row + n, 0, size_t(kPanel - n) * 4);
            }
    }

    // Row r of a packed step: its scale, and its 32 codes, each + 128, in eight planes (formats.h).
    static void put(const ActBlock& block, uint8_t* step, int r) {
        const uint16_t scale = f32_to_f16(block.d);
        memcpy(step + 2 * r, &scale, 2);
        for (int j = 0; j < 8; j++) {
            uint32_t codes;
            memcpy(&codes, block.q + 4 * j, 4);
            codes ^= 0x80808080;
            memcpy(step + 2 * kPanel + j * kPlaneBytes + 4 * r, &codes, 4);
        }
    }
    void pack_keys(const Worker& w, int first, int count, int column, uint8_t* to) const {
        const int dim = a_.packed.p.head_dim, dims = a_.packed.dims(), steps = dims / 32;
        memset(w.rows, 0, size_t(dims) * 4);
        for (int r = 0; r < kPanel; r++) {
            if (r < count) memcpy(w.rows, a_.k.row(first + r) + column, size_t(dim) * 4);
            else memset(w.rows, 0, size_t(dim) * 4);
            a_.table.quantize(w.rows, dims, w.query, 1);
            for (int s = 0; s < steps; s++) put(w.query[s], to + s * Q8_0::kStepBytes, r);
        }
    }
    void pack_values(const Worker& w, int first, int count, int column, uint8_t* to, int at,
                     size_t panel) const {
        const int dim = a_.packed.p.head_dim, dims = up32(dim);
        memset(w.rows, 0, size_t(dims) * kPanel * 4);
        for (int r = 0; r < count; r++) {
            const float* v = a_.v.row(first + r) + column;
            for (int d = 0; d < dim; d++) w.rows[d * kPanel + r] = v[d];
        }
        for (int d = 0; d < dims; d++) {
            ActBlock block;
            a_.table.quantize(w.rows + d * kPanel, kPanel, &block, 1);
            put(block, to + panel * size_t(d / kPanel) + at / kPanel * Q8_0::kStepBytes,
                d % kPanel);
        }
    }

    AttendAll a_;
};

// One (head, up to kMatmulColumns queries) a chunk.
class AttendAllStep final : public CpuStep {
  public:
    AttendAllStep(const AttendAll& a, int layer) : CpuStep(Op::attend_all, layer), a_(a) {}
    const char* kernel() const override {
        return a_.packed.p.int8 ? "attend_all_q8" : "attend_all_f32";
    }
    int chunks(const RunInfo& run) const override {
        const int n = run.count(a_.rows);
        return n > 0 ? a_.packed.p.n_heads * tiles(n) : 0;
    }
    void run(const RunInfo& run, int chunk, int worker) const override {
        const int n = run.count(a_.rows), cut = tiles(n);
        const int head = chunk / cut, tile = chunk % cut;
        const int begin = int(int64_t(n) * tile / cut), end = int(int64_t(n) * (tile + 1) / cut);
        Tile t = make_tile(a_.worker(worker), head, begin, end - begin);
        for (int s = 0; s < a_.packed.n_splits(n); s++)
            add_split(t, head, s, std::min(kSplit, n - s * kSplit));
        for (int c = 0; c < t.n; c++)
            a_.table.scale(t.out[c], 1.0f / t.l[c], t.out[c], a_.packed.p.head_dim);
    }

  private:
    // Equal tiles, enough for all threads.
    int tiles(int n) const {
        const int whole = (n + kMatmulColumns - 1) / kMatmulColumns;
        const int wanted = (2 * a_.n_threads + a_.packed.p.n_heads - 1) / a_.packed.p.n_heads;
        return std::min(n, std::max(whole, a_.n_threads > 1 ? wanted : 1));
    }

    struct Tile {
        Worker w;
        int n;
        const float* q[kMatmulColumns];
        float m[kMatmulColumns], l[kMatmulColumns];
        float *out[kMatmulColumns], *scores[kMatmulColumns], *o[kMatmulColumns];
    };
    Tile make_tile(const Worker& w, int head, int begin, int n) const {
        const int dim = a_.packed.p.head_dim, dims = a_.packed.dims();
        Tile t = {w, n, {}, {}, {}, {}, {}, {}};
        for (int c = 0; c < n; c++) {
            t.q[c] = a_.q.row(begin + c) + head * dim,
            t.out[c] = a_.out.row(begin + c) + head * dim;
            t.scores[c] = w.scores + c * kSplit, t.o[c] = w.o + c * up32(dim);
            t.m[c] = -INFINITY, t.l[c] = 0.0f;
            memset(t.out[c], 0, size_t(dim) * 4);
            if (!a_.packed.p.int8) continue;
            memcpy(w.rows, t.q[c], size_t(dim) * 4);
            memset(w.rows + dim, 0, size_t(dims - dim) * 4);
            a_.table.quantize(w.rows, dims, w.query + c, n);
        }
        return t;
    }

    void add_split(Tile& t, int head, int split, int n) const {
        const Packed& k = a_.packed;
        const int dim = k.p.head_dim, slots = k.slots(n);
        const PackedMatrix keys = {a_.keys(head, split), k.format(), n, k.dims(),
                                   panel_bytes(k.format(), k.dims())};
        const PackedMatrix values = {a_.values(head, split), k.format(), dim, slots,
                                     panel_bytes(k.format(), slots)};
        multiply(a_.table, keys, 0, keys.n_panels(), t.w.query, t.q, t.n, t.scores);
        float m[kMatmulColumns], l[kMatmulColumns];
        for (int c = 0; c < t.n; c++) {
            a_.table.softmax_weights(t.scores[c], n, k.p.scale, &m[c], &l[c]);
            if (!k.p.int8) continue;
            memset(t.scores[c] + n, 0, size_t(slots - n) * 4);
            a_.table.quantize(t.scores[c], slots, t.w.weights + c, t.n);
        }
        multiply(a_.table, values, 0, values.n_panels(), t.w.weights, t.scores, t.n, t.o);
        for (int c = 0; c < t.n; c++)
            a_.table.attend_merge(&t.m[c], &t.l[c], t.out[c], m[c], l[c], t.o[c], dim);
    }

    AttendAll a_;
};

}  // namespace

size_t attend_all_bytes(const AttendAllParams& p, int rows_max, int n_threads) {
    const Packed packed = {p, rows_max};
    return (packed.bytes() + 63) / 64 * 64 + Worker::bytes(packed) * size_t(n_threads);
}

void add_attend_all_steps(StepList& steps, const StepArgs& a) {
    const AttendAll all = {
        a.table,  a.node.rows, {a.node.params.attend_all, a.graph.rows_max(a.node.rows)},
        a.in[0],  a.in[1],     a.in[2],
        a.out[0], a.scratch,   a.n_threads};
    steps.push_back(std::make_unique<PackStep>(all, a.node.layer));
    steps.push_back(std::make_unique<AttendAllStep>(all, a.node.layer));
}

}  // namespace pillion::cpu

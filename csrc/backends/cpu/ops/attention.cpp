// Attention over the cache. The visible positions are cut at multiples of KV_SPLIT, splits are
// joined into partitions of kPartition positions and those into the result, always in this order,
// so a row's bits depend neither on the rows beside it nor on the threads. Query vectors of one KV
// head are numbered row * group + head in group.
//
// Direct: a unit is (KV head, up to 16 vectors) and walks all positions. Split: with too few units
// for the threads, a unit is one partition, its partial goes to scratch, and a second step joins
// the partitions.
#include <math.h>
#include <string.h>

#include <algorithm>

#include "backends/cpu/cpu_steps.h"

namespace pillion::cpu {

constexpr int kPartition = 4 * KV_SPLIT;

KvHead kv_head(const KvStore& store, int head) {
    const KvSpec& s = store.spec;
    const uint32_t head_dim = uint32_t(s.head_dim), capacity = uint32_t(s.capacity);
    uint8_t* base = store.buffer->host() + store.offset +
                    kv_head_bytes(s.type, head_dim, capacity) * size_t(head);
    return {base, base + kv_k_bytes(s.type, head_dim, capacity), s.capacity, s.head_dim, s.type};
}

AttendLayout attend_layout(const AttendParams& p, const KvSpec& spec, int rows_max, int n_threads) {
    AttendLayout l = {};
    const int vectors = rows_max * p.n_heads,
              most_split = (2 * n_threads + p.n_kv_heads) * kAttendQueriesMax;
    l.vectors_max = vectors < most_split ? vectors : most_split;
    // A run sees at most `capacity` positions, which touch one partition more than they fill.
    l.partitions_max = spec.capacity / kPartition + 2;
    l.partial_floats_per_vector = size_t(l.partitions_max) * size_t(p.head_dim + 2);
    l.worker_offset = (l.partial_floats_per_vector * size_t(l.vectors_max) * 4 + 63) / 64 * 64;
    l.worker_floats = (2 * size_t(kAttendQueriesMax) * size_t(p.head_dim) + 15) / 16 * 16;
    l.bytes = l.worker_offset + l.worker_floats * 4 * size_t(n_threads);
    return l;
}

namespace {

struct Attend {
    const KernelTable& table;
    Rows rows;
    AttendParams p;
    KvStore store;
    RowView q, out;
    AttendLayout layout;
    uint8_t* scratch;
    int n_threads;

    int group() const { return p.n_heads / p.n_kv_heads; }
    int position(const RunInfo& run, int row) const { return run.pos + run.first_row(rows) + row; }
    int first(int position) const {
        return p.window > 0 && position >= p.window ? position - p.window + 1 : 0;
    }
    int last(int position) const { return position - p.past_only; }
    float* worker(int w) const {
        return reinterpret_cast<float*>(scratch + layout.worker_offset) +
               layout.worker_floats * size_t(w);
    }

    struct Cut {
        bool split;
        int tile, n_tiles;                  // vectors per unit, units per KV head
        int partition_first, n_partitions;  // of the whole run
    };
    Cut cut(const RunInfo& run) const {
        const int n = run.count(rows), vectors = n * group();
        Cut c = {false, kAttendQueriesMax, (vectors + kAttendQueriesMax - 1) / kAttendQueriesMax, 0,
                 1};
        c.partition_first = first(position(run, 0)) / kPartition;
        c.n_partitions =
            std::max(0, last(position(run, n - 1))) / kPartition - c.partition_first + 1;
        if (p.n_kv_heads * c.n_tiles >= 2 * n_threads || n_threads == 1 ||
            c.n_partitions > layout.partitions_max)
            return c;
        c.split = c.n_partitions > 1;
        // Still too few units: fewer vectors each. Keys and values are then read by several
        // threads, from the shared cache.
        while (p.n_kv_heads * c.n_tiles * c.n_partitions < n_threads && c.tile > 1) {
            c.tile = (c.tile + 1) / 2;
            c.n_tiles = (vectors + c.tile - 1) / c.tile;
        }
        return c;
    }

    float* partial(int kv, int vectors, int vector) const {
        return reinterpret_cast<float*>(scratch) +
               layout.partial_floats_per_vector * (size_t(kv) * size_t(vectors) + size_t(vector));
    }

    struct State {
        float m[kAttendQueriesMax], l[kAttendQueriesMax];
        float* o[kAttendQueriesMax];
        void clear(int n, int dim) {
            for (int i = 0; i < n; i++)
                m[i] = -INFINITY, l[i] = 0.0f, memset(o[i], 0, size_t(dim) * 4);
        }
    };

    struct Tile {
        KvHead kv;
        int n;
        const float* q[kAttendQueriesMax];
        int32_t first[kAttendQueriesMax], last[kAttendQueriesMax];
        float* out[kAttendQueriesMax];
        int32_t lo, hi;  // all of the tile's visible positions
        // Whether query i sees any of these positions. If not, they are left out of its sums: even
        // a weight of 0 turns a -0 into +0.
        bool sees(int i, int32_t begin, int32_t end) const {
            return first[i] < end && last[i] >= begin;
        }
    };
    Tile make_tile(const RunInfo& run, const Cut& c, int kv, int tile) const {
        Tile t;
        t.kv = kv_head(store, kv);
        const int g = group(), begin = tile * c.tile,
                  end = std::min(begin + c.tile, run.count(rows) * g);
        t.n = end - begin;
        for (int v = begin; v < end; v++) {
            const int row = v / g, head = kv * g + v % g, at = position(run, row);
            t.q[v - begin] = q.row(row) + int64_t(head) * p.head_dim;
            t.out[v - begin] = out.row(row) + int64_t(head) * p.head_dim;
            t.first[v - begin] = first(at);
            t.last[v - begin] = last(at);
        }
        t.lo = t.first[0], t.hi = t.last[t.n - 1];
        return t;
    }

    // Joins the splits of one partition into `state`.
    void run_partition(const Tile& t, int partition, State& state, float* partial_o) const {
        state.clear(t.n, p.head_dim);
        float m[kAttendQueriesMax], l[kAttendQueriesMax];
        float* o[kAttendQueriesMax];
        for (int i = 0; i < t.n; i++) o[i] = partial_o + int64_t(i) * p.head_dim;
        for (int32_t begin = partition * kPartition; begin < (partition + 1) * kPartition;
             begin += KV_SPLIT) {
            if (begin + KV_SPLIT <= t.lo || begin > t.hi) continue;
            AttendArgs a = {t.kv,
                            t.q,
                            t.first,
                            t.last,
                            t.n,
                            begin,
                            std::min(begin + KV_SPLIT, t.hi + 1),
                            p.scale,
                            p.softcap,
                            m,
                            l,
                            o};
            table.attend_split(a);
            for (int i = 0; i < t.n; i++)
                if (t.sees(i, begin, begin + KV_SPLIT))
                    table.attend_merge(&state.m[i], &state.l[i], state.o[i], m[i], l[i], o[i],
                                       p.head_dim);
        }
    }

    void finish(float* o, float l) const {
        table.scale(o, l > 0.0f ? 1.0f / l : 0.0f, o, p.head_dim);
    }
};

class AttendStep final : public CpuStep {
  public:
    AttendStep(const Attend& a, int layer) : CpuStep(Op::attend, layer), a_(a) {}
    const char* kernel() const override {
        return a_.store.spec.type == KvType::q8_0 ? "flash_attend_q8_0" : "flash_attend_f16";
    }
    int chunks(const RunInfo& run) const override {
        if (run.count(a_.rows) == 0) return 0;
        const Attend::Cut c = a_.cut(run);
        return a_.p.n_kv_heads * c.n_tiles * (c.split ? c.n_partitions : 1);
    }
    void run(const RunInfo& run, int chunk, int worker) const override {
        const Attend::Cut c = a_.cut(run);
        if (c.split) run_split(run, c, chunk, worker);
        else run_direct(run, c, chunk, worker);
    }

  private:
    void run_direct(const RunInfo& run, const Attend::Cut& c, int chunk, int worker) const {
        const int dim = a_.p.head_dim;
        const Attend::Tile t = a_.make_tile(run, c, chunk / c.n_tiles, chunk % c.n_tiles);
        float* scratch = a_.worker(worker);
        Attend::State partition, total;
        for (int i = 0; i < t.n; i++)
            partition.o[i] = scratch + int64_t(i) * dim, total.o[i] = t.out[i];
        total.clear(t.n, dim);
        for (int s = t.lo / kPartition; s <= t.hi / kPartition; s++) {
            a_.run_partition(t, s, partition, scratch + int64_t(kAttendQueriesMax) * dim);
            for (int i = 0; i < t.n; i++)
                if (t.sees(i, s * kPartition, (s + 1) * kPartition))
                    a_.table.attend_merge(&total.m[i], &total.l[i], total.o[i], partition.m[i],
                                          partition.l[i], partition.o[i], dim);
        }
        for (int i = 0; i < t.n; i++) a_.finish(total.o[i], total.l[i]);
    }

    void run_split(const RunInfo& run, const Attend::Cut& c, int chunk, int worker) const {
        const int partition = chunk % c.n_partitions, unit = chunk / c.n_partitions,
                  dim = a_.p.head_dim;
        const int kv = unit / c.n_tiles, vectors = run.count(a_.rows) * a_.group();
        const Attend::Tile t = a_.make_tile(run, c, kv, unit % c.n_tiles);
        float* at[kAttendQueriesMax];
        Attend::State state;
        for (int i = 0; i < t.n; i++) {
            at[i] = a_.partial(kv, vectors, unit % c.n_tiles * c.tile + i) +
                    int64_t(partition) * (dim + 2);
            state.o[i] = at[i] + 2;
        }
        a_.run_partition(t, c.partition_first + partition, state, a_.worker(worker));
        for (int i = 0; i < t.n; i++) at[i][0] = state.m[i], at[i][1] = state.l[i];
    }

    Attend a_;
};

class AttendMergeStep final : public CpuStep {
  public:
    AttendMergeStep(const Attend& a, int layer) : CpuStep(Op::attend, layer), a_(a) {}
    const char* kernel() const override { return "attend_merge"; }
    int chunks(const RunInfo& run) const override {
        return run.count(a_.rows) > 0 && a_.cut(run).split ? 1 : 0;
    }
    void run(const RunInfo& run, int, int) const override {
        const Attend::Cut c = a_.cut(run);
        const int g = a_.group(), vectors = run.count(a_.rows) * g, dim = a_.p.head_dim;
        for (int kv = 0; kv < a_.p.n_kv_heads; kv++)
            for (int v = 0; v < vectors; v++) {
                float* o = a_.out.row(v / g) + int64_t(kv * g + v % g) * dim;
                float m = -INFINITY, l = 0.0f;
                memset(o, 0, size_t(dim) * 4);
                const int at = a_.position(run, v / g);
                for (int s = a_.first(at) / kPartition; s <= a_.last(at) / kPartition; s++) {
                    const float* from =
                        a_.partial(kv, vectors, v) + int64_t(s - c.partition_first) * (dim + 2);
                    a_.table.attend_merge(&m, &l, o, from[0], from[1], from + 2, dim);
                }
                a_.finish(o, l);
            }
    }

  private:
    Attend a_;
};

}  // namespace

void add_attend_steps(StepList& steps, const StepArgs& a) {
    const AttendParams& p = a.node.params.attend;
    const KvStore& store = a.graph.value(a.node.in[0]).kv;
    const AttendLayout layout =
        attend_layout(p, store.spec, a.graph.rows_max(a.node.rows), a.n_threads);
    const Attend attend = {a.table,  a.node.rows, p,         store,      a.in[1],
                           a.out[0], layout,      a.scratch, a.n_threads};
    steps.push_back(std::make_unique<AttendStep>(attend, a.node.layer));
    steps.push_back(std::make_unique<AttendMergeStep>(attend, a.node.layer));
}

}  // namespace pillion::cpu

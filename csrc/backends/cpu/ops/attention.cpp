// Attention over the cache. The visible positions are cut at multiples of KV_SPLIT, splits are
// joined into partitions of kPartition positions and those into the result, always in this order,
// so a row's bits depend neither on the rows beside it nor on the threads. Query vectors of one KV
// head are numbered row * group + head in group.
//
// Direct: a unit is (segment, KV head, up to 16 vectors) and walks all positions. Split: where a
// unit would be too long beside the others, it is one partition, its partial goes to scratch, and a
// second step joins the partitions.
#include <math.h>
#include <string.h>

#include <algorithm>

#include "backends/cpu/cpu_steps.h"

namespace pillion::cpu {

constexpr int kPartition = 4 * KV_SPLIT;

KvHead kv_head(const KvStore& store, int head, int table, int position) {
    const KvSpec& s = store.spec;
    const uint32_t head_dim = uint32_t(s.head_dim), slots = uint32_t(s.page_slots());
    size_t page = 0;
    if (const KvTable& t = store.table; t.buffer) {
        const int32_t* pages = reinterpret_cast<const int32_t*>(t.buffer->host() + t.offset);
        page = size_t(pages[int64_t(table) * t.stride + position / s.page_slots() % t.entries]);
    }
    const size_t head_bytes = kv_head_bytes(s.type, head_dim, slots);
    uint8_t* base = store.buffer->host() + store.offset +
                    head_bytes * (page * size_t(s.n_kv_heads) + size_t(head));
    return {base, base + kv_k_bytes(s.type, head_dim, slots), s.page_slots(), s.head_dim, s.type};
}

AttendLayout attend_layout(const AttendParams& p, const KvStore& store, int rows_max,
                           int n_threads) {
    AttendLayout l = {};
    const int vectors = rows_max * p.n_heads,
              most_split = (2 * n_threads + p.n_kv_heads) * kAttendQueriesMax;
    l.vectors_max = vectors < most_split ? vectors : most_split;
    // A row sees at most span() positions, which touch one partition more than they fill.
    l.partitions_max = store.span() / kPartition + 2;
    l.partial_floats_per_vector = size_t(l.partitions_max) * size_t(p.head_dim + 2);
    l.worker_offset = (l.partial_floats_per_vector * size_t(l.vectors_max) * 4 + 63) / 64 * 64;
    l.worker_floats = (2 * size_t(kAttendQueriesMax) * size_t(p.head_dim) + 15) / 16 * 16;
    l.bytes = l.worker_offset + l.worker_floats * 4 * size_t(n_threads);
    return l;
}

namespace {

// How the rows of one segment are cut into units.
struct Cut {
    int row, n_rows;      // of the op
    int position, table;  // of its first row
    int vectors;          // of one KV head
    int tile, n_tiles;    // vectors per unit, units per KV head
    int partition_first, n_partitions;
    bool split;
    int first_chunk;    // of the step
    int first_partial;  // split: where its vectors' partials begin, KV head by KV head
};

struct Cuts {
    std::vector<Cut> of_segment;
    int chunks = 0;
    bool any_split = false;
    const Cut& of_chunk(int chunk) const {
        size_t i = of_segment.size() - 1;
        while (of_segment[i].first_chunk > chunk) i--;
        return of_segment[i];
    }
};

struct Attend {
    const KernelTable& table;
    Rows rows;
    AttendParams p;
    KvStore store;
    RowView q, until, out;  // until: i32; null: a row sees nothing ahead
    AttendLayout layout;
    uint8_t* scratch;
    int n_threads;

    int group() const { return p.n_heads / p.n_kv_heads; }
    int first(int position) const {
        return p.window > 0 && position >= p.window ? position - p.window + 1 : 0;
    }
    // Of a row of the op, which stands at this position.
    int last(int row, int position) const {
        const int own = position - p.past_only;
        return until.data ? std::max(own, *reinterpret_cast<const int32_t*>(until.row(row))) : own;
    }
    // The most of the rows of a segment.
    int last_of(const Cut& c) const {
        int most = last(c.row + c.n_rows - 1, c.position + c.n_rows - 1);
        for (int i = 0; until.data && i < c.n_rows - 1; i++)
            most = std::max(most, last(c.row + i, c.position + i));
        return most;
    }
    float* worker(int w) const {
        return reinterpret_cast<float*>(scratch + layout.worker_offset) +
               layout.worker_floats * size_t(w);
    }

    // The part of a segment that has rows of this kind.
    Cut cut_segment(const RunInfo& run, const Segment& s) const {
        const int begin = std::max(s.row, run.first_row(rows)), end = s.row + s.n_rows;
        Cut c = {};
        c.row = begin - run.first_row(rows), c.n_rows = std::max(0, end - begin);
        c.position = s.pos + begin - s.row, c.table = s.table;
        c.vectors = c.n_rows * group();
        c.tile = kAttendQueriesMax, c.n_tiles = (c.vectors + c.tile - 1) / c.tile;
        c.partition_first = first(c.position) / kPartition;
        c.n_partitions =
            c.n_rows == 0 ? 0 : std::max(0, last_of(c)) / kPartition - c.partition_first + 1;
        return c;
    }

    // A unit of (KV head, tile) that alone would take more than half of a thread's share of the
    // run is split into partitions. With one segment: if there are fewer than two units for each
    // thread.
    void cut(const RunInfo& run, Cuts& cuts) const {
        cuts.of_segment.clear();
        cuts.chunks = 0, cuts.any_split = false;
        int64_t work = 0;
        for (int i = 0; i < run.n_segments; i++) {
            const Cut c = cut_segment(run, run.segments[i]);
            if (c.n_rows == 0) continue;
            cuts.of_segment.push_back(c);
            work += int64_t(p.n_kv_heads) * c.n_tiles * c.n_partitions;
        }
        int partials = 0;
        for (Cut& c : cuts.of_segment) {
            c.split = n_threads > 1 && c.n_partitions > 1 &&
                      c.n_partitions <= layout.partitions_max &&
                      2 * int64_t(n_threads) * c.n_partitions > work;
            if (!c.split) continue;
            cuts.any_split = true;
            c.first_partial = partials, partials += p.n_kv_heads * c.vectors;
        }
        number_chunks(cuts);
    }

    void number_chunks(Cuts& cuts) const {
        for (int most = kAttendQueriesMax;; most = (most + 1) / 2) {
            cuts.chunks = 0;
            for (Cut& c : cuts.of_segment) {
                c.tile = most, c.n_tiles = (c.vectors + most - 1) / most;
                c.first_chunk = cuts.chunks;
                cuts.chunks += p.n_kv_heads * c.n_tiles * (c.split ? c.n_partitions : 1);
            }
            // Still too few units: fewer vectors each. Keys and values are then read by several
            // threads, from the shared cache.
            if (cuts.chunks >= n_threads || most == 1) return;
        }
    }

    float* partial(const Cut& c, int kv, int vector) const {
        return reinterpret_cast<float*>(scratch) +
               layout.partial_floats_per_vector * size_t(c.first_partial + kv * c.vectors + vector);
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
        int kv, table;
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
    Tile make_tile(const Cut& c, int kv, int tile) const {
        Tile t;
        t.kv = kv, t.table = c.table;
        const int g = group(), begin = tile * c.tile, end = std::min(begin + c.tile, c.vectors);
        t.n = end - begin;
        for (int v = begin; v < end; v++) {
            const int row = v / g, head = kv * g + v % g, at = c.position + row;
            t.q[v - begin] = q.row(c.row + row) + int64_t(head) * p.head_dim;
            t.out[v - begin] = out.row(c.row + row) + int64_t(head) * p.head_dim;
            t.first[v - begin] = first(at);
            t.last[v - begin] = last(c.row + row, at);
        }
        t.lo = t.first[0], t.hi = *std::max_element(t.last, t.last + t.n);
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
            AttendArgs a = {
                kv_head(store, t.kv, t.table, begin), t.q,     t.first,   t.last, t.n, begin,
                std::min(begin + KV_SPLIT, t.hi + 1), p.scale, p.softcap, m,      l,   o};
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
        a_.cut(run, cuts_);
        return cuts_.chunks;
    }
    void run(const RunInfo&, int chunk, int worker) const override {
        const Cut& c = cuts_.of_chunk(chunk);
        if (c.split) run_split(c, chunk - c.first_chunk, worker);
        else run_direct(c, chunk - c.first_chunk, worker);
    }
    const Attend& attend() const { return a_; }
    const Cuts& cuts() const { return cuts_; }  // of the last chunks()

  private:
    void run_direct(const Cut& c, int unit, int worker) const {
        const int dim = a_.p.head_dim;
        const Attend::Tile t = a_.make_tile(c, unit / c.n_tiles, unit % c.n_tiles);
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

    void run_split(const Cut& c, int chunk, int worker) const {
        const int partition = chunk % c.n_partitions, unit = chunk / c.n_partitions,
                  dim = a_.p.head_dim;
        const int kv = unit / c.n_tiles, tile = unit % c.n_tiles;
        const Attend::Tile t = a_.make_tile(c, kv, tile);
        float* at[kAttendQueriesMax];
        Attend::State state;
        for (int i = 0; i < t.n; i++) {
            at[i] = a_.partial(c, kv, tile * c.tile + i) + int64_t(partition) * (dim + 2);
            state.o[i] = at[i] + 2;
        }
        a_.run_partition(t, c.partition_first + partition, state, a_.worker(worker));
        for (int i = 0; i < t.n; i++) at[i][0] = state.m[i], at[i][1] = state.l[i];
    }

    Attend a_;
    mutable Cuts cuts_;
};

// Joins the partitions of what the step before split.
class AttendMergeStep final : public CpuStep {
  public:
    AttendMergeStep(const AttendStep& of, int layer) : CpuStep(Op::attend, layer), of_(of) {}
    const char* kernel() const override { return "attend_merge"; }
    int chunks(const RunInfo&) const override { return of_.cuts().any_split ? 1 : 0; }
    void run(const RunInfo&, int, int) const override {
        for (const Cut& c : of_.cuts().of_segment)
            for (int kv = 0; c.split && kv < of_.attend().p.n_kv_heads; kv++)
                for (int v = 0; v < c.vectors; v++) merge(c, kv, v);
    }

  private:
    void merge(const Cut& c, int kv, int vector) const {
        const Attend& a = of_.attend();
        const int g = a.group(), dim = a.p.head_dim, at = c.position + vector / g;
        float* o = a.out.row(c.row + vector / g) + int64_t(kv * g + vector % g) * dim;
        float m = -INFINITY, l = 0.0f;
        memset(o, 0, size_t(dim) * 4);
        const int last = a.last(c.row + vector / g, at);
        for (int s = a.first(at) / kPartition; s <= last / kPartition; s++) {
            const float* from =
                a.partial(c, kv, vector) + int64_t(s - c.partition_first) * (dim + 2);
            a.table.attend_merge(&m, &l, o, from[0], from[1], from + 2, dim);
        }
        a.finish(o, l);
    }

    const AttendStep& of_;
};

}  // namespace

void add_attend_steps(StepList& steps, const StepArgs& a) {
    const AttendParams& p = a.node.params.attend;
    const KvStore& store = a.graph.value(a.node.in[0]).kv;
    const AttendLayout layout = attend_layout(p, store, a.graph.rows_max(a.node.rows), a.n_threads);
    const Attend attend = {a.table, a.node.rows, p,      store,     a.in[1],
                           a.in[2], a.out[0],    layout, a.scratch, a.n_threads};
    auto step = std::make_unique<AttendStep>(attend, a.node.layer);
    auto merge = std::make_unique<AttendMergeStep>(*step, a.node.layer);
    steps.push_back(std::move(step)), steps.push_back(std::move(merge));
}

}  // namespace pillion::cpu

#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/lane_pack.h"

namespace pillion::cpu {

Format format_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return Format::f32;
        case DType::f16: return Format::f16;
        case DType::bf16: return Format::bf16;
        case DType::q4_0: return Format::q4_0;
        case DType::q4_1: return Format::q4_1;
        case DType::q5_0: return Format::q5_0;
        case DType::q5_1: return Format::q5_1;
        case DType::q8_0: return Format::q8_0;
        case DType::q2_k: return Format::q2_k;
        case DType::q3_k: return Format::q3_k;
        case DType::q4_k: return Format::q4_k;
        case DType::q5_k: return Format::q5_k;
        case DType::q6_k: return Format::q6_k;
        case DType::iq4_nl: return Format::iq4_nl;
        case DType::iq4_xs: return Format::iq4_xs;
        case DType::mxfp4_x: return Format::mxfp4_x;
        case DType::nvfp4_x: return Format::nvfp4_x;
        case DType::iq3_xxs_x: return Format::iq3_xxs_x;
        case DType::iq3_s_x: return Format::iq3_s_x;
        case DType::iq2_x: return Format::iq2_x;
        case DType::iq1_x: return Format::iq1_x;
        case DType::tq2_0: return Format::tq2_0;
        default:
            fail(Status::unsupported_op, "type %s is not a weight format of the cpu backend",
                 info(dtype).name);
    }
}

PackedMatrix packed_matrix(const Tensor& t) {
    const Format format = format_of(t.dtype);
    return {t.host(), format, int(t.rows), int(t.width), panel_bytes(format, int(t.width))};
}

namespace {

// The columns of one tile by the register kernel, in groups of equal size. The groups of a panel
// follow each other, so that all but the first read its weights from a cache.
void multiply_in_groups(const PanelKernel* matvec, int group, const PanelArgs& tile) {
    const int groups = (tile.columns + group - 1) / group;
    PanelArgs a = tile;
    for (int panel = tile.begin; panel < tile.end; panel++)
        for (int g = 0; g < groups; g++) {
            const int first = tile.columns * g / groups;
            a.begin = panel, a.end = panel + 1;
            a.columns = tile.columns * (g + 1) / groups - first;
            a.act = tile.act + first;
            a.x = tile.x + first, a.out = tile.out + first;
            matvec[a.columns](a);
        }
}

}  // namespace

void multiply(const KernelTable& table, const PackedMatrix& m, int begin, int end,
              const ActBlock* act, const float* const* x, int columns, float* const* out) {
    const int format = int(m.format);
    const MatvecGroup group = table.matvec_group[format];
    PanelArgs a = {};
    a.weights = m.panels;
    a.panel_bytes = m.panel_bytes;
    a.begin = begin, a.end = end;
    a.rows = m.rows;
    a.inputs = m.inputs;
    a.prefetch = table.prefetch;
    for (int c = 0; c < columns; c += kMatmulColumns) {
        a.columns = columns - c < kMatmulColumns ? columns - c : kMatmulColumns;
        a.act_columns = a.columns;
        a.act = act ? act + ptrdiff_t(c) * (m.inputs / 32) : nullptr;
        a.x = x + c;
        a.out = out + c;
        if (a.columns <= table.matvec_most && a.columns <= kMatvecMax)
            table.matvec[format][a.columns](a);
        else if (a.columns <= group.most)
            multiply_in_groups(table.matvec[format], group.columns, a);
        else table.matmul[format](a);
    }
}

namespace {

// Rows are quantized in groups of 8 neighbouring columns and 8 blocks of each in turn: long enough
// reads for the hardware's prefetch, few enough write streams for the first cache.
constexpr int kQuantizeColumns = 8, kQuantizeBlocks = 8;

class QuantizeStep final : public CpuStep {
  public:
    QuantizeStep(const MatmulInput& in, ActBlock* act)
        : CpuStep(Op::matmul, in.layer), table_(in.table), rows_(in.rows), x_(in.x),
          inputs_(in.inputs), n_threads_(in.n_threads), act_(act), bounds_(in.bounds),
          is_bounded_(in.is_bounded()) {}
    const char* kernel() const override { return "quantize_q8"; }
    int chunks(const RunInfo& run) const override {
        const int n = run.count(rows_);
        if (n == 0) return 0;
        return int64_t(n) * inputs_ < 32768 ? 1 : groups(n) * parts(n);
    }
    void run(const RunInfo& run, int chunk, int) const override {
        const int n = run.count(rows_), blocks = inputs_ / 32;
        if (chunks(run) == 1) return quantize(0, n, 0, blocks, n);
        const int cut = parts(n), begin = chunk / cut * kQuantizeColumns, part = chunk % cut;
        quantize(begin, begin + kQuantizeColumns < n ? begin + kQuantizeColumns : n,
                 blocks * part / cut, blocks * (part + 1) / cut, n);
    }

  private:
    static int groups(int n) { return (n + kQuantizeColumns - 1) / kQuantizeColumns; }
    // Into how many parts a group's blocks are cut: so many that the threads finish together.
    int parts(int n) const {
        const int wanted = (2 * n_threads_ + groups(n) - 1) / groups(n),
                  most = inputs_ / (32 * kQuantizeBlocks);
        if (n_threads_ == 1 || groups(n) >= 4 * n_threads_ || most <= 1) return 1;
        return wanted < most ? wanted : most;
    }
    // Columns [begin, end) of n, blocks [first, last).
    void quantize(int begin, int end, int first, int last, int n) const {
        const int blocks = inputs_ / 32;
        for (; first < last; first += kQuantizeBlocks) {
            const int inputs =
                32 * (last - first < kQuantizeBlocks ? last - first : kQuantizeBlocks);
            for (int c = begin; c < end; c++) {
                const int tile = c / kMatmulColumns * kMatmulColumns;
                const int columns = n - tile < kMatmulColumns ? n - tile : kMatmulColumns;
                ActBlock* act =
                    act_ + ptrdiff_t(tile) * blocks + ptrdiff_t(first) * columns + (c - tile);
                const float* x = x_.row(c) + 32 * first;
                float bounded[32 * kQuantizeBlocks];
                if (is_bounded_) {
                    table_.bound(x, nullptr, bounds_.in_min, bounds_.in_max, bounded, inputs);
                    x = bounded;
                }
                table_.quantize(x, inputs, act, columns);
            }
        }
    }

    const KernelTable& table_;
    Rows rows_;
    RowView x_;
    int inputs_, n_threads_;
    ActBlock* act_;
    LinearParams bounds_;
    bool is_bounded_;
};

// For float weights, which read the input itself.
class BoundStep final : public CpuStep {
  public:
    BoundStep(const MatmulInput& in, const RowView& to)
        : CpuStep(Op::linear, in.layer), in_(in), to_(to) {}
    const char* kernel() const override { return "bound"; }
    int chunks(const RunInfo& run) const override {
        return (run.count(in_.rows) + kRows - 1) / kRows;
    }
    void run(const RunInfo& run, int chunk, int) const override {
        const int n = run.count(in_.rows), begin = chunk * kRows;
        for (int row = begin; row < n && row < begin + kRows; row++)
            in_.table.bound(in_.x.row(row), nullptr, in_.bounds.in_min, in_.bounds.in_max,
                            to_.row(row), in_.inputs);
    }

  private:
    static constexpr int kRows = 16;
    MatmulInput in_;
    RowView to_;
};

class MatmulStep final : public CpuStep {
  public:
    MatmulStep(const MatmulInput& in, std::vector<MatmulOutput> outputs, const ActBlock* act)
        : CpuStep(Op::matmul, in.layer), table_(in.table), rows_(in.rows), x_(in.x),
          outputs_(std::move(outputs)), act_(act), n_threads_(in.n_threads) {
        for (const MatmulOutput& o : outputs_)
            n_panels_ += o.matrix.n_panels(), bytes_ += o.matrix.n_panels() * o.matrix.panel_bytes;
    }
    const char* kernel() const override { return "matmul"; }

    // A multiple of the threads, so that equal cores finish together. A few hundred KB each: the
    // tail of a run and the unprefetched start of each chunk then cost a few percent
    // (docs/measurements.md); less is not worth waking another thread for. A chunk of more than a
    // tile of columns is read once for each tile, from the second cache.
    int chunks(const RunInfo& run) const override {
        const int columns = run.count(rows_);
        if (columns == 0) return 0;
        if (columns > kManyColumns) return panel_groups() * column_groups(columns);
        if (n_threads_ == 1 || bytes_ * size_t(columns < 8 ? 1 : columns / 4) < kSerialBytes)
            return 1;
        const size_t threads = size_t(n_threads_), chunk = chunk_bytes(columns);
        size_t per_thread = (bytes_ + threads * chunk - 1) / (threads * chunk);
        // Two can level threads of unequal speed, if each is still long enough.
        if (per_thread < 2 && bytes_ * size_t(columns) >= threads * kLevelBytes) per_thread = 2;
        if (per_thread > kChunksPerThreadMax) per_thread = kChunksPerThreadMax;
        const size_t n = per_thread * threads;
        return int(n < size_t(n_panels_) ? n : size_t(n_panels_));
    }

    void run(const RunInfo& run, int chunk, int) const override {
        const int columns = run.count(rows_);
        if (columns <= kManyColumns) return multiply_part(chunk, chunks(run), 0, columns);
        const int groups = column_groups(columns), tiles = n_tiles(columns), at = chunk % groups;
        const int first = tiles * at / groups * kMatmulColumns,
                  last = tiles * (at + 1) / groups * kMatmulColumns;
        multiply_part(chunk / groups, panel_groups(), first, last < columns ? last : columns);
    }

  private:
    // The activations of so many columns do not fit the second cache: reading them once a panel
    // would wait for memory. Instead so many panels as fit there meet all columns, tile by tile,
    // and chunks are tiles. Runs of text have fewer columns.
    static constexpr int kManyColumns = 512;
    static constexpr size_t kGroupBytes = 512 << 10;
    static int n_tiles(int columns) { return (columns + kMatmulColumns - 1) / kMatmulColumns; }
    int panel_groups() const {
        const size_t n = (bytes_ + kGroupBytes - 1) / kGroupBytes;
        return int(n < size_t(n_panels_) ? n : size_t(n_panels_));
    }
    // So many that the threads finish together.
    int column_groups(int columns) const {
        const int wanted = (16 * n_threads_ + panel_groups() - 1) / panel_groups();
        return wanted < n_tiles(columns) ? wanted : n_tiles(columns);
    }

    // Part `part` of n equal ones of all panels, columns [first, last).
    void multiply_part(int part, int n, int first, int last) const {
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a step without chunks is not run
        int begin = int(int64_t(n_panels_) * part / n),
            end = int(int64_t(n_panels_) * (part + 1) / n);
        for (const MatmulOutput& o : outputs_) {
            const int panels = o.matrix.n_panels();
            if (begin < panels && end > 0)
                multiply_rows(o, begin < 0 ? 0 : begin, end < panels ? end : panels, first, last);
            begin -= panels, end -= panels;
        }
    }

    static constexpr size_t kSerialBytes = 24 << 10, kLevelBytes = 4 << 20,
                            kChunksPerThreadMax = 64;
    static size_t chunk_bytes(int columns) {
        return columns < 4                 ? 256 << 10
               : columns <= kMatmulColumns ? 512 << 10
                                           : (4 << 20) / size_t(columns);
    }

    // first: a multiple of kMatmulColumns.
    void multiply_rows(const MatmulOutput& o, int begin, int end, int first, int last) const {
        const float* x[kMatmulColumns];
        float* out[kMatmulColumns];
        for (int c = first; c < last; c += kMatmulColumns) {
            const int n = last - c < kMatmulColumns ? last - c : kMatmulColumns;
            for (int i = 0; i < n; i++) x[i] = x_.row(c + i), out[i] = o.out.row(c + i);
            multiply(table_, o.matrix, begin, end,
                     act_ ? act_ + ptrdiff_t(c) * (o.matrix.inputs / 32) : nullptr, x, n, out);
            if (o.is_changed()) change_rows(o, begin, end, n, out);
        }
    }
    // While the sums are in the first cache.
    void change_rows(const MatmulOutput& o, int begin, int end, int columns,
                     float* const* out) const {
        const int first = begin * kPanel,
                  last = end * kPanel < o.matrix.rows ? end * kPanel : o.matrix.rows;
        for (int i = 0; i < columns; i++)
            table_.bound(out[i] + first, o.bias ? o.bias + first : nullptr, o.bounds.out_min,
                         o.bounds.out_max, out[i] + first, last - first);
    }

    const KernelTable& table_;
    Rows rows_;
    RowView x_;
    std::vector<MatmulOutput> outputs_;
    const ActBlock* act_;
    int n_threads_;
    int n_panels_ = 0;
    size_t bytes_ = 0;
};

}  // namespace

void add_matmul_steps(StepList& steps, const MatmulInput& in, std::vector<MatmulOutput> outputs,
                      bool is_quantized, const MatmulScratch& scratch) {
    ActBlock* act = is_quantized ? scratch.act : nullptr;
    MatmulInput of = in;
    if (act) steps.push_back(std::make_unique<QuantizeStep>(in, act));
    else if (in.is_bounded()) {
        steps.push_back(std::make_unique<BoundStep>(in, scratch.bounded));
        of.x = scratch.bounded;
    }
    steps.push_back(std::make_unique<MatmulStep>(of, std::move(outputs), act));
}

}  // namespace pillion::cpu

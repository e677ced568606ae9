#include "backends/cpu/cpu_backend.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/cpu_limits.h"
#include "backends/cpu/cpu_plan.h"
#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/import_rows.h"
#include "backends/cpu/kernel_choice.h"
#include "backends/cpu/lane_pack.h"
#include "backends/cpu/thread_pool.h"
#include "core/cpu_count.h"
#include "core/error_boundary.h"
#include "core/expand.h"
#include "core/kv_lanes_strips.h"

namespace pillion::cpu {
namespace {

// Anonymous pages, zeroed, given out on first touch. 2 MB pages where the kernel has them: 5 % of
// decode speed.
class CpuBuffer final : public Buffer {
  public:
    static std::unique_ptr<Buffer> make(size_t size, BufferKind kind) {
        constexpr size_t kHuge = 2 << 20;
        const size_t bytes = (size + 4095) / 4096 * 4096,
                     reserve = bytes >= kHuge ? bytes + kHuge : bytes;
        if (reserve < size) return nullptr;
        void* base = mmap(nullptr, reserve, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) return nullptr;
        uint8_t* start = static_cast<uint8_t*>(base);
        if (bytes >= kHuge) {
            start = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base) + kHuge - 1) /
                                               kHuge * kHuge);
            madvise(start, bytes, MADV_HUGEPAGE);
        }
        auto* buffer = new (std::nothrow) CpuBuffer(size, kind, base, reserve, start);
        if (!buffer) munmap(base, reserve);
        return std::unique_ptr<Buffer>(buffer);
    }
    ~CpuBuffer() override { munmap(base_, reserve_); }
    uint8_t* host() const override { return start_; }

  private:
    CpuBuffer(size_t size, BufferKind kind, void* base, size_t reserve, uint8_t* start)
        : Buffer(size, kind), base_(base), reserve_(reserve), start_(start) {}
    void* base_;
    size_t reserve_;
    uint8_t* start_;
};

#ifdef PILLION_BUFFERS_FROM_HEAP
// For AddressSanitizer, which knows the end of an allocation but not that of a mapping.
class HeapBuffer final : public Buffer {
  public:
    static std::unique_ptr<Buffer> make(size_t size, BufferKind kind) {
        void* start = nullptr;
        if (posix_memalign(&start, 4096, size) != 0) return nullptr;
        memset(start, 0, size);
        return std::unique_ptr<Buffer>(new HeapBuffer(size, kind, start));
    }
    ~HeapBuffer() override { free(start_); }
    uint8_t* host() const override { return static_cast<uint8_t*>(start_); }

  private:
    HeapBuffer(size_t size, BufferKind kind, void* start) : Buffer(size, kind), start_(start) {}
    void* start_;
};
using OwnBuffer = HeapBuffer;
#else
using OwnBuffer = CpuBuffer;
#endif

class MappedBuffer final : public Buffer {
  public:
    MappedBuffer(uint8_t* bytes, size_t size) : Buffer(size, BufferKind::weights), bytes_(bytes) {}
    uint8_t* host() const override { return bytes_; }

  private:
    uint8_t* bytes_;
};

std::unique_ptr<Buffer> allocate_or_throw(size_t bytes, BufferKind kind) {
    auto b = OwnBuffer::make(bytes, kind);
    if (!b) fail(Status::out_of_memory, "no memory for %zu bytes of scratch", bytes);
    return b;
}

class CpuBackend final : public Backend {
  public:
    explicit CpuBackend(const KernelTable& table) : table_(table) {}
    const char* name() const override { return "cpu"; }
    bool is_host() const override { return true; }
    bool batches() const override { return true; }
    const char* kv_layout() const override { return "lanes32"; }  // contract/kv_lanes.h
    std::vector<KvStrip> kv_strips(const KvSpec& spec) const override {
        return kv_lanes_strips(spec);
    }
    MemoryInfo memory() const override { return host_memory(); }

    Json info_json() const override {
        JsonArray tables, features;
        int n = 0;
        const KernelCandidate* candidates = kernel_candidates(&n);
        for (int i = 0; i < n; i++)
            if (can_run(candidates[i])) tables.add(candidates[i].name);
        char names[512];
        feature_names(cpu_features(), names, sizeof names);
        char* rest = nullptr;
        for (const char* f = strtok_r(names, " ", &rest); f; f = strtok_r(nullptr, " ", &rest))
            features.add(f);
        const CpuCount cpus = count_cpus();
        return JsonObject()
            .add("table", table_.name)
            .add("tables", tables)
            .add("features", features)
            .add("threads", cpus.n)
            .add("threads_from", cpus.from);
    }

    Result<void> supports(const Graph&, const Node& node) const override {
        if (!has_kernel(node.op))
            return Failure(Status::unsupported_op, "layer %d: backend cpu has no kernel for op %s",
                           node.layer, info(node.op).name);
        if (node.op == Op::attend_all && node.params.attend_all.head_dim > 1024)
            return Failure(Status::unsupported_op,
                           "layer %d: head size %d, backend cpu supports up to 1024", node.layer,
                           node.params.attend_all.head_dim);
        if (node.op != Op::attend) return ok();
        const AttendParams& p = node.params.attend;
        if (p.head_dim < 2 || p.head_dim > 1024 || p.head_dim % 2)
            return Failure(Status::unsupported_op,
                           "layer %d: head size %d, backend cpu supports even sizes from 2 to 1024",
                           node.layer, p.head_dim);
        if (p.n_kv_heads < 1 || p.n_heads % p.n_kv_heads)
            return Failure(Status::unsupported_op,
                           "layer %d: %d query heads are no multiple of %d KV heads", node.layer,
                           p.n_heads, p.n_kv_heads);
        return ok();
    }

    Result<std::unique_ptr<Buffer>> allocate(size_t size, BufferKind kind) override {
        std::unique_ptr<Buffer> buffer = OwnBuffer::make(std::max<size_t>(size, 64), kind);
        if (buffer) return buffer;
        return Failure(Status::out_of_memory, "no memory for %zu bytes of %s", size,
                       kind_name(kind));
    }

    std::unique_ptr<Buffer> map_host(uint8_t* bytes, size_t size) override {
        return std::make_unique<MappedBuffer>(bytes, size);
    }
    Result<std::unique_ptr<Queue>> make_queue(int n_threads) override {
        return to_result([&]() -> Result<std::unique_ptr<Queue>> {
            return std::make_unique<ThreadPool>(
                std::min(n_threads > 0 ? n_threads : usable_cpus(), 256));
        });
    }

    Result<size_t> weight_bytes(const WeightSource& s) const override {
        return for_tensor(s, [&]() -> Result<size_t> {
            switch (s.use) {
                case WeightSource::Use::vector:
                    format_of(expanded(s.dtype));  // throws of a type without a format
                    return size_t(s.width * s.rows * s.depth) * 4;
                case WeightSource::Use::table:
                    if (s.dtype != DType::i32) format_of(expanded(s.dtype));
                    return s.mapped ? 0 : file_bytes(s);
                case WeightSource::Use::matrix: break;
            }
            return imported_bytes(s.dtype, s.rows, int(s.width)) * size_t(s.depth);
        });
    }

    Result<Tensor> import_weight(const WeightSource& s, Buffer& buffer, size_t offset,
                                 Queue& queue) override {
        const Result<size_t> bytes = weight_bytes(s);
        if (!bytes) return bytes.failure();
        Tensor t = {s.dtype, Layout::rows, s.width, s.rows, s.depth, &buffer, offset};
        if (s.use == WeightSource::Use::vector) t.dtype = DType::f32;
        if (s.use == WeightSource::Use::matrix)
            t.layout = Layout::packed, t.dtype = expanded(s.dtype);
        if (s.use == WeightSource::Use::table && s.mapped)
            t.buffer = s.mapped, t.offset = s.mapped_offset;
        if (!s.data) return t;
        const Result<bool> finished = for_tensor(s, [&]() -> Result<bool> {
            return import_content(s, *bytes, buffer.host() + offset, queue);
        });
        if (!finished) return finished.failure();
        if (!*finished) return Failure(Status::cancelled, "cancelled");
        return t;
    }

    size_t kv_bytes(const KvSpec& spec) const override {
        const auto slots = uint32_t(spec.page_slots());
        return kv_head_bytes(spec.type, uint32_t(spec.head_dim), slots) * size_t(spec.n_kv_heads) *
               size_t(spec.n_pages());
    }

    Result<std::unique_ptr<Plan>> compile(const Graph& graph, Queue& queue,
                                          const CompileOptions& options) override {
        return to_result([&]() -> Result<std::unique_ptr<Plan>> {
            for (const Node& n : graph.nodes())
                if (const Result<void> can = supports(graph, n); !can) return can.failure();
            return compile_plan(graph, table_, static_cast<ThreadPool&>(queue), allocate_or_throw,
                                options);
        });
    }

    Result<MachineLimits> measure_limits(Queue& queue) override {
        ThreadPool& pool = static_cast<ThreadPool&>(queue);
        const Result<std::unique_ptr<Buffer>> probe =
            allocate(limits_probe_bytes(), BufferKind::scratch);
        if (!probe) return probe.failure();
        MachineLimits limits;
        limits.read_bytes_per_second = measure_read(pool, **probe);
        limits.multiply_adds_per_second = measure_dots(pool, table_);
        if (limits.read_bytes_per_second > 0) return limits;
        return Failure(Status::cancelled, "cancelled");
    }

  private:
    // A failure of body() names the tensor.
    template <class F>
    static auto for_tensor(const WeightSource& s, const F& body) -> decltype(body()) {
        auto made = to_result(body);
        if (!made) return made.failure().of("tensor %s", s.name);
        return made;
    }

    // False: cancelled.
    bool import_content(const WeightSource& s, size_t bytes, uint8_t* to, Queue& queue) const {
        switch (s.use) {
            case WeightSource::Use::vector:
                for (int64_t r = 0; r < s.rows * s.depth; r++)
                    read_row(s.dtype, s.data + size_t(r) * row_bytes(s.dtype, s.width),
                             int(s.width), reinterpret_cast<float*>(to) + r * s.width);
                return true;
            case WeightSource::Use::table:
                if (!s.mapped) memcpy(to, s.data, bytes);
                return true;
            case WeightSource::Use::matrix: return pack(s, to, static_cast<ThreadPool&>(queue));
        }
        return true;
    }

    static size_t file_bytes(const WeightSource& s) {
        return row_bytes(s.dtype, s.width) * size_t(s.rows * s.depth);
    }

    bool pack(const WeightSource& s, uint8_t* to, ThreadPool& pool) const {
        const Format format = format_of(expanded(s.dtype));
        const int64_t panels = (s.rows + kPanel - 1) / kPanel;
        const size_t matrix_bytes = packed_bytes(format, s.rows, int(s.width)),
                     file_matrix = row_bytes(s.dtype, s.width) * size_t(s.rows);
        const int64_t piece = std::max<int64_t>(
            1, int64_t((1 << 20) / panel_bytes(format, int(s.width))));  // about 1 MB each
        const int64_t slice = 16 * piece;  // then the source pages are given back
        const size_t scratch_bytes = import_scratch(s.dtype, int(s.width));
        const std::unique_ptr<uint8_t[]> scratch(
            new uint8_t[scratch_bytes * size_t(pool.n_threads())]);
        for (int64_t d = 0; d < s.depth; d++)
            for (int64_t first = 0; first < panels; first += slice) {
                const int64_t last = std::min(first + slice, panels);
                const uint8_t* from = s.data + file_matrix * size_t(d);
                const bool finished =
                    pool.parallel_for(int((last - first + piece - 1) / piece), [&](int chunk,
                                                                                   int worker) {
                        const int64_t begin = first + chunk * piece,
                                      end = std::min(begin + piece, last);
                        uint8_t* matrix = to + matrix_bytes * size_t(d);
                        import_panels(s.dtype, from, s.row_order, s.rows, int(s.width), begin, end,
                                      scratch.get() + scratch_bytes * size_t(worker), matrix);
                    });
                if (!finished) return false;
                const size_t row = row_bytes(s.dtype, s.width);
                const int64_t rows = std::min(last * kPanel, s.rows) - first * kPanel;
                if (s.done && !s.row_order)
                    s.done(s.owner, from + row * size_t(first * kPanel), row * size_t(rows));
            }
        return true;
    }

    const KernelTable& table_;
};

}  // namespace

Result<Backend*> make_cpu_backend() {
    const Result<const KernelTable*> table = choose_kernels();
    if (!table) return table.failure();
    return make_cpu_backend_with(**table);
}

Result<Backend*> make_cpu_backend_with(const KernelTable& table) {
    Backend* backend = new (std::nothrow) CpuBackend(table);
    if (!backend) return Failure(Status::out_of_memory, "no memory for the backend");
    return backend;
}

}  // namespace pillion::cpu

// CUDA as a backend, and the one function that its module exports. Everything below throws Error or
// std::bad_alloc at most; the edges of Backend turn that into a Failure.
#include <string.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>

#include "backends/cuda/cuda_buffer.h"
#include "backends/cuda/cuda_import.h"
#include "backends/cuda/cuda_plan.h"
#include "backends/cuda/cuda_queue.h"
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/limits.h"
#include "backends/cuda/kv_layout.h"
#include "core/cpu_count.h"
#include "core/error_boundary.h"
#include "core/expand.h"
#include "core/module.h"

namespace pillion::cuda {
namespace {

constexpr size_t kProbeBytes = 256u << 20;  // past any cache
constexpr int kProbeRuns = 5;
constexpr size_t kAlign = 256;  // what the products want of packed weights
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kChunkBytes = 0;  // each request apart, so that overruns are seen
#else
constexpr size_t kChunkBytes =
    8u << 20;  // small plans share one; what half of it can't hold is allocated as it is
#endif

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

class CudaBackend final : public Backend {
  public:
    CudaBackend(int index, const DeviceInfo& device)
        : index_(index), device_(device),
          arenas_{{index, device.unified ? MemoryKind::shared : MemoryKind::device,
                   device.unified ? 0 : kChunkBytes},
                  {index, MemoryKind::device, kChunkBytes},
                  {index, MemoryKind::device, kChunkBytes},
                  {index, MemoryKind::mapped, kChunkBytes / 4}} {}
    const char* name() const override { return "cuda"; }
    bool batches() const override { return true; }
    int few_rows() const override { return kDecodeTokens; }

    Json info_json() const override {
        const std::string major = std::to_string(device_.major);
        return JsonObject()
            .add("device", device_.name)
            .add("index", index_)
            .add("compute_capability", major + "." + std::to_string(device_.minor))
            .add("memory_bytes", device_.memory_bytes)
            .add("free_bytes", memory().free)
            .add("multiprocessors", device_.limits.sm_count)
            .add("shared_bytes_per_block", device_.limits.shared_optin)
            .add("unified", device_.unified)
            .add("emulated", device_.emulated);
    }

    MemoryInfo memory() const override {
        MemoryInfo m;
        memory_now(index_, m.total, m.free);
        m.unified = device_.unified;
        return m;
    }

    Result<void> supports(const Graph& graph, const Node& node) const override {
        return cuda_supports(graph, node, device_);
    }

    Result<std::unique_ptr<::pillion::Buffer>> allocate(size_t size, BufferKind kind) override {
        auto buffer = to_result([&] { return make_buffer(size, kind); });
        if (buffer || buffer.failure().code() == Status::device_lost) return buffer;
        return buffer.failure().of("%s on device %d", kind_name(kind), index_);
    }

    std::unique_ptr<::pillion::Buffer> map_host(uint8_t* bytes, size_t size) override {
        return std::unique_ptr<::pillion::Buffer>(new (std::nothrow)
                                                      FileBuffer(index_, bytes, size));
    }

    Result<std::unique_ptr<Queue>> make_queue(int n_threads) override {
        return to_result([&]() -> Result<std::unique_ptr<Queue>> {
            const int threads = n_threads > 0 ? n_threads : usable_cpus();
            return std::make_unique<CudaQueue>(index_, threads, Stream::create(index_));
        });
    }

    Result<void> read(const ::pillion::Buffer& from, size_t offset, size_t bytes,
                      void* to) override {
        const auto& buffer = static_cast<const DeviceBuffer&>(from);
        return to_result([&] {
            return transfer(to, buffer.device(offset), to, buffer.host_now(offset), bytes);
        });
    }
    Result<void> write(const void* from, size_t bytes, ::pillion::Buffer& to,
                       size_t offset) override {
        const auto& buffer = static_cast<DeviceBuffer&>(to);
        return to_result([&] {
            return transfer(buffer.device(offset), from, buffer.host_now(offset), from, bytes);
        });
    }

    Result<size_t> weight_bytes(const WeightSource& s) const override {
        if (!is_weight_type(s.dtype) &&
            !(s.use == WeightSource::Use::table && s.dtype == DType::i32))
            return Failure(Status::unsupported_model,
                           "tensor %s: type %s is not a weight format of the cuda backend", s.name,
                           info(s.dtype).name);
        const size_t bytes = weight_size(s);
        // Places are multiples of 64; import_weight moves on to one of kAlign.
        return bytes > 0 ? bytes + kAlign - 64 : 0;
    }

    Result<Tensor> import_weight(const WeightSource& s, ::pillion::Buffer& buffer, size_t offset,
                                 Queue& queue) override {
        return to_result([&]() -> Result<Tensor> {
            if (const Result<size_t> bytes = weight_bytes(s); !bytes) return bytes.failure();
            return place(s, buffer, (offset + kAlign - 1) / kAlign * kAlign,
                         static_cast<CudaQueue&>(queue));
        });
    }

    const char* kv_layout() const override { return "planes"; }  // kv_layout.h
    size_t kv_bytes(const KvSpec& spec) const override {
        return kv_planes(spec).bytes * size_t(spec.n_pages());
    }
    std::vector<KvStrip> kv_strips(const KvSpec& spec) const override {
        return kv_plane_strips(spec);
    }

    Result<std::unique_ptr<Plan>> compile(const Graph& graph, Queue& queue,
                                          const CompileOptions& options) override {
        return to_result([&]() -> Result<std::unique_ptr<Plan>> {
            if (options.observer)
                return Failure(
                    Status::unsupported_op,
                    "activations are collected on the cpu backend only, this model is on %s",
                    name());
            CudaQueue& stream = static_cast<CudaQueue&>(queue);
            if (const Result<void> there = check_device(index_); !there) return there.failure();
            if (const Result<void> runs = check_graph(graph, stream); !runs) return runs.failure();
            return compile_plan(graph,
                                {device_, arenas_[int(BufferKind::scratch)],
                                 arenas_[int(BufferKind::state)]},
                                options.flash, stream);
        });
    }

    Result<size_t> plan_bytes(const Graph& graph, Queue& queue,
                              const CompileOptions& options) override {
        return to_result([&]() -> Result<size_t> {
            const Result<void> runs = check_graph(graph, static_cast<CudaQueue&>(queue));
            if (!runs) return runs.failure();
            return plan_scratch(graph, device_, options.flash);
        });
    }

    Result<MachineLimits> measure_limits(Queue& queue) override {
        if (device_.emulated) return MachineLimits();  // its time says nothing of a device
        return to_result([&] { return measure_read(static_cast<CudaQueue&>(queue)); });
    }

  private:
    Result<std::unique_ptr<::pillion::Buffer>> make_buffer(size_t size, BufferKind kind) {
        Arena& arena = arenas_[int(kind)];
        Result<std::unique_ptr<Allocation>> allocation = arena.take(std::max<size_t>(size, 64));
        if (!allocation &&
            !(kind == BufferKind::weights && fits_in_pieces(size, allocation.failure())))
            return allocation.failure();
        std::unique_ptr<Allocation> whole = allocation ? std::move(*allocation) : nullptr;
        if (kind == BufferKind::weights)
            return std::make_unique<WeightBuffer>(arena, size, std::move(whole));
        return std::make_unique<OwnBuffer>(size, kind, std::move(whole));
    }

    Result<void> check_graph(const Graph& graph, CudaQueue& queue) const {
        // Makes the device current, which supports() asks.
        if (const Result<Stream*> stream = queue.stream(); !stream) return stream.failure();
        for (const Node& n : graph.nodes())
            if (const Result<void> can = supports(graph, n); !can) return can;
        return ok();
    }

    Result<Tensor> place(const WeightSource& s, ::pillion::Buffer& buffer, size_t offset,
                         CudaQueue& queue) {
        Tensor t = {s.dtype, Layout::rows, s.width, s.rows, s.depth, &buffer, offset};
        t.dtype = s.use == WeightSource::Use::vector ? DType::f32 : expanded(s.dtype);
        if (s.use == WeightSource::Use::matrix) t.layout = Layout::packed;
        if (stays_in_file(s)) {
            t.buffer = s.mapped, t.offset = s.mapped_offset;
            const size_t bytes = row_bytes(s.dtype, s.width) * size_t(s.rows * s.depth);
            if (!s.data) return t;
            auto& file = static_cast<FileBuffer&>(*s.mapped);
            if (const Result<void> placed = file.place(s.mapped_offset, bytes); !placed)
                return placed.failure();
            return t;
        }
        if (!s.data) return t;
        if (buffer.kind() == BufferKind::weights)
            if (const Result<void> placed =
                    static_cast<WeightBuffer&>(buffer).place(offset, weight_size(s));
                !placed)
                return placed.failure();
        auto& weights = static_cast<DeviceBuffer&>(buffer);
        const Result<void> imported =
            import_content(s, weights.host_now(offset), weights.device(offset), queue);
        if (!imported) return imported.failure();
        return t;
    }

    // Whether so much is free, though not in one piece.
    bool fits_in_pieces(size_t bytes, const Failure& refused) const {
        return refused.code() == Status::out_of_memory && memory().free >= bytes;
    }

    // On a stream kept for it: whoever asks has waited for the runs whose results it wants. By the
    // host where it sees both ends.
    Result<void> transfer(void* to, const void* from, void* host_to, const void* host_from,
                          size_t bytes) {
        if (const Result<void> there = check_device(index_); !there) return there;
        if (host_to && host_from) return memcpy(host_to, host_from, bytes), ok();
        if (!to || !from)
            return Failure(Status::internal, "device %d: these bytes were never placed", index_);
        const std::lock_guard<std::mutex> lock(transfer_mutex_);
        if (!transfer_) {
            Result<std::unique_ptr<Stream>> made = Stream::create(index_);
            if (!made) return made.failure();
            transfer_ = std::move(*made);
        }
        transfer_->make_current();  // this thread may never have seen the device
        transfer_->copy(to, from, bytes);
        return transfer_->wait();
    }

    Result<MachineLimits> measure_read(CudaQueue& queue) {
        const Result<Stream*> stream = queue.stream();
        if (!stream) return stream.failure();
        const size_t sums = size_t(device_.limits.sm_count) * kReadBlocksPerSm * 8 * 4;
        const Result<std::unique_ptr<Memory>> memory =
            Memory::allocate(index_, kProbeBytes + sums, MemoryKind::device);
        if (!memory) return memory.failure();
        uint8_t* const bytes = (*memory)->device();
        MachineLimits limits;
        for (int i = 0; i <= kProbeRuns; i++) {  // the first warms up
            if (queue.cancel.load()) return Failure(Status::cancelled, "cancelled");
            const double begin = seconds();
            read_all(bytes, kProbeBytes, reinterpret_cast<uint32_t*>(bytes + kProbeBytes),
                     device_.limits.sm_count, *stream);
            if (const Result<void> ran = (*stream)->wait(); !ran) return ran.failure();
            if (i > 0)
                limits.read_bytes_per_second = std::max(limits.read_bytes_per_second,
                                                        double(kProbeBytes) / (seconds() - begin));
        }
        return limits;
    }

    int index_;
    DeviceInfo device_;
    Arena arenas_[4];  // by BufferKind
    std::mutex transfer_mutex_;
    std::unique_ptr<Stream> transfer_;
};

}  // namespace

static Result<Backend*> open_backend(const ModuleRequest& request) {
    if (const Result<void> same = check_build(request); !same) return same.failure();
    const Result<DeviceInfo> device = find_device(request.device);
    if (!device) return device.failure();
    if (const Result<void> runs = check_code(request.device, *device); !runs) return runs.failure();
    Backend* backend = new (std::nothrow) CudaBackend(request.device, *device);
    if (!backend) return Failure(Status::out_of_memory, "no memory");
    return backend;
}

}  // namespace pillion::cuda

extern "C" __attribute__((visibility("default"))) pillion::Backend* pillion_module_backend(
    const pillion::ModuleRequest* request, pillion::ModuleReason* reason) {
    return pillion::answer(
        pillion::to_result([&] { return pillion::cuda::open_backend(*request); }), *reason);
}

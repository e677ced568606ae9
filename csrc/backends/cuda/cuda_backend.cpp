// CUDA as a backend, and the one function that its module exports. Everything below throws Error or
// std::bad_alloc at most; the edges of Backend turn that into a Status.
#include <string.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>

#include "backends/cuda/cuda_buffer.h"
#include "backends/cuda/cuda_import.h"
#include "backends/cuda/cuda_plan.h"
#include "backends/cuda/cuda_queue.h"
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

    bool supports(const Graph& graph, const Node& node, Reason& reason) const override {
        return cuda_supports(graph, node, device_, reason);
    }

    Status allocate(size_t size, BufferKind kind, std::unique_ptr<::pillion::Buffer>& buffer,
                    Reason& reason) override {
        Reason why;
        const Status status = to_status(why, [&] {
            Status status = Status::ok;
            Arena& arena = arenas_[int(kind)];
            auto allocation = arena.take(std::max<size_t>(size, 64), status, why);
            if (kind == BufferKind::weights && (allocation || fits_in_pieces(size, status))) {
                buffer = std::make_unique<WeightBuffer>(arena, size, std::move(allocation));
                return Status::ok;
            }
            if (allocation) buffer = std::make_unique<OwnBuffer>(size, kind, std::move(allocation));
            return status;
        });
        if (status == Status::device_lost) reason = why;
        else if (status != Status::ok)
            reason.set("%s on device %d: %s", kind_name(kind), index_, why.text);
        return status;
    }

    std::unique_ptr<::pillion::Buffer> map_host(uint8_t* bytes, size_t size) override {
        return std::unique_ptr<::pillion::Buffer>(new (std::nothrow)
                                                      FileBuffer(index_, bytes, size));
    }

    std::unique_ptr<Queue> make_queue(int n_threads) override {
        Status status = Status::ok;
        Reason reason;
        auto stream = Stream::create(index_, status, reason);
        const int threads = n_threads > 0 ? n_threads : usable_cpus();
        return std::make_unique<CudaQueue>(index_, threads, std::move(stream), status, reason);
    }

    Status read(const ::pillion::Buffer& from, size_t offset, size_t bytes, void* to,
                Reason& reason) override {
        const auto& buffer = static_cast<const DeviceBuffer&>(from);
        return to_status(reason, [&] {
            return transfer(to, buffer.device(offset), to, buffer.host_now(offset), bytes, reason);
        });
    }
    Status write(const void* from, size_t bytes, ::pillion::Buffer& to, size_t offset,
                 Reason& reason) override {
        const auto& buffer = static_cast<DeviceBuffer&>(to);
        return to_status(reason, [&] {
            return transfer(buffer.device(offset), from, buffer.host_now(offset), from, bytes,
                            reason);
        });
    }

    Status weight_bytes(const WeightSource& s, size_t& bytes, Reason& reason) const override {
        if (!is_weight_type(s.dtype) &&
            !(s.use == WeightSource::Use::table && s.dtype == DType::i32)) {
            reason.set("tensor %s: type %s is not a weight format of the cuda backend", s.name,
                       info(s.dtype).name);
            return Status::unsupported_model;
        }
        bytes = weight_size(s);
        if (bytes > 0)
            bytes +=
                kAlign - 64;  // places are multiples of 64, import_weight moves on to one of kAlign
        return Status::ok;
    }

    Status import_weight(const WeightSource& s, ::pillion::Buffer& buffer, size_t offset,
                         Queue& queue, Tensor& t, Reason& reason) override {
        return to_status(reason, [&] {
            size_t bytes = 0;
            if (Status status = weight_bytes(s, bytes, reason); status != Status::ok) return status;
            return place(s, buffer, (offset + kAlign - 1) / kAlign * kAlign,
                         static_cast<CudaQueue&>(queue), t, reason);
        });
    }

    const char* kv_layout() const override { return "planes"; }  // kv_layout.h
    size_t kv_bytes(const KvSpec& spec) const override { return kv_planes(spec).bytes; }

    Status compile(const Graph& graph, Queue& queue, std::unique_ptr<Plan>& plan, Reason& reason,
                   const CompileOptions& options) override {
        return to_status(reason, [&] {
            if (options.observer) {
                reason.set("activations are collected on the cpu backend only, this model is on %s",
                           name());
                return Status::unsupported_op;
            }
            CudaQueue& stream = static_cast<CudaQueue&>(queue);
            Status status = Status::ok;
            if (is_lost(index_, reason)) return Status::device_lost;
            if (!stream.stream(status, reason))
                return status;  // also makes the device current, which supports() asks
            for (const Node& n : graph.nodes())
                if (!supports(graph, n, reason)) return Status::unsupported_op;
            plan = compile_plan(graph,
                                {device_, arenas_[int(BufferKind::scratch)],
                                 arenas_[int(BufferKind::state)]},
                                options.flash, stream);
            return Status::ok;
        });
    }

    Status plan_bytes(const Graph& graph, Queue& queue, size_t& bytes, Reason& reason,
                      const CompileOptions& options) override {
        return to_status(reason, [&] {
            Status status = Status::ok;
            if (!static_cast<CudaQueue&>(queue).stream(status, reason))
                return status;  // makes the device current
            for (const Node& n : graph.nodes())
                if (!supports(graph, n, reason)) return Status::unsupported_op;
            bytes = plan_scratch(graph, device_, options.flash);
            return Status::ok;
        });
    }

    Status measure_limits(Queue& queue, MachineLimits& limits, Reason& reason) override {
        limits = {};
        if (device_.emulated) return Status::ok;  // its time says nothing of a device
        return to_status(reason, [&] {
            return measure_read(static_cast<CudaQueue&>(queue), limits, reason);
        });
    }

  private:
    Status place(const WeightSource& s, ::pillion::Buffer& buffer, size_t offset, CudaQueue& queue,
                 Tensor& t, Reason& reason) {
        t = {s.dtype, Layout::rows, s.width, s.rows, s.depth, &buffer, offset};
        t.dtype = s.use == WeightSource::Use::vector ? DType::f32 : expanded(s.dtype);
        if (s.use == WeightSource::Use::matrix) t.layout = Layout::packed;
        if (stays_in_file(s)) {
            t.buffer = s.mapped, t.offset = s.mapped_offset;
            const size_t bytes = row_bytes(s.dtype, s.width) * size_t(s.rows * s.depth);
            return s.data
                       ? static_cast<FileBuffer*>(s.mapped)->place(s.mapped_offset, bytes, reason)
                       : Status::ok;
        }
        if (!s.data) return Status::ok;
        auto& weights = static_cast<DeviceBuffer&>(buffer);
        if (buffer.kind() == BufferKind::weights)
            if (const Status status =
                    static_cast<WeightBuffer&>(buffer).place(offset, weight_size(s), reason);
                status != Status::ok)
                return status;
        return import_content(s, weights.host_now(offset), weights.device(offset), queue, reason);
    }

    // Whether so much is free, though not in one piece.
    bool fits_in_pieces(size_t bytes, Status refused) const {
        const MemoryInfo m = memory();
        return refused == Status::out_of_memory && m.free >= bytes;
    }

    // On a stream kept for it: whoever asks has waited for the runs whose results it wants. By the
    // host where it sees both ends.
    Status transfer(void* to, const void* from, void* host_to, const void* host_from, size_t bytes,
                    Reason& reason) {
        if (is_lost(index_, reason)) return Status::device_lost;
        if (host_to && host_from) return memcpy(host_to, host_from, bytes), Status::ok;
        if (!to || !from)
            return reason.set("device %d: these bytes were never placed", index_), Status::internal;
        Status status = Status::ok;
        const std::lock_guard<std::mutex> lock(transfer_mutex_);
        if (!transfer_) transfer_ = Stream::create(index_, status, reason);
        if (!transfer_) return status;
        transfer_->make_current();  // this thread may never have seen the device
        transfer_->copy(to, from, bytes);
        return transfer_->wait(reason);
    }

    Status measure_read(CudaQueue& queue, MachineLimits& limits, Reason& reason) {
        Status status = Status::ok;
        Stream* stream = queue.stream(status, reason);
        if (!stream) return status;
        const size_t sums = size_t(device_.limits.sm_count) * kReadBlocksPerSm * 8 * 4;
        const auto memory =
            Memory::allocate(index_, kProbeBytes + sums, MemoryKind::device, status, reason);
        if (!memory) return status;
        for (int i = 0; i <= kProbeRuns; i++) {  // the first warms up
            if (queue.cancel.load()) return reason.set("cancelled"), Status::cancelled;
            const double begin = seconds();
            read_all(memory->device(), kProbeBytes,
                     reinterpret_cast<uint32_t*>(memory->device() + kProbeBytes),
                     device_.limits.sm_count, stream);
            if (status = stream->wait(reason); status != Status::ok) return status;
            if (i > 0)
                limits.read_bytes_per_second = std::max(limits.read_bytes_per_second,
                                                        double(kProbeBytes) / (seconds() - begin));
        }
        return Status::ok;
    }

    int index_;
    DeviceInfo device_;
    Arena arenas_[4];  // by BufferKind
    std::mutex transfer_mutex_;
    std::unique_ptr<Stream> transfer_;
};

}  // namespace

static Backend* open_backend(const ModuleRequest& request, Reason& reason) {
    if (!is_same_build(request, reason)) return nullptr;
    DeviceInfo device;
    if (find_device(request.device, device, reason) != Status::ok) return nullptr;
    auto* backend = new (std::nothrow) CudaBackend(request.device, device);
    if (!backend) reason.set("no memory");
    return backend;
}

}  // namespace pillion::cuda

extern "C" __attribute__((visibility("default"))) pillion::Backend* pillion_module_backend(
    const pillion::ModuleRequest* request, pillion::Reason* reason) {
    return pillion::cuda::open_backend(*request, *reason);
}

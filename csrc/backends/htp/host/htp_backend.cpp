// The Hexagon backend, and the one function that its module exports. All memory is shared with the
// host, so buffers have host(), and a CPU drafter reads the caches in place: they have the CPU's
// layout. The code below this file throws only Error and std::bad_alloc.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "backends/htp/host/htp_import.h"
#include "backends/htp/host/htp_plan.h"
#include "backends/htp/wire/htp_sizes.h"
#include "core/cpu_count.h"
#include "core/error_boundary.h"
#include "core/expand.h"
#include "core/module.h"

namespace pillion::htp {
namespace {

// Of weights: DSPs before v75 map less than 2 GB at once.
constexpr size_t kOneAllocationMax = size_t(1) << 30;
// 1/8 of a session's address space stays free for caches and activations.
constexpr size_t kOther = 8;

class HtpBackend final : public Backend {
  public:
    explicit HtpBackend(std::unique_ptr<Device> device)
        : device_(std::move(device)), arena_(*device_), sessions_(*device_) {
        arena_.on_free = [this](const Chunk& c) { sessions_.forget(c); };
    }
    const char* name() const override { return "htp"; }

    Status connect(Reason& reason) {
        const Status s = sessions_.at(0).info(facts_, reason);
        return s;
    }

    Json info_json() const override {
        JsonObject out;
        out.add("device", device_->name())
            .add("architecture", "v" + std::to_string(facts_.arch))
            .add("threads", facts_.threads)
            .add("vtcm_bytes", facts_.vtcm_bytes)
            .add("address_space_bytes", device_->address_space());
        device_->describe(out);
        return out.add("emulated", device_->is_emulated()).add("sessions", sessions_.to_json());
    }

    bool supports(const Graph& graph, const Node& node, Reason& reason) const override {
        return htp_supports(graph, node, reason);
    }

    Status allocate(size_t size, BufferKind kind, std::unique_ptr<Buffer>& buffer,
                    Reason& reason) override {
        return to_status(reason, [&] {
            Status status = Status::ok;
            Reason why;
            if (kind == BufferKind::weights && size > std::min(kOneAllocationMax, usable())) {
                status = allocate_weights(size, buffer, why);
            } else if (auto allocation = arena_.allocate(size, status, why)) {
                buffer = std::make_unique<HtpBuffer>(size, kind, std::move(allocation));
            }
            if (!buffer)
                reason.set("%s on device %s: %s", kind_name(kind), device_->name(), why.text);
            return buffer ? Status::ok : status;
        });
    }

    // A DSP sees only shared memory.
    std::unique_ptr<Buffer> map_host(uint8_t*, size_t) override { return nullptr; }

    Status read(const Buffer& from, size_t offset, size_t bytes, void* to,
                Reason& reason) override {
        const uint8_t* at = host_at(from, offset, reason);
        if (at) memcpy(to, at, bytes);
        return at ? Status::ok : Status::internal;
    }
    Status write(const void* from, size_t bytes, Buffer& to, size_t offset,
                 Reason& reason) override {
        uint8_t* at = host_at(to, offset, reason);
        if (!at) return Status::internal;
        memcpy(at, from, bytes);
        static_cast<const HtpBuffer&>(to).at(offset).chunk->host_writes++;
        return Status::ok;
    }

    std::unique_ptr<Queue> make_queue(int n_threads) override {
        return std::make_unique<HtpQueue>(n_threads > 0 ? n_threads : usable_cpus());
    }

    Status weight_bytes(const WeightSource& s, size_t& bytes, Reason& reason) const override {
        const bool is_ids = s.use == WeightSource::Use::table && s.dtype == DType::i32;
        if (!is_ids && !is_weight_type(s.dtype)) {
            reason.set("tensor %s: type %s is not a weight format of device %s (it has %s)", s.name,
                       ::pillion::info(s.dtype).name, device_->name(), kWeightTypes);
            return Status::unsupported_model;
        }
        // Places are multiples of 64; import_weight moves on to a multiple of HTP_VECTOR.
        bytes = weight_size(s) + HTP_VECTOR;
        return Status::ok;
    }

    Status import_weight(const WeightSource& s, Buffer& buffer, size_t at, Queue& queue, Tensor& t,
                         Reason& reason) override {
        return to_status(reason, [&] {
            size_t bytes = 0;
            if (const Status status = weight_bytes(s, bytes, reason); status != Status::ok)
                return status;
            const size_t offset = (at + HTP_VECTOR - 1) / HTP_VECTOR * HTP_VECTOR;
            t = {s.dtype, Layout::rows, s.width, s.rows, s.depth, &buffer, offset};
            t.dtype = s.use == WeightSource::Use::vector ? DType::f32 : expanded(s.dtype);
            if (s.use == WeightSource::Use::matrix) t.layout = Layout::packed;
            // Only sizes: the buffer may belong to another backend.
            if (!s.data) return Status::ok;
            auto& own = static_cast<HtpBuffer&>(buffer);
            Reason why;
            if (const Status status = own.place(s.name, offset, weight_size(s), why);
                status != Status::ok) {
                reason.set("tensor %s: %s", s.name, why.text);
                return status;
            }
            if (write_weight(s, queue.n_threads(), queue.cancel, own.at(offset).host()))
                return Status::ok;
            reason.set("cancelled");
            return Status::cancelled;
        });
    }

    size_t kv_bytes(const KvSpec& s) const override {
        return size_t(kv_head_bytes(s.type, uint32_t(s.head_dim), uint32_t(s.capacity)) *
                      uint64_t(s.n_kv_heads));
    }

    const char* kv_layout() const override { return "lanes32"; }  // contract/kv_lanes.h

    // The host's memory, as far as sessions can map it.
    MemoryInfo memory() const override {
        const MemoryInfo m = host_memory();
        const size_t most = usable() * size_t(device_->sessions_max());
        return {std::min(m.total, most), std::min(m.free, most), true};
    }

    Status plan_bytes(const Graph& graph, Queue&, size_t& bytes, Reason& reason,
                      const CompileOptions&) override {
        return to_status(reason, [&] {
            for (const Node& n : graph.nodes())
                if (!supports(graph, n, reason)) return Status::unsupported_op;
            bytes = plan_scratch(graph, dsp());
            return Status::ok;
        });
    }

    Status compile(const Graph& graph, Queue& queue, std::unique_ptr<Plan>& plan, Reason& reason,
                   const CompileOptions& options) override {
        return to_status(reason, [&] {
            if (options.observer) {
                reason.set("activations are collected on the cpu backend only, this model is on %s",
                           device_->name());
                return Status::unsupported_op;
            }
            for (const Node& n : graph.nodes())
                if (!supports(graph, n, reason)) return Status::unsupported_op;
            plan = compile_plan(graph, dsp(), static_cast<HtpQueue&>(queue));
            return Status::ok;
        });
    }

    // Unknown: nothing has been measured on a DSP yet, and an emulator's time does not predict a
    // DSP's.
    Status measure_limits(Queue&, MachineLimits& limits, Reason&) override {
        limits = {};
        return Status::ok;
    }

  private:
    Dsp dsp() { return {arena_, sessions_, device_->name()}; }
    size_t usable() const { return device_->address_space() - device_->address_space() / kOther; }

    Status allocate_weights(size_t size, std::unique_ptr<Buffer>& buffer, Reason& reason) {
        const size_t n = (size + usable() - 1) / usable();
        if (n > size_t(device_->sessions_max())) {
            reason.set(
                "%zu MB need %zu sessions of %zu MB each, there are at most %d: take a smaller "
                "model or quantisation",
                size >> 20, n, usable() >> 20, device_->sessions_max());
            return Status::out_of_memory;
        }
        buffer = std::make_unique<HtpBuffer>(size, arena_, int(n));
        return Status::ok;
    }

    uint8_t* host_at(const Buffer& b, size_t offset, Reason& reason) const {
        const HtpBuffer::Location p = static_cast<const HtpBuffer&>(b).at(offset);
        if (!p.chunk) reason.set("nothing lies at byte %zu of this buffer", offset);
        return p.chunk ? p.host() : nullptr;
    }

    std::unique_ptr<Device> device_;
    Arena arena_;
    Sessions sessions_;
    htp_info facts_ = {};
};

void (*g_core_log)(LogLevel, const char*, ...) = nullptr;
void to_core(LogLevel level, const char* message, void*) { g_core_log(level, "%s", message); }

Backend* open_backend(const ModuleRequest& request, Reason& reason) {
    if (!is_same_build(request, reason)) return nullptr;
    g_core_log = request.log;
    set_log_sink(to_core, nullptr);
    Status status = Status::ok;
    auto device = request.device == 0 ? open_fastrpc(status, reason) : open_sim(status, reason);
    if (!device) return nullptr;
    auto backend = std::make_unique<HtpBackend>(std::move(device));
    if (backend->connect(reason) != Status::ok) return nullptr;
    return backend.release();
}

}  // namespace
}  // namespace pillion::htp

extern "C" __attribute__((visibility("default"))) pillion::Backend* pillion_module_backend(
    const pillion::ModuleRequest* request, pillion::Reason* reason) {
    try {
        return pillion::htp::open_backend(*request, *reason);
    } catch (const std::exception& e) {
        reason->set("%s", e.what());
        return nullptr;
    }
}

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
#include "core/kv_lanes_strips.h"
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

    Result<void> connect() {
        const Result<htp_info> facts = sessions_.at(0).info();
        if (!facts) return facts.failure();
        facts_ = *facts;
        return ok();
    }

    bool batches() const override { return true; }

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

    Result<void> supports(const Graph& graph, const Node& node) const override {
        return htp_supports(graph, node);
    }

    Result<std::unique_ptr<Buffer>> allocate(size_t size, BufferKind kind) override {
        return to_result([&]() -> Result<std::unique_ptr<Buffer>> {
            auto buffer = make_buffer(size, kind);
            if (buffer) return buffer;
            return buffer.failure().of("%s on device %s", kind_name(kind), device_->name());
        });
    }

    // A DSP sees only shared memory.
    std::unique_ptr<Buffer> map_host(uint8_t*, size_t) override { return nullptr; }

    Result<void> read(const Buffer& from, size_t offset, size_t bytes, void* to) override {
        const Result<HtpBuffer::Location> place = place_at(from, offset);
        if (!place) return place.failure();
        memcpy(to, place->host(), bytes);
        return ok();
    }
    Result<void> write(const void* from, size_t bytes, Buffer& to, size_t offset) override {
        const Result<HtpBuffer::Location> place = place_at(to, offset);
        if (!place) return place.failure();
        memcpy(place->host(), from, bytes);
        place->chunk->host_writes++;
        return ok();
    }

    Result<std::unique_ptr<Queue>> make_queue(int n_threads) override {
        return to_result([&]() -> Result<std::unique_ptr<Queue>> {
            return std::make_unique<HtpQueue>(n_threads > 0 ? n_threads : usable_cpus());
        });
    }

    Result<size_t> weight_bytes(const WeightSource& s) const override {
        const bool is_ids = s.use == WeightSource::Use::table && s.dtype == DType::i32;
        if (!is_ids && !is_weight_type(s.dtype))
            return Failure(Status::unsupported_model,
                           "tensor %s: type %s is not a weight format of device %s (it has %s)",
                           s.name, ::pillion::info(s.dtype).name, device_->name(), kWeightTypes);
        // Places are multiples of 64; import_weight moves on to a multiple of HTP_VECTOR.
        return weight_size(s) + HTP_VECTOR;
    }

    Result<Tensor> import_weight(const WeightSource& s, Buffer& buffer, size_t at,
                                 Queue& queue) override {
        return to_result([&]() -> Result<Tensor> {
            if (const Result<size_t> bytes = weight_bytes(s); !bytes) return bytes.failure();
            const size_t offset = (at + HTP_VECTOR - 1) / HTP_VECTOR * HTP_VECTOR;
            Tensor t = {s.dtype, Layout::rows, s.width, s.rows, s.depth, &buffer, offset};
            t.dtype = s.use == WeightSource::Use::vector ? DType::f32 : expanded(s.dtype);
            if (s.use == WeightSource::Use::matrix) t.layout = Layout::packed;
            // Only sizes: the buffer may belong to another backend.
            if (!s.data) return t;
            auto& own = static_cast<HtpBuffer&>(buffer);
            if (const Result<void> placed = own.place(s.name, offset, weight_size(s)); !placed)
                return placed.failure().of("tensor %s", s.name);
            if (write_weight(s, queue.n_threads(), queue.cancel, own.at(offset).host())) return t;
            return Failure(Status::cancelled, "cancelled");
        });
    }

    size_t kv_bytes(const KvSpec& s) const override {
        return size_t(kv_head_bytes(s.type, uint32_t(s.head_dim), uint32_t(s.page_slots())) *
                      uint64_t(s.n_kv_heads) * uint64_t(s.n_pages()));
    }

    const char* kv_layout() const override { return "lanes32"; }  // contract/kv_lanes.h
    std::vector<KvStrip> kv_strips(const KvSpec& spec) const override {
        return kv_lanes_strips(spec);
    }

    // The host's memory, as far as sessions can map it.
    MemoryInfo memory() const override {
        const MemoryInfo m = host_memory();
        const size_t most = usable() * size_t(device_->sessions_max());
        return {std::min(m.total, most), std::min(m.free, most), true};
    }

    Result<size_t> plan_bytes(const Graph& graph, Queue&, const CompileOptions&) override {
        return to_result([&]() -> Result<size_t> {
            if (const Result<void> runs = check_graph(graph); !runs) return runs.failure();
            return plan_scratch(graph, dsp());
        });
    }

    Result<std::unique_ptr<Plan>> compile(const Graph& graph, Queue& queue,
                                          const CompileOptions& options) override {
        return to_result([&]() -> Result<std::unique_ptr<Plan>> {
            if (options.observer)
                return Failure(
                    Status::unsupported_op,
                    "activations are collected on the cpu backend only, this model is on %s",
                    device_->name());
            if (const Result<void> runs = check_graph(graph); !runs) return runs.failure();
            return compile_plan(graph, dsp(), static_cast<HtpQueue&>(queue));
        });
    }

    // Unknown: nothing has been measured on a DSP yet, and an emulator's time does not predict a
    // DSP's.
    Result<MachineLimits> measure_limits(Queue&) override { return MachineLimits(); }

  private:
    Dsp dsp() { return {arena_, sessions_, device_->name()}; }
    size_t usable() const { return device_->address_space() - device_->address_space() / kOther; }

    Result<void> check_graph(const Graph& graph) const {
        for (const Node& n : graph.nodes())
            if (const Result<void> can = supports(graph, n); !can) return can;
        return ok();
    }

    Result<std::unique_ptr<Buffer>> make_buffer(size_t size, BufferKind kind) {
        if (kind == BufferKind::weights && size > std::min(kOneAllocationMax, usable()))
            return make_weights(size);
        Result<std::unique_ptr<Allocation>> allocation = arena_.allocate(size);
        if (!allocation) return allocation.failure();
        return std::make_unique<HtpBuffer>(size, kind, std::move(*allocation));
    }

    Result<std::unique_ptr<Buffer>> make_weights(size_t size) {
        const size_t n = (size + usable() - 1) / usable();
        if (n > size_t(device_->sessions_max()))
            return Failure(
                Status::out_of_memory,
                "%zu MB need %zu sessions of %zu MB each, there are at most %d: take a smaller "
                "model or quantization",
                size >> 20, n, usable() >> 20, device_->sessions_max());
        return std::make_unique<HtpBuffer>(size, arena_, int(n));
    }

    Result<HtpBuffer::Location> place_at(const Buffer& b, size_t offset) const {
        const HtpBuffer::Location place = static_cast<const HtpBuffer&>(b).at(offset);
        if (place.chunk) return place;
        return Failure(Status::internal, "nothing lies at byte %zu of this buffer", offset);
    }

    std::unique_ptr<Device> device_;
    Arena arena_;
    Sessions sessions_;
    htp_info facts_ = {};
};

void (*g_core_log)(LogLevel, const char*, ...) = nullptr;
void to_core(LogLevel level, const char* message, void*) { g_core_log(level, "%s", message); }

Result<Backend*> open_backend(const ModuleRequest& request) {
    if (const Result<void> same = check_build(request); !same) return same.failure();
    g_core_log = request.log;
    set_log_sink(to_core, nullptr);
    Result<std::unique_ptr<Device>> device = request.device == 0 ? open_fastrpc() : open_sim();
    if (!device) return device.failure();
    auto backend = std::make_unique<HtpBackend>(std::move(*device));
    if (const Result<void> connected = backend->connect(); !connected) return connected.failure();
    return backend.release();
}

}  // namespace
}  // namespace pillion::htp

extern "C" __attribute__((visibility("default"))) pillion::Backend* pillion_module_backend(
    const pillion::ModuleRequest* request, pillion::ModuleReason* reason) {
    return pillion::answer(pillion::to_result([&] { return pillion::htp::open_backend(*request); }),
                           *reason);
}

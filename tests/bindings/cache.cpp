// Caches: one layer's store decoded to floats, and the runtime's KvCache with its ring and rewind
// rules.
#include <string.h>

#include "backends/cpu/kv_head.h"
#include "backends/cuda/kv_layout.h"
#include "bindings/bindings.h"
#include "core/contract/blocks.h"
#include "runtime/kv_cache.h"

namespace pillion::testing {
namespace {

float half_at(const uint8_t* at) {
    uint16_t h;
    memcpy(&h, at, 2);
    return f16_to_f32(h);
}

// Written from the description in core/contract/kv_lanes.h, sharing no line with the kernels.
float key_at(const cpu::KvHead& h, int slot, int d) {
    const uint8_t* block = h.k + kv_k_block_bytes(h.type, h.head_dim) * size_t(slot / 32);
    const int at = slot % 32;
    if (h.type == KvType::f16) return half_at(block + 2 * (32 * d + at));
    const uint8_t* part = block + (64 + 32 * 32) * (d / 32);
    return half_at(part + 2 * at) * float(int8_t(part[64 + 32 * (d % 32) + at]));
}
float value_at(const cpu::KvHead& h, int slot, int d) {
    const uint8_t* row = h.v + kv_v_row_bytes(h.type, h.head_dim) * size_t(slot);
    if (h.type == KvType::f16) return half_at(row + 2 * d);
    return half_at(row + kv_padded_dim(h.head_dim) + 2 * (d / 32)) * float(int8_t(row[d]));
}

// Of one page: head h's first slot goes to k + h * head_stride.
void read_cpu_page(const KvSpec& spec, const uint8_t* bytes, float* k, float* v,
                   size_t head_stride) {
    const KvType format = spec.type;
    const size_t k_bytes = kv_k_bytes(format, spec.head_dim, spec.capacity),
                 v_bytes = kv_v_bytes(format, spec.head_dim, spec.capacity);
    for (int head = 0; head < spec.n_kv_heads; head++) {
        uint8_t* base = const_cast<uint8_t*>(bytes) + (k_bytes + v_bytes) * size_t(head);
        const cpu::KvHead h = {base, base + k_bytes, spec.capacity, spec.head_dim, format};
        float *to_k = k + size_t(head) * head_stride, *to_v = v + size_t(head) * head_stride;
        for (int slot = 0; slot < h.capacity; slot++)
            for (int d = 0; d < h.head_dim; d++)
                *to_k++ = key_at(h, slot, d), *to_v++ = value_at(h, slot, d);
    }
}

// From the description in backends/cuda/kv_layout.h.
void read_cuda_page(const KvSpec& s, const uint8_t* bytes, float* k, float* v, size_t head_stride) {
    const cuda::KvPlanes planes = cuda::kv_planes(s);
    const size_t scales = size_t(cuda::kv_scales(s.head_dim));
    const auto value = [&](size_t values, size_t scale, size_t row, int d) {
        if (s.type == KvType::f16)
            return half_at(bytes + values + (row * size_t(s.head_dim) + size_t(d)) * 2);
        const float code = float(int8_t(bytes[values + row * size_t(s.head_dim) + size_t(d)]));
        return half_at(bytes + scale + (row * scales + size_t(d / 32)) * 2) * code;
    };
    for (int head = 0; head < s.n_kv_heads; head++) {
        float *to_k = k + size_t(head) * head_stride, *to_v = v + size_t(head) * head_stride;
        for (int slot = 0; slot < s.capacity; slot++)
            for (int d = 0; d < s.head_dim; d++) {
                const size_t row = size_t(slot) * size_t(s.n_kv_heads) + size_t(head);
                *to_k++ = value(planes.k, planes.k_scale, row, d);
                *to_v++ = value(planes.v, planes.v_scale, row, d);
            }
    }
}

// The runtime's cache over layers of (sliding, owns_kv), all of one KV head of size 2.
struct RuntimeCache {
    std::shared_ptr<Device> device;
    std::unique_ptr<KvCache> cache;
    int n_layers;

    RuntimeCache(std::shared_ptr<Device> d, const std::vector<std::pair<bool, bool>>& layers,
                 int window, int n_ctx, int rows_per_run, bool swa_full, int n_snapshots)
        : device(std::move(d)), n_layers(int(layers.size())) {
        HParams hp;
        hp.n_layers = n_layers;
        hp.window = window;
        for (auto [sliding, owns] : layers) {
            LayerParams p;
            p.sliding = sliding, p.owns_kv = owns, p.n_kv_heads = 1, p.head_dim = 2;
            hp.layers.push_back(p);
        }
        const KvPoolOptions options = {KvType::f16, n_ctx, rows_per_run, swa_full, 0, 0};
        auto pool = std::make_shared<KvPool>(hp, *device->backend, options);
        cache = std::make_unique<KvCache>(std::move(pool), window, n_snapshots);
    }
    const KvStore& store(int layer) const {
        if (layer < 0 || layer >= n_layers)
            fail(Status::invalid_argument, "layer %d of %d", layer, n_layers);
        return cache->pool().places().own[layer];
    }
    py::object extent(int layer) const {  // (first byte, bytes)
        if (!store(layer).buffer) return py::none();
        return py::make_tuple(store(layer).offset, device->backend->kv_bytes(store(layer).spec));
    }
    py::bytes bytes_at(int layer) const {
        const KvStore& s = store(layer);
        const size_t n = device->backend->kv_bytes(s.spec);
        const std::vector<uint8_t> bytes = device->read(*s.buffer, s.offset, n);
        return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    void set_bytes(int layer, const std::string& bytes) {
        const KvStore& s = store(layer);
        Backend& b = *device->backend;
        if (bytes.size() != b.kv_bytes(s.spec))
            fail(Status::invalid_argument, "%zu bytes for a store", bytes.size());
        b.write(bytes.data(), bytes.size(), *s.buffer, s.offset).value_or_throw();
    }
};

}  // namespace

void read_cache(const Device& device, const KvStore& store, float* k, float* v) {
    const KvSpec &spec = store.spec, page = spec.one_page();
    const size_t bytes = device.backend->kv_bytes(page),
                 head_stride = size_t(spec.capacity) * size_t(spec.head_dim);
    const auto read_page =
        strcmp(device.backend->name(), "cuda") == 0 ? read_cuda_page : read_cpu_page;
    for (int n = 0; n < spec.n_pages(); n++) {
        const std::vector<uint8_t> content =
            device.read(*store.buffer, store.offset + bytes * size_t(n), bytes);
        const size_t first = size_t(n) * size_t(page.capacity) * size_t(spec.head_dim);
        read_page(page, content.data(), k + first, v + first, head_stride);
    }
}

void bind_cache(py::module_& m) {
    py::class_<RuntimeCache>(m, "KvCache")
        .def(py::init<std::shared_ptr<Device>, const std::vector<std::pair<bool, bool>>&, int, int,
                      int, bool, int>(),
             py::arg("device"), py::arg("layers"), py::arg("window"), py::arg("n_ctx"),
             py::arg("rows_per_run"), py::arg("swa_full") = false, py::arg("n_snapshots") = 0)
        .def_property_readonly("length", [](const RuntimeCache& c) { return c.cache->length(); })
        .def_property_readonly("bytes",
                               [](const RuntimeCache& c) { return c.cache->pool().bytes(); })
        .def(
            "capacity",
            [](const RuntimeCache& c, int layer) { return c.store(layer).spec.capacity; },
            py::arg("layer"))
        .def(
            "is_ring",
            [](const RuntimeCache& c, int layer) {
                return c.store(layer), c.cache->pool().is_ring(layer);
            },
            py::arg("layer"))
        .def("extent", &RuntimeCache::extent, py::arg("layer"),
             "(offset, bytes) of a layer's store; None: it has none.")
        .def(
            "last_view",
            [](const RuntimeCache& c, bool sliding) {
                return c.cache->pool().last_view(sliding).layer;
            },
            py::arg("sliding"))
        .def(
            "begin_write", [](RuntimeCache& c, int rows) { c.cache->begin_write(rows); },
            py::arg("rows"))
        .def(
            "end_write", [](RuntimeCache& c, int rows) { c.cache->end_write(rows); },
            py::arg("rows"))
        .def(
            "can_rewind",
            [](const RuntimeCache& c, int length) { return c.cache->can_rewind(length); },
            py::arg("length"))
        .def(
            "rewind", [](RuntimeCache& c, int length) { c.cache->rewind(length); },
            py::arg("length"))
        .def(
            "expect", [](RuntimeCache& c, int end) { c.cache->expect(end); }, py::arg("end"))
        .def(
            "expect_at", [](RuntimeCache& c, int n) { c.cache->expect_at(n); }, py::arg("length"))
        .def(
            "nearest", [](RuntimeCache& c, int n) { return c.cache->nearest(n); },
            py::arg("length"))
        .def(
            "go_back", [](RuntimeCache& c, int n) { c.cache->go_back(n); }, py::arg("length"))
        .def_property_readonly("n_snapshots",
                               [](const RuntimeCache& c) { return c.cache->snapshots().count(); })
        .def("bytes_at", &RuntimeCache::bytes_at, py::arg("layer"), "A layer's store as bytes.")
        .def("set_bytes", &RuntimeCache::set_bytes, py::arg("layer"), py::arg("bytes"))
        .def("clear", [](RuntimeCache& c) { c.cache->clear(); });
}

}  // namespace pillion::testing

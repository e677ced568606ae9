// Caches of one layer, with pages and tables of one's choice.
#include <string.h>

#include <algorithm>

#include "bindings/bindings.h"

namespace pillion::testing {
namespace {

constexpr int kBeside = 2;  // ints before and after a store's entries in each row of its table
constexpr int32_t kNoPage = 0x5A5A5A5A;

// The runs enqueued so far are over.
void set_table(Cache& c, const PageTable& pages) {
    KvTable& t = c.store.table;
    if (!t.buffer || pages.ndim() != 2 || pages.shape(0) != c.n_tables ||
        pages.shape(1) != t.entries)
        fail(Status::invalid_argument, "the table is no int32 array of %d rows of %d", c.n_tables,
             t.entries);
    auto* words = reinterpret_cast<int32_t*>(t.buffer->host());
    std::fill(words, words + c.n_tables * t.stride, kNoPage);
    for (int row = 0; row < c.n_tables; row++)
        memcpy(words + row * t.stride + kBeside, pages.data(row, 0), size_t(t.entries) * 4);
}

void make_table(Cache& c, const PageTable& pages) {
    if (pages.ndim() != 2) fail(Status::invalid_argument, "the table has no rows and columns");
    KvTable& t = c.store.table;
    c.n_tables = int(pages.shape(0));
    t.entries = int32_t(pages.shape(1)), t.stride = t.entries + 2 * kBeside;
    t.offset = kBeside * 4;
    c.table = c.device->allocate(size_t(c.n_tables) * size_t(t.stride) * 4, BufferKind::state);
    t.buffer = c.table.get();
    set_table(c, pages);
}

size_t page_bytes(const Cache& c) { return c.device->backend->kv_bytes(c.store.spec.one_page()); }

void fill_page(Cache& c, int page, int fill) {
    if (page < 0 || page >= c.store.spec.n_pages())
        fail(Status::invalid_argument, "page %d of %d", page, c.store.spec.n_pages());
    const std::vector<uint8_t> filled(page_bytes(c), uint8_t(fill));
    c.device->backend->write(filled.data(), filled.size(), *c.buffer, filled.size() * size_t(page))
        .value_or_throw();
}

py::tuple decode_cache(const Cache& c) {
    const KvSpec& s = c.store.spec;
    FloatArray k({s.n_kv_heads, s.capacity, s.head_dim}), v({s.n_kv_heads, s.capacity, s.head_dim});
    read_cache(*c.device, c.store, k.mutable_data(), v.mutable_data());
    return py::make_tuple(k, v);
}

}  // namespace

std::shared_ptr<Cache> make_cache(std::shared_ptr<Device> device, const std::string& type,
                                  int n_kv_heads, int head_dim, int capacity, int fill, int page,
                                  const std::optional<PageTable>& table) {
    auto c = std::make_shared<Cache>();
    c->device = device;
    if (type != "f16" && type != "q8_0")
        fail(Status::invalid_argument, "no cache is of type %s", type.c_str());
    c->store.spec = {type == "q8_0" ? KvType::q8_0 : KvType::f16, n_kv_heads, head_dim, capacity,
                     page};
    if (capacity % kKvCapacityUnit || page % kKvCapacityUnit || (page > 0 && capacity % page))
        fail(Status::invalid_argument,
             "capacity %d and page %d are no multiples of %d, or not of each other", capacity, page,
             kKvCapacityUnit);
    c->buffer = device->allocate(device->backend->kv_bytes(c->store.spec), BufferKind::kv);
    c->store.buffer = c->buffer.get();
    for (int n = 0; n < c->store.spec.n_pages(); n++) fill_page(*c, n, fill);
    if (table) make_table(*c, *table);
    return c;
}

void bind_store(py::module_& m) {
    using namespace py::literals;
    py::class_<Cache, std::shared_ptr<Cache>>(m, "Cache")
        .def("read", &decode_cache,
             "(keys, values), each [kv head, slot, dimension]; slots page after page")
        .def("set_table", &set_table, "table"_a, "Replaces the entries; the shape stays.")
        .def("fill_page", &fill_page, "page"_a, "fill"_a, "Sets all bytes of a page.");
}

}  // namespace pillion::testing

#include "media/tower_tensors.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <numeric>

#include "core/expand.h"

namespace pillion {
namespace {

std::string shape_text(const int64_t* dims, size_t n) {
    std::string out = "[";
    for (size_t d = 0; d < n; d++) out += (d ? ", " : "") + std::to_string(dims[d]);
    return out + "]";
}

// The file's pages of a weight that was copied may leave memory.
void drop_pages(const void* file, const uint8_t* data, size_t bytes) {
    const File& f = *static_cast<const File*>(file);
    f.drop(size_t(data - f.data()), bytes);
}

}  // namespace

TowerTensors::TowerTensors(const GgufFile& file) : file_(file) {}

const GgufTensor& TowerTensors::checked(const std::string& name, Shape shape) {
    const GgufTensor* t = file_.find_tensor(name);
    if (!t)
        file_.fail(Status::file_corrupt, "tensor %s: missing, expected %s", name.c_str(),
                   shape_text(shape.begin(), shape.size()).c_str());
    int64_t want[4] = {1, 1, 1, 1};
    std::copy(shape.begin(), shape.end(), want);
    // A trailing dimension of 1 says nothing: [1024, 1] is [1024].
    if (!std::equal(want, want + 4, t->dims))
        file_.fail(Status::file_corrupt, "tensor %s: shape %s, expected %s", name.c_str(),
                   shape_text(t->dims, size_t(t->n_dims)).c_str(),
                   shape_text(shape.begin(), shape.size()).c_str());
    if (!t->is_known() || !can_read(t->dtype))
        file_.fail(Status::unsupported_model, "tensor %s has %s, which is not supported",
                   name.c_str(), gguf_tensor_type_text(t->dtype).c_str());
    file_bytes_ += t->bytes;
    return *t;
}

TowerTensors::Item& TowerTensors::add(Tensor& to, const std::string& name, Shape shape,
                                      WeightSource::Use use) {
    const GgufTensor& t = checked(name, shape);
    names_.push_back(name);
    items_.emplace_back();
    Item& item = items_.back();
    item.tensor = &t, item.to = &to;
    const File& f = file_.files()[t.part];
    item.source.name = names_.back().c_str(), item.source.dtype = t.dtype;
    item.source.rows = *(shape.end() - 1);
    item.source.width = t.n_values() / item.source.rows;
    item.source.depth = 1, item.source.data = t.data, item.source.use = use;
    item.source.done = drop_pages, item.source.owner = &f;
    return item;
}

void TowerTensors::matrix(Tensor& to, const std::string& name, Shape shape,
                          std::vector<int32_t> row_order) {
    Item& item = add(to, name, shape, WeightSource::Use::matrix);
    item.row_order = std::move(row_order);
    if (!item.row_order.empty()) item.source.row_order = item.row_order.data();
}

void TowerTensors::linear(ClippedMatrix& to, const std::string& name, Shape shape,
                          std::vector<int32_t> row_order) {
    matrix(to.weight, name + ".weight", shape, std::move(row_order));
    to.bounds = {scalar(name + ".input_min", -INFINITY), scalar(name + ".input_max", INFINITY),
                 scalar(name + ".output_min", -INFINITY), scalar(name + ".output_max", INFINITY)};
}

void TowerTensors::vector(Tensor& to, const std::string& name, Shape shape, Change change) {
    Item& item = add(to, name, shape, WeightSource::Use::vector);
    item.source.width = item.tensor->n_values(), item.source.rows = 1;
    item.change = std::move(change);
}

void TowerTensors::table(Tensor& to, const std::string& name, Shape shape) {
    Item& item = add(to, name, shape, WeightSource::Use::table);
    item.source.width = item.tensor->dims[0];
    item.source.rows = item.tensor->n_values() / item.source.width;
}

float TowerTensors::scalar(const std::string& name, float fallback) {
    if (!find(name)) return fallback;
    const GgufTensor& t = checked(name, {1});
    float value;
    read_row(t.dtype, t.data, 1, &value);
    if (value != value) file_.fail(Status::file_corrupt, "tensor %s is NaN", name.c_str());
    return value;
}

void TowerTensors::prepare(Item& item) {
    const GgufTensor& t = *item.tensor;
    if (item.source.use == WeightSource::Use::table && file_.files()[t.part].is_mapped()) {
        item.source.mapped = mappings_[t.part].get();
        item.source.mapped_offset = t.offset;
    }
    if (!item.change) return;
    std::vector<float> values(size_t(t.n_values()));
    const size_t rows = size_t(t.n_values() / t.dims[0]), row = row_bytes(t.dtype, t.dims[0]);
    for (size_t r = 0; r < rows; r++)
        read_row(t.dtype, t.data + row * r, t.dims[0], values.data() + size_t(t.dims[0]) * r);
    item.values = item.change(std::move(values));
    item.source.dtype = DType::f32;
    item.source.width = int64_t(item.values.size());
    item.source.data = reinterpret_cast<const uint8_t*>(item.values.data());
    item.source.done = nullptr;
}

template <class T>
T TowerTensors::take(Result<T> result) const {
    if (!result) file_.fail(result.failure().code(), "%s", result.failure().sentence());
    return std::move(*result);
}

std::unique_ptr<Buffer> TowerTensors::import(const TowerDevice& device) {
    // The backend only reads; the interface has one kind of Buffer.
    for (const File& f : file_.files())
        mappings_.push_back(device.backend.map_host(const_cast<uint8_t*>(f.data()), f.size()));
    size_t total = 0;
    for (Item& item : items_) {
        prepare(item);
        item.offset = total;
        item.bytes = take(device.backend.weight_bytes(item.source));
        total += (item.bytes + 63) / 64 * 64;
    }
    std::unique_ptr<Buffer> buffer = take(device.backend.allocate(total, BufferKind::weights));
    for (Item& item : items_)
        *item.to =
            take(device.backend.import_weight(item.source, *buffer, item.offset, device.queue));
    for (const Item& item : items_)
        if (item.bytes > 0) file_.drop(*item.tensor, 0, item.tensor->bytes);
    return buffer;
}

}  // namespace pillion

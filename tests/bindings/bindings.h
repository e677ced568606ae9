// pillion._testing: the C++ types of the library in Python, for tests. NumPy arrays in, NumPy
// arrays out; an error is an exception with the sentence. It is not part of the product: it may
// change at any time, and a wrong argument may fail a PILLION_CHECK.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/backend.h"

namespace pillion::testing {

namespace py = pybind11;

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;

DType dtype_of(const std::string& name);  // "q4_0", "F16": as info(dtype).name, either case

// A backend with its queues; "cpu" over a table of one's choice.
struct Device {
    std::unique_ptr<Backend> owned;
    Backend* backend = nullptr;
    std::vector<std::unique_ptr<Queue>> queues;

    Device(const std::string& name, const std::string& table);
    Queue& queue(int threads);
    std::unique_ptr<Buffer> allocate(size_t bytes, BufferKind kind);
    std::vector<uint8_t> read(const Buffer& buffer, size_t offset, size_t bytes) const;
};

// The store of one layer: rows come in through the op kv_store and are read back decoded.
struct Cache {
    std::shared_ptr<Device> device;
    std::shared_ptr<Buffer> buffer, table;
    KvStore store;
    int n_tables = 0;  // rows of the table
};
// [n_kv_heads, capacity, head_dim] each, page after page, out of the layout of the device's backend
void read_cache(const Device& device, const KvStore& store, float* k, float* v);

using PageTable = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;
std::shared_ptr<Cache> make_cache(std::shared_ptr<Device> device, const std::string& type,
                                  int n_kv_heads, int head_dim, int capacity, int fill, int page,
                                  const std::optional<PageTable>& table);

void bind_graph(py::module_& m);       // graph.cpp: Device, Weight, Graph, Plan
void bind_store(py::module_& m);       // store.cpp: Cache
void bind_cache(py::module_& m);       // cache.cpp: the runtime's KvCache
void bind_pool(py::module_& m);        // pool.cpp: ThreadPool
void bind_draft(py::module_& m);       // draft.cpp: DraftLength
void bind_row_budget(py::module_& m);  // row_budget.cpp: RowBudget, CountCosts

}  // namespace pillion::testing

// The module, and the bindings that need no graph: names, the packer, the memory plan.
#include "bindings/bindings.h"

#include <strings.h>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/import_rows.h"
#include "backends/cpu/kernel_choice.h"
#include "backends/cpu/lane_pack.h"
#include "core/expand.h"
#include "core/memory_plan.h"
#include "core/op.h"

namespace pillion::testing {

DType dtype_of(const std::string& name) {
    for (uint32_t type = 0; type < 64; type++)
        if (const DTypeInfo* t = find_dtype(type); t && strcasecmp(t->name, name.c_str()) == 0)
            return t->dtype;
    fail(Status::invalid_argument, "no type is named %s", name.c_str());
}

Device::Device(const std::string& name, const std::string& table) {
    if (name != "cpu") {
        backend = &find_backend(name);
        return;
    }
    const cpu::KernelTable& kernels = *cpu::find_kernels(table.c_str()).value_or_throw();
    owned.reset(cpu::make_cpu_backend_with(kernels).value_or_throw());
    backend = owned.get();
}

Queue& Device::queue(int threads) {
    for (const auto& q : queues)
        if (q->n_threads() == threads) return *q;
    queues.push_back(backend->make_queue(threads).value_or_throw());
    return *queues.back();
}

std::unique_ptr<Buffer> Device::allocate(size_t bytes, BufferKind kind) {
    return backend->allocate(bytes, kind).value_or_throw();
}

std::vector<uint8_t> Device::read(const Buffer& buffer, size_t offset, size_t bytes) const {
    std::vector<uint8_t> data(bytes);
    backend->read(buffer, offset, bytes, data.data()).value_or_throw();
    return data;
}

namespace {

std::vector<std::string> tables() {
    std::vector<std::string> names;
    int n = 0;
    const cpu::KernelCandidate* candidates = cpu::kernel_candidates(&n);
    for (int i = 0; i < n; i++)
        if (cpu::can_run(candidates[i])) names.push_back(candidates[i].name);
    return names;
}

const char* kind_name(int kind) {
    static constexpr const char* kNames[] = {
#define PILLION_KIND(name) #name,
        PILLION_OPERAND_KINDS(PILLION_KIND)
#undef PILLION_KIND
    };
    return kNames[kind];
}

py::list operand_list(const OperandInfo* operands, int n) {
    using namespace py::literals;
    py::list all;
    for (int k = 0; k < n && operands[k].name; k++)
        all.append(py::dict("name"_a = operands[k].name, "kind"_a = kind_name(operands[k].kind),
                            "optional"_a = bool(operands[k].is_optional),
                            "in_place"_a = bool(operands[k].in_place)));
    return all;
}

py::dict ops() {
    using namespace py::literals;
    py::dict all;
    for (int op = 0; op < int(Op::count); op++) {
        const OpInfo& i = info(Op(op));
        const py::object params = i.params ? py::object(py::str(i.params)) : py::none();
        all[i.name] = py::dict("inputs"_a = operand_list(i.in, OP_INPUTS_MAX),
                               "outputs"_a = operand_list(i.out, OP_OUTPUTS_MAX),
                               "params"_a = params, "scratch"_a = bool(i.uses_scratch));
    }
    return all;
}

py::dict formats() {
    using namespace py::literals;
    py::dict all;
    for (uint32_t number = 0; number < 256; number++) {
        const DTypeInfo& i = info(DType(number));
        if (i.dtype != DType(number)) continue;
        all[i.name] =
            py::dict("number"_a = number, "inputs"_a = i.block, "bytes"_a = i.block_bytes,
                     "is_quantized"_a = i.is_quantized, "kept_as"_a = info(expanded(i.dtype)).name);
    }
    return all;
}

const uint8_t* bytes_of(const std::string& data, size_t wanted) {
    if (data.size() != wanted)
        fail(Status::invalid_argument, "%zu bytes in place of %zu", data.size(), wanted);
    return reinterpret_cast<const uint8_t*>(data.data());
}

py::bytes pack(const std::string& dtype, const std::string& data, int64_t rows, int inputs) {
    const DType type = dtype_of(dtype);
    const uint8_t* from = bytes_of(data, row_bytes(type, inputs) * size_t(rows));
    std::string packed(cpu::imported_bytes(type, rows, inputs), '\xFF');
    std::vector<uint8_t> scratch(cpu::import_scratch(type, inputs));
    cpu::import_panels(type, from, nullptr, rows, inputs, 0, (rows + cpu::kPanel - 1) / cpu::kPanel,
                       scratch.data(), reinterpret_cast<uint8_t*>(packed.data()));
    return packed;
}

py::tuple unpack_row(const std::string& dtype, const std::string& packed, int64_t rows, int inputs,
                     int64_t row) {
    const DType kept = expanded(dtype_of(dtype));
    const cpu::Format format = cpu::format_of(kept);
    const uint8_t* from = bytes_of(packed, cpu::packed_bytes(format, rows, inputs));
    FloatArray values(inputs);
    std::string bytes(row_bytes(kept, inputs), '\0');
    cpu::unpack_row(format, from, row, inputs, values.mutable_data());
    cpu::unpack_row_bytes(format, from, row, inputs, bytes.data());
    return py::make_tuple(values, py::bytes(bytes));
}

py::bytes expand(const std::string& dtype, const std::string& data) {
    const DType type = dtype_of(dtype);
    const int64_t values = int64_t(data.size()) / info(type).block_bytes * info(type).block;
    const uint8_t* from = bytes_of(data, row_bytes(type, values));
    std::string bytes(row_bytes(expanded(type), values), '\0');
    expand_row(type, from, values, reinterpret_cast<uint8_t*>(bytes.data()));
    return bytes;
}

FloatArray dequantize_row(const std::string& dtype, const std::string& data, int inputs) {
    FloatArray values(inputs);
    read_row(dtype_of(dtype), bytes_of(data, row_bytes(dtype_of(dtype), inputs)), inputs,
             values.mutable_data());
    return values;
}

py::tuple plan(const std::vector<std::tuple<size_t, int, int>>& values) {
    std::vector<MemoryRequest> requests;
    for (auto [bytes, first, last] : values) requests.push_back({bytes, first, last, size_t(-1)});
    const size_t total = plan_memory(requests);
    std::vector<py::object> offsets;
    for (const MemoryRequest& r : requests)
        offsets.push_back(r.offset == size_t(-1) ? py::object(py::none()) : py::int_(r.offset));
    return py::make_tuple(offsets, total);
}

}  // namespace
}  // namespace pillion::testing

PYBIND11_MODULE(_testing, m) {
    using namespace pillion::testing;
    m.doc() = "The parts of pillion one by one, for tests.";
    py::register_exception<pillion::Error>(m, "Error", PyExc_RuntimeError);
    m.def("tables", &tables, "Kernel tables that this machine can run, best first.");
    m.def("ops", &ops,
          "core/contract/ops.def: name -> inputs, outputs, params, scratch of every op, in order.");
    m.def("formats", &formats,
          "core/contract/formats.def: name -> number, inputs and bytes of a block, is_quantized, "
          "and the format it is kept as in memory (core/expand.h).");
    m.def("pack", &pack, py::arg("dtype"), py::arg("data"), py::arg("rows"), py::arg("inputs"),
          "GGUF rows -> panels.");
    m.def("unpack_row", &unpack_row, py::arg("dtype"), py::arg("packed"), py::arg("rows"),
          py::arg("inputs"), py::arg("row"),
          "(values, bytes as core/expand.h makes them) of one row of a packed matrix.");
    m.def("expand", &expand, py::arg("dtype"), py::arg("data"),
          "A file's bytes as every backend keeps them (core/expand.h).");
    m.def("dequantize_row", &dequantize_row, py::arg("dtype"), py::arg("data"), py::arg("inputs"));
    m.def("plan_memory", &plan, py::arg("values"),
          "[(bytes, first, last)] -> ([offset or None], total)");
    bind_store(m);
    bind_graph(m);
    bind_cache(m);
    bind_pool(m);
    bind_draft(m);
    bind_row_budget(m);
}

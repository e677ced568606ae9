// Graphs by hand: the builder functions of core/graph.h by name, with buffers for inputs and
// outputs that a run fills and reads. Buffers are poisoned before a run, and what lies beyond a
// run's rows must still be poison after it.
#include <string.h>

#include <map>
#include <set>

#include "bindings/bindings.h"

namespace pillion::lab {
namespace {

constexpr uint32_t kPoison = 0x7FA5A5A5;  // a NaN

struct Weight {
    std::shared_ptr<Device> device;
    std::shared_ptr<Buffer> buffer, mapped;
    std::string data;  // of a mapped table
    Tensor tensor;
};

std::shared_ptr<Weight> make_weight(std::shared_ptr<Device> device, const std::string& data,
                                    const std::string& dtype, int64_t width, int64_t rows,
                                    int64_t depth, const std::string& use, bool mapped,
                                    int threads) {
    auto w = std::make_shared<Weight>();
    w->device = device, w->data = data;
    WeightSource s = {};
    s.name = "lab", s.dtype = dtype_of(dtype), s.width = width, s.rows = rows, s.depth = depth;
    s.use = use == "matrix"   ? WeightSource::Use::matrix
            : use == "vector" ? WeightSource::Use::vector
            : use == "table"  ? WeightSource::Use::table
                              : (fail(Status::invalid_argument, "no use is named %s", use.c_str()),
                                 WeightSource::Use::table);
    const size_t wanted = row_bytes(s.dtype, width) * size_t(rows * depth);
    if (data.size() != wanted)
        fail(Status::invalid_argument, "%zu bytes in place of %zu", data.size(), wanted);
    s.data = reinterpret_cast<const uint8_t*>(w->data.data());
    if (mapped) {
        w->mapped =
            device->backend->map_host(reinterpret_cast<uint8_t*>(w->data.data()), w->data.size());
        s.mapped = w->mapped.get();
    }
    Reason reason;
    size_t bytes = 0;
    check(device->backend->weight_bytes(s, bytes, reason), reason);
    w->buffer = device->allocate(bytes, BufferKind::weights);
    Queue& queue = device->queue(threads);
    py::gil_scoped_release free;
    Status status = Status::internal;
    try {
        status = device->backend->import_weight(s, *w->buffer, 0, queue, w->tensor, reason);
    } catch (const std::exception& e) {
        reason.set("an exception left import_weight: %s", e.what());  // backend.h: none may
    }
    check(status, reason);
    return w;
}

py::bytes weight_bytes(const Weight& w) {  // as the backend keeps them
    if (w.mapped) return py::bytes();
    const std::vector<uint8_t> bytes = w.device->read(*w.buffer, 0, w.buffer->size());
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::shared_ptr<Cache> make_cache(std::shared_ptr<Device> device, const std::string& type,
                                  int n_kv_heads, int head_dim, int capacity, int fill) {
    auto c = std::make_shared<Cache>();
    c->device = device;
    if (type != "f16" && type != "q8_0")
        fail(Status::invalid_argument, "no cache is of type %s", type.c_str());
    c->store.spec = {type == "q8_0" ? KvType::q8_0 : KvType::f16, n_kv_heads, head_dim, capacity};
    if (capacity % kKvCapacityUnit)
        fail(Status::invalid_argument, "capacity %d is no multiple of %d", capacity,
             kKvCapacityUnit);
    const size_t bytes = device->backend->kv_bytes(c->store.spec);
    c->buffer = device->allocate(bytes, BufferKind::kv);
    c->store.buffer = c->buffer.get();
    const std::vector<uint8_t> filled(bytes, uint8_t(fill));
    Reason reason;
    check(device->backend->write(filled.data(), bytes, *c->buffer, 0, reason), reason);
    return c;
}

py::tuple decode_cache(const Cache& c) {
    const KvSpec& s = c.store.spec;
    FloatArray k({s.n_kv_heads, s.capacity, s.head_dim}), v({s.n_kv_heads, s.capacity, s.head_dim});
    read_cache(*c.device, c.store, k.mutable_data(), v.mutable_data());
    return py::make_tuple(k, v);
}

// The fields of a params struct out of a dict; the destructor's place is taken by done(), which
// names what nobody asked for.
class Fields {
  public:
    explicit Fields(const py::dict& values) : values_(values) {}
    template <class T>
    T get(const char* name, T otherwise) {
        asked_.insert(name);
        return values_.contains(name) ? values_[name].cast<T>() : otherwise;
    }
    template <class T>
    T need(const char* name) {
        if (!values_.contains(name)) fail(Status::invalid_argument, "%s is missing", name);
        return get<T>(name, T());
    }
    void done() const {
        for (auto item : values_)
            if (!asked_.count(item.first.cast<std::string>()))
                fail(Status::invalid_argument, "nobody asked for %s",
                     item.first.cast<std::string>().c_str());
    }

  private:
    const py::dict& values_;
    std::set<std::string> asked_;
};

Activation activation_of(const std::string& name) {
    if (name == "gelu_tanh") return Activation::gelu_tanh;
    if (name == "silu") return Activation::silu;
    fail(Status::invalid_argument, "no activation is named %s", name.c_str());
}

// One builder function by the name of its op. in, p: the arguments by their names in core/graph.h.
std::vector<Value> add_op(Graph& g, const std::string& op, const py::dict& in,
                          const py::dict& params) {
    Fields v(in), p(params);
    const auto value = [&](const char* name) {
        const py::object o = v.get<py::object>(name, py::none());
        return o.is_none() ? kNone : o.cast<Value>();
    };
    const auto needed = [&](const char* name) {
        const Value x = value(name);
        if (x < 0 || size_t(x) >= g.values().size())
            fail(Status::invalid_argument, "%s needs %s", op.c_str(), name);
        return x;
    };
    const auto moe = [&] {
        return MoeParams{p.need<int>("n_experts"), p.need<int>("n_used"), p.get<int>("per_row", 1)};
    };
    std::vector<Value> out;
    if (op == "embed") {
        out = {g.embed(needed("table"), needed("tokens"), p.get("scale", 1.0f))};
    } else if (op == "per_layer_embed") {
        const PerLayerEmbedParams e = {p.need<int>("width"),      p.need<int>("n_layers"),
                                       p.get("proj_scale", 1.0f), p.get("table_scale", 1.0f),
                                       p.get("out_scale", 1.0f),  p.need<float>("eps")};
        out = {
            g.per_layer_embed(needed("table"), needed("tokens"), needed("proj"), value("norm"), e)};
    } else if (op == "rope_table") {
        out = {g.rope_table(value("factors"), {p.need<int>("dims"), p.need<float>("base"),
                                               p.get("position_scale", 1.0f)})};
    } else if (op == "scale") {
        out = {g.scale(needed("x"), p.need<float>("scale"))};
    } else if (op == "add") {
        out = {g.add(needed("a"), needed("b"))};
    } else if (op == "norm") {
        out = {g.norm(needed("x"), value("weight"), p.need<float>("eps"), p.get("scale", 1.0f))};
    } else if (op == "norm_add") {
        out = {g.norm_add(needed("branch"), value("weight"), needed("residual"),
                          p.need<float>("eps"), p.get("scale", 1.0f))};
    } else if (op == "matmul") {
        out = {g.matmul(needed("weight"), needed("x"))};
    } else if (op == "qkv_norm_rope") {
        const QkvParams q = {p.need<int>("n_heads"),
                             p.need<int>("n_kv_heads"),
                             p.need<int>("head_dim"),
                             p.need<int>("rope_dims"),
                             p.need<float>("eps"),
                             uint8_t(p.get("interleaved", false)),
                             uint8_t(p.get("norm_v", false)),
                             uint8_t(p.get("v_from_k", false))};
        g.qkv_norm_rope(value("q"), value("k"), value("v"), value("q_norm"), value("k_norm"),
                        needed("rope"), q);
    } else if (op == "kv_store") {
        g.kv_store(needed("cache"), needed("k"), needed("v"));
    } else if (op == "attend") {
        const AttendParams a = {p.need<int>("n_heads"),  p.need<int>("n_kv_heads"),
                                p.need<int>("head_dim"), p.get("window", 0),
                                p.get("scale", 1.0f),    p.get("softcap", 0.0f),
                                p.get("past_only", 0)};
        out = {g.attend(needed("cache"), needed("q"), a)};
    } else if (op == "glu") {
        const Activation kind = activation_of(p.get<std::string>("activation", "gelu_tanh"));
        const int groups = p.get("groups", 0);
        if (groups > 0) out = {g.glu_halves(needed("gate"), groups, kind)};
        else out = {g.glu(needed("gate"), needed("up"), kind, p.get("up_offset", 0))};
    } else if (op == "moe_route") {
        out.resize(2);
        g.moe_route(needed("logits"), value("expert_scale"), moe(), &out[0], &out[1]);
    } else if (op == "moe_matmul") {
        out = {g.moe_matmul(needed("weights"), needed("x"), needed("ids"), moe())};
    } else if (op == "moe_sum") {
        out = {g.moe_sum(needed("x"), needed("gates"), p.need<int>("width"), moe())};
    } else if (op == "gather_rows") {
        out = {g.gather_rows(needed("x"))};
    } else if (op == "softcap") {
        g.softcap(needed("x"), p.need<float>("cap"));
    } else if (op == "argmax") {
        Value probability = kNone;
        const bool asked = p.get("probability", false);
        out = {g.argmax(needed("logits"), value("ids"), asked ? &probability : nullptr)};
        if (asked) out.push_back(probability);
    } else if (op == "concat") {
        out = {g.concat(needed("a"), needed("b"))};
    } else if (op == "centroid_head") {
        out.resize(2);
        out[0] = g.centroid_head(needed("scores"), needed("x"), needed("table"), needed("order"),
                                 {p.need<int>("n_centroids"), p.need<int>("n_active")}, &out[1]);
    } else {
        fail(Status::invalid_argument, "no op is named %s", op.c_str());
    }
    v.done(), p.done();
    return out;
}

// A buffer of a graph that Python sees: [rows_max, width] of f32 or i32.
struct Port {
    std::shared_ptr<Buffer> buffer;
    Rows rows;
    int64_t width;
    DType dtype;
    bool is_input;
};

struct LabPlan {
    std::shared_ptr<Device> device;
    std::vector<std::shared_ptr<void>> keep;
    std::map<std::string, Port> ports;
    int rows_max, out_rows_max;
    Queue* queue;
    std::unique_ptr<Plan> plan;

    int rows_max_of(Rows rows) const { return rows == Rows::out ? out_rows_max : rows_max; }

    void fill(Port& port, const std::string& name, const py::dict& inputs, int rows) const {
        auto* words = reinterpret_cast<uint32_t*>(port.buffer->host());
        std::fill(words, words + size_t(rows_max_of(port.rows)) * size_t(port.width), kPoison);
        if (!port.is_input) return;
        if (!inputs.contains(name.c_str()))
            fail(Status::invalid_argument, "input %s is missing", name.c_str());
        const auto array = py::array::ensure(inputs[name.c_str()], py::array::c_style);
        const bool ints = port.dtype == DType::i32;
        if (!array || !(ints ? py::isinstance<py::array_t<int32_t>>(array)
                             : py::isinstance<py::array_t<float>>(array)))
            fail(Status::invalid_argument, "input %s is no array of %s", name.c_str(),
                 ints ? "int32" : "float32");
        if (array.ndim() != 2 || array.shape(0) < rows || array.shape(1) != port.width)
            fail(Status::invalid_argument, "input %s must be at least %d rows of %ld", name.c_str(),
                 rows, long(port.width));
        memcpy(words, array.data(), size_t(rows) * size_t(port.width) * 4);
    }

    py::object take(const Port& port, const std::string& name, int rows) const {
        const auto* words = reinterpret_cast<const uint32_t*>(port.buffer->host());
        const size_t n = size_t(rows) * size_t(port.width),
                     all = size_t(rows_max_of(port.rows)) * size_t(port.width);
        for (size_t i = n; i < all; i++)
            if (words[i] != kPoison)
                fail(Status::internal, "row %ld of %s was written in a run of %d rows",
                     long(int64_t(i) / port.width), name.c_str(), rows);
        const std::vector<py::ssize_t> shape = {rows, py::ssize_t(port.width)};
        py::array array = port.dtype == DType::i32 ? py::array(py::array_t<int32_t>(shape))
                                                   : py::array(py::array_t<float>(shape));
        memcpy(array.mutable_data(), words, n * 4);
        return std::move(array);
    }

    py::dict run(const py::dict& inputs, int rows, int out_rows, int pos) {
        const int n = std::min(std::max(rows, 0), rows_max);
        for (auto& [name, port] : ports) fill(port, name, inputs, port.rows == Rows::out ? 0 : n);
        StepState state = {};
        state.pos = pos, state.rows = rows, state.out_rows = out_rows;
        {
            py::gil_scoped_release free;
            Reason reason;
            check(plan->run(state, reason), reason);
            check(plan->wait(reason), reason);
        }
        py::dict results;
        for (auto& [name, port] : ports)
            results[name.c_str()] = take(port, name, port.rows == Rows::out ? out_rows : rows);
        return results;
    }
};

struct LabGraph {
    std::shared_ptr<Device> device;
    std::vector<std::shared_ptr<void>> keep;
    std::map<std::string, Port> ports;
    Graph graph;
    Value tokens = kNone;

    LabGraph(std::shared_ptr<Device> d, int rows_max, int out_rows_max)
        : device(std::move(d)), graph(rows_max, out_rows_max < 0 ? rows_max : out_rows_max) {
        tokens = input_tokens();
    }

    Tensor port(const std::string& name, Rows rows, int64_t width, DType dtype, bool is_input) {
        if (ports.count(name))
            fail(Status::invalid_argument, "there is a %s already", name.c_str());
        Port p = {device->allocate(size_t(graph.rows_max(rows)) * size_t(width) * 4,
                                   BufferKind::state),
                  rows, width, dtype, is_input};
        Tensor t = {dtype, Layout::rows, width, graph.rows_max(rows), 1, p.buffer.get(), 0};
        keep.push_back(p.buffer);
        ports.emplace(name, std::move(p));
        return t;
    }
    Value input_tokens() {
        return graph.input_tokens(port("tokens", Rows::run, 1, DType::i32, true));
    }
    Value input(const std::string& name, int64_t width, const std::string& dtype) {
        const Value v = graph.empty(tokens, width);
        graph.output(v, port(name, Rows::run, width, dtype_of(dtype), true), "input");
        return v;
    }
    void output(Value v, const std::string& name) {
        const ValueInfo& info = graph.value(v);
        graph.output(v, port(name, info.rows, info.width, info.dtype, false), "output");
    }
    Value weight(const std::shared_ptr<Weight>& w) {
        return keep.push_back(w), graph.weight(w->tensor);
    }
    Value kv(const std::shared_ptr<Cache>& c) { return keep.push_back(c), graph.kv(c->store); }

    std::unique_ptr<LabPlan> compile(int threads) {
        auto p = std::make_unique<LabPlan>();
        p->device = device, p->keep = keep, p->ports = ports;
        p->rows_max = graph.rows_max(), p->out_rows_max = graph.out_rows_max();
        p->queue = &device->queue(threads);
        Reason reason;
        check(device->backend->compile(graph, *p->queue, p->plan, reason), reason);
        return p;
    }
};

}  // namespace

void bind_graph(py::module_& m) {
    using namespace py::literals;
    py::class_<Device, std::shared_ptr<Device>>(m, "Device")
        .def(py::init<const std::string&, const std::string&>(), "name"_a = "cpu", "table"_a = "")
        .def_property_readonly("name", [](const Device& d) { return d.backend->name(); })
        .def_property_readonly("info",
                               [](const Device& d) { return d.backend->info_json().text(); })
        .def("weight", &make_weight, "data"_a, "dtype"_a, "width"_a, "rows"_a = 1, "depth"_a = 1,
             "use"_a = "matrix", "mapped"_a = false, "threads"_a = 1)
        .def("cache", &make_cache, "type"_a, "n_kv_heads"_a, "head_dim"_a, "capacity"_a,
             "fill"_a = 0)
        .def(
            "graph",
            [](std::shared_ptr<Device> d, int rows, int out) {
                return std::make_unique<LabGraph>(std::move(d), rows, out);
            },
            "rows_max"_a, "out_rows_max"_a = -1)
        .def(
            "cancel", [](Device& d, int threads, bool on) { d.queue(threads).cancel.store(on); },
            "threads"_a, "on"_a,
            "Sets or clears the cancel flag of the queue that plans and imports of this many "
            "threads use.");
    py::class_<Weight, std::shared_ptr<Weight>>(m, "Weight")
        .def_property_readonly("bytes", &weight_bytes);
    py::class_<Cache, std::shared_ptr<Cache>>(m, "Cache")
        .def("read", &decode_cache, "(keys, values), each [kv head, slot, dimension]");
    py::class_<LabGraph>(m, "Graph")
        .def_readonly("tokens", &LabGraph::tokens)
        .def("input", &LabGraph::input, "name"_a, "width"_a, "dtype"_a = "f32")
        .def("output", &LabGraph::output, "value"_a, "name"_a)
        .def("weight", &LabGraph::weight, "weight"_a)
        .def("kv", &LabGraph::kv, "cache"_a)
        .def(
            "empty",
            [](LabGraph& g, Value like, int64_t width) { return g.graph.empty(like, width); },
            "like"_a, "width"_a)
        .def(
            "op",
            [](LabGraph& g, const std::string& op, const py::dict& in, const py::dict& params) {
                return add_op(g.graph, op, in, params);
            },
            "op"_a, "inputs"_a, "params"_a = py::dict())
        .def("__str__", [](const LabGraph& g) { return to_text(g.graph); })
        .def("compile", &LabGraph::compile, "threads"_a = 1);
    py::class_<LabPlan>(m, "Plan")
        .def("run", &LabPlan::run, "inputs"_a, "rows"_a, "out_rows"_a = 0, "pos"_a = 0,
             "All ports after the run, inputs included: some ops work in place.")
        .def_property_readonly("scratch_bytes",
                               [](const LabPlan& p) { return p.plan->scratch_bytes(); })
        .def_property_readonly("json", [](const LabPlan& p) { return p.plan->to_json().text(); });
}

}  // namespace pillion::lab

// Graphs by hand: the builder functions of core/graph.h by name, with buffers for inputs and
// outputs that a run fills and reads. Buffers are poisoned before a run, and bytes beyond a run's
// rows must still be poison after it.
#include <math.h>
#include <string.h>

#include <map>
#include <optional>
#include <set>

#include "bindings/bindings.h"

namespace pillion::testing {
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
    s.name = "w", s.dtype = dtype_of(dtype), s.width = width, s.rows = rows, s.depth = depth;
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
    w->buffer =
        device->allocate(device->backend->weight_bytes(s).value_or_throw(), BufferKind::weights);
    Queue& queue = device->queue(threads);
    py::gil_scoped_release free;
    const auto import = [&]() -> Result<Tensor> {
        try {
            return device->backend->import_weight(s, *w->buffer, 0, queue);
        } catch (const std::exception& e) {  // backend.h: none may
            return Failure(Status::internal, "an exception left import_weight: %s", e.what());
        }
    };
    w->tensor = import().value_or_throw();
    return w;
}

py::bytes weight_bytes(const Weight& w) {  // as the backend keeps them
    if (w.mapped) return py::bytes();
    const std::vector<uint8_t> bytes = w.device->read(*w.buffer, 0, w.buffer->size());
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
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
    if (name == "sigmoid") return Activation::sigmoid;
    fail(Status::invalid_argument, "no activation is named %s", name.c_str());
}

Op op_of(const std::string& name) {
    for (int op = 0; op < int(Op::count); op++)
        if (name == info(Op(op)).name) return Op(op);
    fail(Status::invalid_argument, "no op is named %s", name.c_str());
}

// The operands by their names in contract/ops.def, in the order of the op.
std::vector<Value> operands(Op op, const py::dict& in) {
    Fields fields(in);
    std::vector<Value> values(OP_INPUTS_MAX, kNone);
    for (int k = 0; k < OP_INPUTS_MAX && info(op).in[k].name; k++) {
        const py::object o = fields.get<py::object>(info(op).in[k].name, py::none());
        if (!o.is_none()) values[size_t(k)] = o.cast<Value>();
    }
    fields.done();
    return values;
}

QkvParams qkv_params(Fields& p) {
    return {p.need<int>("n_heads"),
            p.need<int>("n_kv_heads"),
            p.need<int>("head_dim"),
            p.need<int>("rope_dims"),
            p.need<float>("eps"),
            uint8_t(p.get("interleaved", false)),
            uint8_t(p.get("norm_v", false)),
            uint8_t(p.get("v_from_k", false))};
}
AttendParams attend_params(Fields& p) {
    return {p.need<int>("n_heads"), p.need<int>("n_kv_heads"), p.need<int>("head_dim"),
            p.get("window", 0),     p.get("scale", 1.0f),      p.get("softcap", 0.0f),
            p.get("past_only", 0)};
}
LinearParams linear_params(Fields& p) {
    return {p.get("in_min", -INFINITY), p.get("in_max", INFINITY), p.get("out_min", -INFINITY),
            p.get("out_max", INFINITY)};
}
AttendAllParams attend_all_params(Fields& p) {
    return {p.need<int>("n_heads"), p.need<int>("head_dim"), p.get("int8", false),
            p.get("scale", 1.0f)};
}
MoeParams moe_params(Fields& p) {
    return {p.need<int>("n_experts"), p.need<int>("n_used"), p.get("per_row", 1)};
}
PerLayerEmbedParams per_layer_embed_params(Fields& p) {
    return {p.need<int>("width"),       p.need<int>("n_layers"),  p.get("proj_scale", 1.0f),
            p.get("table_scale", 1.0f), p.get("out_scale", 1.0f), p.need<float>("eps")};
}

Value add_glu(Graph& g, const std::vector<Value>& in, Fields& p) {
    const Activation kind = activation_of(p.get<std::string>("activation", "gelu_tanh"));
    const int groups = p.get("groups", 0);
    if (groups > 0) return g.glu_halves(in[0], groups, kind);
    if (in[1] == kNone) return g.activate(in[0], kind);
    return g.glu(in[0], in[1], kind, p.get("up_offset", 0));
}
std::vector<Value> add_argmax(Graph& g, const std::vector<Value>& in, Fields& p) {
    if (!p.get("probability", false)) return {g.argmax(in[0], in[1])};
    Value probability = kNone;
    const Value token = g.argmax(in[0], in[1], &probability);
    return {token, probability};
}
std::vector<Value> add_moe_route(Graph& g, const std::vector<Value>& in, Fields& p) {
    std::vector<Value> out(2);
    return g.moe_route(in[0], in[1], moe_params(p), &out[0], &out[1]), out;
}
std::vector<Value> add_centroid_head(Graph& g, const std::vector<Value>& in, Fields& p) {
    std::vector<Value> out(2);
    const CentroidHeadParams head = {p.need<int>("n_centroids"), p.need<int>("n_active")};
    out[0] = g.centroid_head(in[0], in[1], in[2], in[3], head, &out[1]);
    return out;
}
std::vector<Value> add_in_place(Graph& g, Op op, const std::vector<Value>& in, Fields& p) {
    if (op == Op::kv_store) g.kv_store(in[0], in[1], in[2]);
    else if (op == Op::softcap) g.softcap(in[0], p.need<float>("cap"));
    else g.qkv_norm_rope(in[0], in[1], in[2], in[3], in[4], in[5], qkv_params(p));
    return {};
}

// The builder function of an op; params: the arguments of core/graph.h by their names.
std::vector<Value> build(Graph& g, Op op, const std::vector<Value>& in, Fields& p) {
    switch (op) {
        case Op::embed: return {g.embed(in[0], in[1], p.get("scale", 1.0f), in[2])};
        case Op::per_layer_embed:
            return {g.per_layer_embed(in[0], in[1], in[2], in[3], per_layer_embed_params(p))};
        case Op::rope_table:
            return {g.rope_table(in[0], {p.need<int>("dims"), p.need<float>("base"),
                                         p.get("position_scale", 1.0f)})};
        case Op::rope_grid:
            return {g.rope_grid(in[0], in[1],
                                {p.need<int>("dims"), p.need<float>("base"),
                                 p.get("position_scale", 1.0f)})};
        case Op::layer_norm: return {g.layer_norm(in[0], in[1], in[2], p.need<float>("eps"))};
        case Op::linear: return {g.linear(in[0], in[1], in[2], linear_params(p))};
        case Op::attend_all: return {g.attend_all(in[0], in[1], in[2], attend_all_params(p))};
        case Op::pool_rows:
            return {g.pool_rows(in[0], in[1], in[2], in[3], p.need<float>("factor"))};
        case Op::scale: return {g.scale(in[0], p.need<float>("scale"))};
        case Op::add: return {g.add(in[0], in[1])};
        case Op::norm: return {g.norm(in[0], in[1], p.need<float>("eps"), p.get("scale", 1.0f))};
        case Op::norm_add:
            return {g.norm_add(in[0], in[1], in[2], p.need<float>("eps"), p.get("scale", 1.0f))};
        case Op::matmul: return {g.matmul(in[0], in[1])};
        case Op::attend: return {g.attend(in[0], in[1], attend_params(p), in[2])};
        case Op::glu: return {add_glu(g, in, p)};
        case Op::attend_local:
            return {g.attend_local(in[0], in[1], in[2], in[3], in[4],
                                   {p.need<int>("n_heads"), p.need<int>("head_dim"),
                                    p.need<int>("window"), p.need<float>("softcap")})};
        case Op::conv_causal: return {g.conv_causal(in[0], in[1], p.need<int>("taps"))};
        case Op::subsample:
            return {g.subsample(in[0], in[1], in[2], in[3], in[4],
                                {p.need<int>("channels_1"), p.need<int>("channels_2"),
                                 p.need<float>("eps")})};
        case Op::moe_route: return add_moe_route(g, in, p);
        case Op::moe_matmul: return {g.moe_matmul(in[0], in[1], in[2], moe_params(p))};
        case Op::moe_sum: return {g.moe_sum(in[0], in[1], p.need<int>("width"), moe_params(p))};
        case Op::gather_rows: return {g.gather_rows(in[0])};
        case Op::argmax: return add_argmax(g, in, p);
        case Op::concat: return {g.concat(in[0], in[1])};
        case Op::centroid_head: return add_centroid_head(g, in, p);
        case Op::kv_store:
        case Op::softcap:
        case Op::qkv_norm_rope: return add_in_place(g, op, in, p);
        default: fail(Status::invalid_argument, "op %s has no builder here", info(op).name);
    }
}

std::vector<Value> add_op(Graph& g, const std::string& name, const py::dict& in,
                          const py::dict& params) {
    const Op op = op_of(name);
    Fields p(params);
    std::vector<Value> out = build(g, op, operands(op, in), p);
    p.done();
    return out;
}

// What a backend answers to an op that no line of ops.def declares: (whether it runs it, why not).
py::tuple supports_unknown_op(const Device& device) {
    Graph graph(1, 1);
    const Result<void> runs = device.backend->supports(graph, Node());
    return py::make_tuple(bool(runs), std::string(runs ? "" : runs.failure().sentence()));
}

// A buffer of a graph that Python sees: [rows_max, width] of f32 or i32.
struct Port {
    std::shared_ptr<Buffer> buffer;
    Rows rows;
    int64_t width;
    DType dtype;
    bool is_input;
};

struct BoundPlan {
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

    // (rows, position of the first, row of the page tables) of each segment. rows 0: their sum.
    using Segments = std::vector<std::tuple<int, int, int>>;

    static StepState state_of(const Segments& segments, int rows, int out_rows) {
        if (segments.size() > PILLION_SEGMENTS_MAX)
            fail(Status::invalid_argument, "%zu segments, a run has at most %d", segments.size(),
                 PILLION_SEGMENTS_MAX);
        StepState state = {};
        int row = 0;
        for (const auto& [n, pos, table] : segments) {
            state.segments[state.n_segments++] = {row, n, pos, table};
            row += n;
        }
        state.rows = rows > 0 ? rows : row, state.out_rows = out_rows;
        return state;
    }

    py::dict run(const py::dict& inputs, int rows, int out_rows, int pos,
                 const std::optional<Segments>& segments) {
        const StepState state =
            segments ? state_of(*segments, rows, out_rows) : one_segment(pos, rows, out_rows);
        const int n = std::min(std::max(state.rows, 0), rows_max);
        for (auto& [name, port] : ports) fill(port, name, inputs, port.rows == Rows::out ? 0 : n);
        {
            py::gil_scoped_release free;
            plan->run(state).value_or_throw();
            plan->wait().value_or_throw();
        }
        py::dict results;
        for (auto& [name, port] : ports)
            results[name.c_str()] =
                take(port, name, port.rows == Rows::out ? out_rows : state.rows);
        return results;
    }
};

struct BoundGraph {
    std::shared_ptr<Device> device;
    std::vector<std::shared_ptr<void>> keep;
    std::map<std::string, Port> ports;
    Graph graph;
    Value tokens = kNone;

    BoundGraph(std::shared_ptr<Device> d, int rows_max, int out_rows_max)
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

    std::unique_ptr<BoundPlan> compile(int threads) {
        auto p = std::make_unique<BoundPlan>();
        p->device = device, p->keep = keep, p->ports = ports;
        p->rows_max = graph.rows_max(), p->out_rows_max = graph.out_rows_max();
        p->queue = &device->queue(threads);
        p->plan = device->backend->compile(graph, *p->queue).value_or_throw();
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
        .def_property_readonly("batches", [](const Device& d) { return d.backend->batches(); })
        .def_property_readonly("few_rows", [](const Device& d) { return d.backend->few_rows(); })
        .def("supports_unknown_op", &supports_unknown_op)
        .def("weight", &make_weight, "data"_a, "dtype"_a, "width"_a, "rows"_a = 1, "depth"_a = 1,
             "use"_a = "matrix", "mapped"_a = false, "threads"_a = 1)
        .def("cache", &make_cache, "type"_a, "n_kv_heads"_a, "head_dim"_a, "capacity"_a,
             "fill"_a = 0, "page"_a = 0, "table"_a = py::none(),
             "table: int32 [sequences, entries], which page the positions of a sequence lie in.")
        .def(
            "graph",
            [](std::shared_ptr<Device> d, int rows, int out) {
                return std::make_unique<BoundGraph>(std::move(d), rows, out);
            },
            "rows_max"_a, "out_rows_max"_a = -1)
        .def(
            "cancel", [](Device& d, int threads, bool on) { d.queue(threads).cancel.store(on); },
            "threads"_a, "on"_a,
            "Sets or clears the cancel flag of the queue that plans and imports of this many "
            "threads use.");
    py::class_<Weight, std::shared_ptr<Weight>>(m, "Weight")
        .def_property_readonly("bytes", &weight_bytes);
    py::class_<BoundGraph>(m, "Graph")
        .def_readonly("tokens", &BoundGraph::tokens)
        .def("input", &BoundGraph::input, "name"_a, "width"_a, "dtype"_a = "f32")
        .def("output", &BoundGraph::output, "value"_a, "name"_a)
        .def("weight", &BoundGraph::weight, "weight"_a)
        .def("kv", &BoundGraph::kv, "cache"_a)
        .def(
            "empty",
            [](BoundGraph& g, Value like, int64_t width) { return g.graph.empty(like, width); },
            "like"_a, "width"_a)
        .def(
            "op",
            [](BoundGraph& g, const std::string& op, const py::dict& in, const py::dict& params) {
                return add_op(g.graph, op, in, params);
            },
            "op"_a, "inputs"_a, "params"_a = py::dict())
        .def("__str__", [](const BoundGraph& g) { return to_text(g.graph); })
        .def("compile", &BoundGraph::compile, "threads"_a = 1);
    py::class_<BoundPlan>(m, "Plan")
        .def("run", &BoundPlan::run, "inputs"_a, "rows"_a = 0, "out_rows"_a = 0, "pos"_a = 0,
             "segments"_a = py::none(),
             "All ports after the run, inputs included: some ops work in place. segments: (rows, "
             "position, row of the page tables) each, in place of one of `rows` rows at `pos`.")
        .def_property_readonly("scratch_bytes",
                               [](const BoundPlan& p) { return p.plan->scratch_bytes(); })
        .def_property_readonly("json", [](const BoundPlan& p) { return p.plan->to_json().text(); });
}

}  // namespace pillion::testing

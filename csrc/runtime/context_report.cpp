#include "runtime/context_report.h"

namespace pillion {
namespace {

Json kv_json(const Context& context) {
    JsonArray list;
    const KvPool& kv = context.kv().pool();
    const std::vector<LayerParams>& layers = context.model().hparams().layers;
    for (size_t l = 0; l < layers.size(); l++) {
        if (!layers[l].owns_kv) continue;
        const KvSpec& s = kv.spec(int(l));
        list.add(JsonObject()
                     .add("layer", l)
                     .add("store", kv.is_ring(int(l)) ? "ring" : "full")
                     .add("type", s.type == KvType::q8_0 ? "q8_0" : "f16")
                     .add("positions", kv.span(int(l)))
                     .add("bytes", kv.layer_bytes(int(l))));
    }
    return list;
}

}  // namespace

ContextMemory memory_of(const Context& context) {
    ContextMemory m;
    const KvPool& cache = context.kv().pool();
    const std::vector<LayerParams>& layers = context.model().hparams().layers;
    for (size_t l = 0; l < layers.size(); l++) {
        if (!layers[l].owns_kv) continue;
        ContextMemory::Kv& kv = cache.is_sliding(int(l)) ? m.sliding : m.full;
        kv.layers++, kv.positions = cache.span(int(l));
        kv.bytes += cache.layer_bytes(int(l));
    }
    m.snapshots = context.kv().snapshots().bytes();
    const Runner& runner = context.runner();
    m.scratch = runner.plans().scratch_bytes();
    m.outputs = runner.outputs().bytes() + runner.input_bytes();
    return m;
}

std::string context_json(Context& context) {
    const ContextMemory memory = memory_of(context);
    return JsonObject()
        .add("n_ctx", context.n_ctx())
        .add("n_batch", context.n_batch())
        .add("n_threads", context.queue().n_threads())
        .add("length", context.length())
        .add("kv_bytes", context.kv().pool().bytes())
        .add("n_snapshots", context.kv().snapshots().count())
        .add("snapshot_bytes", memory.snapshots)
        .add("output_bytes", memory.outputs)
        .add("scratch_bytes", memory.scratch)
        .add("kv", kv_json(context))
        .add("backend", context.model().backend().name())
        .add("plan", placement_json(context))
        .text();
}

Json placement_json(Context& context) { return context.runner().plans().get(1).to_json(); }

Work work_of(const Context& context, size_t n, int n_outputs) {
    const int n_outputs_max = context.outputs().rows_max();
    if (n == 0 || n > size_t(context.n_ctx() - context.length()) || n_outputs < 0 ||
        size_t(n_outputs) > n || n_outputs > n_outputs_max)
        fail(Status::invalid_argument,
             "work of %zu tokens with %d outputs after position %d, n_ctx is %d and at most %d "
             "outputs are possible",
             n, n_outputs, context.length(), context.n_ctx(), n_outputs_max);
    Work sum;
    for (int pos = context.length(); n > 0;) {
        const size_t rows = context.rows_of_next_run(nullptr, n, n_outputs);
        const Graph graph = context.runner().plans().graph(int(rows));
        const Work w = work_of(graph, int(rows), rows == n ? n_outputs : 0, pos);
        sum.multiply_adds += w.multiply_adds, sum.weight_bytes += w.weight_bytes;
        sum.kv_bytes += w.kv_bytes;
        pos += int(rows), n -= rows;
    }
    return sum;
}

MachineLimits limits_of(Context& context) {
    return context.model().backend().measure_limits(context.queue()).value_or_throw();
}

}  // namespace pillion

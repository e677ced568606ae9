// Keys and values into the cache.
#include "backends/cuda/ops/step_of.h"

namespace pillion::cuda {

Step make_kv_store_step(const StepArgs& a) {
    const KvSpec spec = a.graph.value(a.node.in[0]).kv.spec;
    const char* kernel = spec.type == KvType::q8_0 ? "kv_store_q8_0" : "kv_store_f16";
    return step_of(a, kernel,
                   [=, pages = a.pages, store = a.in[0], k = floats(a.in[1]),
                    v = floats(a.in[2])](RunRows rows, stream_t stream) {
                       kv_store(spec, pages, store, k, v, rows, stream);
                   });
}

}  // namespace pillion::cuda

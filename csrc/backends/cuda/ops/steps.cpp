// Which file has the steps of an op.
#include "backends/cuda/cuda_steps.h"

namespace pillion::cuda {

Step make_step(const StepArgs& a) {
    switch (a.node.op) {
        case Op::embed:
        case Op::per_layer_embed: return make_embed_step(a);
        case Op::norm:
        case Op::norm_add: return make_norm_step(a);
        case Op::qkv_norm_rope: return make_qkv_step(a);
        case Op::kv_store: return make_kv_store_step(a);
        case Op::attend: return make_attend_step(a);
        case Op::moe_route:
        case Op::moe_sum: return make_moe_step(a);
        case Op::argmax:
        case Op::softcap:
        case Op::centroid_head: return make_head_step(a);
        case Op::scale:
        case Op::add:
        case Op::glu:
        case Op::gather_rows:
        case Op::concat: return make_elementwise_step(a);
        default: return {};
    }
}

}  // namespace pillion::cuda

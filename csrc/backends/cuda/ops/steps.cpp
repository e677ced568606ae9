// Which file has the steps of an op.
#include "backends/cuda/cuda_steps.h"

namespace pillion::cuda {

MakeStep step_maker(Op op) {
    switch (op) {
        case Op::embed:
        case Op::per_layer_embed: return make_embed_step;
        case Op::norm:
        case Op::norm_add: return make_norm_step;
        case Op::qkv_norm_rope: return make_qkv_step;
        case Op::kv_store: return make_kv_store_step;
        case Op::attend: return make_attend_step;
        case Op::moe_route:
        case Op::moe_sum: return make_moe_step;
        case Op::argmax:
        case Op::softcap:
        case Op::centroid_head: return make_head_step;
        case Op::scale:
        case Op::add:
        case Op::glu:
        case Op::gather_rows:
        case Op::concat: return make_elementwise_step;
        default: return nullptr;
    }
}

bool has_kernel(Op op) {
    return step_maker(op) || op == Op::matmul || op == Op::moe_matmul || op == Op::rope_table;
}

}  // namespace pillion::cuda

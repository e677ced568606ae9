// All kernels except the matmuls, over simd.h: the code of every vector table. Included inside the
// namespace of an instruction set.
#include "backends/cpu/body/math.inl"

// These files use math.inl.
#include "backends/cpu/body/elementwise.inl"
#include "backends/cpu/body/kv_store.inl"
#include "backends/cpu/body/norm.inl"
#include "backends/cpu/body/reduce.inl"

// Also uses norm.inl.
#include "backends/cpu/body/rope.inl"

// These also use elementwise.inl.
#include "backends/cpu/body/attention.inl"
#include "backends/cpu/body/sound.inl"

static void fill_ops(KernelTable& t) {
    t.lanes = kLanes;
    t.rms_norm = rms_norm;
    t.rms_norm_add = rms_norm_add;
    t.layer_norm = layer_norm;
    t.head_norm_rope = head_norm_rope;
    t.add = add;
    t.scale = scale;
    t.multiply_add = multiply_add;
    t.glu = glu;
    t.bound = bound;
    t.pool = pool;
    t.softcap = softcap;
    t.argmax = argmax;
    t.dot = dot;
    t.softmax_stats = softmax_stats;
    t.softmax_weights = softmax_weights;
    t.weigh_rows = weigh_rows;
    t.conv_row = conv_row;
    t.attend_local = attend_local;
    t.kv_store = kv_store;
    t.attend_split = attend_split;
    t.attend_merge = attend_merge;
}

// The tensors of an architecture as data, a line per tensor: its name in the file, the field of
// Weights that it loads into, its use, its shape in letters, when it is there. tensor_check.cpp
// compares a file with the lines; weights.cpp loads by them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <array>

#include "model/weights.h"

namespace pillion {

// A view of a constant array.
template <class T>
class List {
  public:
    constexpr List() = default;
    template <size_t N>
    constexpr List(const T (&items)[N]) : first_(items), n_(N) {}  // NOLINT: an array is a list
    constexpr const T* begin() const { return first_; }
    constexpr const T* end() const { return first_ + n_; }

  private:
    const T* first_ = nullptr;
    size_t n_ = 0;
};

// Short words, because the tables are read by column.
namespace rules {

// clang-format off
enum Use : uint8_t {
    matrix,  // quantized or float; what matmul multiplies with
    table,   // quantized or float; its rows are read by token
    embed,   // a table that is also the head's matrix where the file has no output.weight
    vector,  // float
    plain,   // F32 only: the host reads it as it lies
};

// GGUF order, the contiguous dimension first.
enum Dim : uint8_t {
    x1,      // 1
    H,       // n_embd
    V,       // n_vocab
    P, LP,   // per-layer embedding width; times the layers
    Q, KV,   // query heads, KV heads, times head size
    QKV,     // Q + 2 KV
    D,       // head size
    F,       // feed-forward width
    E,       // experts
    FE, FE2, // expert width; twice that
    R,       // RoPE pairs of full layers
    T, T2,   // assistant: the target's n_embd; twice that
    C,       // centroids
};

// When a rule holds. A tensor that is there though its rule does not hold is unknown, or ignored
// where the rule says so.
enum When : uint8_t {
    always,
    has_full,      // the model has full layers
    ple,           // per-layer embeddings
    separate,      // no fused attn_qkv
    fused,         // attn_qkv, which loads into attn_q, attn_k, attn_v
    own_k,         // separate, and the layer has a cache of its own
    own_v,         // own_k, and V does not come from K
    own_norm,      // the layer has a cache of its own
    moe,
    moe_fused,     // gate and up of the experts in one tensor
    moe_separate,
    centroids,     // centroid head in tensors; centroid_head.h checked and loads it
};
// clang-format on

enum Need : uint8_t { must, may, never };

}  // namespace rules

// Where a tensor loads to: a tensor or a number of Owner (Weights, LayerWeights), or nowhere by
// itself.
template <class Owner>
struct Field {
    Tensor Owner::* tensor = nullptr;
    float Owner::* number = nullptr;
    constexpr Field() = default;
    constexpr Field(Tensor Owner::* t) : tensor(t) {}  // NOLINT: written in tables
    constexpr Field(float Owner::* n) : number(n) {}   // NOLINT
};

template <class Owner>
struct TensorRule {
    const char* name;
    Field<Owner> field;
    rules::Use use;
    std::array<rules::Dim, 3> shape;
    rules::When when = rules::always;
    rules::Need need = rules::must;
};

using ModelRule = TensorRule<Weights>;
using LayerRule = TensorRule<LayerWeights>;

}  // namespace pillion

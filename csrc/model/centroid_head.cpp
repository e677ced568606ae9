#include "model/centroid_head.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include <algorithm>

namespace pillion {
namespace {

constexpr int kDefaultTopK = 32;

struct Pieces {
    const GgufTensor* centroids = nullptr;
    const GgufTensor* order = nullptr;
    const GgufValue* centroid_values = nullptr;
    const GgufValue* order_values = nullptr;
};

const GgufTensor* find_either(const GgufFile& file, const std::string& name) {
    const GgufTensor* tensor = file.find_tensor(name + ".weight");
    return tensor ? tensor : file.find_tensor(name);
}

// Third-party assistants spell the prefix in two ways; the first that has the key counts.
const GgufValue* find_key(const GgufFile& file, const char* name) {
    for (const char* prefix :
         {"gemma4-assistant.masked_embedding.", "gemma4_assistant.masked_embedding."})
        if (const GgufValue* value = file.find(std::string(prefix) + name)) return value;
    return nullptr;
}

int64_t integer_or(const GgufFile& file, const char* name, int64_t fallback) {
    const GgufValue* value = find_key(file, name);
    return value ? file.integer(value->key) : fallback;
}

Pieces find_pieces(const GgufFile& file) {
    return {find_centroid_tensor(file), find_either(file, "masked_embd_ordering"),
            find_key(file, "centroids"), find_key(file, "token_ordering")};
}

__attribute__((format(printf, 1, 2))) std::string sentence(const char* format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return text;
}

// "" or why one of the two tables is lacking.
std::string choose_form(const Pieces& p, bool any_key, CentroidHead& form) {
    form = p.centroids && p.order                ? CentroidHead::tensors
           : p.centroid_values && p.order_values ? CentroidHead::keys
                                                 : CentroidHead::none;
    if (form != CentroidHead::none) return "";
    if (p.centroids)
        return "tensor masked_embd_ordering is missing beside masked_embd_centroids.weight";
    if (p.order)
        return "tensor masked_embd_centroids.weight is missing beside masked_embd_ordering";
    if (p.centroid_values)
        return "key masked_embedding.token_ordering is missing beside masked_embedding.centroids";
    if (p.order_values)
        return "key masked_embedding.centroids is missing beside masked_embedding.token_ordering";
    if (any_key)
        return "the metadata describes a centroid head, but tensor masked_embd_centroids.weight is "
               "missing";
    return "";
}

bool is_float_table(DType dtype) {
    return info(dtype).is_quantized || dtype == DType::f32 || dtype == DType::f16 ||
           dtype == DType::bf16;
}

// Sets n_centroids from the table itself.
std::string measure_centroids(const Pieces& p, HParams& hp) {
    if (hp.centroid_head == CentroidHead::tensors) {
        const GgufTensor& t = *p.centroids;
        if (t.dims[0] != hp.n_embd || t.dims[1] > hp.n_vocab || t.dims[2] != 1 || t.dims[3] != 1)
            return sentence("tensor masked_embd_centroids.weight: shape [%" PRId64 ", %" PRId64
                            "], expected [%d, at most %d]",
                            t.dims[0], t.dims[1], hp.n_embd, hp.n_vocab);
        if (!is_float_table(t.dtype))
            return sentence("tensor masked_embd_centroids.weight: type %s is not supported here",
                            info(t.dtype).name);
        hp.n_centroids = int(t.dims[1]);
        return "";
    }
    const GgufValue& v = *p.centroid_values;
    if (!v.is_array || v.element != GgufType::f32)
        return "key masked_embedding.centroids: it is not an array of f32";
    if (v.count == 0 || v.count % uint64_t(hp.n_embd) != 0 ||
        v.count / uint64_t(hp.n_embd) > uint64_t(hp.n_vocab))
        return sentence("key masked_embedding.centroids: %" PRIu64
                        " values are not rows of %d, at most %d of them",
                        v.count, hp.n_embd, hp.n_vocab);
    hp.n_centroids = int(v.count / uint64_t(hp.n_embd));
    return "";
}

std::string measure(const GgufFile& file, const Pieces& p, HParams& hp) {
    std::string problem = measure_centroids(p, hp);
    if (!problem.empty()) return problem;
    const int64_t told = integer_or(file, "num_centroids", hp.n_centroids);
    if (told != hp.n_centroids)
        return sentence("key masked_embedding.num_centroids: %" PRId64
                        ", but the table has %d rows",
                        told, hp.n_centroids);
    if (hp.n_vocab % hp.n_centroids != 0)
        return sentence("%d centroids do not divide the vocabulary of %d", hp.n_centroids,
                        hp.n_vocab);
    const int64_t top_k = integer_or(file, "centroid_top_k", kDefaultTopK);
    if (top_k < 1)
        return sentence("key masked_embedding.centroid_top_k: %" PRId64 ", it must be at least 1",
                        top_k);
    hp.centroid_top_k = int(std::min<int64_t>(top_k, hp.n_centroids));
    return "";
}

// Entry i of the order tensor; false: no integer.
bool order_entry(const GgufTensor& t, int64_t i, int64_t& out) {
    const uint8_t* at = t.data + size_t(i) * size_t(info(t.dtype).block_bytes);
    if (t.dtype == DType::i64) {
        memcpy(&out, at, sizeof out);
        return true;
    }
    if (t.dtype == DType::i32) {
        int32_t v;
        memcpy(&v, at, sizeof v);
        out = v;
        return true;
    }
    float v;  // what converters make of the integer buffer; exact below 2^24
    memcpy(&v, at, sizeof v);
    if (!(v >= 0 && v < float(1 << 24))) return false;
    out = int64_t(v);
    return float(out) == v;
}

// Reads and checks the order; "" or what is wrong with it.
std::string load_order(const Pieces& p, const HParams& hp, std::vector<int32_t>& order) {
    const bool from_tensor = hp.centroid_head == CentroidHead::tensors;
    const char* where =
        from_tensor ? "tensor masked_embd_ordering" : "key masked_embedding.token_ordering";
    if (from_tensor) {
        const DType t = p.order->dtype;
        if (t != DType::i32 && t != DType::i64 && t != DType::f32)
            return sentence("%s: type %s is not supported here (I32, I64, F32)", where,
                            info(t).name);
    } else if (!p.order_values || !p.order_values->is_array ||
               p.order_values->element == GgufType::boolean) {
        return sentence("%s: it is not an array of integers", where);
    }
    const uint64_t n = from_tensor ? uint64_t(p.order->n_values()) : p.order_values->count;
    if (n != uint64_t(hp.n_vocab))
        return sentence("%s: %" PRIu64 " entries, expected %d", where, n, hp.n_vocab);
    order.resize(size_t(n));
    std::vector<bool> seen(size_t(n), false);
    for (size_t i = 0; i < order.size(); ++i) {
        int64_t id = -1;
        const bool whole = from_tensor ? order_entry(*p.order, int64_t(i), id)
                                       : gguf_integer(*p.order_values, i, id);
        if (!whole || id < 0 || id >= hp.n_vocab)
            return sentence("%s: entry %zu is no token id below %d", where, i, hp.n_vocab);
        if (seen[size_t(id)]) return sentence("%s: id %" PRId64 " occurs twice", where, id);
        seen[size_t(id)] = true;
        order[i] = int32_t(id);
    }
    return "";
}

}  // namespace

const GgufTensor* find_centroid_tensor(const GgufFile& file) {
    return find_either(file, "masked_embd_centroids");
}

void find_centroid_head(const GgufFile& file, HParams& hp) {
    const Pieces pieces = find_pieces(file);
    const bool any_key = find_key(file, "num_centroids") || find_key(file, "centroid_top_k");
    std::string problem = choose_form(pieces, any_key, hp.centroid_head);
    std::vector<int32_t> order;
    if (hp.centroid_head != CentroidHead::none) {
        problem = measure(file, pieces, hp);
        if (problem.empty()) problem = load_order(pieces, hp, order);
    }
    if (problem.empty()) return;
    hp.centroid_head = CentroidHead::none;
    hp.n_centroids = hp.centroid_top_k = 0;
    hp.centroid_head_problem = problem + "; the dense head is used";
}

std::vector<float> read_centroid_values(const GgufFile& file) {
    const GgufValue* value = find_key(file, "centroids");
    PILLION_CHECK(value);
    return file.float32s(value->key);
}

std::vector<int32_t> read_centroid_order(const GgufFile& file, const HParams& hp) {
    std::vector<int32_t> order;
    PILLION_CHECK(hp.centroid_head != CentroidHead::none);
    const std::string problem = load_order(find_pieces(file), hp, order);
    if (!problem.empty()) file.fail(Status::file_corrupt, "%s", problem.c_str());
    return order;
}

}  // namespace pillion

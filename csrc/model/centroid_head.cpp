#include "model/centroid_head.h"

#include <inttypes.h>
#include <string.h>

#include <algorithm>

#include "core/result.h"

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

// Fails if one of the two tables is lacking.
Result<void> choose_form(const Pieces& p, bool any_key, CentroidHead& form) {
    form = p.centroids && p.order                ? CentroidHead::tensors
           : p.centroid_values && p.order_values ? CentroidHead::keys
                                                 : CentroidHead::none;
    if (form != CentroidHead::none) return ok();
    if (p.centroids)
        return Failure(
            Status::file_corrupt,
            "tensor masked_embd_ordering is missing beside masked_embd_centroids.weight");
    if (p.order)
        return Failure(
            Status::file_corrupt,
            "tensor masked_embd_centroids.weight is missing beside masked_embd_ordering");
    if (p.centroid_values)
        return Failure(
            Status::file_corrupt,
            "key masked_embedding.token_ordering is missing beside masked_embedding.centroids");
    if (p.order_values)
        return Failure(
            Status::file_corrupt,
            "key masked_embedding.centroids is missing beside masked_embedding.token_ordering");
    if (any_key)
        return Failure(
            Status::file_corrupt,
            "the metadata describes a centroid head, but tensor masked_embd_centroids.weight is "
            "missing");
    return ok();
}

bool is_float_table(DType dtype) {
    return info(dtype).is_quantized || dtype == DType::f32 || dtype == DType::f16 ||
           dtype == DType::bf16;
}

// Sets n_centroids from the table itself.
Result<void> measure_centroids(const Pieces& p, HParams& hp) {
    if (hp.centroid_head == CentroidHead::tensors) {
        const GgufTensor& t = *p.centroids;
        if (t.dims[0] != hp.n_embd || t.dims[1] > hp.n_vocab || t.dims[2] != 1 || t.dims[3] != 1)
            return Failure(Status::file_corrupt,
                           "tensor masked_embd_centroids.weight: shape [%" PRId64 ", %" PRId64
                           "], expected [%d, at most %d]",
                           t.dims[0], t.dims[1], hp.n_embd, hp.n_vocab);
        if (!is_float_table(t.dtype))
            return Failure(Status::file_corrupt,
                           "tensor masked_embd_centroids.weight: type %s is not supported here",
                           info(t.dtype).name);
        hp.n_centroids = int(t.dims[1]);
        return ok();
    }
    const GgufValue& v = *p.centroid_values;
    if (!v.is_array || v.element != GgufType::f32)
        return Failure(Status::file_corrupt,
                       "key masked_embedding.centroids: it is not an array of f32");
    if (v.count == 0 || v.count % uint64_t(hp.n_embd) != 0 ||
        v.count / uint64_t(hp.n_embd) > uint64_t(hp.n_vocab))
        return Failure(Status::file_corrupt,
                       "key masked_embedding.centroids: %" PRIu64
                       " values are not rows of %d, at most %d of them",
                       v.count, hp.n_embd, hp.n_vocab);
    hp.n_centroids = int(v.count / uint64_t(hp.n_embd));
    return ok();
}

Result<void> measure(const GgufFile& file, const Pieces& p, HParams& hp) {
    if (const Result<void> measured = measure_centroids(p, hp); !measured) return measured;
    const int64_t told = integer_or(file, "num_centroids", hp.n_centroids);
    if (told != hp.n_centroids)
        return Failure(Status::file_corrupt,
                       "key masked_embedding.num_centroids: %" PRId64 ", but the table has %d rows",
                       told, hp.n_centroids);
    if (hp.n_vocab % hp.n_centroids != 0)
        return Failure(Status::file_corrupt, "%d centroids do not divide the vocabulary of %d",
                       hp.n_centroids, hp.n_vocab);
    const int64_t top_k = integer_or(file, "centroid_top_k", kDefaultTopK);
    if (top_k < 1)
        return Failure(Status::file_corrupt,
                       "key masked_embedding.centroid_top_k: %" PRId64 ", it must be at least 1",
                       top_k);
    hp.centroid_top_k = int(std::min<int64_t>(top_k, hp.n_centroids));
    return ok();
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

// Reads and checks the order.
Result<std::vector<int32_t>> load_order(const Pieces& p, const HParams& hp) {
    const bool from_tensor = hp.centroid_head == CentroidHead::tensors;
    const char* where =
        from_tensor ? "tensor masked_embd_ordering" : "key masked_embedding.token_ordering";
    if (from_tensor) {
        const DType t = p.order->dtype;
        if (t != DType::i32 && t != DType::i64 && t != DType::f32)
            return Failure(Status::file_corrupt,
                           "%s: type %s is not supported here (I32, I64, F32)", where,
                           info(t).name);
    } else if (!p.order_values || !p.order_values->is_array ||
               p.order_values->element == GgufType::boolean) {
        return Failure(Status::file_corrupt, "%s: it is not an array of integers", where);
    }
    const uint64_t n = from_tensor ? uint64_t(p.order->n_values()) : p.order_values->count;
    if (n != uint64_t(hp.n_vocab))
        return Failure(Status::file_corrupt, "%s: %" PRIu64 " entries, expected %d", where, n,
                       hp.n_vocab);
    std::vector<int32_t> order(size_t(n), 0);
    std::vector<bool> seen(size_t(n), false);
    for (size_t i = 0; i < order.size(); ++i) {
        int64_t id = -1;
        const bool whole = from_tensor ? order_entry(*p.order, int64_t(i), id)
                                       : gguf_integer(*p.order_values, i, id);
        if (!whole || id < 0 || id >= hp.n_vocab)
            return Failure(Status::file_corrupt, "%s: entry %zu is no token id below %d", where, i,
                           hp.n_vocab);
        if (seen[size_t(id)])
            return Failure(Status::file_corrupt, "%s: id %" PRId64 " occurs twice", where, id);
        seen[size_t(id)] = true;
        order[i] = int32_t(id);
    }
    return order;
}

// Sets the fields of the head; ok also without one.
Result<void> check_head(const GgufFile& file, const Pieces& p, HParams& hp) {
    const bool any_key = find_key(file, "num_centroids") || find_key(file, "centroid_top_k");
    const Result<void> chosen = choose_form(p, any_key, hp.centroid_head);
    if (!chosen || hp.centroid_head == CentroidHead::none) return chosen;
    if (const Result<void> measured = measure(file, p, hp); !measured) return measured;
    const Result<std::vector<int32_t>> order = load_order(p, hp);
    return order ? ok() : order.failure();
}

}  // namespace

const GgufTensor* find_centroid_tensor(const GgufFile& file) {
    return find_either(file, "masked_embd_centroids");
}

void find_centroid_head(const GgufFile& file, HParams& hp) {
    const Result<void> usable = check_head(file, find_pieces(file), hp);
    if (usable) return;
    hp.centroid_head = CentroidHead::none;
    hp.n_centroids = hp.centroid_top_k = 0;
    hp.centroid_head_problem =
        std::string(usable.failure().sentence()) + "; the dense head is used";
}

std::vector<float> read_centroid_values(const GgufFile& file) {
    const GgufValue* value = find_key(file, "centroids");
    PILLION_CHECK(value);
    return file.float32s(value->key);
}

std::vector<int32_t> read_centroid_order(const GgufFile& file, const HParams& hp) {
    PILLION_CHECK(hp.centroid_head != CentroidHead::none);
    Result<std::vector<int32_t>> order = load_order(find_pieces(file), hp);
    if (!order) file.fail(order.failure().code(), "%s", order.failure().sentence());
    return std::move(*order);
}

}  // namespace pillion

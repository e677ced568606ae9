// The metadata keys that architectures share. An architecture's read() calls the parts in the order
// of the checks: sizes, layer kinds, heads, RoPE, then what it has and others don't. Each number is
// bounded where it is read; every refusal is an Error with the file's path, the key, its value and
// the limit.
#pragma once
#include <set>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/hparams.h"

namespace pillion {

// Bounds that no model comes near; they keep products of two of these numbers inside an int.
constexpr int64_t kMaxWidth = 1 << 20;  // hidden sizes, feed-forward widths
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxVocab = 1 << 24;  // the centroid head may store ids as float32
constexpr int64_t kMaxContext = 1 << 30;

class HParamsReader {
  public:
    HParamsReader(const GgufFile& f, HParams& h, const Architecture& architecture);

    const GgufFile& file;
    HParams& hp;

    // --- keys, named without the architecture's prefix ---
    std::string key(const char* name) const;  // with the first prefix that has it
    bool has(const char* name) const { return file.find(key(name)) != nullptr; }
    int count(const char* name, int64_t lo, int64_t hi) const {
        return int(file.integer(key(name), lo, hi));
    }
    int count_or(const char* name, int fallback, int64_t lo, int64_t hi) const {
        return int(file.integer_or(key(name), fallback, lo, hi));
    }
    std::vector<int64_t> per_layer(const char* name, int64_t lo, int64_t hi) const {
        return file.per_layer(key(name), size_t(hp.n_layers), lo, hi);
    }
    float real(const char* name, float lo, float hi) const;
    float real_or(const char* name, float fallback, float lo, float hi) const {
        return has(name) ? real(name, lo, hi) : fallback;
    }

    // --- shared parts ---
    void read_sizes();
    // default_period: every n-th layer is full in a file with sliding layers and no pattern; 0: the
    // period differs between models, so the file must carry the pattern.
    void read_layer_kinds(int default_period);
    void read_heads();
    void read_rope(float default_base, bool interleaved);
    void refuse_experts() const;

    // --- after the architecture's own part ---
    void check_layers() const;
    void find_unread();

  private:
    int read_vocab() const;
    void read_pattern(const std::string& name);
    void read_head_dims(std::vector<int64_t>& dims, const char* lengths,
                        const char* value_lengths) const;
    float read_rope_scale() const;
    int read_rope_dims(const char* name, bool sliding) const;
    int first_layer(bool sliding) const;

    std::vector<std::string> prefixes_;
    mutable std::set<std::string, std::less<>> asked_;  // without prefix
};

}  // namespace pillion

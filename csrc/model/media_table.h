// Rows that stand in a text where tokens have embeddings: those of images and sounds. Each row has
// a token id of its own, below 0, so a text is one list of ids, and two texts that begin with the
// same ids begin with the same media. The ids follow from the content: a medium that was added
// before, by its digest, has the ids that it had then.
#pragma once
#include <stdint.h>

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "core/fork.h"

namespace pillion {

using MediumDigest = std::array<uint8_t, 32>;

struct Medium {
    int32_t first = 0;  // row i has id first - i; 0: no medium
    int32_t n_rows = 0;
    // Its rows see one another in sliding layers (docs/gemma4.md), so they are read in one run.
    bool is_block = false;
    MediumDigest digest = {};
    std::shared_ptr<const std::vector<float>> rows;  // [n_rows, n_embd]; null: dropped

    explicit operator bool() const { return first < 0; }
    int index(int32_t id) const { return first - id; }
};

// Any thread may call it.
class MediaTable {
  public:
    explicit MediaTable(int n_embd) : n_embd_(n_embd) {}

    // Returns the id of its first row. Throws Error{invalid_argument}: no rows, or a known digest
    // with another number of rows or another kind. rows [n_rows, n_embd]; null: the ids alone.
    int32_t add(const MediumDigest& digest, const float* rows, size_t n_rows, bool is_block);
    // Frees the rows. Their ids stay, and texts that have been read stay valid. False: no medium
    // has this first id.
    bool drop(int32_t first);
    // The medium that the id belongs to, or none.
    Medium find(int32_t id) const;
    size_t bytes() const;  // of rows that are held

  private:
    Medium* at(int32_t id);

    int n_embd_;
    mutable ForkMutex mutex_;
    std::map<MediumDigest, int32_t> lowest_;  // keys of media_
    std::map<int32_t, Medium> media_;         // by the id of the last row, the lowest
    int32_t next_ = -1;
};

}  // namespace pillion

// The assistant's centroid head as files carry it (docs/gemma4.md 3.3, 5.4): which of its two forms
// is there, and whether it can be used. What can't be used is no error, the dense head does the
// same work; the reason is kept for a warning.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "gguf/gguf.h"
#include "model/hparams.h"

namespace pillion {

// Fills centroid_head, n_centroids, centroid_top_k and centroid_head_problem; n_vocab and n_embd
// must be set. Called by read_hparams().
void find_centroid_head(const GgufFile& file, HParams& hparams);

// The two tables, when hparams.centroid_head is not none.
// Centroids: a tensor [n_embd, n_centroids], or (form `keys`) nullptr and the values row by row
// under the key.
const GgufTensor* find_centroid_tensor(const GgufFile& file);
std::vector<float> read_centroid_values(const GgufFile& file);
// Order: n_vocab ids, a permutation; centroid c has those from c * (n_vocab / n_centroids) on.
std::vector<int32_t> read_centroid_order(const GgufFile& file, const HParams& hparams);

}  // namespace pillion

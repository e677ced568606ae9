// A number that tells models apart, for files that belong to one of them.
#pragma once
#include <stdint.h>

#include "gguf/gguf.h"

namespace pillion {

// Of the keys "<architecture>.", of each tensor's name, type and shape, and of some bytes of its
// values: two fine-tunes of one model differ. It reads 256 bytes a tensor. The same for a model in
// one file and in several. Not made to withstand anybody who wants two models to look alike.
uint64_t fingerprint(const GgufFile& file);

}  // namespace pillion

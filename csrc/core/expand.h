// Formats that no kernel reads as they lie in the file: IQ1, IQ2, IQ3, TQ1_0, MXFP4, NVFP4. Their
// values are small integers times a scale, so they can be written in a plainer block exactly; every
// backend imports them as these blocks (core/contract/blocks.h).
//
//     file                       in memory     bits a weight: file, memory
//     MXFP4                      MXFP4_X       4.25    4.5
//     NVFP4                      NVFP4_X       4.5     5
//     IQ3_XXS, IQ3_S             their own _X  3.06, 3.44    4.19
//     IQ2_XXS, IQ2_XS, IQ2_S     IQ2_X         2.06, 2.31, 2.56    3.31
//     IQ1_S, IQ1_M               IQ1_X         1.56, 1.75    3.31
//     TQ1_0                      TQ2_0         1.69    2.06
#pragma once
#include <stdint.h>

#include "core/dtype.h"

namespace pillion {

// The format in which a tensor of this one is kept: itself for all that aren't in the table.
DType expanded(DType dtype);
inline bool is_expanded(DType file) { return expanded(file) != file; }

// n values of a file (a multiple of its block; unaligned is fine) as row_bytes(expanded(file), n)
// bytes. A format that isn't in the table is copied.
void expand_row(DType file, const uint8_t* from, int64_t n, uint8_t* to);

// n values (a multiple of the block; unaligned is fine) of a row in the layout of the file, or as
// expand_row makes it, as f32. Equal to the gguf package's, bit for bit. Of float and quantized
// formats; others fail.
bool can_read(DType dtype);
void read_row(DType dtype, const uint8_t* from, int64_t n, float* out);

}  // namespace pillion

// GGUF rows <-> lane-packed panels (docs/architecture.md, section 13). Import-time code, but for
// unpack_row, which also reads embedding rows.
// Invariant: unpack(pack(rows)) == rows for every byte of every format; rows past the end of the
// matrix are zero blocks. `inputs` is a multiple of the format's block (32 or 256; anything for the
// float formats); pointers may be unaligned.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cpu/formats.h"

namespace pillion::cpu {

// Bytes of one panel of 32 rows, and of a whole matrix [rows, inputs].
size_t panel_bytes(Format format, int inputs);
size_t packed_bytes(Format format, int64_t rows, int inputs);

// Packs panels [begin, end) (rows 32 * begin ...) of a matrix of `rows` GGUF rows lying at
// `file_rows`. Panels are independent, so a caller may cut the range over threads. `packed` is the
// matrix's first panel.
void pack_panels(Format format, const void* file_rows, int64_t rows, int inputs, int64_t begin,
                 int64_t end, uint8_t* packed);

// The same, row `file_row_of[r]` of the file becoming row r (the centroid head's permuted table).
void pack_panels_permuted(Format format, const void* file_rows, const int32_t* file_row_of,
                          int64_t rows, int inputs, int64_t begin, int64_t end, uint8_t* packed);

// One row back as f32 values, from the packed matrix and from the file's layout. Bit-equal to each
// other and to the format's definition (the gguf package's dequantisation).
void unpack_row(Format format, const uint8_t* packed, int64_t row, int inputs, float* out);
void dequantize_row(Format format, const void* file_row, int inputs, float* out);

// One row back as the file's bytes (tests).
void unpack_row_bytes(Format format, const uint8_t* packed, int64_t row, int inputs,
                      void* file_row);

}  // namespace pillion::cpu

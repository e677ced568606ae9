// Converts GGUF rows to lane-packed panels and back (layout: formats.h). Used at import,
// and by unpack_row also to read embedding rows.
// Invariant: unpack(pack(rows)) == rows for every byte of every format. Rows past the end of the
// matrix are zero blocks. `inputs` is a multiple of the format's block (32 or 256; any number for
// the float formats). Pointers may be unaligned.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "backends/cpu/formats.h"

namespace pillion::cpu {

// Bytes of one panel of 32 rows, and of a whole matrix [rows, inputs].
size_t panel_bytes(Format format, int inputs);
size_t packed_bytes(Format format, int64_t rows, int inputs);

// Packs panels [begin, end) (rows 32 * begin ...) of a matrix of `rows` GGUF rows at `file_rows`.
// Panels are independent, so a caller may split the range over threads. `packed` is the matrix's
// first panel.
void pack_panels(Format format, const void* file_rows, int64_t rows, int inputs, int64_t begin,
                 int64_t end, uint8_t* packed);

// As pack_panels, with row `file_row_of[r]` of the file as row r (the centroid head's permuted
// table).
void pack_panels_permuted(Format format, const void* file_rows, const int32_t* file_row_of,
                          int64_t rows, int inputs, int64_t begin, int64_t end, uint8_t* packed);

// Reads one row as f32 values [inputs], from the packed matrix or from the file's layout. Both
// equal, bit for bit, the format's definition (dequantization of the gguf package).
void unpack_row(Format format, const uint8_t* packed, int64_t row, int inputs, float* out);
void dequantize_row(Format format, const void* file_row, int inputs, float* out);

// Reads one row back as the file's bytes (tests).
void unpack_row_bytes(Format format, const uint8_t* packed, int64_t row, int inputs,
                      void* file_row);

}  // namespace pillion::cpu

// Imports rows of a file in any weight format, packed or as f32: lane_pack.h, after core/expand.h
// for formats without kernels of their own.
#pragma once
#include <stdint.h>

#include "core/dtype.h"

namespace pillion::cpu {

// Bytes of a matrix [rows, inputs] in memory. This and the functions below throw Error for a type
// without kernels.
size_t imported_bytes(DType file, int64_t rows, int inputs);

// Scratch bytes of import_panels: 32 rows, expanded; 0 if rows are packed as they lie in the file.
size_t import_scratch(DType file, int inputs);

// Imports panels [begin, end) of a matrix of `rows` rows. Row r is row row_order[r] of the file
// (null: the file's order). Panels are independent, so a caller may split the range over threads.
// `packed` is the matrix's first panel.
void import_panels(DType file, const uint8_t* file_rows, const int32_t* row_order, int64_t rows,
                   int inputs, int64_t begin, int64_t end, uint8_t* scratch, uint8_t* packed);

}  // namespace pillion::cpu

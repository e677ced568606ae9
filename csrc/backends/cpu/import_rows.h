// Rows of a file of any weight format: packed, or as f32. What lane_pack.h does, and core/expand.h
// before it where the format is not kept as it lies in the file.
#pragma once
#include <stdint.h>

#include "core/dtype.h"

namespace pillion::cpu {

// Bytes of a matrix [rows, inputs] in memory. Throws for a type without kernels, as all of these.
size_t imported_bytes(DType file, int64_t rows, int inputs);

// What import_panels needs beside its arguments: 32 rows, expanded; 0 where rows are packed as they
// lie.
size_t import_scratch(DType file, int inputs);

// Panels [begin, end) of a matrix of `rows` rows; row r is row row_order[r] of the file (null: as
// they are). Panels are independent, so a caller may cut the range over threads. `packed` is the
// matrix's first panel.
void import_panels(DType file, const uint8_t* file_rows, const int32_t* row_order, int64_t rows,
                   int inputs, int64_t begin, int64_t end, uint8_t* scratch, uint8_t* packed);

}  // namespace pillion::cpu

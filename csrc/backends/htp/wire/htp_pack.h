// GGUF rows <-> lane-packed panels of 32 rows for HVX (docs/measurements.md, with L =
// 32). Plain C, used by the host at import, by the DSP to read single embedding rows, and by tests.
//
// A panel is its groups in order; a group is whole vectors of 128 bytes, so everything is aligned.
// Lane r (32 bits) of a vector belongs to row r of the panel. Rows past the end of a matrix are
// zero, inputs past its width too.
//
//   F32         1 input      vector: value of the input
//   F16, BF16   2 inputs     vector: even input in the low half of the lane, odd one in the high
//               half
//   Q4_0, IQ4_NL  64 inputs  scales (f16: inputs 0..31 low half, 32..63 high), then 4 + 4 nibble
//                 vectors
//   Q4_1        64 inputs    scales likewise, minima likewise, then 4 + 4 nibble vectors
//   Q5_0, Q5_1  64 inputs    as Q4_0, Q4_1, with a vector of single bits before each 4 nibble
//               vectors
//   Q8_0        64 inputs    scales likewise, then 8 + 8 byte vectors, byte = q + 128
//   Q2_K        256 inputs   d low half, dmin high half; 4 vectors of the file's scale bytes (byte
//               g % 4 of vector g / 4: group g);
//                            8 times 2 pair vectors
//   Q3_K        256 inputs   d low half, high half 0; 3 vectors of six-bit fields (16 scales); 8
//               times (1 vector of single bits, 2 pair vectors)
//   Q4_K        256 inputs   d low half, dmin high half; 3 vectors of six-bit fields (8 scales, 8
//               minima); 8 times 4 nibble vectors
//   Q5_K        256 inputs   as Q4_K, with a vector of single bits before each 4 nibble vectors
//   Q6_K        256 inputs   d low half, high half 0; 4 vectors of int8 scales (byte g % 4 of
//               vector g / 4: scale g);
//                            8 times (2 pair vectors, 4 nibble vectors)
//   IQ4_XS      256 inputs   d low half, scales_high high half; scales_low; 8 times 4 nibble
//               vectors
//   MXFP4_X     64 inputs    as Q4_0 with scales in bf16
//   NVFP4_X     64 inputs    a vector of scales (f16: inputs 0..15 low half, 16..31 high) for each
//               32, then 4 + 4 nibble vectors
//   IQ3_XXS_X, IQ3_S_X   256 inputs   d low half, high half 0; the block's scale bytes; 8 times 4
//                        nibble vectors
//   IQ2_X, IQ1_X         256 inputs   d low half, high half 0; 2 vectors of the block's scale
//                        bytes; 8 times (1 vector of single
//                            bits, 2 pair vectors)
//   TQ2_0       256 inputs   d low half, high half 0; 8 times 2 pair vectors
//
// Code vector j (0..7) of 32 inputs has in byte b of lane r the code of input 4j + b of row r.
// Nibble vectors hold code vectors j (low) and j + 4 (high); pair vectors j, j + 2, j + 4, j + 6
// (lowest bits first); a vector of single bits all eight (bit j). A code of five or six bits is its
// nibble plus 16 times its bit or pair, one of three bits its pair plus 4 times its bit. Six-bit
// fields: field i < 15 at bit 6 * (i % 5) of vector i / 5, field 15 in the two top bits of the
// three, lowest first.
#ifndef PILLION_HTP_PACK_H
#define PILLION_HTP_PACK_H

#include "backends/htp/wire/htp_sizes.h"

#ifdef __cplusplus
extern "C" {
#endif

// Packs panels [begin, end) of one matrix of `rows` rows lying at `file_rows` as in the file;
// `packed` is the matrix's first panel. row_order: row r is row row_order[r] of the file; null: as
// they are. Panels are independent: a caller may cut the range over threads. 0, or -1 for a format
// that has no packing or a width that is no multiple of the block.
int htp_pack_panels(uint32_t dtype, const void* file_rows, const int32_t* row_order, uint64_t rows,
                    uint32_t inputs, uint64_t begin, uint64_t end, uint8_t* packed);

// One row as f32 values, from the packed matrix and from the file's layout; bit-equal to each other
// and to the format's definition. From the file: every format of core/contract/blocks.h.
int htp_unpack_row(uint32_t dtype, const uint8_t* packed, uint64_t row, uint32_t inputs,
                   float* out);
int htp_dequantize_row(uint32_t dtype, const void* file_row, uint32_t inputs, float* out);

#ifdef __cplusplus
}
#endif
#endif

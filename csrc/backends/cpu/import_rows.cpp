#include "backends/cpu/import_rows.h"

#include <algorithm>

#include "backends/cpu/cpu_steps.h"
#include "backends/cpu/lane_pack.h"
#include "core/expand.h"

namespace pillion::cpu {

size_t imported_bytes(DType file, int64_t rows, int inputs) {
    return packed_bytes(format_of(expanded(file)), rows, inputs);
}

size_t import_scratch(DType file, int inputs) {
    return is_expanded(file) ? kPanel * row_bytes(expanded(file), inputs) : 0;
}

void import_panels(DType file, const uint8_t* file_rows, const int32_t* row_order, int64_t rows,
                   int inputs, int64_t begin, int64_t end, uint8_t* scratch, uint8_t* packed) {
    const DType kept = expanded(file);
    const Format format = format_of(kept);
    if (kept == file) {
        if (row_order)
            pack_panels_permuted(format, file_rows, row_order, rows, inputs, begin, end, packed);
        else pack_panels(format, file_rows, rows, inputs, begin, end, packed);
        return;
    }
    const size_t file_row = row_bytes(file, inputs), row = row_bytes(kept, inputs);
    for (int64_t p = begin; p < end; p++) {
        const int64_t first = p * kPanel, n = std::min<int64_t>(kPanel, rows - first);
        for (int64_t r = 0; r < n; r++) {
            const int64_t from = row_order ? row_order[first + r] : first + r;
            expand_row(file, file_rows + file_row * size_t(from), inputs,
                       scratch + row * size_t(r));
        }
        pack_panels(format, scratch, n, inputs, 0, 1,
                    packed + panel_bytes(format, inputs) * size_t(p));
    }
}

}  // namespace pillion::cpu

// Measures the best speed of this machine with a pool's threads and a table's kernels.
#pragma once
#include "backends/cpu/kernel_table.h"
#include "backends/cpu/thread_pool.h"
#include "core/buffer.h"

namespace pillion::cpu {

size_t limits_probe_bytes();  // of the buffer for measure_read
// Bytes per second from memory, the best of several passes; 0: cancelled.
double measure_read(ThreadPool& pool, Buffer& buffer);
// Int8 multiply-adds per second; 0: cancelled, or the table has no such kernel.
double measure_dots(ThreadPool& pool, const KernelTable& table);

}  // namespace pillion::cpu

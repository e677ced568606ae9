// What this machine can do at best with a pool's threads and a table's kernels.
#pragma once
#include "backends/cpu/kernel_table.h"
#include "backends/cpu/thread_pool.h"
#include "core/buffer.h"

namespace pillion::cpu {

size_t limits_probe_bytes();  // of the buffer that measure_read wants
double measure_read(
    ThreadPool& pool,
    Buffer& buffer);  // bytes per second from memory, the best of some passes; 0: cancelled
double measure_dots(
    ThreadPool& pool,
    const KernelTable& table);  // int8 multiply-adds per second; 0: cancelled, or no such kernel

}  // namespace pillion::cpu

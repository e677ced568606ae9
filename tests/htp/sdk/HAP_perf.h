#pragma once
#include "AEEStdErr.h"
uint64 HAP_perf_get_qtimer_count(void);
uint64 HAP_perf_qtimer_count_to_us(uint64 count);

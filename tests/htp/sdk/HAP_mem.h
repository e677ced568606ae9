#pragma once
#include "AEEStdErr.h"
int HAP_mmap_get(int fd, void** vaddr, uint64* paddr);
int HAP_mmap_put(int fd);

#pragma once
typedef unsigned qurt_addr_t, qurt_size_t;
typedef enum { QURT_MEM_ICACHE, QURT_MEM_DCACHE } qurt_mem_cache_type_t;
typedef enum {
    QURT_MEM_CACHE_FLUSH,
    QURT_MEM_CACHE_INVALIDATE,
    QURT_MEM_CACHE_FLUSH_INVALIDATE
} qurt_mem_cache_op_t;
int qurt_mem_cache_clean(qurt_addr_t address, qurt_size_t size, qurt_mem_cache_op_t opcode,
                         qurt_mem_cache_type_t type);
int qurt_hvx_get_units(void);

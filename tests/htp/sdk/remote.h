#pragma once
#include <stddef.h>
#include <stdint.h>
typedef uint32_t remote_handle;
typedef uint64_t remote_handle64;
typedef struct {
    void* pv;
    size_t nLen;
} remote_buf;
typedef struct {
    int32_t fd;
    uint32_t offset;
} remote_dma_handle;
typedef union {
    remote_buf buf;
    remote_handle h;
    remote_handle64 h64;
    remote_dma_handle dma;
} remote_arg;
#define REMOTE_SCALARS_METHOD(sc) (((sc) >> 24) & 0x1f)
#define REMOTE_SCALARS_INBUFS(sc) (((sc) >> 16) & 0xff)
#define REMOTE_SCALARS_OUTBUFS(sc) (((sc) >> 8) & 0xff)
#define REMOTE_SCALARS_INHANDLES(sc) (((sc) >> 4) & 0x0f)
#define REMOTE_SCALARS_OUTHANDLES(sc) ((sc) & 0x0f)

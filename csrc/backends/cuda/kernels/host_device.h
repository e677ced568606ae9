// PILLION_BOTH marks functions that host and device call, in headers that plain C++ includes too.
#pragma once

#ifdef __CUDACC__
#define PILLION_BOTH __host__ __device__
#else
#define PILLION_BOTH
#endif

#pragma once
#define AEE_EOFFSET 0x80000400  // on the DSP
#define AEE_SUCCESS 0
#define AEE_EFAILED (AEE_EOFFSET + 0x001)
#define AEE_ENOMEMORY (AEE_EOFFSET + 0x002)
#define AEE_EVERSIONNOTSUPPORT (AEE_EOFFSET + 0x004)
#define AEE_EEXPIRED (AEE_EOFFSET + 0x00C)
#define AEE_EBADPARM (AEE_EOFFSET + 0x00E)
#define AEE_EUNSUPPORTED (AEE_EOFFSET + 0x014)
#define AEE_ENOSUCH (39)
#define AEE_EINTERRUPTED (46)
#define AEE_ECONNRESET (104)
#define AEE_EWOULDBLOCK (516)
typedef int AEEResult;
typedef unsigned char boolean;
typedef unsigned long long uint64;
#define TRUE 1
#define FALSE 0

// The codes that the FastRPC driver and the DSP answer with: what they mean and what to do about
// them.
#pragma once
#include <stdint.h>

#include "core/error.h"

namespace pillion::htp {

// A code as the driver gives it. Those that come from the DSP itself carry an offset of 0x80000400;
// both forms are the same error.
struct DriverCode {
    uint32_t code;  // without the offset
    const char* name;
    const char* meaning;
    const char* remedy;  // "" where nobody knows one
    Status status;
};
const DriverCode& driver_code(int code);

// "what: error 0x72 (ECONNREFUSED): the DSP refuses connections; restart ..." into reason; returns
// the code's Status.
Status driver_failure(const char* what, int code, Reason& reason);

// The connection is gone: a new session is needed.
bool is_lost(int code);

}  // namespace pillion::htp

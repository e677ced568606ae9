// The error codes of the FastRPC driver and the DSP: their meaning and their remedy.
#pragma once
#include <stdint.h>

#include "core/error.h"

namespace pillion::htp {

// A code as the driver returns it. Codes from the DSP itself carry an offset of 0x80000400; both
// forms are the same error.
struct DriverCode {
    uint32_t code;  // without the offset
    const char* name;
    const char* meaning;
    const char* remedy;  // "": no remedy is known
    Status status;
};
const DriverCode& driver_code(int code);

// Writes "what: error 0x72 (ECONNREFUSED): the DSP refuses connections; restart ..." into reason
// and returns the code's Status.
Status driver_failure(const char* what, int code, Reason& reason);

// True if the connection is gone and a new session is needed.
bool is_lost(int code);

}  // namespace pillion::htp

// The error codes of the FastRPC driver and the DSP: their meaning and their remedy.
#pragma once
#include <stdint.h>

#include "core/result.h"

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

// "what: error 0x72 (ECONNREFUSED): the DSP refuses connections; restart ...", with the code's
// Status.
Failure driver_failure(const char* what, int code);

}  // namespace pillion::htp

// Checks the promises that hold for every call of the C ABI, for programs that make such calls.
#pragma once
#include "fuzz_input.h"
#include "include/pillion.h"

namespace fuzz {

// The status, after it was compared with the sentence. No call may say "internal".
inline bool ok(pillion_status s) {
    const char* sentence = pillion_last_error();
    if (s == PILLION_ERROR_INTERNAL) broken("internal:", sentence);
    if ((s == PILLION_OK) != (sentence[0] == 0))
        broken("a status without a sentence, or the reverse:", sentence);
    return s == PILLION_OK;
}

}  // namespace fuzz

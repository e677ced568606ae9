#include "core/error.h"

#include "core/result.h"

namespace pillion {

void fail(Status code, const char* format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    throw Error(code, text);
}

Failure::Failure(Status code, const char* format, ...) : code_(code) {
    va_list args;
    va_start(args, format);
    vsnprintf(text_, sizeof text_, format, args);
    va_end(args);
}

Failure Failure::of(const char* format, ...) const {
    char name[sizeof text_];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return Failure(code_, "%s: %s", name, text_);
}

void Failure::raise(const char* what) const {
    fail(code_, "%s%s%s", what ? what : "", what ? ": " : "", text_);
}

}  // namespace pillion

// The process's one log sink. The library logs nothing until a caller sets it, and never writes to
// stdout or stderr.
#pragma once
#include <stdint.h>

namespace pillion {

enum class LogLevel : int32_t {
    debug = 10,
    info = 20,
    warning = 30,
    // The numbers are Python's.
    error = 40
};

using LogSink = void (*)(LogLevel level, const char* message, void* user);

void set_log_sink(LogSink sink, void* user);  // nullptr: log nothing
__attribute__((format(printf, 2, 3))) void log(LogLevel level, const char* format, ...);

}  // namespace pillion

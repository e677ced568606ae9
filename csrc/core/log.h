// One log sink for the process. Silent until someone sets it. Nothing in the library writes to
// stdout or stderr.
#pragma once
#include <stdint.h>

namespace pillion {

enum class LogLevel : int32_t {
    debug = 10,
    info = 20,
    warning = 30,
    error = 40
};  // Python's numbers

using LogSink = void (*)(LogLevel level, const char* message, void* user);

void set_log_sink(LogSink sink, void* user);  // nullptr: silent
__attribute__((format(printf, 2, 3))) void log(LogLevel level, const char* format, ...);

}  // namespace pillion

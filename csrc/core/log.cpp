#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/fork.h"

namespace pillion {
namespace {
// Also held during the sink's call: after set_log_sink(nullptr) returns, no message is in flight.
ForkMutex g_mutex;
LogSink g_sink = nullptr;
void* g_user = nullptr;
}  // namespace

void set_log_sink(LogSink sink, void* user) {
    const ForkLock lock(g_mutex);
    // First: a fork() may leave a child with half of this, and the child reads the user only with a
    // sink.
    g_user = user;
    g_sink = sink;
}

void log(LogLevel level, const char* format, ...) {
    const ForkLock lock(g_mutex);
    if (!g_sink) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    g_sink(level, text, g_user);
}

}  // namespace pillion

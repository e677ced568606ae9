#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#include <mutex>

namespace pillion {
namespace {
std::mutex g_mutex;    // held during the call too: after set_log_sink(nullptr) returns, no message is in flight
LogSink g_sink = nullptr;
void* g_user = nullptr;
}  // namespace

void set_log_sink(LogSink sink, void* user) {
    std::lock_guard<std::mutex> lock(g_mutex);
    g_sink = sink;
    g_user = user;
}

void log(LogLevel level, const char* format, ...) {
    std::lock_guard<std::mutex> lock(g_mutex);
    if (!g_sink) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    g_sink(level, text, g_user);
}

}  // namespace pillion

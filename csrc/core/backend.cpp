#include "core/backend.h"

#include <mutex>

namespace pillion {
namespace {

struct Entry {
    const char* name;
    BackendFactory factory;
    Backend* backend;          // made on first use, lives as long as the process
    Reason reason;
};

std::mutex g_mutex;
std::vector<Entry>& entries() {
    static std::vector<Entry> list;
    return list;
}

Backend* open(Entry& e) {
    // A failed attempt is repeated: the reason may be an environment variable that has changed since.
    if (!e.backend) e.reason = Reason(), e.backend = e.factory(e.reason);
    return e.backend;
}

}  // namespace

void register_backend(const char* name, BackendFactory factory) {
    std::lock_guard<std::mutex> lock(g_mutex);
    for (const Entry& e : entries())
        if (std::string(e.name) == name) return;
    entries().push_back({name, factory, nullptr, {}});
}

Backend& find_backend(const std::string& device) {
    std::lock_guard<std::mutex> lock(g_mutex);
    std::string known;
    for (Entry& e : entries()) {
        if (device == "auto" || device.empty() || device == e.name) {
            if (Backend* b = open(e)) return *b;
            fail(Status::no_backend, "device \"%s\": %s", e.name, e.reason.text);
        }
        known += known.empty() ? e.name : std::string(", ") + e.name;
    }
    fail(Status::no_backend, "device \"%s\" is not built into this library (it has: auto, %s)", device.c_str(), known.c_str());
}

std::string backends_json() {
    std::lock_guard<std::mutex> lock(g_mutex);
    std::string out = "[";
    for (Entry& e : entries()) {
        if (out.size() > 1) out += ", ";
        Backend* b = open(e);
        out += std::string("{\"name\": \"") + e.name + "\", \"available\": " + (b ? "true" : "false");
        if (b) {
            out += ", \"info\": " + b->info_json();
        } else {
            std::string reason;
            for (const char* c = e.reason.text; *c; c++) reason += *c == '"' || *c == '\\' ? std::string("\\") + *c : std::string(1, *c);
            out += ", \"reason\": \"" + reason + "\"";
        }
        out += "}";
    }
    for (const char* later : {"cuda", "htp"}) {
        bool present = false;
        for (const Entry& e : entries()) present |= std::string(e.name) == later;
        if (!present)
            out += std::string(", {\"name\": \"") + later + "\", \"available\": false, \"reason\": \"not built into this library\"}";
    }
    return out + "]";
}

}  // namespace pillion

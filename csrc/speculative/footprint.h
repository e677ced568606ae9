// The memory of a model, its context and its drafter, known before anything is loaded: all of them
// are made for real, on weights without content and on a backend that only counts
// (core/sizing_backend.h), and asked.
#pragma once
#include <string>

#include "speculative/pair.h"

namespace pillion {

// JSON: {"n_ctx", "n_batch", "kv_type", "weights", "mapped", "kv": {"full": {"layers", "positions",
// "bytes"}, "sliding": ..., "snapshots", "bytes"}, "scratch", "outputs", "drafter": null or
// {"kind", "head", "weights", "mapped", "kv_bytes", "snapshots", "scratch", "outputs", "bytes"},
// "total"}, in bytes. snapshots: what copies of the sliding caches may come to, on the host; not in
// kv's bytes. total: all but what stays in the mapped files. A Gemma 4 assistant as `model` has
// weights and no context: the other fields are null. Throws what loading, making the context or
// pairing would.
std::string memory_json(const Model& model, const Model* drafter, const ContextOptions& options);

// --- how many layers a device holds ---

struct FitRequest {
    const Model* model;    // metadata will do
    const Model* drafter;  // null: none
    ContextOptions context;
    std::string device = "auto";
    std::string draft_device;  // "" and "auto": as draft_device() says
    int n_gpu_layers = -1;     // -1: as many as fit; else so many, or an error
    size_t device_bytes = 0;   // that may be used; 0: what is free, less a reserve
    bool strict = false;       // fewer layers than all, where as many as fit are asked: an error
};

struct DeviceFit {
    std::string device;    // the backend's name
    bool is_host = false;  // then nothing is counted, and no layer lies elsewhere
    int n_layers = 0, n_device_layers = 0;
    size_t weights = 0, kv = 0, scratch = 0;  // on the device, the drafter's too where it is there
    size_t available = 0;                     // 0: the device does not say
    size_t total() const { return weights + kv + scratch; }
    // One sentence where fewer than all layers fit and nobody asked for a number; "": there is
    // nothing to say.
    std::string note;
    std::string to_json() const;
};

// Throws Error{out_of_memory} with the numbers when it does not fit, and what opening, making the
// context or pairing would.
DeviceFit fit_device(const FitRequest& request);

// For a model that is opened by itself: the layers that fit `device` beside a context of default
// size. All of them where fewer would free nothing because the CPU has the same memory, where the
// device does not tell its memory, and where a context can't be made, which is for it to say.
int count_fitting_layers(const Model& model, const std::string& device);

}  // namespace pillion

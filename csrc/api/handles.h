// What the opaque handles of pillion.h are, and the boundary where exceptions become codes.
#pragma once
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/fork.h"
#include "include/pillion.h"
#include "model/model.h"
#include "runtime/context.h"
#include "runtime/sampler.h"
#include "speculative/batch.h"
#include "speculative/pair.h"
#include "tokenizer/tokenizer.h"

namespace pillion::api {

// Which process a handle is of. What lies on a device can neither be used nor freed in a process
// that was forked from it.
class Origin {
  public:
    bool is_parent() const { return forks_ != fork_count(); }
    void check(bool on_device, const char* name) const {
        if (on_device && is_parent())
            fail(
                Status::device_lost,
                "%s lies on a device that process %d opened, which this one was forked from: open "
                "the model in the child only, start processes by \"spawn\", or take device \"cpu\"",
                name, int(process_));
    }

  private:
    uint32_t forks_ = fork_count();
    pid_t process_ = getpid();
};

// A model and the tokenizer made from its metadata on first use.
struct SharedModel {
    std::shared_ptr<Model> model;
    Origin origin;

    ~SharedModel();
    std::shared_ptr<const Tokenizer> tokenizer();  // throws
    // -inf for each of the tokenizer's suppress_tokens(); after tokenizer().
    const float* bans() const { return bans_.data(); }
    const std::shared_ptr<Model>& to_run() const;  // throws where its device can't be used

  private:
    ForkMutex mutex_;
    std::shared_ptr<const Tokenizer> tokenizer_;
    std::vector<float> bans_;
};

void set_last_error(const char* sentence);

// Runs body, turns whatever it throws into a code, and leaves the sentence for
// pillion_last_error().
template <class F>
pillion_status guard(F&& body) noexcept {
    try {
        set_last_error("");
        body();
        return PILLION_OK;
    } catch (const Error& e) {
        set_last_error(e.what());
        return pillion_status(e.code());
    } catch (const std::bad_alloc&) {
        set_last_error("out of memory");
        return PILLION_ERROR_OUT_OF_MEMORY;
    } catch (const std::exception& e) {
        set_last_error(e.what());
        return PILLION_ERROR_INTERNAL;
    } catch (...) {
        set_last_error("unknown exception");
        return PILLION_ERROR_INTERNAL;
    }
}

// NULL handles and out-pointers are named in the sentence.
template <class T>
T& need(T* pointer, const char* name) {
    if (!pointer) fail(Status::invalid_argument, "%s is NULL", name);
    return *pointer;
}

// One caller at a time: has the handle to itself, or throws busy; closed where a fork() made a copy
// in the middle of a call.
class Claim {
  public:
    explicit Claim(Occupancy& occupancy) : occupancy_(occupancy) {
        switch (occupancy.enter()) {
            case Occupancy::Entry::entered: return;
            case Occupancy::Entry::busy: fail(Status::busy, "another thread is inside this handle");
            case Occupancy::Entry::orphaned:
                fail(Status::closed,
                     "another thread was inside this handle when fork() copied it, so the copy in "
                     "this process is half changed: make a new one of the same model");
        }
    }
    ~Claim() { occupancy_.leave(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

  private:
    Occupancy& occupancy_;
};

// Where not, the handle stays in memory: its threads, its device or the caller who was changing it
// are another process's.
inline bool can_free(const Origin& origin, bool on_device, const Occupancy& inside) {
    return !(on_device && origin.is_parent()) && !inside.orphaned();
}

bool on_device(const Model& model);  // some of its layers or all; false for one without weights

ContextOptions context_options(const pillion_context_config* config);
PairOptions pair_options(const pillion_pair_config* config);
DrafterKind drafter_kind(int32_t kind);  // throws for another number

// All defaults are zeros, except n_gpu_layers. Clears the whole of the caller's struct, also fields
// that this version does not know.
void init_config(void* config, size_t size);
// init_config, and n_gpu_layers -1 where the caller's struct has the field.
template <class T>
void init_layers_config(T* config, size_t size) {
    init_config(config, size);
    if (config && size >= offsetof(T, n_gpu_layers) + sizeof config->n_gpu_layers)
        config->n_gpu_layers = -1;
}
// The caller's struct over the defaults of ours: no byte past its size is read, a surplus must be
// zero.
void copy_config(void* ours, size_t our_size, const void* theirs, const char* name);
template <class T>
T read_config(const T* theirs, void (*init)(T*, size_t), const char* name) {
    T ours;
    init(&ours, sizeof ours);
    if (theirs) copy_config(&ours, sizeof ours, theirs, name);
    return ours;
}
// Fills as much of the caller's struct as it has room for.
void write_info(void* theirs, size_t size, const void* ours, size_t our_size);

// The two-call protocol. Reports the needed size, writes only when everything fits.
void write_bytes(const char* from, size_t n, char* out, size_t capacity, size_t* needed);
void write_text(const std::string& text, char* out, size_t capacity, size_t* needed);
void write_tokens(const int32_t* from, size_t n, int32_t* out, size_t capacity, size_t* needed);

TokenizerData tokenizer_data(const GgufFile& file);

}  // namespace pillion::api

struct pillion_model { std::shared_ptr<pillion::api::SharedModel> shared; };
struct pillion_tokenizer {
    std::shared_ptr<pillion::api::SharedModel> shared;  // keeps the model alive, as the header says
    std::shared_ptr<const pillion::Tokenizer> tokenizer;
};
struct pillion_context {
    // Both are shared with its pairs: one caller in all.
    std::shared_ptr<pillion::Context> context;
    std::shared_ptr<pillion::Occupancy> inside = std::make_shared<pillion::Occupancy>();
    pillion::api::Origin origin;
    mutable std::vector<float> activation;  // what the last pillion_context_activation points at
};
struct pillion_pair {
    std::unique_ptr<pillion::Pair> pair;
    std::shared_ptr<pillion::Occupancy> inside;  // the target context's
    pillion::api::Origin origin;
    bool drafter_on_device = false;
    bool on_device() const { return drafter_on_device || pair->target().on_device(); }
};
struct pillion_batch {
    std::unique_ptr<pillion::Batch> batch;
    // Shared with its contexts and pairs: they run on one machine.
    std::shared_ptr<pillion::Occupancy> inside = std::make_shared<pillion::Occupancy>();
    pillion::api::Origin origin;
    bool on_device = false;
};
struct pillion_sampler {
    std::unique_ptr<pillion::Sampler> sampler;
    pillion::Occupancy inside;
};

namespace pillion::api {

// guard() of a call that has the context to itself.
template <class F>
pillion_status with_context(const pillion_context* context, F&& body) noexcept {
    return guard([&] {
        need(context, "context");
        context->origin.check(context->context->on_device(), "this context");
        const Claim claim(*context->inside);
        body(*context->context);
    });
}

}  // namespace pillion::api

// A context on disk: its tokens, the rows of its cache, and a sampler's state, so that another
// context of the same model goes on where this one was, bit for bit and without a run.
// state_format.h is the format, docs/saved_state.md says what it is for.
#pragma once
#include <functional>
#include <string>

#include "core/file.h"
#include "runtime/context.h"
#include "runtime/sampler.h"

namespace pillion {

// Writes the file, which appears when it is complete. sampler may be null. Throws what NewFile
// throws, Error{cancelled} after Context::cancel(), a device's error.
void save_state(Context& context, const Sampler* sampler, const std::string& path);
// The same bytes in memory. bytes_of_state() of them, as long as neither changes.
size_t bytes_of_state(Context& context, const Sampler* sampler);
void save_state(Context& context, const Sampler* sampler, uint8_t* to);

// Bytes of a saved state, wherever they are.
struct StateSource {
    std::string name;  // for sentences
    size_t size;
    std::function<void(size_t offset, void* to, size_t n)> read;
};
StateSource source_of(const FileReader& file);  // which outlives it
StateSource source_of(const uint8_t* bytes, size_t n);

// The context holds the saved text afterwards, without outputs, and `sampler` (may be null) has the
// saved state. Returns how many tokens had to run for it: 0, unless the context keeps copies of its
// cache in another layout than the cache, on other devices.
//
// Nothing changes before all of the file is checked. Throws Error: file_corrupt for damage and for
// what is no saved state, unsupported_model for another version or byte order, invalid_argument for
// another model, cache type or layout and for a sampler that the file has not, context_full where
// the text is longer than n_ctx, cancelled; and the device's error, which leaves the context empty.
size_t load_state(Context& context, Sampler* sampler, const StateSource& source);

}  // namespace pillion

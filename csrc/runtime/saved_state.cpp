// Writing. Reading is in load_state.cpp.
#include "runtime/saved_state.h"

#include <string.h>

#include <algorithm>
#include <utility>

#include "core/crc32.h"
#include "core/new_file.h"
#include "runtime/state_tables.h"

namespace pillion {
namespace {

constexpr size_t kChunk = size_t(1) << 20;

// Where the bytes go. The header is written last: it has the checksum of the rest.
struct Sink {
    std::function<void(const void*, size_t)> append;
    std::function<void(const StateHeader&)> put_header;
};

class Writer {
  public:
    Writer(Context& context, const StateTables& tables, const Sink& sink)
        : context_(context), tables_(tables), sink_(sink), chunk_(kChunk) {}

    void write(const Sampler::State& sampler) {
        StateHeader header = tables_.header;
        sink_.append(&header, sizeof header);
        body(tables_.stores.data(), tables_.stores.size() * sizeof(StateStore));
        body(tables_.images.data(), tables_.images.size() * sizeof(StateImage));
        body(context_.tokens().data(), context_.tokens().size() * 4);
        body(sampler.accepted.data(), sampler.accepted.size() * 4);
        body(tables_.media.data(), tables_.media.size() * sizeof(StateMedium));
        header.front_crc = std::exchange(crc_, 0);
        cache();
        const auto copies = context_.kv().snapshots().copies();
        for (size_t i = 0; i < copies.size(); i++) copy(tables_.images[i + 1], copies[i].bytes);
        header.rows_crc = crc_;
        header.header_crc = header_crc(header);
        sink_.put_header(header);
    }

  private:
    void body(const void* bytes, size_t n) {
        crc_ = crc32(crc_, bytes, n);
        sink_.append(bytes, n);
    }

    void cache() {
        for (const StateStore& s : tables_.stores) {
            const KvCache::Place own = context_.kv().places_of(s.layer).front();
            rows(tables_.images[0], s, context_.kv().pages_of(s.layer),
                 [&](size_t offset, size_t n) {
                     own.backend->read(*own.buffer, own.offset + offset, n, chunk_.data())
                         .value_or_throw("KV cache");
                     return static_cast<const uint8_t*>(chunk_.data());
                 });
        }
    }

    void copy(const StateImage& image, const uint8_t* bytes) {
        for (const StateStore& s : tables_.stores) {
            if (!s.is_sliding) continue;
            const uint8_t* ring = bytes + ring_offset(context_.kv(), s.layer);
            rows(image, s, context_.kv().pages_of(s.layer),
                 [&](size_t offset, size_t) { return ring + offset; });
        }
    }

    // get(offset, n): so many bytes of the store, at most kChunk.
    template <class F>
    void rows(const StateImage& image, const StateStore& s, const KvPages& pages, const F& get) {
        const auto [begin, end] = blocks_of(image, s);
        for (const KvStrip& strip : strips_of(context_.kv(), s.layer))
            for_each_part(pages, strip, begin, end, [&](size_t offset, size_t bytes) {
                for (size_t done = 0; done < bytes; done += kChunk) {
                    if (context_.cancelled()) fail(Status::cancelled, "cancelled");
                    const size_t n = std::min(kChunk, bytes - done);
                    body(get(offset + done, n), n);
                }
            });
    }

    Context& context_;
    const StateTables& tables_;
    const Sink& sink_;
    std::vector<uint8_t> chunk_;
    uint32_t crc_ = 0;
};

Sampler::State state_of(const Sampler* sampler) {
    Sampler::State state;
    if (sampler) state = sampler->state();
    if (state.accepted.size() > kStateAcceptedMost)
        fail(Status::invalid_argument,
             "the sampler has accepted %zu tokens, a saved state holds at most %llu",
             state.accepted.size(), static_cast<unsigned long long>(kStateAcceptedMost));
    return state;
}

}  // namespace

void save_state(Context& context, const Sampler* sampler, const std::string& path) {
    const Sampler::State state = state_of(sampler);
    const StateTables tables = tables_of(context, sampler ? &state : nullptr);
    NewFile file(path);
    const Sink sink = {[&](const void* bytes, size_t n) { file.write(bytes, n); },
                       [&](const StateHeader& h) { file.write_at(0, &h, sizeof h); }};
    Writer(context, tables, sink).write(state);
    file.close();
    file.finish();
}

size_t bytes_of_state(Context& context, const Sampler* sampler) {
    const Sampler::State state = state_of(sampler);
    return size_t(tables_of(context, sampler ? &state : nullptr).header.file_bytes);
}

void save_state(Context& context, const Sampler* sampler, uint8_t* to) {
    const Sampler::State state = state_of(sampler);
    const StateTables tables = tables_of(context, sampler ? &state : nullptr);
    uint8_t* at = to;
    const Sink sink = {[&](const void* bytes, size_t n) {
                           if (n > 0) memcpy(at, bytes, n);
                           at += n;
                       },
                       [&](const StateHeader& h) { memcpy(to, &h, sizeof h); }};
    Writer(context, tables, sink).write(state);
}

}  // namespace pillion

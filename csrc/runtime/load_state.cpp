// Reading a saved state. The file is a stranger's: a count is compared with this context, or with
// the size of the file, before anything is allocated or added up with it.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "core/crc32.h"
#include "runtime/saved_state.h"
#include "runtime/state_tables.h"

namespace pillion {
namespace {

constexpr size_t kChunk = size_t(1) << 20;
using ull = unsigned long long;

std::string name_of(const char* bytes, size_t most) {
    return printable(std::string_view(bytes, strnlen(bytes, most)));
}

class Reader {
  public:
    Reader(Context& context, const StateSource& source)
        : context_(context), source_(source), chunk_(kChunk) {}

    void check();
    const StateHeader& header() const { return h_; }
    // The text, with the ids that this model gives to its media.
    std::vector<int32_t> tokens();
    Sampler::State sampler() { return {h_.seed, h_.drawn, std::move(accepted_)}; }
    // Writes the rows into the empty cache.
    void fill(KvCache& kv);

  private:
    // Where the bytes of a layer's rows go: a cache, or the copy of a ring.
    struct Place {
        KvCache::Place cache;
        uint8_t* copy;
    };
    [[noreturn]] __attribute__((format(printf, 3, 4))) void refuse(Status code, const char* format,
                                                                   ...) const;
    void check_kind();
    void check_number(const char* what, int64_t theirs, int64_t ours) const;
    void check_model(const StateHeader& ours) const;
    void check_counts() const;
    void check_stores(const std::vector<StateStore>& ours) const;
    void check_images() const;
    void check_media() const;
    void check_token(size_t i, const StateMedium*& medium) const;
    void check_crc(uint32_t theirs, uint32_t ours) const;
    void read_front();
    void check_rows() const;
    template <class T>
    void take(const std::vector<uint8_t>& front, size_t& at, std::vector<T>& to, size_t n) const;
    const uint8_t* next(size_t n);
    void skip(size_t n);
    void write(const std::vector<Place>& places, size_t offset, size_t n);
    void fill_image(KvCache& kv, size_t i);
    std::vector<Place> places_for(const KvCache& kv, int layer, uint8_t* copy) const;

    Context& context_;
    const StateSource& source_;
    StateHeader h_ = {};
    std::vector<StateStore> stores_;
    std::vector<StateImage> images_;
    std::vector<StateMedium> media_;
    std::vector<int32_t> tokens_, accepted_;
    size_t rows_at_ = 0;  // in the file
    size_t at_ = 0;       // next row to read
    uint32_t crc_ = 0;    // of the rows up to there
    std::vector<uint8_t> chunk_;
};

void Reader::refuse(Status code, const char* format, ...) const {
    char sentence[700];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    fail(code, "%s: %s", shown_path(source_.name).c_str(), sentence);
}

// Magic, version and byte order tell a stranger's file from a newer one; then the header's own
// checksum says whether the other fields are what was written.
void Reader::check_kind() {
    const size_t n = std::min(source_.size, sizeof h_);
    source_.read(0, &h_, n);
    if (n < sizeof h_.magic || memcmp(h_.magic, kStateMagic, sizeof h_.magic) != 0)
        refuse(Status::file_corrupt, "this is no saved state");
    if (n >= 16 && h_.byte_order == __builtin_bswap32(kStateByteOrder))
        refuse(Status::unsupported_model, "it was saved on a big-endian machine");
    if (n >= 16 && h_.byte_order == kStateByteOrder && h_.version > kStateVersion)
        refuse(Status::unsupported_model,
               "it has version %u of the format, this library reads version %u", h_.version,
               kStateVersion);
    if (n < sizeof h_)
        refuse(Status::file_corrupt, "it is cut: %zu bytes, its header alone has %zu", source_.size,
               sizeof h_);
    if (h_.header_crc != header_crc(h_))
        refuse(Status::file_corrupt, "its header is damaged: checksum %08x, its bytes give %08x",
               h_.header_crc, header_crc(h_));
    if (h_.version != kStateVersion || h_.byte_order != kStateByteOrder ||
        h_.header_bytes != sizeof h_ ||
        std::any_of(std::begin(h_.reserved), std::end(h_.reserved), [](uint64_t r) { return r; }))
        refuse(Status::file_corrupt, "its header is none of version %u", kStateVersion);
}

void Reader::check_number(const char* what, int64_t theirs, int64_t ours) const {
    if (theirs != ours)
        refuse(Status::invalid_argument, "it is of another model: %s %lld, this one has %lld", what,
               static_cast<long long>(theirs), static_cast<long long>(ours));
}

void Reader::check_model(const StateHeader& ours) const {
    if (memcmp(h_.architecture, ours.architecture, sizeof ours.architecture) != 0)
        refuse(Status::invalid_argument, "it is of another model: architecture %s, this one is %s",
               name_of(h_.architecture, sizeof h_.architecture).c_str(), ours.architecture);
    check_number("n_layers", h_.n_layers, ours.n_layers);
    check_number("n_embd", h_.n_embd, ours.n_embd);
    check_number("n_vocab", h_.n_vocab, ours.n_vocab);
    check_number("window", h_.window, ours.window);
    check_number("layers with a cache", h_.n_stores, ours.n_stores);
    if (h_.fingerprint != ours.fingerprint)
        refuse(Status::invalid_argument,
               "it is of another model of this shape: fingerprint %016llx, this one has %016llx",
               ull(h_.fingerprint), ull(ours.fingerprint));
    if (h_.kv_type != ours.kv_type) {
        const auto name = [](uint32_t type) {
            return type == KvType_f16 ? "f16" : type == KvType_q8_0 ? "q8_0" : "an unknown type";
        };
        refuse(Status::invalid_argument,
               "its keys and values are %s, those of this context %s: make a context with kv_type "
               "%s",
               name(h_.kv_type), name(ours.kv_type), name(h_.kv_type));
    }
    if (h_.block_slots != ours.block_slots)
        refuse(Status::file_corrupt, "blocks of %u positions, this version has %u", h_.block_slots,
               ours.block_slots);
}

void Reader::check_counts() const {
    if (h_.n_tokens > uint64_t(context_.n_ctx()))
        refuse(Status::context_full, "its text has %llu tokens, this context holds n_ctx %d",
               ull(h_.n_tokens), context_.n_ctx());
    if (h_.prompt_end > h_.n_tokens)
        refuse(Status::file_corrupt, "a prompt of %llu tokens in a text of %llu",
               ull(h_.prompt_end), ull(h_.n_tokens));
    if (h_.n_images < 1 || h_.n_images > 1 + KvSnapshots::kMost)
        refuse(Status::file_corrupt, "%u images, allowed are 1 to %d", h_.n_images,
               1 + KvSnapshots::kMost);
    if (h_.n_accepted > kStateAcceptedMost)
        refuse(Status::file_corrupt, "%llu accepted tokens, allowed are at most %llu",
               ull(h_.n_accepted), ull(kStateAcceptedMost));
    if (h_.n_media > h_.n_tokens)
        refuse(Status::file_corrupt, "%u media in a text of %llu tokens", h_.n_media,
               ull(h_.n_tokens));
    if (h_.has_sampler > 1 || (!h_.has_sampler && (h_.n_accepted | h_.drawn | h_.seed) != 0))
        refuse(Status::file_corrupt, "has_sampler %u beside a sampler's numbers", h_.has_sampler);
    if (h_.file_bytes != source_.size)
        refuse(Status::file_corrupt, "it has %zu bytes, its header says %llu", source_.size,
               ull(h_.file_bytes));
}

// Layers lie in the same places and layouts, or the bytes mean something else.
void Reader::check_stores(const std::vector<StateStore>& ours) const {
    for (size_t i = 0; i < ours.size(); i++) {
        const StateStore &a = stores_[i], &b = ours[i];
        check_number("a cache of layer", a.layer, b.layer);
        check_number("KV heads", a.n_kv_heads, b.n_kv_heads);
        check_number("head size", a.head_dim, b.head_dim);
        check_number("sliding", a.is_sliding, b.is_sliding);
        if (memcmp(a.layout, b.layout, sizeof a.layout) != 0)
            refuse(Status::invalid_argument,
                   "layer %d lies in layout %s in it and in layout %s here: open the model on the "
                   "device where it was saved",
                   b.layer, name_of(a.layout, sizeof a.layout).c_str(), b.layout);
        if (a.block_bytes != b.block_bytes || a.reserved != 0)
            refuse(Status::file_corrupt, "layer %d: blocks of %llu bytes, this version has %llu",
                   b.layer, ull(a.block_bytes), ull(b.block_bytes));
    }
}

// The window before an image's end is in it.
void Reader::check_images() const {
    const KvCache& kv = context_.kv();
    const bool slides = std::any_of(stores_.begin(), stores_.end(),
                                    [](const StateStore& s) { return s.is_sliding != 0; });
    for (size_t i = 0; i < images_.size(); i++) {
        const StateImage& image = images_[i];
        const uint64_t window = uint64_t(std::max(0, kv.window() - 1));
        const bool has_window =
            image.first == 0 || (image.first <= image.end && image.end - image.first >= window);
        const bool in_text = i == 0 ? image.end == h_.n_tokens : image.end <= h_.n_tokens;
        if (!in_text || !has_window || (!slides && (image.first > 0 || i > 0)))
            refuse(Status::file_corrupt, "image %zu has rows [%llu, %llu) of a text of %llu tokens",
                   i, ull(image.first), ull(image.end), ull(h_.n_tokens));
    }
}

// Each id below 0 is a row of one of the media. Where their rows see one another, all are there.
void Reader::check_media() const {
    for (const StateMedium& m : media_)
        if (m.first >= 0 || m.n_rows < 1 || m.first - INT32_MIN < m.n_rows - 1 || m.is_block > 1 ||
            m.reserved != 0)
            refuse(Status::file_corrupt, "a medium of %d rows whose first id is %d", m.n_rows,
                   m.first);
    const StateMedium* m = nullptr;
    for (size_t i = 0; i < tokens_.size(); i++)
        if (tokens_[i] < 0) check_token(i, m);
}

bool has(const StateMedium& m, int32_t id) { return id <= m.first && m.first - id < m.n_rows; }

void Reader::check_token(size_t i, const StateMedium*& m) const {
    const int32_t id = tokens_[i];
    if (!m || !has(*m, id)) {
        const auto found = std::find_if(media_.begin(), media_.end(),
                                        [&](const StateMedium& one) { return has(one, id); });
        m = found != media_.end() ? &*found : nullptr;
    }
    if (!m) refuse(Status::file_corrupt, "token %zu is %d, a row of none of its media", i, id);
    if (!m->is_block) return;
    const size_t index = size_t(m->first - id);
    const bool follows = index == 0 || (i > 0 && tokens_[i - 1] == id + 1);
    const bool goes_on =
        index + 1 == size_t(m->n_rows) || (i + 1 < tokens_.size() && tokens_[i + 1] == id - 1);
    if (!follows || !goes_on)
        refuse(Status::file_corrupt, "token %zu is %d, but not all rows of its image are there", i,
               id);
}

std::vector<int32_t> Reader::tokens() {
    MediaTable& table = context_.model().media();
    std::vector<int32_t> tokens = tokens_;
    for (const StateMedium& m : media_) {
        MediumDigest digest;
        std::copy(std::begin(m.digest), std::end(m.digest), digest.begin());
        const int32_t first = table.add(digest, nullptr, size_t(m.n_rows), m.is_block != 0);
        for (size_t i = 0; i < tokens_.size(); i++)
            if (has(m, tokens_[i])) tokens[i] = first - (m.first - tokens_[i]);
    }
    return tokens;
}

template <class T>
void Reader::take(const std::vector<uint8_t>& front, size_t& at, std::vector<T>& to,
                  size_t n) const {
    to.resize(n);
    if (n > 0) memcpy(to.data(), front.data() + at, n * sizeof(T));
    at += n * sizeof(T);
}

void Reader::check_crc(uint32_t theirs, uint32_t ours) const {
    if (theirs != ours)
        refuse(Status::file_corrupt, "it is damaged: checksum %08x, its bytes give %08x", theirs,
               ours);
}

// All before the rows. Its size is bounded by the counts, which are checked.
void Reader::read_front() {
    const uint64_t bytes = h_.n_stores * sizeof(StateStore) + h_.n_images * sizeof(StateImage) +
                           4 * (h_.n_tokens + h_.n_accepted) + h_.n_media * sizeof(StateMedium);
    if (bytes > source_.size - sizeof h_)
        refuse(Status::file_corrupt, "it has %zu bytes, its counts want more", source_.size);
    std::vector<uint8_t> front(bytes);
    source_.read(sizeof h_, front.data(), front.size());
    check_crc(h_.front_crc, crc32(0, front.data(), front.size()));
    rows_at_ = sizeof h_ + front.size();
    size_t at = 0;
    take(front, at, stores_, h_.n_stores);
    take(front, at, images_, h_.n_images);
    take(front, at, tokens_, size_t(h_.n_tokens));
    take(front, at, accepted_, size_t(h_.n_accepted));
    take(front, at, media_, h_.n_media);
}

// Reads the rows for their checksum only.
void Reader::check_rows() const {
    std::vector<uint8_t> chunk(kChunk);
    uint32_t crc = 0;
    for (size_t at = rows_at_; at < source_.size; at += kChunk) {
        if (context_.cancelled()) fail(Status::cancelled, "cancelled");
        const size_t n = std::min(kChunk, source_.size - at);
        source_.read(at, chunk.data(), n);
        crc = crc32(crc, chunk.data(), n);
    }
    check_crc(h_.rows_crc, crc);
}

void Reader::check() {
    check_kind();
    const StateTables ours = tables_of(context_, nullptr);
    check_model(ours.header);
    check_counts();
    read_front();
    check_stores(ours.stores);
    check_images();
    if (const uint64_t bytes = state_bytes(h_, stores_, images_); bytes != source_.size)
        refuse(Status::file_corrupt, "it has %zu bytes, its tables make %llu", source_.size,
               ull(bytes));
    if (std::any_of(tokens_.begin(), tokens_.end(), [&](int32_t t) { return t >= h_.n_vocab; }) ||
        std::any_of(accepted_.begin(), accepted_.end(), [](int32_t t) { return t < 0; }))
        refuse(Status::file_corrupt, "a token is outside the vocabulary of %d", h_.n_vocab);
    check_media();
    check_rows();
}

const uint8_t* Reader::next(size_t n) {
    source_.read(at_, chunk_.data(), n);
    crc_ = crc32(crc_, chunk_.data(), n);
    at_ += n;
    return chunk_.data();
}

void Reader::skip(size_t n) {
    for (size_t done = 0; done < n; done += kChunk) next(std::min(kChunk, n - done));
}

void Reader::write(const std::vector<Place>& places, size_t offset, size_t n) {
    for (size_t done = 0; done < n; done += kChunk) {
        const size_t part = std::min(kChunk, n - done);
        const uint8_t* bytes = next(part);
        for (const Place& p : places) {
            if (p.copy) memcpy(p.copy + offset + done, bytes, part);
            else
                p.cache.backend->write(bytes, part, *p.cache.buffer, p.cache.offset + offset + done)
                    .value_or_throw("KV cache");
        }
    }
}

std::vector<Reader::Place> Reader::places_for(const KvCache& kv, int layer, uint8_t* copy) const {
    std::vector<Place> places;
    if (!copy) {
        for (const KvCache::Place& p : kv.places_of(layer)) places.push_back({p, nullptr});
        return places;
    }
    size_t at = 0;
    for (const KvSnapshots::Ring& ring : kv.snapshots().rings()) {
        if (ring.layer == layer) places.push_back({{}, copy + at});
        at += ring.bytes;
    }
    return places;
}

// Image 0 goes to the caches, another one to a copy of the rings, if the context keeps any.
void Reader::fill_image(KvCache& kv, size_t i) {
    const StateImage& image = images_[i];
    const int end = int(image.end), first = kv.first_taken(int(image.first), end);
    uint8_t* copy = nullptr;
    if (i > 0 && kv.pool().ring_capacity() > 0)
        copy = kv.snapshots().add(first > 0 ? first + kv.window() - 1 : 0, end,
                                  kv.high_for(first, end));
    for (const StateStore& s : stores_) {
        if (i > 0 && !s.is_sliding) continue;
        const auto [begin, last] = blocks_of(image, s);
        const int from = s.is_sliding ? first / KV_BLOCK : 0;
        const std::vector<Place> places =
            i > 0 && !copy ? std::vector<Place>() : places_for(kv, s.layer, copy);
        for (const KvStrip& strip : strips_of(kv, s.layer)) {
            skip(size_t(from - begin) * strip.block_bytes);
            for_each_part(kv.pages_of(s.layer), strip, from, last,
                          [&](size_t offset, size_t n) { write(places, offset, n); });
        }
    }
    if (i == 0) kv.set_held(first, end);
}

void Reader::fill(KvCache& kv) {
    at_ = rows_at_, crc_ = 0;
    kv.make_room(int(h_.n_tokens));
    for (size_t i = 0; i < images_.size(); i++) fill_image(kv, i);
    if (crc_ != h_.rows_crc) refuse(Status::file_corrupt, "it changed while it was read");
}

// Copies for other devices can be filled with the rows of the cache.
bool copies_fit(const KvCache& kv, int n_layers) {
    for (int layer = 0; layer < n_layers; layer++) {
        const auto places = kv.places_of(layer);
        for (const KvCache::Place& p : places)
            if (strcmp(p.backend->kv_layout(), places.front().backend->kv_layout()) != 0)
                return false;
    }
    return true;
}

}  // namespace

StateSource source_of(const FileReader& file) {
    return {file.path(), file.size(),
            [&file](size_t offset, void* to, size_t n) { file.read(offset, to, n); }};
}

StateSource source_of(const uint8_t* bytes, size_t n) {
    return {"the saved state", n, [bytes](size_t offset, void* to, size_t count) {
                if (count > 0) memcpy(to, bytes + offset, count);
            }};
}

size_t load_state(Context& context, Sampler* sampler, const StateSource& source) {
    Reader reader(context, source);
    reader.check();
    if (sampler && !reader.header().has_sampler)
        fail(Status::invalid_argument, "%s: it was saved without a sampler: load it without one",
             shown_path(source.name).c_str());
    std::vector<int32_t> tokens = reader.tokens();
    const int prompt_end = int(reader.header().prompt_end);
    size_t n_run = 0;
    if (tokens.empty() || copies_fit(context.kv(), context.model().hparams().n_layers)) {
        context.restore(std::move(tokens), prompt_end, [&](KvCache& kv) { reader.fill(kv); });
    } else {
        n_run = tokens.size() - context.sync(tokens.data(), tokens.size(), size_t(prompt_end));
    }
    if (sampler) sampler->set_state(reader.sampler());
    return n_run;
}

}  // namespace pillion

#include "backends/htp/host/htp_session.h"

#include "core/log.h"

namespace pillion::htp {
namespace {

htp_message message_of(htp_message_kind kind) {
    htp_message m = {};
    m.version = HTP_WIRE_VERSION, m.kind = uint16_t(kind);
    return m;
}

constexpr size_t mb(size_t bytes) { return (bytes + (1u << 20) - 1) >> 20; }

}  // namespace

// Marks the connection as lost. The next message goes to a new process.
Failure Session::lost(const Failure& why) {
    channel_.reset();
    return why;
}

Result<void> Session::exchange(htp_message& m, const Watch& watch) {
    m.sequence = ++sequence_;
    if (const Result<void> sent = channel_->exchange(m, watch); !sent) return lost(sent.failure());
    if (m.sequence == sequence_) return ok();
    return lost({Status::device_lost, "session %d answered message %u with number %u", number_,
                 sequence_, m.sequence});
}

Result<void> Session::map(const Chunk& chunk) {
    if (const Result<void> known = channel_->register_memory(*chunk.memory); !known) return known;
    htp_message m = message_of(HTP_MSG_MAP);
    m.u.map.buffer = chunk.index;
    m.u.map.fd = chunk.memory->fd();
    m.u.map.bytes = uint32_t(chunk.memory->bytes() + HTP_SLACK);
    if (const Result<void> sent = exchange(m, {}); !sent) return sent;
    if (m.answer.status == HTP_OK) return ok();
    return Failure(Status::out_of_memory, "session %d can't map %zu MB beside %zu MB: %s (%u)",
                   number_, mb(chunk.memory->bytes()), mb(mapped_), htp_why_text(m.answer.why),
                   m.answer.value);
}

Result<void> Session::open() {
    if (channel_) return ok();
    Result<std::unique_ptr<Channel>> made = device_.connect(number_);
    if (!made) return made.failure();
    channel_ = std::move(*made);
    connection_++;
    if (const Result<void> greeted = greet(); !greeted) return lost(greeted.failure());
    if (connection_ > 1)
        log(LogLevel::warning, "htp: session %d was lost and is open again", number_);
    return ok();
}

// The first messages of a connection: the facts of the DSP, and the blocks that it had before.
Result<void> Session::greet() {
    htp_message m = message_of(HTP_MSG_INFO);
    if (const Result<void> sent = exchange(m, {}); !sent) return sent;
    if (m.answer.status != HTP_OK)
        return Failure(
            Status::no_backend,
            "the DSP's program speaks version %u of the wire, this library %u: install both from "
            "the same pillion",
            m.answer.limit, unsigned(HTP_WIRE_VERSION));
    info_ = m.u.info;
    for (const auto& [index, chunk] : wanted_)
        if (const Result<void> mapped = map(*chunk); !mapped) return mapped;
    return ok();
}

Result<htp_info> Session::info() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Result<void> opened = open(); !opened) return opened.failure();
    return info_;
}

Result<void> Session::use(const Chunk& chunk) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Result<void> opened = open(); !opened) return opened;
    if (wanted_.count(chunk.index)) return ok();
    const size_t bytes = chunk.memory->bytes(), space = device_.address_space();
    if (mapped_ + bytes > space)
        return Failure(
            Status::out_of_memory,
            "session %d of the DSP sees %zu MB, of which %zu MB are in use: %zu MB more do not fit",
            number_, mb(space), mb(mapped_), mb(bytes));
    if (const Result<void> mapped = map(chunk); !mapped) return mapped;
    wanted_[chunk.index] = &chunk;
    mapped_ += bytes;
    return ok();
}

void Session::forget(const Chunk& chunk) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!wanted_.erase(chunk.index)) return;
    mapped_ -= chunk.memory->bytes();
    if (!channel_) return;
    htp_message m = message_of(HTP_MSG_UNMAP);
    m.u.map.buffer = chunk.index;
    if (exchange(m, {})) channel_->unregister_memory(*chunk.memory);
}

Result<htp_answer> Session::prepare(Program& p) {
    htp_message m = message_of(HTP_MSG_PREPARE);
    m.u.prepare.plan = p.number, m.u.prepare.at = p.at;
    if (const Result<void> sent = exchange(m, {}); !sent) return sent.failure();
    if (m.answer.status == HTP_OK) p.prepared = connection_;
    return m.answer;
}

Result<htp_answer> Session::add(Program& p) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Result<void> opened = open(); !opened) return opened.failure();
    uint32_t number = 0;
    while (numbers_.count(number)) number++;
    if (number >= HTP_PLANS_MAX)
        return Failure(
            Status::out_of_memory,
            "%d plans are in use on session %d, the DSP keeps no more: close contexts or pairs",
            HTP_PLANS_MAX, number_);
    p.number = number;
    const Result<htp_answer> answer = prepare(p);
    if (p.prepared) numbers_.insert(number);
    return answer;
}

void Session::remove(const Program& p) {
    std::lock_guard<std::mutex> lock(mutex_);
    numbers_.erase(p.number);
    if (!channel_ || p.prepared != connection_) return;
    htp_message m = message_of(HTP_MSG_RELEASE);
    m.u.prepare.plan = p.number, m.u.prepare.at = p.at;
    (void)exchange(m, {});
}

Result<htp_answer> Session::run(Program& p, htp_address state, htp_address cancel,
                                const Watch& watch) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Result<void> opened = open(); !opened) return opened.failure();
    if (p.prepared != connection_) {
        const Result<htp_answer> answer = prepare(p);
        if (!answer || answer->status != HTP_OK) return answer;
    }
    htp_message m = message_of(HTP_MSG_RUN);
    m.u.run = {p.number, state, cancel, {HTP_NOWHERE, 0, 0}};
    if (const Result<void> sent = exchange(m, watch); !sent) return sent.failure();
    return m.answer;
}

size_t Session::mapped_bytes() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return mapped_;
}

int Session::connections() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return int(connection_);
}

Session& Sessions::at(int number) {
    std::lock_guard<std::mutex> lock(mutex_);
    while (int(list_.size()) <= number)
        list_.push_back(std::make_unique<Session>(device_, int(list_.size())));
    return *list_[size_t(number)];
}

void Sessions::forget(const Chunk& chunk) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& s : list_) s->forget(chunk);
}

Json Sessions::to_json() const {
    std::lock_guard<std::mutex> lock(mutex_);
    JsonArray out;
    for (const auto& s : list_)
        out.add(JsonObject()
                    .add("mapped_bytes", s->mapped_bytes())
                    .add("connections", s->connections()));
    return out;
}

}  // namespace pillion::htp

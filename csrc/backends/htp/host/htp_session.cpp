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
Status Session::lost(Status status, Reason& reason) {
    (void)reason;
    channel_.reset();
    return status;
}

Status Session::exchange(htp_message& m, const Watch& watch, Reason& reason) {
    m.sequence = ++sequence_;
    if (const Status s = channel_->exchange(m, watch, reason); s != Status::ok)
        return lost(s, reason);
    if (m.sequence == sequence_) return Status::ok;
    reason.set("session %d answered message %u with number %u", number_, sequence_, m.sequence);
    return lost(Status::device_lost, reason);
}

Status Session::map(const Chunk& chunk, Reason& reason) {
    if (const Status s = channel_->register_memory(*chunk.memory, reason); s != Status::ok)
        return s;
    htp_message m = message_of(HTP_MSG_MAP);
    m.u.map.buffer = chunk.index;
    m.u.map.fd = chunk.memory->fd();
    m.u.map.bytes = uint32_t(chunk.memory->bytes() + HTP_SLACK);
    if (const Status s = exchange(m, {}, reason); s != Status::ok) return s;
    if (m.answer.status == HTP_OK) return Status::ok;
    reason.set("session %d can't map %zu MB beside %zu MB: %s (%u)", number_,
               mb(chunk.memory->bytes()), mb(mapped_), htp_why_text(m.answer.why), m.answer.value);
    return Status::out_of_memory;
}

Status Session::open(Reason& reason) {
    if (channel_) return Status::ok;
    Status status = Status::ok;
    channel_ = device_.connect(number_, status, reason);
    if (!channel_) return status;
    connection_++;
    htp_message m = message_of(HTP_MSG_INFO);
    status = exchange(m, {}, reason);
    if (status == Status::ok && m.answer.status != HTP_OK) {
        reason.set(
            "the DSP's program speaks version %u of the wire, this library %u: install both from "
            "the same pillion",
            m.answer.limit, unsigned(HTP_WIRE_VERSION));
        return lost(Status::no_backend, reason);
    }
    info_ = m.u.info;
    for (auto it = wanted_.begin(); status == Status::ok && it != wanted_.end(); ++it)
        status = map(*it->second, reason);
    if (status == Status::ok && connection_ > 1)
        log(LogLevel::warning, "htp: session %d was lost and is open again", number_);
    return status == Status::ok ? status : lost(status, reason);
}

Status Session::info(htp_info& info, Reason& reason) {
    std::lock_guard<std::mutex> lock(mutex_);
    const Status s = open(reason);
    info = info_;
    return s;
}

Status Session::use(const Chunk& chunk, Reason& reason) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Status s = open(reason); s != Status::ok) return s;
    if (wanted_.count(chunk.index)) return Status::ok;
    const size_t bytes = chunk.memory->bytes(), space = device_.address_space();
    if (mapped_ + bytes > space) {
        reason.set(
            "session %d of the DSP sees %zu MB, of which %zu MB are in use: %zu MB more do not fit",
            number_, mb(space), mb(mapped_), mb(bytes));
        return Status::out_of_memory;
    }
    if (const Status s = map(chunk, reason); s != Status::ok) return s;
    wanted_[chunk.index] = &chunk;
    mapped_ += bytes;
    return Status::ok;
}

void Session::forget(const Chunk& chunk) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!wanted_.erase(chunk.index)) return;
    mapped_ -= chunk.memory->bytes();
    if (!channel_) return;
    htp_message m = message_of(HTP_MSG_UNMAP);
    m.u.map.buffer = chunk.index;
    Reason ignored;
    if (exchange(m, {}, ignored) == Status::ok) channel_->unregister_memory(*chunk.memory);
}

Status Session::prepare(Program& p, htp_answer& answer, Reason& reason) {
    htp_message m = message_of(HTP_MSG_PREPARE);
    m.u.prepare.plan = p.number, m.u.prepare.at = p.at;
    const Status s = exchange(m, {}, reason);
    answer = m.answer;
    if (s == Status::ok && answer.status == HTP_OK) p.prepared = connection_;
    return s;
}

Status Session::add(Program& p, htp_answer& answer, Reason& reason) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Status s = open(reason); s != Status::ok) return s;
    uint32_t number = 0;
    while (numbers_.count(number)) number++;
    if (number >= HTP_PLANS_MAX) {
        reason.set(
            "%d plans are in use on session %d, the DSP keeps no more: close contexts or pairs",
            HTP_PLANS_MAX, number_);
        return Status::out_of_memory;
    }
    p.number = number;
    const Status s = prepare(p, answer, reason);
    if (p.prepared) numbers_.insert(number);
    return s;
}

void Session::remove(const Program& p) {
    std::lock_guard<std::mutex> lock(mutex_);
    numbers_.erase(p.number);
    if (!channel_ || p.prepared != connection_) return;
    htp_message m = message_of(HTP_MSG_RELEASE);
    m.u.prepare.plan = p.number, m.u.prepare.at = p.at;
    Reason ignored;
    (void)exchange(m, {}, ignored);
}

Status Session::run(Program& p, htp_address state, htp_address cancel, const Watch& watch,
                    htp_answer& answer, Reason& reason) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Status s = open(reason); s != Status::ok) return s;
    if (p.prepared != connection_) {
        const Status s = prepare(p, answer, reason);
        if (s != Status::ok || answer.status != HTP_OK) return s;
    }
    htp_message m = message_of(HTP_MSG_RUN);
    m.u.run = {p.number, state, cancel, {HTP_NOWHERE, 0, 0}};
    const Status s = exchange(m, watch, reason);
    answer = m.answer;
    return s;
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

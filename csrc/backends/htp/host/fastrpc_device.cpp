// The channel to a device: a process domain on the DSP, opened through libcdsprpc. Messages
// travel in a dspqueue; memory is rpcmem that both sides map. Written from the driver's public
// interface and tested against a library with the same interface (tests/htp/fake_cdsprpc.c), never
// on a DSP.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>

#include "backends/htp/host/htp_device.h"
#include "backends/htp/host/htp_driver.h"
#include "backends/htp/host/htp_errors.h"
#include "backends/htp/wire/htp_fastrpc.h"

namespace pillion::htp {
namespace {

// A process domain addresses 32 bits, less its own memory.
constexpr size_t kAddressSpace = size_t(3584) << 20;
constexpr int kSessionsMax = 4, kSessionsMaxOld = 2;  // from v75 on; before v75
constexpr int kArchitectures[] = {68, 69, 73, 75, 79, 81};
// Between looks at the cancel flag; the driver logs each read that times out.
constexpr uint32_t kSliceUs = 100'000;
constexpr uint32_t kLatencyUs = 100;
// The report of a killed process arrives within this time.
constexpr int kFarewellMs = 1000;

int64_t now_ms() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

class RpcMemory final : public SharedMemory {
  public:
    RpcMemory(const Driver& driver, size_t bytes) : driver_(driver), all_(bytes + HTP_SLACK) {
        void* p = nullptr;
        if (driver.rpcmem_alloc2) p = driver.rpcmem_alloc2(kHeapSystem, kHeapFlags, all_);
        else if (all_ < size_t(1) << 31)
            p = driver.rpcmem_alloc(kHeapSystem, kHeapFlags, int(all_));
        if (!p) return;
        host_ = static_cast<uint8_t*>(p), bytes_ = bytes, fd_ = driver.rpcmem_to_fd(p);
    }
    ~RpcMemory() override {
        if (host_) driver_.rpcmem_free(host_);
    }
    size_t all() const { return all_; }

  private:
    const Driver& driver_;
    size_t all_;
};

// What the queue's error callback reports, on a thread of the driver. It lives as long as the
// callback may run.
struct Loss {
    std::atomic<bool> is_reported{false};
    std::atomic<int> code{0};
};

class FastRpcChannel final : public Channel {
  public:
    explicit FastRpcChannel(const Driver& driver) : d_(driver), loss_(std::make_unique<Loss>()) {}

    ~FastRpcChannel() override {
        if (handle_ && (is_lost_ || loss_->is_reported)) bury();
        else if (is_started_)
            (void)d_.remote_handle64_invoke(handle_, remote_scalars(HTP_RPC_STOP, 0, 0), nullptr);
        // The driver does not close a queue that the DSP holds, and may then still call back.
        if (queue_ && d_.dspqueue_close(queue_)) (void)loss_.release();
        for (const RpcMemory* m : registered_)
            (void)d_.fastrpc_munmap(domain_, m->fd(), m->host(), m->all());
        if (handle_) (void)d_.remote_handle64_close(handle_);
    }

    Result<void> start(int number, int arch) {
        uint32_t session = 0;
        if (number > 0)
            if (const Result<void> reserved = reserve(number, session); !reserved) return reserved;
        // Retail phones accept programs without Qualcomm's signature only in this way.
        UnsignedModule unsigned_module = {domain_, 1};
        if (const int e = d_.remote_session_control(kRequestUnsigned, &unsigned_module,
                                                    sizeof unsigned_module))
            return driver_failure("the DSP does not give this program an unsigned process", e);
        if (const int e = open(session, arch)) return open_failure(e, arch);
        Latency latency = {1, kLatencyUs};
        (void)d_.remote_handle64_control(handle_, kRequestLatency, &latency,
                                         sizeof latency);  // slower without it, otherwise the same
        if (const int e = d_.dspqueue_create(domain_, 0, HTP_RPC_QUEUE_BYTES, HTP_RPC_QUEUE_BYTES,
                                             nullptr, on_error, loss_.get(), &queue_))
            return driver_failure("no queue to the DSP", e);
        htp_rpc_start start = {0, HTP_WIRE_VERSION, 0};
        if (const int e = d_.dspqueue_export(queue_, &start.queue))
            return driver_failure("no queue to the DSP", e);
        RemoteArgument argument = {};
        argument.buffer = {&start, sizeof start};
        if (const int e =
                d_.remote_handle64_invoke(handle_, remote_scalars(HTP_RPC_START, 1, 0), &argument))
            return driver_failure("the DSP's program does not start", e);
        is_started_ = true;
        return ok();
    }

    Result<void> register_memory(const SharedMemory& memory) override {
        const auto& m = static_cast<const RpcMemory&>(memory);
        const int e = d_.fastrpc_mmap(domain_, m.fd(), m.host(), 0, m.all(), kMapFd);
        if (e == 0) return registered_.push_back(&m), ok();
        if (loss_->is_reported) return broken(loss_->code);
        // The driver says EFAILED for every reason of the kernel. While the session lives, the
        // reason is that the DSP's address space is full.
        const bool is_full = driver_code(e).code == 0x01;
        char what[96];
        const char* guess = is_full ? ", most likely for lack of address space" : "";
        snprintf(what, sizeof what, "%zu MB of shared memory can't be mapped%s", m.all() >> 20,
                 guess);
        if (!is_full) return driver_failure(what, e);
        return Failure(
            Status::out_of_memory,
            "%s: error 0x%x (EFAILED); close other programs that use the DSP, or take a smaller "
            "n_ctx, model or kv_type q8_0",
            what, unsigned(e));
    }

    void unregister_memory(const SharedMemory& memory) override {
        const auto& m = static_cast<const RpcMemory&>(memory);
        registered_.erase(std::remove(registered_.begin(), registered_.end(), &m),
                          registered_.end());
        (void)d_.fastrpc_munmap(domain_, m.fd(), m.host(), m.all());
    }

    Result<void> exchange(htp_message& message, const Watch& watch) override {
        if (loss_->is_reported) return broken(loss_->code);
        std::vector<QueueBuffer> ranges = handed_over(message, watch);
        // Fewer ranges would leave old cache lines.
        if (ranges.size() > HTP_RPC_RANGES_MAX)
            return Failure(Status::internal,
                           "a run hands over %zu areas of memory, a packet takes %d", ranges.size(),
                           int(HTP_RPC_RANGES_MAX));
        const int64_t end = now_ms() + timeout_ms();
        if (const int e = send(message, std::move(ranges), end)) return failed(e);
        for (;;) {
            if (watch.cancel && watch.cancel->load())
                __atomic_store_n(watch.cancel_word, 1u, __ATOMIC_RELEASE);
            if (loss_->is_reported) return broken(loss_->code);
            uint32_t flags = 0, n = 0, length = 0;
            htp_message answer = {};
            const int e = d_.dspqueue_read(
                queue_, &flags, 0, &n, nullptr, sizeof answer, &length,
                reinterpret_cast<uint8_t*>(&answer),
                uint32_t(std::min<int64_t>(kSliceUs, int64_t(timeout_ms()) * 1000)));
            if (e == 0 && length != sizeof answer) return broken(0x200);
            if (e == 0 && answer.sequence == 0)
                return broken(int(answer.answer.value));  // htp_fastrpc.h
            if (e == 0) return message = answer, ok();
            if (!is_early(e)) return failed(e);
            if (now_ms() > end) return failed(kEExpired);
            // Waits for a dead process end at once; its report is on the way.
            if (driver_code(e).code != kEExpired)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

  private:
    // True if nothing has arrived yet: the read's own time is over, or a signal of this process
    // ended it.
    static bool is_early(int e) {
        const uint32_t code = driver_code(e).code;
        return code == kEExpired || code == kEWouldBlock || code == kEInterrupted;
    }

    static void on_error(void*, int error, void* context) {
        auto* loss = static_cast<Loss*>(context);
        loss->code = error;
        loss->is_reported = true;
    }

    int send(const htp_message& message, std::vector<QueueBuffer> ranges, int64_t end) {
        const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
        for (;;) {
            const int64_t left_ms = std::clamp<int64_t>(end - now_ms(), 1, 1'000'000);
            const int e = d_.dspqueue_write(queue_, 0, uint32_t(ranges.size()), ranges.data(),
                                            sizeof message, bytes, uint32_t(left_ms) * 1000u);
            if (driver_code(e).code != kEInterrupted || loss_->is_reported || now_ms() > end)
                return e;  // interrupted: nothing was written
        }
    }

    Failure failed(int e) {
        if (loss_->is_reported) return broken(loss_->code);  // the cause; e is only the consequence
        if (driver_code(e).code != kEExpired) return broken(e);
        is_lost_ = true;
        return Failure(Status::device_lost, "the DSP did not answer within %d ms", timeout_ms());
    }

    Failure broken(int e) {
        is_lost_ = true;
        // In the queue's callback ENOSUCH means a process that ended, and ECONNRESET a DSP that was
        // restarted. Elsewhere both have further meanings.
        const bool is_ended = loss_->is_reported && e == kENoSuch;
        if (!is_ended) return driver_failure("the DSP was lost", e).as(Status::device_lost);
        return Failure(
            Status::device_lost,
            "the DSP was lost: error 0x%x (ENOSUCH): its process crashed or was ended; open "
            "the model again",
            unsigned(e));
    }

    // Ends a process that hangs: it would block the calls that close it. The driver closes its
    // queues only after it was told of the end.
    void bury() {
        ProcessKill kill = {domain_};
        (void)d_.remote_session_control(kRequestKill, &kill, sizeof kill);
        for (int ms = 0; queue_ && !loss_->is_reported && ms < kFarewellMs; ms += 5)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }

    Result<void> reserve(int number, uint32_t& session) {
        char name[32];
        snprintf(name, sizeof name, "pillion-%d", number);
        ReserveSession r = {kDomainName, uint32_t(strlen(kDomainName)),
                            name,        uint32_t(strlen(name)),
                            0,           0};
        if (const int e = d_.remote_session_control(kRequestReserveSession, &r, sizeof r)) {
            char what[64];
            snprintf(what, sizeof what, "session %d of the DSP can't be opened", number);
            return driver_failure(what, e);
        }
        domain_ = int(r.effective_domain), session = r.session;
        return ok();
    }

    int open(uint32_t session, int arch) {
        char library[64], module[192], uri[320];
        dsp_library_name(arch, library, sizeof library);
        snprintf(module, sizeof module, "file:///%s?%s&_modver=1.0", library, HTP_RPC_ENTRY);
        SessionUri u = {kDomainName, uint32_t(strlen(kDomainName)), session,
                        module,      uint32_t(strlen(module)),      uri,
                        sizeof uri};
        int e = d_.remote_session_control(kRequestUri, &u, sizeof u);
        if (e != 0 && session == 0)
            e = 0, snprintf(uri, sizeof uri, "%s&_dom=%s", module,
                            kDomainName);  // older systems do not know it
        if (e == 0) e = d_.remote_handle64_open(uri, &handle_);
        if (e != 0) handle_ = 0;
        return e;
    }

    // The driver's code of a failed open covers many causes; this finds the usual one.
    Failure open_failure(int e, int arch) const {
        const Failure refused = driver_failure("the DSP's program can't be opened", e);
        if (refused.code() == Status::busy) return refused;
        const Result<void> library = find_dsp_library(arch);
        if (library) return refused;
        return Failure(Status::no_backend, "%s (the driver says 0x%x, %s)",
                       library.failure().sentence(), unsigned(e), driver_code(e).name);
    }

    std::vector<QueueBuffer> handed_over(const htp_message& message, const Watch& watch) const {
        std::vector<QueueBuffer> list;
        const auto add = [&](const SharedMemory& m, uint32_t offset, uint32_t bytes) {
            list.push_back({uint32_t(m.fd()), bytes, offset, kFlushSender | kInvalidateRecipient,
                            uint64_t(uintptr_t(m.host() + offset))});
        };
        if (message.kind == HTP_MSG_PREPARE)  // weights were imported, or tests wrote them
            for (const RpcMemory* m : registered_) add(*m, 0, uint32_t(m->all()));
        if (watch.ranges)
            for (const MemoryRange& r : *watch.ranges) add(*r.memory, r.offset, r.bytes);
        return list;
    }

    const Driver& d_;
    int domain_ = kDomainCdsp;
    uint64_t handle_ = 0;
    void* queue_ = nullptr;
    bool is_started_ = false;
    std::vector<const RpcMemory*> registered_;
    bool is_lost_ = false;
    std::unique_ptr<Loss> loss_;
};

bool query(const Driver& d, uint32_t attribute, uint32_t& value, int& error) {
    DspCapability c = {uint32_t(kDomainCdsp), attribute, 0};
    error = d.remote_handle_control(kRequestDspInfo, &c, sizeof c);
    value = c.capability;
    return error == 0;
}

class FastRpcLink final : public Device {
  public:
    FastRpcLink(const Driver& driver, int arch) : d_(driver), arch_(arch) {}
    const char* name() const override { return "htp"; }
    void describe(JsonObject& out) const override {
        out.add("transport", "fastrpc").add("driver", d_.path);
    }
    size_t address_space() const override { return address_space_or(kAddressSpace); }
    int sessions_max() const override { return arch_ >= 75 ? kSessionsMax : kSessionsMaxOld; }
    bool is_emulated() const override { return false; }

    Result<std::unique_ptr<SharedMemory>> allocate(size_t bytes) override {
        auto m = std::make_unique<RpcMemory>(d_, bytes);
        if (m->host() && m->fd() >= 0) return m;
        return Failure(
            Status::out_of_memory,
            "the system gives no %zu MB of memory shared with the DSP: close other programs, or "
            "take a smaller model or n_ctx",
            bytes >> 20);
    }

    Result<std::unique_ptr<Channel>> connect(int session) override {
        auto t = std::make_unique<FastRpcChannel>(d_);
        if (const Result<void> started = t->start(session, arch_); !started)
            return started.failure();
        return t;
    }

  private:
    const Driver& d_;
    int arch_;
};

}  // namespace

Result<std::unique_ptr<Device>> open_fastrpc() {
    const Result<const Driver*> driver = open_driver();
    if (!driver) return driver.failure();
    const Driver& d = **driver;
    uint32_t value = 0;
    int error = 0;
    if (!query(d, kAttributeArch, value, error))
        return driver_failure("the DSP does not tell its architecture", error);
    // 0x8873 and the like: the last two hexadecimal digits, read as a number.
    const int arch = int(value >> 4 & 15) * 10 + int(value & 15);
    if (std::find(std::begin(kArchitectures), std::end(kArchitectures), arch) ==
        std::end(kArchitectures))
        return Failure(
            Status::no_backend,
            "the DSP is of architecture v%d, there are programs for v68, v69, v73, v75, v79 and "
            "v81",
            arch);
    if (query(d, kAttributeUnsigned, value, error) && value == 0)
        return Failure(
            Status::no_backend,
            "this device's DSP (v%d) runs signed programs only: unsigned process domains are "
            "switched off; use the cpu",
            arch);
    if (const Result<void> library = find_dsp_library(arch); !library) return library.failure();
    return std::make_unique<FastRpcLink>(d, arch);
}

}  // namespace pillion::htp

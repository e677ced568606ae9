// The channel to a child process that emulates the DSP. The program is built from the DSP's own
// sources, natively or for an emulator. Memory is memfds that the child maps through /proc.
// Messages go through a ring in another memfd, and both sides sleep on futexes.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "backends/htp/host/htp_device.h"
#include "backends/htp/wire/htp_sim_ring.h"
#include "core/cpu_count.h"

extern char** environ;

namespace pillion::htp {
namespace {

// An emulator on a busy machine takes a second.
constexpr int kStartMs = 30'000;
constexpr int kSlice = 20;                 // ms between looks at the child and the cancel flag
constexpr uint32_t kVtcmBytes = 8u << 20;  // the size on phones
constexpr size_t kAddressSpace = size_t(3584) << 20;

int make_memfd(const char* name) {
    return int(syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */));
}

class MemFd final : public SharedMemory {
  public:
    static std::unique_ptr<MemFd> make(const char* name, size_t bytes) {
        auto m = std::unique_ptr<MemFd>(new (std::nothrow) MemFd);
        if (!m || bytes + HTP_SLACK < bytes) return nullptr;
        m->fd_ = make_memfd(name);
        m->mapped_ = (bytes + HTP_SLACK + 65535) / 65536 * 65536;
        if (m->fd_ < 0 || ftruncate(m->fd_, off_t(m->mapped_)) != 0) return nullptr;
        void* p = mmap(nullptr, m->mapped_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                       m->fd_, 0);
        if (p == MAP_FAILED) return nullptr;
        m->host_ = static_cast<uint8_t*>(p), m->bytes_ = bytes;
        return m;
    }
    ~MemFd() override {
        if (host_) munmap(host_, mapped_);
        if (fd_ >= 0) close(fd_);
    }

  private:
    size_t mapped_ = 0;
};

int64_t now_ms() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

uint32_t load(const uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }

void wait_change(const uint32_t& word, uint32_t old, int ms) {
    // A small op is answered before a sleep would begin.
    for (int i = 0; i < 300; i++)
        if (load(word) != old) return;
    const timespec t = {ms / 1000, long(ms % 1000) * 1'000'000};
    syscall(SYS_futex, &word, FUTEX_WAIT, old, &t, nullptr, 0);
}

class SimChannel final : public Channel {
  public:
    SimChannel(std::vector<std::string> command, std::unique_ptr<MemFd> control,
               std::unique_ptr<MemFd> errors)
        : command_(std::move(command)), memory_(std::move(control)), errors_(std::move(errors)),
          owner_(getpid()) {}

    ~SimChannel() override {
        if (pid_ <= 0 || owner_ != getpid()) return;
        if (!is_gone() && !hangs_) {
            htp_message stop = {};
            stop.version = HTP_WIRE_VERSION, stop.kind = HTP_MSG_STOP;
            (void)exchange(stop, {});
            for (const int64_t end = now_ms() + 2000; !is_gone() && now_ms() < end;) usleep(1000);
        }
        end_child();
    }

    Result<void> start(int n_threads) {
        htp_sim_control& c = control();
        c.magic = HTP_SIM_MAGIC, c.version = HTP_WIRE_VERSION, c.slots = HTP_SIM_SLOTS;
        c.threads = uint32_t(n_threads), c.vtcm_bytes = kVtcmBytes;
        const int error = spawn();
        if (error != 0)
            return Failure(Status::no_backend, "%s does not start: %s", command_[0].c_str(),
                           strerror(error));
        for (const int64_t end = now_ms() + kStartMs; load(c.ready) == 0;) {
            if (is_gone())
                return Failure(Status::no_backend, "%s ended before it served: %s",
                               command_text().c_str(), last_words().c_str());
            if (now_ms() > end) {
                hangs_ = true;
                return Failure(Status::no_backend, "%s did not serve within %d s",
                               command_text().c_str(), kStartMs / 1000);
            }
            wait_change(c.ready, 0, kSlice);
        }
        return ok();
    }

    Result<void> exchange(htp_message& message, const Watch& watch) override {
        htp_sim_control& c = control();
        if (owner_ != getpid())
            return Failure(Status::device_lost,
                           "the session belongs to process %d, which this one was forked from",
                           int(owner_));
        if (hangs_ || is_gone()) return lost();
        const uint32_t at = c.submitted;
        htp_message& slot = c.slot[at % HTP_SIM_SLOTS];
        slot = message;
        __atomic_store_n(&c.submitted, at + 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &c.submitted, FUTEX_WAKE, 1, nullptr, nullptr, 0);
        for (const int64_t end = now_ms() + timeout_ms(); load(c.completed) != at + 1;) {
            if (watch.cancel && watch.cancel->load())
                __atomic_store_n(watch.cancel_word, 1u, __ATOMIC_RELEASE);
            wait_change(c.completed, at, kSlice);
            if (load(c.completed) == at + 1) break;
            if (is_gone()) return lost();
            if (now_ms() > end) return hangs_ = true, lost();
        }
        message = slot;
        return ok();
    }

  private:
    htp_sim_control& control() const {
        return *reinterpret_cast<htp_sim_control*>(memory_->host());
    }

    // The child gets its own process group: Ctrl-C in a terminal stops only the host.
    int spawn() {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", int(getpid()), memory_->fd());
        std::vector<char*> words;
        for (std::string& w : command_) words.push_back(w.data());
        words.push_back(path), words.push_back(nullptr);
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attributes;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&files, errors_->fd(), 2);
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
        sigset_t none;
        sigemptyset(&none);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setpgroup(&attributes, 0);
        const int error = posix_spawnp(&pid_, words[0], &files, &attributes, words.data(), environ);
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attributes);
        if (error != 0) pid_ = -1;
        return error;
    }

    bool is_gone() {
        if (gone_ || pid_ <= 0) return true;
        const pid_t got = waitpid(pid_, &exit_, WNOHANG);
        // ECHILD: other code reaps the program's children.
        gone_ = got == pid_ || (got < 0 && errno == ECHILD);
        return gone_;
    }

    void end_child() {
        if (is_gone()) return;
        kill(pid_, SIGKILL);
        while (waitpid(pid_, &exit_, 0) < 0 && errno == EINTR) {
        }
        gone_ = true;
    }

    Failure lost() {
        const Failure why =
            hangs_
                ? Failure(Status::device_lost,
                          "the simulator did not answer within %d ms and was ended", timeout_ms())
                : Failure(Status::device_lost, "the simulator's process is gone: %s",
                          last_words().c_str());
        end_child();
        hangs_ = false;
        return why;
    }

    // How the child ended, and the last line that it wrote.
    std::string last_words() const {
        std::string text =
            WIFSIGNALED(exit_)
                ? std::string("ended by ") + strsignal(WTERMSIG(exit_))
                : "ended with status " + std::to_string(WIFEXITED(exit_) ? WEXITSTATUS(exit_) : -1);
        char words[4096];
        // The child writes through the same file description.
        const off_t size = lseek(errors_->fd(), 0, SEEK_CUR);
        const off_t from = std::max<off_t>(0, size - off_t(sizeof words));
        const ssize_t n = pread(errors_->fd(), words, sizeof words, from);
        std::string line(words,
                         size_t(std::max<ssize_t>(0, std::min<ssize_t>(n, ssize_t(size - from)))));
        while (!line.empty() && (line.back() == '\n' || line.back() == 0)) line.pop_back();
        if (const size_t start = line.rfind('\n'); start != std::string::npos)
            line = line.substr(start + 1);
        if (!line.empty()) text += " (" + line.substr(0, 300) + ")";
        return text;
    }

    std::string command_text() const {
        std::string text;
        for (const std::string& w : command_) text += (text.empty() ? "" : " ") + w;
        return text;
    }

    std::vector<std::string> command_;
    std::unique_ptr<MemFd> memory_, errors_;
    pid_t owner_, pid_ = -1;
    int exit_ = 0;
    bool gone_ = false, hangs_ = false;
};

class SimLink final : public Device {
  public:
    explicit SimLink(std::vector<std::string> command) : command_(std::move(command)) {}
    const char* name() const override { return "htp:sim"; }
    void describe(JsonObject& out) const override {
        out.add("transport", "sim").add("command", command_.back());
    }
    size_t address_space() const override { return address_space_or(kAddressSpace); }
    int sessions_max() const override { return 4; }
    bool is_emulated() const override { return true; }

    Result<std::unique_ptr<SharedMemory>> allocate(size_t bytes) override {
        auto m = MemFd::make("pillion-htp", bytes);
        if (!m) return Failure(Status::out_of_memory, "no shared memory for %zu bytes", bytes);
        return m;
    }

    Result<std::unique_ptr<Channel>> connect(int) override {
        auto control = MemFd::make("pillion-htp-control", sizeof(htp_sim_control));
        auto errors = MemFd::make("pillion-htp-errors", 4096);
        if (!control || !errors)
            return Failure(Status::out_of_memory, "no shared memory for the simulator");
        auto t = std::make_unique<SimChannel>(command_, std::move(control), std::move(errors));
        if (const Result<void> started = t->start(std::min(4, usable_cpus())); !started)
            return started.failure();
        return t;
    }

  private:
    std::vector<std::string> command_;
};

std::vector<std::string> words_of(const std::string& text) {
    std::vector<std::string> words;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find(' ', at), text.size());
        if (end > at) words.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return words;
}

std::string program_beside_module() {
    Dl_info info = {};
    if (!dladdr(reinterpret_cast<void*>(&open_sim), &info) || !info.dli_fname)
        return "pillion_htp_sim";
    const std::string path = info.dli_fname;
    const size_t slash = path.rfind('/');
    return (slash == std::string::npos ? "." : path.substr(0, slash)) + "/pillion_htp_sim";
}

}  // namespace

Result<std::unique_ptr<Device>> open_sim() {
    const char* asked = getenv("PILLION_HTP_SIM");
    std::vector<std::string> command = words_of(asked && *asked ? asked : "");
    if (command.empty()) command.push_back(program_beside_module());
    if (access(command.back().c_str(), X_OK) != 0)
        return Failure(Status::no_backend, "its simulator %s is not there or can't be run%s",
                       command.back().c_str(), asked && *asked ? " (PILLION_HTP_SIM)" : "");
    return std::make_unique<SimLink>(std::move(command));
}

int timeout_ms() {
    const char* text = getenv("PILLION_HTP_TIMEOUT");
    const double seconds = text ? atof(text) : 0;
    return seconds > 0 && seconds < 1e6 ? int(seconds * 1000) : 60'000;
}

size_t address_space_or(size_t bytes) {
    const char* text = getenv("PILLION_HTP_SPACE");
    const double mb = text ? atof(text) : 0;
    return mb > 0 && mb * 1048576 < double(bytes) ? size_t(mb * 1048576) : bytes;
}

}  // namespace pillion::htp

// POSIX only: pillion runs on Linux and Android.
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace pillion {
namespace {

constexpr size_t kCacheLine = 64;
// Linux moves at most 2 GiB in one read, and some file systems less.
constexpr size_t kReadChunk = size_t(1) << 30;

struct Descriptor {
    int fd = -1;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
    int release() { return std::exchange(fd, -1); }
};

// Thread-safe, unlike strerror.
std::string error_text(int code) { return std::generic_category().message(code); }

size_t page_size() {
    static const size_t size = size_t(sysconf(_SC_PAGESIZE));
    return size;
}

uint8_t* allocate(size_t size, const std::string& path) {
    void* memory = nullptr;
    if (posix_memalign(&memory, kCacheLine, size) != 0)
        fail(Status::out_of_memory, "cannot read '%s': no memory for %zu bytes",
             shown_path(path).c_str(), size);
    return static_cast<uint8_t*>(memory);
}

void read_all(int fd, size_t offset, uint8_t* to, size_t size, const std::string& path) {
    for (size_t done = 0; done < size;) {
        const ssize_t n =
            ::pread(fd, to + done, std::min(size - done, kReadChunk), off_t(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            fail(Status::file_corrupt, "cannot read '%s': %s", shown_path(path).c_str(),
                 error_text(errno).c_str());
        if (n == 0)
            fail(Status::file_corrupt,
                 "cannot read '%s': it shrank from %zu to %zu bytes while being read",
                 shown_path(path).c_str(), offset + size, offset + done);
        done += size_t(n);
    }
}

// Opens the file and returns its size. Throws if it is not a regular file or is empty.
size_t open_regular(const std::string& path, Descriptor& out) {
    // With O_NONBLOCK, opening a FIFO does not wait for a writer. Regular files ignore the flag.
    out.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (out.fd < 0)
        fail(Status::file_not_found, "cannot open '%s': %s", shown_path(path).c_str(),
             error_text(errno).c_str());
    struct stat st;
    if (fstat(out.fd, &st) != 0)
        fail(Status::file_not_found, "cannot open '%s': %s", shown_path(path).c_str(),
             error_text(errno).c_str());
    if (S_ISDIR(st.st_mode))
        fail(Status::file_not_found, "cannot open '%s': it is a directory",
             shown_path(path).c_str());
    if (!S_ISREG(st.st_mode))
        fail(Status::file_not_found, "cannot open '%s': it is not a regular file",
             shown_path(path).c_str());
    if (st.st_size == 0)
        fail(Status::file_corrupt, "cannot use '%s': the file is empty", shown_path(path).c_str());
    // PTRDIFF_MAX, not SIZE_MAX: code subtracts pointers into the file. Only 32-bit machines reach
    // this.
    if (uint64_t(st.st_size) > uint64_t(PTRDIFF_MAX))
        fail(Status::out_of_memory,
             "cannot open '%s': %lld bytes do not fit this machine's address space",
             shown_path(path).c_str(), static_cast<long long>(st.st_size));
    return size_t(st.st_size);
}

}  // namespace

std::string shown_path(const std::string& path) {
    constexpr size_t kLongest = 400;
    return path.size() <= kLongest ? path : "..." + path.substr(path.size() - kLongest);
}

File File::open(const std::string& path, bool use_mmap) {
    Descriptor descriptor;
    File file;
    const size_t size = open_regular(path, descriptor);
    file.path_ = path;
    if (use_mmap) {
        void* base = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.fd, 0);
        if (base == MAP_FAILED)
            fail(errno == ENOMEM ? Status::out_of_memory : Status::file_not_found,
                 "cannot map '%s' (%zu bytes): %s", shown_path(path).c_str(), size,
                 error_text(errno).c_str());
        file.data_ = static_cast<uint8_t*>(base);
        file.size_ = size;
        file.mapped_ = true;
        return file;
    }
    // Owned from here on: a throw below frees it.
    file.data_ = allocate(size, path);
    file.size_ = size;
    read_all(descriptor.fd, 0, file.data_, size, path);
    return file;
}

File File::from_bytes(const void* bytes, size_t size, const std::string& name) {
    if (size == 0)
        fail(Status::file_corrupt, "cannot use '%s': the file is empty", shown_path(name).c_str());
    File file;
    file.path_ = name;
    file.data_ = allocate(size, name);
    file.size_ = size;
    memcpy(file.data_, bytes, size);
    return file;
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)), mapped_(std::exchange(other.mapped_, false)) {}

File& File::operator=(File&& other) noexcept {
    if (this == &other) return *this;
    release();
    path_ = std::move(other.path_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    mapped_ = std::exchange(other.mapped_, false);
    return *this;
}

File::~File() { release(); }

void File::release() noexcept {
    if (mapped_) munmap(data_, size_);
    else free(data_);
    data_ = nullptr;
    size_ = 0;
    mapped_ = false;
}

void File::drop(size_t offset, size_t bytes) const noexcept {
    if (!mapped_ || offset >= size_) return;
    const size_t page = page_size();
    const size_t end = offset + std::min(bytes, size_ - offset);
    // Rounds inwards: the pages at the edges also hold neighbouring data. The file's last page does
    // not.
    const size_t first = (offset + page - 1) / page * page;
    const size_t last = end == size_ ? end : end / page * page;
    if (first < last) madvise(data_ + first, last - first, MADV_DONTNEED);
}

void File::will_need(size_t offset, size_t bytes) const noexcept {
    if (!mapped_ || offset >= size_) return;
    const size_t end = offset + std::min(bytes, size_ - offset);
    const size_t first = offset / page_size() * page_size();
    madvise(data_ + first, end - first, MADV_WILLNEED);
}

FileReader::FileReader(const std::string& path) : path_(path) {
    Descriptor descriptor;
    size_ = open_regular(path, descriptor);
    fd_ = descriptor.release();
}

FileReader::~FileReader() { ::close(fd_); }

void FileReader::read(size_t offset, void* to, size_t n) const {
    read_all(fd_, offset, static_cast<uint8_t*>(to), n, path_);
}

}  // namespace pillion

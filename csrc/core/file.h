// A read-only file as one run of bytes: mapped, or read into the heap. Knows nothing of formats.
// Errors are thrown: file_not_found (missing, no permission, a directory), file_corrupt (empty,
// read error), out_of_memory. Not guarded against: a mapped file that someone truncates while it is
// in use ends in SIGBUS, as with any mapping. Where that can happen (a shared folder, a download
// still running) open it with use_mmap = false.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>

namespace pillion {

// The path as a sentence can carry it: the end of one that is too long (Error keeps about a
// thousand bytes).
std::string shown_path(const std::string& path);

class File {
  public:
    static File open(const std::string& path, bool use_mmap = true);
    // A private copy of bytes that are in memory already (tests, fuzzing, embedded models); `name`
    // stands in for the path.
    static File from_bytes(const void* bytes, size_t size, const std::string& name);

    File() = default;
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File();

    const std::string& path() const { return path_; }
    // Begins on a page (mapped) or on a cache line (heap). Stays where it is when the File is
    // moved.
    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }
    bool is_mapped() const { return mapped_; }

    // Hints; ranges outside the file are cut off, failures are of no consequence.
    // drop: the pages wholly inside the range may leave memory, for weights that were repacked. The
    // bytes stay readable (they come from the file again); on a heap file this does nothing,
    // because there they would be lost.
    void drop(size_t offset, size_t bytes) const noexcept;
    void will_need(size_t offset, size_t bytes) const noexcept;

  private:
    void release() noexcept;

    std::string path_;
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
    bool mapped_ = false;
};

}  // namespace pillion

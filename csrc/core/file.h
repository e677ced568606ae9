// A read-only file as contiguous bytes, mapped or read into the heap, of any format. Throws Error:
// file_not_found (missing, no permission, a directory), file_corrupt (empty, read error),
// out_of_memory. If someone truncates a mapped file while it is in use, the process gets SIGBUS, as
// with any mapping. Where that can happen (a shared folder, a running download), open the file with
// use_mmap = false.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>

namespace pillion {

// The path as an error sentence shows it: its end if the path is too long. Error keeps about a
// thousand bytes.
std::string shown_path(const std::string& path);

class File {
  public:
    static File open(const std::string& path, bool use_mmap = true);
    // Makes a private copy of bytes in memory (tests, fuzzing, embedded models). `name` replaces
    // the path.
    static File from_bytes(const void* bytes, size_t size, const std::string& name);

    File() = default;
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File();

    const std::string& path() const { return path_; }
    // Begins on a page (mapped) or on a cache line (heap). Moving the File does not move the bytes.
    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }
    bool is_mapped() const { return mapped_; }

    // Hints. They ignore ranges outside the file, and their failures have no effect.
    // drop: the pages wholly inside the range may leave memory; for weights that were repacked. The
    // bytes stay readable, because they come from the file again. On a heap file drop does nothing,
    // because the bytes would be lost.
    void drop(size_t offset, size_t bytes) const noexcept;
    void will_need(size_t offset, size_t bytes) const noexcept;

  private:
    void release() noexcept;

    std::string path_;
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
    bool mapped_ = false;
};

// A regular file that is read piece by piece and never as a whole. Opening throws what File::open
// throws; read() also Error{file_corrupt} where the file ends before the piece.
class FileReader {
  public:
    explicit FileReader(const std::string& path);
    FileReader(const FileReader&) = delete;
    FileReader& operator=(const FileReader&) = delete;
    ~FileReader();

    const std::string& path() const { return path_; }
    size_t size() const { return size_; }  // when it was opened
    void read(size_t offset, void* to, size_t n) const;

  private:
    std::string path_;
    int fd_ = -1;
    size_t size_ = 0;
};

}  // namespace pillion

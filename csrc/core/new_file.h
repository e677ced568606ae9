// A file that appears when it is complete. Until finish() it has another name in the same folder,
// and an older file of its name stays as it was.
#pragma once
#include <stddef.h>
#include <stdio.h>

#include <string>

namespace pillion {

class NewFile {
  public:
    // Throws Error{file_not_found} if the file cannot be created there, and Error{invalid_argument}
    // if a folder, a device or a FIFO lies there.
    explicit NewFile(const std::string& path);
    ~NewFile();  // removes an unfinished file
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    // These three throw Error{file_corrupt} with the system's reason: no space left, a limit.
    void write(const void* bytes, size_t n);                    // at the end
    void write_at(size_t offset, const void* bytes, size_t n);  // over what is written; then close
    void close();              // flushes all bytes to the disk; the file can then be read back
    void finish();             // gives the file its name
    void withdraw() noexcept;  // removes a finished file

    size_t written() const { return written_; }
    const std::string& path() const { return path_; }
    const std::string& temporary() const { return temporary_; }

  private:
    [[noreturn]] void no_room(const char* what) const;

    std::string path_, temporary_;
    FILE* file_ = nullptr;
    size_t written_ = 0;
    bool finished_ = false;
};

}  // namespace pillion

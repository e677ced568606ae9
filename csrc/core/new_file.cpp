#include "core/new_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "core/error.h"
#include "core/file.h"

namespace pillion {
namespace {

// rename() would replace a device or a FIFO by a file, and would fail on a folder after all the
// work.
void refuse_what_is_no_file(const std::string& path) {
    struct stat there;
    if (stat(path.c_str(), &there) != 0 || S_ISREG(there.st_mode)) return;
    fail(Status::invalid_argument, "%s: cannot be written: it is %s", shown_path(path).c_str(),
         S_ISDIR(there.st_mode) ? "a directory" : "not a regular file");
}

// Two threads may write the same file at the same time: the last one to finish wins.
std::string temporary_name(const std::string& path) {
    static std::atomic<unsigned> made{0};
    return path + "." + std::to_string(getpid()) + "-" + std::to_string(made++) + ".part";
}

}  // namespace

NewFile::NewFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
    refuse_what_is_no_file(path);
    file_ = fopen(temporary_.c_str(), "wbx");
    if (!file_)
        fail(Status::file_not_found, "%s: cannot be written: %s", shown_path(path_).c_str(),
             strerror(errno));
    setvbuf(file_, nullptr, _IOFBF, 1 << 20);
}

NewFile::~NewFile() {
    if (file_) fclose(file_);
    if (!finished_) unlink(temporary_.c_str());
}

void NewFile::no_room(const char* what) const {
    fail(Status::file_corrupt, "%s: %s failed after %zu bytes: %s", shown_path(path_).c_str(), what,
         written_, strerror(errno));
}

void NewFile::write(const void* bytes, size_t n) {
    if (fwrite(bytes, 1, n, file_) != n) no_room("writing");
    written_ += n;
}

void NewFile::write_at(size_t offset, const void* bytes, size_t n) {
    if (fseeko(file_, off_t(offset), SEEK_SET) != 0 || fwrite(bytes, 1, n, file_) != n)
        no_room("writing");
}

void NewFile::close() {
    if (fflush(file_) != 0 || fsync(fileno(file_)) != 0) no_room("writing");
    FILE* file = file_;
    file_ = nullptr;
    if (fclose(file) != 0) no_room("closing");
}

void NewFile::finish() {
    if (rename(temporary_.c_str(), path_.c_str()) != 0) no_room("renaming");
    finished_ = true;
}

void NewFile::withdraw() noexcept {
    if (finished_) unlink(path_.c_str());
}

}  // namespace pillion

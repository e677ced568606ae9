// Models in several files: finds the parts of a model and makes one GgufFile of them. Parts are
// named like NAME-00001-of-00003.gguf and have the keys split.no (from 0), split.count and
// split.tensors.count, of any integer width. The first part has the metadata.
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "gguf/gguf.h"

namespace pillion {
namespace {

constexpr const char kNo[] = "split.no", kCount[] = "split.count",
                     kTensors[] = "split.tensors.count";
constexpr int64_t kMaxParts = 99999;       // as many as five digits can number
constexpr uint64_t kMaxTensors = 1 << 20;  // of all parts, as of one file
constexpr int kMaxLinks = 40;              // the kernel's limit

// The end of a part's name behind its prefix: "-00001-of-00003.gguf".
constexpr size_t kDigits = 5, kEndBytes = 1 + kDigits + 4 + kDigits + 5;

int64_t digits(std::string_view text) {
    int64_t n = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return -1;
        n = n * 10 + (c - '0');
    }
    return n;
}

struct PartName {
    std::string prefix;  // includes the folder
    int64_t number, of;
};

// False if the path is not a part's name.
bool read_name(const std::string& path, PartName& out) {
    if (path.size() < kEndBytes) return false;
    const std::string_view end = std::string_view(path).substr(path.size() - kEndBytes);
    if (end[0] != '-' || end.substr(1 + kDigits, 4) != "-of-" ||
        end.substr(kEndBytes - 5) != ".gguf")
        return false;
    out = {path.substr(0, path.size() - kEndBytes), digits(end.substr(1, kDigits)),
           digits(end.substr(5 + kDigits, kDigits))};
    return out.number >= 0 && out.of >= 0;
}

std::string folder_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

std::string base_of(const std::string& path) { return path.substr(folder_of(path).size()); }

// The path, its link target, the target's link target, and so on: a cache keeps names in one folder
// and bytes in another.
std::vector<std::string> links_of(std::string path) {
    std::vector<std::string> out;
    char to[PATH_MAX];
    for (int i = 0; i < kMaxLinks; ++i) {
        out.push_back(path);
        const ssize_t n = readlink(path.c_str(), to, sizeof to);
        if (n <= 0 || size_t(n) == sizeof to) break;
        const std::string target(to, size_t(n));
        path = target[0] == '/' ? target : folder_of(path) + target;
    }
    return out;
}

bool exists(const std::string& path) {
    struct stat st;
    return stat(path.c_str(), &st) == 0;
}

bool same_value(const GgufValue& a, const GgufValue& b) {
    return a.element == b.element && a.is_array == b.is_array && a.count == b.count &&
           a.n_bytes == b.n_bytes && memcmp(a.bytes, b.bytes, a.n_bytes) == 0;
}

// Offset of another GGUF directly behind the data, or 0. Some writers pad the last tensor and
// others do not.
size_t next_header(const File& file, size_t end, size_t alignment) {
    for (size_t at = end; at <= end + alignment && at + 8 <= file.size(); ++at)
        if (memcmp(file.data() + at, "GGUF", 4) == 0 && file.data()[at + 4] <= 3 &&
            memcmp(file.data() + at + 5, "\0\0\0", 3) == 0)
            return at;
    return 0;
}

}  // namespace

std::string gguf_part_name(const std::string& prefix, size_t number, size_t of) {
    char end[64];
    snprintf(end, sizeof end, "-%05zu-of-%05zu.gguf", number, of);
    return prefix + end;
}

bool is_split_key(std::string_view key) { return key == kNo || key == kCount || key == kTensors; }

// The friend of GgufFile that assembles parts.
class GgufParts {
  public:
    static GgufFile open(const std::string& path, bool use_mmap, bool also_joined) {
        File file = File::open(path, use_mmap);
        GgufFile first = GgufFile::read(file, 0);
        const int64_t count = count_of(first);
        if (count <= 1) {
            first.files_.push_back(std::move(file));
            return first;
        }
        const size_t next = next_header(file, first.end_, first.alignment());
        if (next && !also_joined)
            first.fail(
                Status::unsupported_model,
                "these are %" PRId64
                " parts of a split model joined by cat, which is not how GGUF files are joined; "
                "`pillion join IN OUT` makes one model of them",
                count);
        if (next) {
            std::vector<GgufFile> parts = joined(file, count);
            return merge(std::move(parts), {}, std::move(file), path);
        }
        std::vector<File> files(static_cast<size_t>(count));
        const int64_t own = number_of(first, count);
        files[size_t(own)] = std::move(file);
        std::vector<GgufFile> parts = beside(std::move(first), own, use_mmap, files);
        return merge(std::move(parts), std::move(files), File(), path);
    }

  private:
    static int64_t count_of(const GgufFile& part) {
        return part.integer_or(kCount, 0, 0, kMaxParts);
    }
    static int64_t number_of(const GgufFile& part, int64_t count) {
        const int64_t number = part.integer(kNo, 0, kMaxParts);
        if (number >= count)
            part.fail(Status::file_corrupt,
                      "key split.no: %" PRId64 ", but split.count is %" PRId64, number, count);
        return number;
    }

    // The parts that lie one behind the other in one file, sorted.
    static std::vector<GgufFile> joined(const File& file, int64_t count) {
        std::map<int64_t, GgufFile> found;
        for (size_t at = 0; at || found.empty();) {
            GgufFile part = GgufFile::read(file, at);
            const int64_t has = count_of(part);
            if (has != count)
                part.fail(Status::file_corrupt,
                          "joined by cat: split.count is %" PRId64 " at its beginning and %" PRId64
                          " at byte %zu: these are parts of different models",
                          count, has, at);
            const int64_t number = number_of(part, count);
            at = next_header(file, part.end_, part.alignment());
            if (found.count(number))
                part.fail(Status::file_corrupt,
                          "joined by cat: part %" PRId64 " of %" PRId64 " occurs twice", number + 1,
                          count);
            found.emplace(number, std::move(part));
        }
        std::vector<GgufFile> parts;
        for (int64_t i = 0; i < count; ++i) {
            const auto at = found.find(i);
            if (at == found.end())
                found.begin()->second.fail(Status::file_corrupt,
                                           "joined by cat: part %" PRId64 " of %" PRId64
                                           " is missing",
                                           i + 1, count);
            parts.push_back(std::move(at->second));
        }
        return parts;
    }

    // Prefixes of the paths where the other parts may lie.
    static std::vector<std::string> prefixes(const GgufFile& part, int64_t number, int64_t count) {
        std::vector<std::string> out;
        PartName name = {}, wrong = {};
        for (const std::string& path : links_of(part.path())) {
            if (!read_name(path, name)) continue;
            if (name.number == number + 1 && name.of == count) out.push_back(name.prefix);
            else wrong = name;
        }
        if (!out.empty()) return out;
        const std::string expected = gguf_part_name("", size_t(number + 1), size_t(count));
        if (wrong.of > 0)
            part.fail(Status::file_corrupt,
                      "it is named part %" PRId64 " of %" PRId64
                      ", but its header says part %" PRId64 " of %" PRId64
                      ": parts were renamed; its name must end in %s",
                      wrong.number, wrong.of, number + 1, count, expected.c_str());
        part.fail(Status::unsupported_model,
                  "this is part %" PRId64 " of %" PRId64
                  " of a split model, and its name does not end in %s, so the others "
                  "can't be found: give all parts the names they had",
                  number + 1, count, expected.c_str());
    }

    // Opens all parts, in order. `first`, part number `own`, is already open.
    static std::vector<GgufFile> beside(GgufFile first, int64_t own, bool use_mmap,
                                        std::vector<File>& files) {
        const int64_t count = int64_t(files.size());
        std::vector<std::string> paths(files.size());
        std::string missing;
        int64_t n_missing = 0;
        const std::vector<std::string> where = prefixes(first, own, count);
        for (int64_t i = 0; i < count; ++i) {
            // The link's own folder wins over its target's.
            for (size_t k = where.size(); k-- > 0;)
                if (i != own && exists(gguf_part_name(where[k], size_t(i + 1), size_t(count))))
                    paths[size_t(i)] = gguf_part_name(where[k], size_t(i + 1), size_t(count));
            if (i == own || !paths[size_t(i)].empty()) continue;
            if (n_missing++ == 0) missing = gguf_part_name(where[0], size_t(i + 1), size_t(count));
        }
        if (n_missing > 0)
            first.fail(Status::file_not_found,
                       "part %s of this model is missing%s: all %" PRId64
                       " parts must lie in one folder",
                       base_of(shown_path(missing)).c_str(),
                       n_missing > 1 ? (" (and " + std::to_string(n_missing - 1) + " more)").c_str()
                                     : "",
                       count);
        std::vector<GgufFile> parts;
        for (int64_t i = 0; i < count; ++i) {
            if (i == own) {
                parts.push_back(std::move(first));
                continue;
            }
            files[size_t(i)] = File::open(paths[size_t(i)], use_mmap);
            parts.push_back(GgufFile::read(files[size_t(i)], 0));
            check_part(parts.back(), i, count);
        }
        return parts;
    }

    static void check_part(const GgufFile& part, int64_t i, int64_t count) {
        const int64_t has = count_of(part);
        if (has < 2)
            part.fail(Status::file_corrupt,
                      "it lies where part %" PRId64 " of %" PRId64
                      " belongs, but is no part of a split model",
                      i + 1, count);
        const int64_t number = number_of(part, has);
        if (has != count || number != i)
            part.fail(Status::file_corrupt,
                      "it is named part %" PRId64 " of %" PRId64
                      ", but its header says part %" PRId64 " of %" PRId64
                      ": parts were renamed, or are of different models",
                      i + 1, count, number + 1, has);
    }

    // `whole`: the one file that holds all parts; empty if each part has its own file.
    static GgufFile merge(std::vector<GgufFile> parts, std::vector<File> files, File whole,
                          const std::string& path) {
        GgufFile out;
        out.path_ = path;
        out.version_ = parts[0].version_;
        out.alignment_ = parts[0].alignment_;
        out.end_ = parts.back().end_;
        out.n_parts_ = parts.size();
        const bool one_file = files.empty();
        if (one_file) files.push_back(std::move(whole));
        out.files_ = std::move(files);
        uint64_t n_tensors = 0;
        for (const GgufFile& part : parts) n_tensors += part.tensors_.size();
        if (n_tensors > kMaxTensors)
            out.fail(Status::unsupported_model,
                     "its parts hold %" PRIu64 " tensors, the limit is %" PRIu64, n_tensors,
                     kMaxTensors);
        take_values(parts, out);
        for (size_t i = 0; i < parts.size(); ++i) {
            const int64_t told = parts[i].integer_or(kTensors, int64_t(n_tensors));
            if (told != int64_t(n_tensors))
                parts[i].fail(Status::file_corrupt,
                              "key split.tensors.count: %" PRId64
                              ", but the %zu parts hold %" PRIu64
                              " tensors: they are of different models",
                              told, parts.size(), n_tensors);
            for (GgufTensor t : parts[i].tensors_) {
                t.part = one_file ? 0 : uint32_t(i);
                out.tensors_.push_back(t);
            }
        }
        check_names(parts);
        out.index();
        return out;
    }

    // Takes the first part's keys, and the keys that only other parts have.
    static void take_values(const std::vector<GgufFile>& parts, GgufFile& out) {
        std::map<std::string_view, std::pair<const GgufValue*, size_t>> seen;
        for (size_t i = 0; i < parts.size(); ++i)
            for (const GgufValue& v : parts[i].values_) {
                if (is_split_key(v.key) || (i > 0 && v.key == "general.alignment"))
                    continue;  // each part has its own
                const auto [at, is_new] = seen.emplace(v.key, std::make_pair(&v, i));
                if (is_new) out.values_.push_back(v);
                else if (!same_value(*at->second.first, v))
                    parts[i].fail(
                        Status::file_corrupt,
                        "key %s differs from that of %s: these are parts of different models",
                        printable(v.key).c_str(),
                        base_of(shown_path(parts[at->second.second].path_)).c_str());
            }
    }

    static void check_names(const std::vector<GgufFile>& parts) {
        std::map<std::string_view, size_t> seen;
        for (size_t i = 0; i < parts.size(); ++i)
            for (const GgufTensor& t : parts[i].tensors_) {
                const auto [at, is_new] = seen.emplace(t.name, i);
                if (!is_new)
                    parts[i].fail(Status::file_corrupt,
                                  "tensor %s is also in %s: these are parts of different models",
                                  printable(t.name).c_str(),
                                  base_of(shown_path(parts[at->second].path_)).c_str());
            }
    }
};

GgufFile GgufFile::open(const std::string& path, bool use_mmap) {
    return GgufParts::open(path, use_mmap, /*also_joined=*/false);
}

GgufFile GgufFile::open_parts(const std::string& path, bool use_mmap) {
    return GgufParts::open(path, use_mmap, /*also_joined=*/true);
}

}  // namespace pillion

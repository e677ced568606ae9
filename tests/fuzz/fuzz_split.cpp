// Fuzzes models in parts. A tiny model is split as the input says and joined again, which must give
// its bytes. Then the parts are damaged, swapped, cut or joined by cat, and opened and joined from
// each. Each call returns an answer or a sentence, and a failed one leaves no file.
#include <sys/stat.h>
#include <unistd.h>

#include "checked_call.h"
#include "tiny_gguf.h"

using fuzz::broken;
using fuzz::Input;
using fuzz::ok;

namespace {

struct Folder {
    std::string path = "/tmp/pillion-fuzz-split-" + std::to_string(getpid());
    std::vector<std::string> files;
    Folder() { mkdir(path.c_str(), 0700); }
    ~Folder() {
        for (const std::string& f : files) unlink(f.c_str());
        if (rmdir(path.c_str()) != 0) broken("something was left in", path.c_str());
    }
};

void write_file(const std::string& path, const std::vector<uint8_t>& bytes) {
    FILE* f = fopen(path.c_str(), "wb");
    if (!f || fwrite(bytes.data(), 1, bytes.size(), f) != bytes.size() || fclose(f) != 0)
        broken("cannot write", path.c_str());
}

std::vector<uint8_t> read_file(const std::string& path) {
    std::vector<uint8_t> bytes;
    if (FILE* f = fopen(path.c_str(), "rb")) {
        for (int c; (c = fgetc(f)) != EOF;) bytes.push_back(uint8_t(c));
        fclose(f);
    }
    return bytes;
}

// The place of a split key's value in a part, or 0.
size_t value_of(const std::vector<uint8_t>& bytes, const char* key) {
    const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const size_t at = all.find(key);
    return at == std::string_view::npos ? 0 : at + strlen(key) + 4;
}

void damage(std::vector<uint8_t>& bytes, Input& in) {
    static constexpr const char* kKeys[] = {"split.no", "split.count", "split.tensors.count"};
    const uint8_t how = in.byte() % 6;
    if (bytes.empty()) return;
    if (how == 0) bytes.resize(in.below(bytes.size()));
    if (how == 1) bytes.insert(bytes.end(), in.byte(), in.byte());
    if (how == 2) bytes[in.below(bytes.size())] = in.byte();
    if (how < 3) return;
    const size_t at = value_of(bytes, kKeys[how - 3]);
    if (at && at + 2 <= bytes.size())
        bytes[at] = in.byte(), bytes[at + 1] = in.chance(40) ? in.byte() : 0;
}

void open_all(const std::vector<std::string>& paths, const std::string& out) {
    for (const std::string& path : paths) {
        size_t n = 0;
        const pillion_status status = pillion_file_json(path.c_str(), 1, nullptr, 0, &n);
        if (status != PILLION_ERROR_BUFFER_TOO_SMALL) ok(status);
        const bool joined = ok(pillion_join(path.c_str(), out.c_str(), nullptr, nullptr));
        if (joined != (access(out.c_str(), F_OK) == 0))
            broken("a failed run left a file, or a good one none");
        if (!joined) continue;
        if (pillion_file_json(out.c_str(), 1, nullptr, 0, &n) != PILLION_ERROR_BUFFER_TOO_SMALL)
            broken("what was joined can't be read:", pillion_last_error());
        unlink(out.c_str());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in(data, size);
    Folder folder;
    fuzz::TinyFile model = fuzz::tiny_model(fuzz::read_sizes(in));
    for (int n = in.byte() % 3; n > 0; n--)
        in.chance(60) ? fuzz::edit_key(model, in) : fuzz::edit_tensor(model, in);
    const fuzz::MemoryFile file(model.serialize());
    const std::string out = folder.path + "/out.gguf";
    const uint64_t max_bytes = in.chance(128) ? uint64_t(in.number()) : 0,
                   max_tensors = in.chance(200) ? 1 + in.byte() % 16 : 0;
    size_t n_parts = 0;
    int left = in.chance(40) ? in.byte() : 1 << 30;
    const auto progress = [](uint64_t, uint64_t, void* n) -> int32_t {
        return --*static_cast<int*>(n) < 0;
    };
    if (!ok(pillion_split(file.path(), (folder.path + "/m").c_str(), max_bytes, max_tensors,
                          &n_parts, progress, &left)))
        return 0;
    std::vector<std::vector<uint8_t>> parts;
    for (size_t i = 0; i < n_parts; i++) {
        folder.files.push_back(pillion::gguf_part_name(folder.path + "/m", i + 1, n_parts));
        parts.push_back(read_file(folder.files.back()));
        if (max_bytes && parts.back().size() > max_bytes)
            broken("a part is larger than was allowed");
    }
    const size_t any = in.below(n_parts);
    if (!ok(pillion_join(folder.files[any].c_str(), out.c_str(), nullptr, nullptr)))
        broken("parts don't join:", pillion_last_error());
    size_t n = 0;
    const bool opens =
        pillion_file_json(out.c_str(), 1, nullptr, 0, &n) == PILLION_ERROR_BUFFER_TOO_SMALL;
    if (!opens) broken("what was joined can't be read:", pillion_last_error());
    unlink(out.c_str());

    for (int k = 1 + in.byte() % 3; k > 0; k--) damage(parts[in.below(n_parts)], in);
    if (in.chance(40)) std::swap(parts[in.below(n_parts)], parts[in.below(n_parts)]);
    std::vector<uint8_t> joined;
    for (size_t i = 0; i < n_parts; i++) {
        write_file(folder.files[i], parts[i]);
        joined.insert(joined.end(), parts[i].begin(), parts[i].end());
    }
    if (in.chance(30)) unlink(folder.files[in.below(n_parts)].c_str());
    folder.files.push_back(folder.path + "/cat.gguf");
    write_file(folder.files.back(), joined);
    open_all(folder.files, out);
    return 0;
}

// The list of architectures. A new one is a file that defines an Architecture, and two lines here.
#include <string>

#include "model/architecture.h"

namespace pillion {

extern const Architecture kGemma4, kGemma4Assistant, kGemma3, kLlama;

namespace {

constexpr const Architecture* kArchitectures[] = {
    &kGemma4,
    &kGemma4Assistant,
    &kGemma3,
    &kLlama,
};

bool has_name(const Architecture& a, std::string_view name) {
    if (name == a.name) return true;
    for (const char* alias : a.aliases)
        if (name == alias) return true;
    return false;
}

std::string known_names() {
    std::string out;
    for (const Architecture* a : kArchitectures)
        out += (out.empty() ? "" : ", ") + std::string(a->name);
    return out;
}

}  // namespace

const Architecture& find_architecture(const GgufFile& file) {
    const std::string name(file.string("general.architecture"));
    for (const Architecture* a : kArchitectures)
        if (has_name(*a, name)) return *a;
    if (name == "clip")
        file.fail(Status::unsupported_model,
                  "it is an mmproj file, the towers for images and sound of a model, and no model "
                  "itself; give it as the mmproj of its model");
    for (const Architecture* a : kArchitectures)
        if (const char* advice = a->advice ? a->advice(name) : nullptr)
            file.fail(Status::unsupported_model, "architecture '%s' is not supported; %s",
                      printable(name).c_str(), advice);
    file.fail(Status::unsupported_model, "architecture '%s' is not supported (%s)",
              printable(name).c_str(), known_names().c_str());
}

}  // namespace pillion

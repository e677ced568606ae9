#include "model/hparams.h"

#include <inttypes.h>

#include <algorithm>

#include "model/architecture.h"
#include "model/hparams_reader.h"

namespace pillion {

int HParams::count_layers(bool sliding) const {
    return int(std::count_if(layers.begin(), layers.end(),
                             [&](const LayerParams& l) { return l.sliding == sliding; }));
}

int HParams::last_kv_layer() const {
    int last = -1;
    for (int l = 0; l < n_layers; l++)
        if (layers[size_t(l)].owns_kv) last = l;
    return last;
}

const char* HParams::arch_name() const { return arch->name; }

HParams read_hparams(const GgufFile& file) {
    // A part by itself, whose others nobody looked for: all but one lack the rest of the metadata,
    // and would be refused for that.
    const int64_t n_parts = file.integer_or("split.count", 1);
    if (n_parts > 1)
        file.fail(Status::unsupported_model,
                  "this is one of %" PRId64
                  " parts of a split model; open it by its path, with the others beside it",
                  n_parts);
    HParams hp;
    hp.arch = &find_architecture(file);
    HParamsReader reader(file, hp, *hp.arch);
    hp.arch->read(reader);
    reader.check_layers();
    reader.find_unread();
    return hp;
}

}  // namespace pillion

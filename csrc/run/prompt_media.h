// Pictures and sounds of a prompt: decoded, encoded by an mmproj file, and put where the prompt's
// markers stand.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "pillion.h"
#include "run/run_options.h"

namespace pillion::run {

// What went wrong in a call of the library.
struct Failure {
    pillion_status status;
    std::string sentence;
};

void check(pillion_status status);  // throws Failure

// What the prompt's text becomes: each <|image|> and <|audio|>, in order, the ids of a picture or
// sound of o.media between the tokens that frame it. Without a marker all media stand in front, in
// the order of the command line, behind what the tokenizer puts there. tokens: the prompt's; model
// keeps the rows. Throws UsageError where counts differ, and for a file that is no picture or
// sound.
std::vector<int32_t> put_media(const Options& o, pillion_model* model,
                               const pillion_tokenizer* tokenizer, std::vector<int32_t> tokens);

}  // namespace pillion::run
